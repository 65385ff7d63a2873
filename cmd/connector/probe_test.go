package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// facts are what an API does beside its documentation; the zero value is the API that lab.yaml describes.
type facts struct {
	records       int
	ignored       bool          // the filter
	exclusive     bool          // the filter
	granularity   time.Duration // of the filter; 0: it is exact
	order         string        // desc, none; "": asc
	cap           int           // of a page, silently
	refuses       int           // a page of more is refused with 400
	sizeless      bool          // limit is ignored
	echoLies      bool          // beyond the cap
	noEcho        bool
	total         int                // this many more than there are
	layout        string             // of times in requests; others find nothing
	lookup        string             // false: 404 for everybody; found: the first record for everybody; page: 200 with an error
	etag          string             // works, never
	strict        bool               // unknown parameters are refused
	zero          bool               // pages count from 0
	repeats       bool               // the last page comes again and again
	badCursor     int                // status of an unknown cursor; 0: it begins anew; 204: an empty answer
	emptyCursor   string             // moves, none; "": it stays
	frozen        bool               // the cursor never moves
	once          bool               // a cursor is good for one use
	quota         func(n int) string // what a header says of the budget
	badSince      int                // status of a filter
	ids           func(i int) string // of things; nil: numbers
	badToken      int
	brokenPastEnd bool // 404 behind the last page

	used map[string]bool
	n    int
}

const labYAML = `source: lab
config: {url: {}}
base_url: "{{ config.url }}"
streams:
  things:
    path: /things
    query: {since: "{{ cursor }}", limit: 20, page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page, size_echo: meta.limit}
    incremental: {cursor_field: at, format: rfc3339, granularity: 1us, order: asc}
    reconcile: {every: 24h, total: meta.total, lookup: {path: "/things/{{ key.id }}", records: .}}
  log:
    path: /log
    query: {cursor: "{{ cursor }}", limit: 20}
    records: data
    primary_key: id
    incremental: {type: opaque, next: cursor}
  tokens:
    path: /tokens
    query: {token: "{{ page_token }}", limit: 20}
    records: data
    primary_key: id
    paginator: {type: token, next: next}
`

func (f *facts) at(i int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 7, 345_678_000, time.UTC).Add(time.Duration(i) * (97*time.Minute + 13*time.Second + 1234*time.Microsecond))
}

func (f *facts) thing(i int) map[string]any {
	if f.ids != nil {
		return map[string]any{"id": f.ids(i), "at": f.at(i).Format(time.RFC3339Nano)}
	}
	return map[string]any{"id": i + 1, "at": f.at(i).Format(time.RFC3339Nano), "name": fmt.Sprint("thing ", i)}
}

// ServeHTTP implements http.Handler.
func (f *facts) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	f.n++
	w.Header().Set("Content-Type", "application/json")
	if f.quota != nil {
		w.Header().Set("X-Quota-Remaining", f.quota(f.n))
	}
	v := q.URL.Query()
	if f.badSince > 0 && v.Get("since") != "" {
		f.fail(w, f.badSince)
		return
	}
	for name := range v {
		if f.strict && !slices.Contains([]string{"since", "limit", "page", "cursor", "token"}, name) {
			f.fail(w, 400)
			return
		}
	}
	limit, _ := strconv.Atoi(v.Get("limit"))
	asked := limit
	switch {
	case f.refuses > 0 && limit > f.refuses:
		f.fail(w, 400)
		return
	case f.sizeless:
		limit = 7
	case f.cap > 0:
		limit = min(limit, f.cap)
	}
	switch q.URL.Path {
	case "/things":
		f.things(w, q, limit, asked)
	case "/log":
		f.log(w, v.Get("cursor"), limit)
	case "/tokens":
		f.tokens(w, v.Get("token"), limit)
	default:
		f.one(w, strings.TrimPrefix(q.URL.Path, "/things/"))
	}
}

func (f *facts) fail(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":"status %d"}`, status)
}

