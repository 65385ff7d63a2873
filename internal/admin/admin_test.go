package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/capture"
)

// told is a fleet that says what it is told to. The statuses of testdata are set around the time at which a synctest bubble
// begins, 2000-01-01 00:00 UTC.
type told struct{ status capture.FleetStatus }

var _ Fleet = (*told)(nil)

func (f *told) Status(context.Context) capture.FleetStatus { return f.status }

func fleet(t *testing.T, name string) *told {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	f := &told{}
	if err := d.Decode(&f.status); err != nil {
		t.Fatal(err)
	}
	return f
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

// body returns what stands between two texts of a page.
func body(t *testing.T, page, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, from)
	text, _, ended := strings.Cut(rest, to)
	if !ok || !ended {
		t.Fatalf("the page has no %s … %s:\n%s", from, to, page)
	}
	return from + text + to
}

// TestPageIsGolden compares the main part of the page with testdata; UPDATE_GOLDEN=1 writes it anew.
func TestPageIsGolden(t *testing.T) {
	for _, name := range []string{"running", "trouble", "standby"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := get(t, New(Options{Fleet: fleet(t, name), Version: "1.2.3"}), "/")
				if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
					t.Fatalf("answered %d %s", w.Code, w.Header().Get("Content-Type"))
				}
				got := body(t, w.Body.String(), "<main>", "</main>") + "\n"
				file := filepath.Join("testdata", name+".html")
				if os.Getenv("UPDATE_GOLDEN") != "" {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), got); d != "" {
					t.Errorf("not as %s (UPDATE_GOLDEN=1 writes it):\n%s", file, d)
				}
			})
		})
	}
}

// TestPageTellsTroubleFirst reads the page as somebody would who was woken by it.
func TestPageTellsTroubleFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := get(t, New(Options{Fleet: fleet(t, "trouble")}), "/").Body.String()
		if !strings.Contains(page, "<title>● 9 things to mend") {
			t.Errorf("the title does not say how many things there are to mend: %s", body(t, page, "<title>", "</title>"))
		}
		notices := body(t, page, `<section class="notices"`, "</section>")
		var got []string
		for _, m := range regexp.MustCompile(`<h2><span>(.*?)</span> (.*?)</h2>`).FindAllStringSubmatch(notices, -1) {
			got = append(got, m[1]+" "+m[2])
		}
		want := []string{ // what stands still before what mends itself
			"hanging transaction demo.crm.people/4", // K20
			"not owned tickets",                     // K6
			"halted billing",
			"alarm events",                                     // K10
			"withheld events/bookings",                         // D5
			"no complete listing events/bookings/view=Archive", // D2
			"halted events/bookings/view=Draft",                // and that it lists nothing follows from it
			"halted events/venues",                             // once, though its partition says the same
			"mismatch events/venues",
			"group demo",
			"withheld crm/calls", // an approval covers them (D6)
			"drifting events/bookings/view=Listings",
			"incomplete listing events/bookings/view=Listings",
			"tried again events/bookings/view=Archive",
			"owning again tickets",
			"unlisted crm/users", // D4
			"paused events",      // P22
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the notices are not as wanted:\n%s", d)
		}
		for _, want := range []string{
			`<p class="hint">Give the connection a new token: connector tokens replace billing</p>`, "producer 4711 (epoch 2)",
			"4 passes in a row failed", "5100 deletions are withheld: 5100 deletions in a day, of 91822 keys of the stream", "and 5095 more",
			"let them go: connector reconcile events/bookings --approve 5100</p>", "since 1999-12-25T00:00:00Z is not deleted. The last one: read page",
			"30 deletions are withheld: the listing is empty", "An approval lets 40 go", "3 keys are alive but unlisted", "goes on in 3 min (2000-01-01T00:03:00Z): 429: Retry-After 180",
		} {
			if !strings.Contains(notices, want) {
				t.Errorf("the notices do not say %q", want)
			}
		}
		if n := strings.Count(notices, "connector tokens replace billing"); n != 1 {
			t.Errorf("the hint stands there %d times: once by itself is enough", n)
		}
		if strings.Contains(notices, "connector reconcile crm/calls") {
			t.Error("what is approved is asked to be approved")
		}
		if strings.Contains(page, "<b>no such") || strings.Contains(page, "<i>1003") {
			t.Error("what a server said is not escaped")
		}
		if strings.Contains(page, strings.Repeat("x", longestText+1)) {
			t.Error("a long cursor is not cut")
		}
	})
}

