package admin

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// sample matches a line of the text format: name, labels, value.
var sample = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)

var label = regexp.MustCompile(`([a-z]+)="((?:[^"\\]|\\.)*)",?`)

// exposition is what /metrics says: samples by name and labels, and the type and the label names of each metric.
type exposition struct {
	samples map[string]float64
	kinds   map[string]string
	labels  map[string]string
}

func scrapeText(t *testing.T, text string) exposition {
	t.Helper()
	x := exposition{map[string]float64{}, map[string]string{}, map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			x.kinds[name] = kind
		}
		if strings.HasPrefix(line, "#") || !strings.HasPrefix(line, "tidemark_") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %s", line)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, twice := x.samples[m[1]+"{"+m[2]+"}"]; twice {
			t.Errorf("twice: %s", line)
		}
		x.samples[m[1]+"{"+m[2]+"}"] = v
		var names []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			names = append(names, l[1])
		}
		slices.Sort(names)
		x.labels[m[1]] = strings.Join(names, ",")
	}
	return x
}

// scrapeTrouble scrapes the fleet in which everything happens.
func scrapeTrouble(t *testing.T) (x exposition) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := get(t, New(Options{Fleet: fleet(t, "trouble"), Version: "1.2.3"}), "/metrics")
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		x = scrapeText(t, w.Body.String())
	})
	return x
}