func (f *facts) write(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (f *facts) things(w http.ResponseWriter, q *http.Request, limit, asked int) {
	v := q.URL.Query()
	var rows []map[string]any
	for i := range f.records {
		if f.passes(v.Get("since"), f.at(i)) {
			rows = append(rows, f.thing(i))
		}
	}
	switch f.order {
	case "desc":
		slices.Reverse(rows)
	case "none":
		for i := 0; i+1 < len(rows); i += 2 {
			rows[i], rows[i+1] = rows[i+1], rows[i]
		}
	}
	meta := map[string]any{"limit": limit, "total": len(rows) + f.total}
	if f.echoLies {
		meta["limit"] = asked
	}
	if f.noEcho {
		delete(meta, "limit")
	}
	page, _ := strconv.Atoi(v.Get("page"))
	if !f.zero {
		page = max(page, 1) - 1
	}
	last := max(0, (len(rows)-1)/limit)
	if f.repeats {
		page = min(page, last)
	}
	if f.brokenPastEnd && page > last {
		f.fail(w, 404)
		return
	}
	from := min(page*limit, len(rows))
	rows = rows[from:min(from+limit, len(rows))]
	switch tag := fmt.Sprintf(`"%x"`, len(rows)); f.etag {
	case "works":
		w.Header().Set("ETag", tag)
		if q.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	case "never":
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, f.n))
	}
	f.write(w, map[string]any{"data": append([]map[string]any{}, rows...), "meta": meta})
}

func (f *facts) passes(since string, at time.Time) bool {
	if since == "" || f.ignored {
		return true
	}
	layout := time.RFC3339Nano
	if f.layout != "" {
		layout = f.layout
	}
	from, err := time.Parse(layout, since)
	if err != nil {
		return false // PocketBase compares texts: the other spelling matches nothing
	}
	if f.granularity > 0 {
		from, at = from.Truncate(f.granularity), at.Truncate(f.granularity)
	}
	return at.After(from) || !f.exclusive && at.Equal(from)
}

func (f *facts) one(w http.ResponseWriter, id string) {
	n, err := strconv.Atoi(id)
	for i := 0; f.ids != nil && i < f.records; i++ {
		if f.ids(i) == id {
			n, err = i+1, nil
		}
	}
	switch there := err == nil && n >= 1 && n <= f.records; {
	case f.lookup == "found":
		f.write(w, f.thing(0))
	case f.lookup == "page" && !there:
		f.write(w, map[string]any{"error": "not found"})
	case !there, f.lookup == "false":
		f.fail(w, 404)
	default:
		f.write(w, f.thing(n-1))
	}
}

// log is a feed with cursors: "c" and the number of records before it.
func (f *facts) log(w http.ResponseWriter, cursor string, limit int) {
	from, polls := 0, 0
	if _, err := fmt.Sscanf(cursor, "c%d-%d", &from, &polls); err != nil && cursor != "" {
		switch f.badCursor {
		case 204:
			f.write(w, map[string]any{"data": []any{}, "cursor": cursor})
			return
		case 0:
		default:
			f.fail(w, f.badCursor)
			return
		}
	}
	if f.once && f.used[cursor] && cursor != "" {
		f.fail(w, 410)
		return
	}
	f.used[cursor] = true
	to := min(from+limit, f.records)
	rows := []any{}
	for i := from; i < to; i++ {
		rows = append(rows, f.thing(i))
	}
	out := map[string]any{"data": rows, "cursor": fmt.Sprintf("c%d-%d", to, polls)}
	switch {
	case f.frozen:
		out["cursor"] = "c1-0"
	case len(rows) == 0 && f.emptyCursor == "moves":
		out["cursor"] = fmt.Sprintf("c%d-%d", to, polls+1)
	case len(rows) == 0 && f.emptyCursor == "none":
		delete(out, "cursor")
	}
	f.write(w, out)
}

func (f *facts) tokens(w http.ResponseWriter, token string, limit int) {
	from, err := strconv.Atoi(token)
	if token != "" && err != nil && f.badToken > 0 {
		f.fail(w, f.badToken)
		return
	}
	to := min(from+limit, f.records)
	rows, out := []any{}, map[string]any{}
	for i := from; i < to; i++ {
		rows = append(rows, f.thing(i))
	}
	if out["data"] = rows; to < f.records {
		out["next"] = fmt.Sprint(to)
	}
	f.write(w, out)
}

// probed runs the probe of lab.yaml, patched, against an API with these facts.
func (s *stage) probed(f facts, stream, definition string) (code int, out string) {
	s.Helper()
	if f.used = map[string]bool{}; f.records == 0 {
		f.records = 90
	}
	server := httptest.NewServer(&f)
	defer server.Close()
	file := filepath.Join(s.TempDir(), "lab.yaml")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		s.Fatal(err)
	}
	code, out, errs := s.main("sources", "probe", file, "--config", "url="+server.URL, "--stream", stream)
	if out == "" {
		s.Fatalf("%d %s", code, errs)
	}
	return code, out
}