// TestD3PageShowsListings: the one under way with its age, the last complete one, what it missed, and when the next is due.
func TestD3PageShowsListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := get(t, New(Options{Fleet: fleet(t, "trouble")}), "/").Body.String()
		tag := regexp.MustCompile(`<[^>]*>`)
		var got []string
		for _, m := range regexp.MustCompile(`<td class="listed">(.*?)</td>`).FindAllStringSubmatch(page, -1) {
			got = append(got, strings.Join(strings.Fields(tag.ReplaceAllString(m[1], " ")), " "))
		}
		want := []string{
			"22 h ago listing for 12 min 61,200 records on 612 pages · 17 missing",
			"50 min ago 0 missing · next in 20 h",
			"50 min ago listing for 10 s 100 records on 1 page · 30 missing · 12 to look up",
			"none yet next in 30 min",
			"50 min ago 3 missing · 3 unlisted · next in 20 h",
			"none yet 3 incomplete",
			"2 d ago 5,100 missing · 1 incomplete · next in 10 min",
			"7 d ago 0 missing · 5 incomplete · next in 2 h",
			"–", "–", // nothing lists them
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if want := `<b data-k="crm/people/withheld">0</b><small>4 candidates</small>`; !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	})
}

// TestPageShowsParents: a partition whose parent is not there says so instead of when it is due (P21).
func TestPageShowsParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet(t, "running")
		c := &f.status.Connections[0]
		c.Partitions = append(c.Partitions, capture.PartitionStatus{Stream: "people", Name: "event=1", State: "parent gone"},
			capture.PartitionStatus{Stream: "people", Name: "event=2", State: "parent gone?", Due: time.Now().Add(time.Hour), LastError: "404"})
		page := get(t, New(Options{Fleet: f}), "/").Body.String()
		for _, want := range []string{"parent gone<", "parent gone? asked again in 60 min"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	})
}

// TestD2AlarmsLeaveHealthAlone: a restart would complete no listing and approve no deletion.
func TestD2AlarmsLeaveHealthAlone(t *testing.T) {
	f := fleet(t, "running")
	c := &f.status.Connections[0]
	c.Streams[0].Withheld, c.Streams[0].Guarded = 30, "more than 20"
	c.Partitions[0].Listing = capture.ListingStatus{Failed: 9, Alarm: true, Why: "drift"}
	h := New(Options{Fleet: f})
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := get(t, h, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if page := get(t, h, "/").Body.String(); !strings.Contains(page, "<title>● 2 things to mend") {
		t.Errorf("the page does not say it: %s", body(t, page, "<title>", "</title>"))
	}
}

// TestPageIsBounded: a fleet of any size gives a page of some size.
func TestPageIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet(t, "running")
		c := &f.status.Connections[0]
		for i := range 5000 {
			c.Partitions = append(c.Partitions, capture.PartitionStatus{Stream: "people", Name: fmt.Sprintf("event=%d", i), Halted: "no"})
		}
		page := get(t, New(Options{Fleet: f}), "/").Body.String()
		if len(page) > 64<<10 {
			t.Errorf("the page has %d bytes", len(page))
		}
		for _, want := range []string{"and 4981 more partitions", "and 4960 more:", "5000 things to mend"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	})
}

func TestJSONIsTheStatus(t *testing.T) {
	f := fleet(t, "trouble")
	w := get(t, New(Options{Fleet: f, Version: "1.2.3"}), "/status.json")
	var got struct {
		Version string `json:"version"`
		capture.FleetStatus
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "1.2.3" {
		t.Errorf("version %q", got.Version)
	}
	if d := cmp.Diff(f.status, got.FleetStatus); d != "" {
		t.Error(d)
	}
}

// TestMethodsAndHeaders: everything is read-only, stays out of caches, frames and other origins, and says what it is.
func TestMethodsAndHeaders(t *testing.T) {
	h := New(Options{Fleet: fleet(t, "running")})
	for path, kind := range map[string]string{
		"/": "text/html", "/status.json": "application/json", "/healthz": "text/plain", "/readyz": "text/plain", "/metrics": "text/plain",
		"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			want := http.StatusOK
			if method == http.MethodPost || method == http.MethodDelete {
				want = http.StatusMethodNotAllowed
			} else if !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
				t.Errorf("%s %s is %q", method, path, w.Header().Get("Content-Type"))
			}
			if w.Code != want {
				t.Errorf("%s %s: %d, want %d", method, path, w.Code, want)
			}
			for name, value := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
				"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
			} {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s %s: %s is %q", method, path, name, got)
				}
			}
			if !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'; ") {
				t.Errorf("%s %s: no policy", method, path)
			}
		}
	}
	if w := get(t, h, "/secret"); w.Code != http.StatusNotFound {
		t.Errorf("/secret: %d", w.Code)
	}
}