func TestMetricsAreOfTheStatus(t *testing.T) {
	x := scrapeTrouble(t)
	for name, want := range map[string]float64{
		`tidemark_build_info{version="1.2.3"}`:                                                                              1,
		`tidemark_shards{}`:                                                                                                 3,
		`tidemark_hanging_transactions{}`:                                                                                   1,
		`tidemark_connection_assigned{connection="hr"}`:                                                                     0,
		`tidemark_connection_assigned{connection="crm"}`:                                                                    1,
		`tidemark_connection_phase{connection="billing",phase="halted"}`:                                                    1,
		`tidemark_connection_phase{connection="billing",phase="running"}`:                                                   0,
		`tidemark_connection_phase{connection="tickets",phase="owning again"}`:                                              1,
		`tidemark_connection_alarm{connection="events"}`:                                                                    1,
		`tidemark_published_total{connection="crm",op="u",stream="people"}`:                                                 40122,
		`tidemark_published_total{connection="crm",op="r",stream="people"}`:                                                 183401,
		`tidemark_published_total{connection="events",op="d",stream="bookings"}`:                                            2,
		`tidemark_suppressed_total{connection="crm",stream="users"}`:                                                        1903,
		`tidemark_parked_total{connection="crm",stream="people"}`:                                                           2,
		`tidemark_held{connection="crm",stream="emails"}`:                                                                   3,
		`tidemark_keys{connection="crm",stream="people"}`:                                                                   184213,
		`tidemark_commits_total{connection="crm"}`:                                                                          9123,
		`tidemark_commit_seconds{connection="events"}`:                                                                      1.25,
		`tidemark_last_commit_timestamp_seconds{connection="crm"}`:                                                          946684799.2,
		`tidemark_reopened_total{connection="events"}`:                                                                      3,
		`tidemark_http_requests_total{connection="events"}`:                                                                 900,
		`tidemark_http_repeats_total{connection="events"}`:                                                                  12,
		`tidemark_http_throttled_total{connection="events"}`:                                                                2,
		`tidemark_http_bytes_total{connection="events"}`:                                                                    700000,
		`tidemark_http_paused{connection="events"}`:                                                                         1,
		`tidemark_http_paused{connection="crm"}`:                                                                            0,
		`tidemark_memory_bytes{connection="events"}`:                                                                        2048,
		`tidemark_stream_halted{connection="events",stream="venues"}`:                                                       1,
		`tidemark_stream_halted{connection="events",stream="bookings"}`:                                                     0,
		`tidemark_partition_halted{connection="events",partition="view=Draft",stream="bookings"}`:                           1,
		`tidemark_partition_failures{connection="events",partition="view=Archive",stream="bookings"}`:                       4,
		`tidemark_pass_records{connection="crm",partition="-",stream="emails"}`:                                             93,
		`tidemark_last_successful_pass_timestamp_seconds{connection="crm",partition="-",stream="emails"}`:                   946684798.8,
		`tidemark_cursor_timestamp_seconds{connection="crm",partition="-",stream="people"}`:                                 946684797.123456,
		`tidemark_last_successful_pass_timestamp_seconds{connection="events",partition="view=Draft",stream="bookings"}`:     -1,
		`tidemark_cursor_timestamp_seconds{connection="events",partition="view=Listings",stream="bookings"}`:                -1, // a number
		`tidemark_cursor_timestamp_seconds{connection="events",partition="view=Archive",stream="bookings"}`:                 -1, // no zone
		`tidemark_candidates{connection="crm",stream="people"}`:                                                             4,
		`tidemark_withheld{connection="events",stream="bookings"}`:                                                          5100,
		`tidemark_listing_age_seconds{connection="crm",partition="-",stream="people"}`:                                      720,
		`tidemark_listing_age_seconds{connection="crm",partition="-",stream="accounts"}`:                                    0, // none is under way
		`tidemark_listing_incomplete{connection="events",partition="view=Archive",stream="bookings"}`:                       5,
		`tidemark_listing_incomplete{connection="crm",partition="-",stream="people"}`:                                       0,
		`tidemark_last_complete_listing_timestamp_seconds{connection="events",partition="view=Listings",stream="bookings"}`: 946512000,
		`tidemark_listing_missing{connection="crm",partition="-",stream="people"}`:                                          17,
		`tidemark_listing_unlisted{connection="crm",partition="-",stream="users"}`:                                          3,
		`tidemark_last_complete_listing_timestamp_seconds{connection="crm",partition="-",stream="emails"}`:                  -1, // none yet
		`tidemark_listing_missing{connection="crm",partition="-",stream="emails"}`:                                          -1,
		`tidemark_commits_total{connection="billing"}`:                                                                      -1, // halted: its phase alone
	} {
		got, ok := x.samples[name]
		if !ok {
			got = -1 // absent
		}
		if got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestMetricsSurviveAnything: a name that is not UTF-8 costs its own spelling, not the scrape.
func TestMetricsSurviveAnything(t *testing.T) {
	f := fleet(t, "running")
	f.status.Connections[0].Partitions[0].Name = "view=\xff\"\n"
	w := get(t, New(Options{Fleet: f}), "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `partition="view=`+"\uFFFD"+`\"\n"`) {
		t.Errorf("%d", w.Code)
	}
	for _, want := range []string{"go_goroutines ", "process_open_fds "} {
		if !strings.Contains(w.Body.String(), "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestEveryMetricIsDocumented compares docs/metrics.md with what is declared, and what is declared with what is served.
func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Kind, Labels string }
	documented := map[string]row{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.HasPrefix(cells[1], " `tidemark_") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		if _, twice := documented[name]; twice {
			t.Errorf("%s is documented twice", name)
		}
		if unit := strings.TrimSpace(cells[4]); unit == "" {
			t.Errorf("%s has no unit", name)
		}
		documented[name] = row{strings.TrimSpace(cells[2]), strings.ReplaceAll(strings.Trim(cells[3], " –"), " ", "")}
	}
	declared := map[string]row{}
	x := scrapeTrouble(t)
	for _, m := range metrics() {
		kind := map[bool]string{true: "counter", false: "gauge"}[m.kind == counter]
		declared[m.name] = row{kind, m.labels}
		labels := strings.Split(m.labels, ",")
		slices.Sort(labels)
		if x.kinds[m.name] != kind || x.labels[m.name] != strings.Join(labels, ",") {
			t.Errorf("%s is served as %q {%s}", m.name, x.kinds[m.name], x.labels[m.name])
		}
		if strings.HasSuffix(m.name, "_total") != (m.kind == counter) {
			t.Errorf("%s: counters, and only they, end in _total", m.name)
		}
	}
	if d := cmp.Diff(declared, documented); d != "" {
		t.Errorf("docs/metrics.md is not what is declared (-declared +documented):\n%s", d)
	}
	for name := range maps.Keys(x.labels) {
		if _, ok := declared[name]; !ok {
			t.Errorf("%s is served and not declared", name)
		}
	}
	for _, name := range regexp.MustCompile(`tidemark_[a-z_]+`).FindAllString(string(text), -1) {
		if _, ok := declared[name]; !ok {
			t.Errorf("docs/metrics.md names %s, which does not exist", name)
		}
	}
}

func TestInstantsAreOnlyWhatIsSurelyOne(t *testing.T) {
	for cursor, want := range map[string]string{
		"2026-09-01T10:00:00Z":                "2026-09-01T10:00:00Z",
		"2026-09-01T10:00:00.123456789-04:00": "2026-09-01T14:00:00.123456789Z",
		"2026-09-01T10:00:00.5+0000":          "2026-09-01T10:00:00.5Z",
		"2026-09-01 10:00:00+02:00":           "2026-09-01T08:00:00Z",
		"2026-09-01 10:00:00 +0200":           "2026-09-01T08:00:00Z",
		"2026-09-01T10:00:00":                 "", // whose clock?
		"2026-09-01":                          "",
		"1756720800":                          "", // a sequence, or seconds
		"0000-01-01T00:00:00Z":                "",
		"12-g1AAAACXeJzLYWBg":                 "",
		"":                                    "",
	} {
		got := ""
		if at, ok := instant(cursor); ok {
			got = at.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
		}
		if got != want {
			t.Errorf("%q is %q, want %q", cursor, got, want)
		}
	}
}