// pasted lays what was printed over a definition, as an author does.
func pasted(t *testing.T, definition, piece string) string {
	t.Helper()
	var a, b map[string]any
	if err := yaml.Unmarshal([]byte(definition), &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(piece), &b); err != nil {
		t.Fatalf("%v\n%s", err, piece)
	}
	var lay func(base, over map[string]any)
	lay = func(base, over map[string]any) {
		for name, v := range over {
			below, isMap := v.(map[string]any)
			at, was := base[name].(map[string]any)
			switch {
			case v == nil:
				delete(base, name)
			case isMap && was:
				lay(at, below)
			default:
				base[name] = v
			}
		}
	}
	lay(a, b)
	return string(must(yaml.Marshal(a)))
}

// TestProbeAgreesWithARightDefinition: nothing differs, and what is printed can be pasted.
func TestProbeAgreesWithARightDefinition(t *testing.T) {
	s := &stage{T: t}
	for _, stream := range []string{"things", "log", "tokens"} {
		code, out := s.probed(facts{badCursor: 410, badToken: 0}, stream, labYAML)
		if code != 0 || strings.Contains(out, ": DIFFERS") || strings.Contains(out, "not known") {
			t.Errorf("%s: %d\n%s", stream, code, out)
		}
		if _, err := source.Parse("lab.yaml", []byte(pasted(t, labYAML, out))); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// switched are APIs with one fact switched, and what the probe says of them.
var switched = map[string]struct {
	stream string
	facts  facts
	want   []string
	fixed  bool // the definition can say it
	agrees bool // it says so already
}{
	"ignored filter":        {"things", facts{ignored: true}, []string{"filter: DIFFERS: IGNORED", "incremental: null", "future: DIFFERS"}, false, false},
	"exclusive filter":      {"things", facts{exclusive: true}, []string{"inclusive: DIFFERS", "      inclusive: false", "granularity: 1us"}, true, false},
	"whole seconds":         {"things", facts{granularity: time.Second}, []string{"granularity: DIFFERS", "      granularity: 1s\n"}, true, false},
	"whole minutes":         {"things", facts{granularity: time.Minute}, []string{"granularity: DIFFERS", "      granularity: 1m\n"}, true, false},
	"exclusive minutes":     {"things", facts{granularity: time.Minute, exclusive: true}, []string{"      granularity: 1m\n", "      inclusive: false"}, true, false},
	"newest first":          {"things", facts{order: "desc"}, []string{"order: DIFFERS", "      order: desc"}, true, false},
	"no order":              {"things", facts{order: "none"}, []string{"order: DIFFERS", "      order: none"}, true, false},
	"capped":                {"things", facts{cap: 10}, []string{"largest page: DIFFERS: capped silently", "      limit: 10\n"}, true, false},
	"capped, echo lies":     {"things", facts{cap: 10, echoLies: true}, []string{"page size echoed: DIFFERS: meta.limit repeats", "size_echo: null"}, true, false},
	"refuses":               {"things", facts{refuses: 15}, nil, false, false},
	"refuses far more":      {"things", facts{refuses: 50}, []string{"50 is not", "      limit: 20\n"}, false, true},
	"size ignored":          {"things", facts{sizeless: true}, []string{"page size: DIFFERS", "there are 7"}, false, false},
	"no echo":               {"things", facts{noEcho: true}, []string{"page size echoed: DIFFERS", "size_echo: null"}, true, false},
	"wrong total":           {"things", facts{total: 3}, []string{"total: DIFFERS: meta.total says 93, and the listing shows 90", "total: null"}, true, false},
	"blank in times":        {"things", facts{layout: "2006-01-02 15:04:05.000Z"}, []string{"time format: DIFFERS", "%Y-%m-%d %H:%M:%S.%3fZ"}, false, false},
	"false 404":             {"things", facts{lookup: "false"}, []string{"lookup: DIFFERS: FALSE 404", "lookup: null"}, true, false},
	"lookup of anything":    {"things", facts{lookup: "found"}, []string{"lookup: DIFFERS", "lookup: null"}, true, false},
	"lookup without 404":    {"things", facts{lookup: "page"}, []string{"lookup: DIFFERS: the made-up", "instead of 404"}, true, false},
	"etag works":            {"things", facts{etag: "works"}, []string{"etag: works"}, false, true},
	"etag never matches":    {"things", facts{etag: "never"}, []string{"etag: does not work"}, false, true},
	"strict parameters":     {"things", facts{strict: true}, []string{"unknown parameter: is refused by 400"}, false, true},
	"pages from 0":          {"things", facts{zero: true}, []string{"first page: DIFFERS", "      start: 0"}, true, false},
	"last page repeated":    {"things", facts{repeats: true}, []string{"past the end: DIFFERS"}, false, false},
	"404 past the end":      {"things", facts{brokenPastEnd: true}, []string{"past the end: DIFFERS", "would halt"}, false, false},
	"filter refused":        {"things", facts{badSince: 400}, []string{"filter: DIFFERS: a request from ", " on is answered by 400"}, false, false},
	"ids like p8":           {"things", facts{records: 260, ids: func(i int) string { return fmt.Sprint("p", i+1) }}, []string{"its 404 is real"}, false, true},
	"ids like north":        {"things", facts{records: 4, ids: func(i int) string { return []string{"north", "south", "west", "east"}[i] }}, []string{"its 404 is real"}, false, true},
	"rate limit header":     {"things", facts{quota: func(n int) string { return fmt.Sprint(977 - n) }}, []string{"  remaining_header: x-quota-remaining", "it falls as requests are made: 97"}, true, true},
	"it refills meanwhile":  {"things", facts{quota: func(n int) string { return fmt.Sprint(40 - n%4) }}, []string{"  remaining_header: x-quota-remaining"}, true, true},
	"it counts what's used": {"things", facts{quota: func(n int) string { return fmt.Sprint(n) }}, []string{"does not fall as requests are made"}, true, true},
	"it never changes":      {"things", facts{quota: func(int) string { return "977" }}, []string{"does not fall as requests are made: 977, 977, 977, 977"}, true, true},
	"used and limit":        {"things", facts{quota: func(n int) string { return fmt.Sprint(n, "/40") }}, []string{"no header says what is left of it"}, true, true},
	"cursor moves":          {"log", facts{emptyCursor: "moves", badCursor: 410}, []string{"it moves"}, false, true},
	"cursor stays":          {"log", facts{badCursor: 410}, []string{"it stays"}, false, true},
	"no cursor at the end":  {"log", facts{emptyCursor: "none", badCursor: 410}, []string{"cursor of an empty page: DIFFERS"}, false, false},
	"frozen cursor":         {"log", facts{frozen: true}, []string{"cursor of an empty page: DIFFERS: FROZEN"}, false, false},
	"cursor good once":      {"log", facts{once: true, badCursor: 410}, []string{"cursor asked again: DIFFERS", "checkpoint: pass"}, true, false},
	"unknown cursor 410":    {"log", facts{badCursor: 410}, []string{"unknown cursor: 410, which the definition takes as expired"}, false, true},
	"unknown cursor 400":    {"log", facts{badCursor: 400}, []string{"unknown cursor: DIFFERS: 400", "errors: [{status: 400, do: expired}]"}, true, false},
	"unknown cursor anew":   {"log", facts{}, []string{"SILENCE", "begins anew"}, false, true},
	"unknown cursor empty":  {"log", facts{badCursor: 204}, []string{"SILENCE", "declare `head`"}, false, true},
	"unknown cursor 500":    {"log", facts{badCursor: 500}, []string{"unknown cursor: DIFFERS: 500", "again and again", "errors: [{status: 500, do: expired}]"}, true, false},
	"unknown token 400":     {"tokens", facts{badToken: 400}, []string{"unknown token: DIFFERS: 400", "errors: [{status: 400, do: restart_pass}]"}, true, false},
	"unknown token 410":     {"tokens", facts{badToken: 410}, []string{"begin the whole listing anew", "errors: [{status: 410, do: restart_pass}]"}, true, false},
}

// TestProbeFindsEachFact: an API with one fact switched is seen through; where the definition can say it, what is printed says it,
// and a second probe of the definition with it agrees.
func TestProbeFindsEachFact(t *testing.T) {
	s := &stage{T: t}
	for name, c := range switched {
		t.Run(name, func(t *testing.T) {
			s := &stage{T: t, env: s.env}
			if name == "refuses" { // the definition's own page is refused: there is nothing to begin with
				s.refused(c.facts)
				return
			}
			code, out := s.probed(c.facts, c.stream, labYAML)
			if (code == 0) != c.agrees {
				t.Errorf("exit code %d\n%s", code, out)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			if !c.fixed {
				return
			}
			better := pasted(t, labYAML, out)
			if code, again := s.probed(c.facts, c.stream, better); code != 0 {
				t.Errorf("after pasting:\n%s\nit still differs:\n%s", better, again)
			}
		})
	}
}

func (s *stage) refused(f facts) {
	f.used, f.records = map[string]bool{}, 90
	server := httptest.NewServer(&f)
	defer server.Close()
	file := filepath.Join(s.TempDir(), "lab.yaml")
	if err := os.WriteFile(file, []byte(labYAML), 0o600); err != nil {
		s.Fatal(err)
	}
	s.want(1, []string{"sources", "probe", file, "--config", "url=" + server.URL, "--stream", "things"}, "first request: DIFFERS: it is answered by 400")
	s.want(2, []string{"sources", "probe"}, "NAME_OR_FILE")
	f.refuses, f.n = 0, 0
	s.want(0, []string{"sources", "probe", file, "--config", "url=" + server.URL, "--stream", "things", "--requests", "5"}, "not known: the requests that were allowed are spent")
	if f.n != 5 {
		s.Errorf("%d requests, and 5 were allowed", f.n)
	}
}

// TestProbeOfTheSystems: the shipped definitions agree with the simulated systems, fact by fact; what they leave open is named.
func TestProbeOfTheSystems(t *testing.T) {
	s := &stage{T: t, env: map[string]string{}}
	o := simulator.Lively(3)
	o.RateBudget, o.Records = 100_000, map[string]int{"loans": 700, "client/recording": 180, "events": 3, "guests": 60, "items": 60, "purchases": 60}
	for name, c := range map[string]struct {
		up     *simulator.Upstream
		config func(url string) []string
		more   string // of the file that extends the shipped definition
		code   int
		want   []string
	}{
		"salesloft": {simulator.New(o).Upstream, func(url string) []string {
			return []string{"api_key=" + simulator.APIKey, "base_url=" + url + "/v2"}
		}, "rate_limit: {budget: 100000}", 0, []string{"      inclusive: true", "      granularity: 1us", "      order: asc", "capped silently: asked for 1000, there are 100", "its 404 is real",
			"  remaining_header: x-ratelimit-remaining-minute", "size_echo: metadata.paging.per_page"}},
		"crf-exchange": {simulator.NewCRF(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url + "/api", "api_key=" + simulator.APIKey, "partner_id=" + simulator.PartnerID}
		}, "rate_limit: {budget: 100000}", 1, []string{"cursor of an empty page: it moves", "unknown cursor: DIFFERS: 400", "      checkpoint: page"}},
		"focus": {simulator.NewFocus(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url + "/api", fmt.Sprint("client_id=", simulator.FocusClientID), "api_key=" + simulator.APIKey, "username=" + simulator.FocusUsername}
		}, "", 0, []string{"cursor of an empty page: it moves", "unknown cursor: 410, which the definition takes as expired"}},
		"givergy": {simulator.NewGivergy(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url, "namespace=" + simulator.GivergyNamespace, "username=" + simulator.GivergyUsername, "password=" + simulator.GivergyPassword}
		}, "rate_limit: {budget: 100000}", 0, []string{"      inclusive: true", "      granularity: 1s", "2000 is refused by 400, 1000 is not", "      overlap: true", "  guests:"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.up.Freeze()
			server := httptest.NewServer(c.up.Handler())
			defer server.Close()
			definition := "extends: " + name + "\n" + c.more + "\n"
			file := filepath.Join(t.TempDir(), "it.yaml")
			if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"sources", "probe", file}
			for _, setting := range c.config(server.URL) {
				args = append(args, "--config", setting)
			}
			code, out, errs := s.main(args...)
			if code != c.code {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			if strings.Contains(out+errs, simulator.APIKey) || strings.Contains(out+errs, simulator.GivergyPassword) {
				t.Error("a secret is printed")
			}
			if _, err := source.Parse("it.yaml", []byte(pasted(t, definition, out))); err != nil {
				t.Errorf("it cannot be pasted: %v\n%s", err, out)
			}
		})
	}
}