// TestLoopbackAnswersToItsOwnNamesOnly: a page of another site whose name points to 127.0.0.1 reads nothing (DNS rebinding).
func TestLoopbackAnswersToItsOwnNamesOnly(t *testing.T) {
	server := httptest.NewServer(New(Options{Fleet: fleet(t, "running")}))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for host, want := range map[string]int{
		"127.0.0.1:" + port: 200, "localhost:" + port: 200, "LOCALHOST": 200, "[::1]:" + port: 200, "[::1]": 200, "127.9.9.9": 200,
		"evil.example:" + port: 421, "evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
		"10.0.0.7:" + port: 421, "169.254.169.254": 421,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/status.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, answer.StatusCode, want)
		}
		if want == 421 && strings.Contains(string(text), "people") {
			t.Errorf("Host %s was told the status", host)
		}
	}
}

// TestK6LivenessFailsWhenNotOwned walks a connection through the phases of an owner that cannot own.
func TestK6LivenessFailsWhenNotOwned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet(t, "running")
		phase := &f.status.Connections[0].Phase
		h := New(Options{Fleet: f})
		for _, step := range []struct {
			phase         string
			after         time.Duration
			health, ready int
		}{
			{running, time.Hour, 200, 200},
			{waiting, 0, 200, 503},
			{owning, 4 * time.Minute, 200, 503},
			{owningAgain, 59 * time.Second, 200, 503},
			{owning, 2 * time.Second, 503, 503}, // each attempt is a new phase; the clock goes on
			{restoring, time.Hour, 200, 503},    // owned: to kill it would begin it anew
			{owningAgain, 4 * time.Minute, 200, 503},
			{owning, 6 * time.Minute, 503, 503},
			{running, 0, 200, 200},
			{halted, 24 * time.Hour, 200, 503}, // a restart would not mend it
		} {
			<-time.After(step.after) // of the bubble
			phase.Name, phase.Since = step.phase, time.Now()
			for path, want := range map[string]int{"/healthz": step.health, "/readyz": step.ready} {
				if w := get(t, h, path); w.Code != want {
					t.Errorf("%s, %s later: %s is %d, want %d: %s", step.phase, step.after, path, w.Code, want, w.Body)
				}
			}
		}
		phase.Name = owningAgain // an old phase counts from its beginning, also at the first look
		phase.Since = time.Now().Add(-time.Hour)
		if w := get(t, h, "/healthz"); w.Code != 503 || !strings.Contains(w.Body.String(), "connection crm: its shard is assigned here") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		f.status.Shards = nil // it is another's now
		for _, path := range []string{"/healthz", "/readyz"} {
			if w := get(t, h, path); w.Code != 200 {
				t.Errorf("%s without a shard: %d %s", path, w.Code, w.Body)
			}
		}
	})
}

// slow is a fleet whose connections do not answer.
type slow struct{ told }

func (f *slow) Status(ctx context.Context) capture.FleetStatus {
	<-ctx.Done()
	return f.status
}

// TestHealthAnswersWhileConnectionsAreSilent: a probe that waited for them would kill a busy process.
func TestHealthAnswersWhileConnectionsAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &slow{*fleet(t, "running")}
		f.status.Connections[0].Streams, f.status.Connections[0].Partitions = nil, nil
		h := New(Options{Fleet: f})
		for path, within := range map[string]time.Duration{"/healthz": time.Second, "/readyz": time.Second, "/": time.Minute, "/metrics": time.Minute} {
			began := time.Now()
			if w := get(t, h, path); w.Code != http.StatusOK {
				t.Errorf("%s: %d", path, w.Code)
			}
			if took := time.Since(began); took >= within {
				t.Errorf("%s took %v", path, took)
			}
		}
	})
}

func TestTextIsForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, got := range map[string]string{
		"":           ago(time.Time{}, now).Text + until(time.Time{}, now).Text,
		"just now":   ago(now.Add(time.Hour), now).Text,
		"1.5 s ago":  ago(now.Add(-1500*time.Millisecond), now).Text,
		"119 s ago":  ago(now.Add(-119*time.Second), now).Text,
		"90 min ago": ago(now.Add(-90*time.Minute), now).Text,
		"now":        until(now.Add(-time.Hour), now).Text,
		"1 record":   records(1),
		"in 5 h":     until(now.Add(5*time.Hour), now).Text,
		"3 d":        span(80 * time.Hour),
		"12 ms":      span(12 * time.Millisecond),
		"0":          number(0),
		"999":        number(999),
		"1,000":      number(1000),
		"-1,234,567": number(-1234567),
		"1023 B":     size(1023),
		"1.5 KiB":    size(1536),
		"5.0 GiB":    size(5 << 30),
		"ab…":        cut("abcd", 3),
		"äö":         cut("äö", 2),
		"a: b":       without("a: b. Do this", "Do this"),
		"c. d":       without("c. d", ""),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