// TestMadeUpKeys: a made-up key has the form of a real one, is none of the listed ones, and so long that it is hardly anybody's.
func TestMadeUpKeys(t *testing.T) {
	for key, want := range map[string]string{
		"1": "1099511627777", "999": "1099511628775", "abc-123": "abc-1099511627899", `["Listings","a7|9"]`: `["Listings","a7|1099511627785"]`, `["x",12]`: `["x",1099511627788]`,
		"p8": "p1099511627784", "north": "cdgiwcdgiwcdgiw", "NffrFeUfNV2Hib": "", "7FF1DC66": "", `["caf\u00e9"]`: "", "東京": "東京9999999999999", "2024000000000": "",
		`["7ff1dc66-410f-470d-a8ae-000000000016"]`: "", "507f1f77bcf86cd799439011": "", `["x",300000000000]`: "", "us": "", "a-": "",
	} {
		made := string(madeUp([][]byte{[]byte(key)}))
		if made == key || want != "" && made != want || json.Valid([]byte(key)) != json.Valid([]byte(made)) || len(made) < long {
			t.Errorf("%s: %s", key, made)
		}
		again := string(madeUp([][]byte{[]byte(key), []byte(made)}))
		if again == made || again == key {
			t.Errorf("%s: %s is listed, and comes again", key, made)
		}
		if hexWord.MatchString(key) && !hexWord.MatchString(made) {
			t.Errorf("%s: %s is not hexadecimal any more", key, made)
		}
	}
}

// TestProbeOfADeclaredQuotaHeader: a header that is no number of what is left slows nobody down, so it is not to be declared.
func TestProbeOfADeclaredQuotaHeader(t *testing.T) {
	s := &stage{T: t}
	definition := "rate_limit: {budget: 10000, remaining_header: x-quota-remaining}\n" + labYAML
	for said, want := range map[string]string{"1/40": "says 1/40, which is no plain number", "7": "does not fall"} {
		code, out := s.probed(facts{quota: func(int) string { return said }}, "things", definition)
		if code != 1 || !strings.Contains(out, "rate limit: DIFFERS: x-quota-remaining "+want) || !strings.Contains(out, "remaining_header: null") {
			t.Errorf("%d\n%s", code, out)
		}
	}
}

// TestProbeSeesFaults: a simulated system with a fault that lasts is no longer what its definition says.
func TestProbeSeesFaults(t *testing.T) {
	for kind, want := range map[simulator.Kind][]string{
		simulator.IgnoreFilter: {"filter: DIFFERS: IGNORED", "future: DIFFERS"},
		simulator.IgnoreSort:   {"order: DIFFERS", "      order: none"},
		simulator.Capped:       {"largest page: DIFFERS: capped silently: asked for 1000, there are 10", "      per_page: 10\n"},
		simulator.FalseGone:    {"lookup: DIFFERS: FALSE 404"},
		simulator.Moved:        {"lookup: DIFFERS: FALSE 404"},
		simulator.Shuffle:      {"order: DIFFERS"},
		simulator.Empty:        {"not known: the first page has too few records"},
		simulator.HTML:         {"first request: DIFFERS"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			o := simulator.Lively(3)
			o.RateBudget = 100_000
			sim := simulator.New(o)
			sim.Freeze()
			sim.Fail(simulator.Fault{Kind: kind, Resource: "people", Times: -1})
			server := httptest.NewServer(sim.Handler())
			defer server.Close()
			file := filepath.Join(t.TempDir(), "it.yaml")
			if err := os.WriteFile(file, []byte("extends: salesloft\nrate_limit: {budget: 100000}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := &stage{T: t, env: map[string]string{}}
			code, out, _ := s.main("sources", "probe", file, "--stream", "people", "--config", "api_key="+simulator.APIKey, "--config", "base_url="+server.URL+"/v2")
			if (code != 0) != strings.Contains(out, ": DIFFERS") {
				t.Errorf("exit code %d", code)
			}
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
		})
	}
}

// P10: a place for the next page, or for the sign of the end, that no answer has.
func TestProbeNamesSignsThatAreNowhere(t *testing.T) {
	s := &stage{T: t}
	code, out := s.probed(facts{}, "tokens", strings.Replace(labYAML, "next: next", "next: nxt", 1))
	if !strings.Contains(out, "nothing shows that `paginator.next` is right: no answer had it, and a page has 20 records") || !strings.Contains(out, `did you mean "next"`) {
		t.Errorf("%d\n%s", code, out)
	}
	code, out = s.probed(facts{}, "tokens", strings.Replace(labYAML, "next: next", "next: next, more: moer", 1))
	if code != 1 || !strings.Contains(out, "signs of the end: DIFFERS: `paginator.more` is in none of the") {
		t.Errorf("%d\n%s", code, out)
	}
}
