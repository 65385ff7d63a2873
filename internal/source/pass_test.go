package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// noon is the server's time in these tests, unless a test moves it.
var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// at returns noon plus d as the servers of these tests write it.
func at(d time.Duration) string { return noon.Add(d).Format("2006-01-02T15:04:05.000000Z07:00") }

// bound returns the source of a definition with one stream "things" whose keys are given, indented by four blanks.
func bound(t *testing.T, stream string, config map[string]any) *Source {
	t.Helper()
	text := "source: test\nconfig: {start: {optional: true}, views: {type: list, default: [a, b]}}\nbase_url: https://api.test/v1\n" +
		"authenticator: {type: none}\nstreams:\n  things:\n" + stream
	def, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	src, err := def.Bind("conn", config, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// keysetStream is SalesLoft's shape.
const keysetStream = `
    path: /things
    query:
      from: "{{ anchor ?? start }}"
      page: "{{ tie_page }}"
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, order: asc, lookback: 5m, start: "{{ config.start }}"}
`

// without returns text without its lines that contain any of the words.
func without(text string, words ...string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) })
	}), "\n")
}

// asked is a request as a fake server sees it.
type asked struct {
	*fetch.Request
	path  string
	query url.Values
	n     int // of the run, from 1
}

// server answers requests; what it returns is sent with status 200 where it is not a *fetch.Response.
type server func(q asked) any

// run is what a pass did.
type run struct {
	pages      int
	queries    []string // of the requests, as they were sent
	keys       []string // of records to compare, in order
	kinds      map[string]Kind
	parked     []error
	checkpoint *cdc.Checkpoint // the last one
	history    []cdc.Checkpoint
	quiet      bool // the last one's
	complete   bool
	why        string // it is not complete
	beyond     int
	skipped    int
	notices    []string
	recent     []string
	err        error
	last       Position
}

// driver runs passes as capture does.
type driver struct {
	t      *testing.T
	source *Source
	table  table
	now    time.Time // the server's
	took   time.Duration
	recent []string
	limit  int // pages of one run, 0: 500
}

func newDriver(t *testing.T, s *Source) *driver {
	return &driver{t: t, source: s, table: table{}, now: noon}
}

// table is a state table for the fast path.
type table map[string]record.RawHint

func (t table) Raw(key []byte, _ uint64) (record.RawHint, bool) {
	hint, ok := t[string(key)]
	return hint, ok
}

func answerBody(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return text
	}
}

func (d *driver) respond(req *fetch.Request, n int, serve server) *fetch.Response {
	u, err := url.Parse(req.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	answer := serve(asked{Request: req, path: u.Path, query: u.Query(), n: n})
	out, ok := answer.(*fetch.Response)
	if !ok {
		out = &fetch.Response{Status: 200, Body: answerBody(answer)}
	}
	if out.Header == nil {
		out.Header = http.Header{"Content-Type": {"application/json"}}
	}
	out.Sent, out.ServerTime = d.now, d.now
	out.Received = d.now.Add(d.took)
	return out
}

// pass runs one pass of partition p from cp until it ends, fails, or after stop pages (0: not at all).
func (d *driver) pass(p Partition, cp cdc.Checkpoint, stop int, serve server) run {
	d.t.Helper()
	pos, err := d.source.Requests[0].Begin(p, cp, d.now)
	if err != nil {
		return run{err: err}
	}
	pos.Remember(d.recent)
	return d.follow(pos, stop, serve)
}

// follow goes on from pos, as pass does.
func (d *driver) follow(pos Position, stop int, serve server) run {
	d.t.Helper()
	r := pos.Request()
	out := run{kinds: map[string]Kind{}, last: pos}
	var page Page
	for n := 1; ; n++ {
		if limit := max(d.limit, 500); n > limit {
			d.t.Fatalf("no end after %d pages: %q", limit, out.queries[len(out.queries)-5:])
		}
		req, err := r.Compose(&pos)
		if err != nil {
			out.err = err
			return out
		}
		var resp *fetch.Response
		if req != nil {
			u, _ := url.Parse(req.URL)
			q, _ := url.QueryUnescape(u.RawQuery)
			out.queries = append(out.queries, strings.TrimSuffix(u.Path+"?"+q, "?"))
			resp = d.respond(req, n, serve)
			if err := req.Judge(resp); err != nil {
				out.err = err
				return out
			}
		}
		if err := r.Split(&pos, resp, func(i int) record.Known { return d.table }, &page); err != nil {
			out.err = err
			return out
		}
		out.take(&page)
		if page.Recent != nil {
			d.recent = page.Recent
		}
		pos = page.Next
		out.last = pos
		if page.Done || out.pages == stop {
			out.complete, out.why = page.Complete, page.Why
			return out
		}
	}
}

func (out *run) take(page *Page) {
	out.pages++
	for _, rec := range page.Records {
		if rec.Err != nil {
			out.parked = append(out.parked, rec.Err)
			continue
		}
		out.keys = append(out.keys, string(rec.Key))
		out.kinds[string(rec.Key)] = rec.Kind
	}
	if page.Checkpoint != nil {
		cp := *page.Checkpoint
		out.checkpoint, out.quiet = &cp, page.Quiet
		out.history = append(out.history, cp)
	}
	if page.Recent != nil {
		out.recent = slices.Clone(page.Recent)
	}
	out.beyond += page.Beyond
	out.skipped += page.Skipped
	out.notices = append(out.notices, slices.Clone(page.Notices)...)
}

// distinct returns the sorted set of keys.
func distinct(keys []string) []string {
	set := map[string]bool{}
	for _, k := range keys {
		set[k] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// want fails the test where the error has another remedy, no hint though it halts, or another text.
func want(t *testing.T, err error, remedy cdc.Remedy, text string) {
	t.Helper()
	var e *cdc.Error
	if !errors.As(err, &e) {
		t.Fatalf("no cdc.Error but %v", err)
	}
	if got, _ := cdc.Verdict(err); got != remedy || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v: %v\nwant %v: …%s…", got, err, remedy, text)
	}
	if remedy == cdc.Halt && cdc.Hint(err) == "" {
		t.Fatalf("halts without a hint: %v", err)
	}
}

// thing is a row of a fake server.
type thing struct {
	id int
	at time.Time // zero: null
}

func (x thing) json() map[string]any {
	out := map[string]any{"id": x.id, "updated_at": nil, "name": "thing " + strconv.Itoa(x.id)}
	if !x.at.IsZero() {
		out["updated_at"] = x.at.Format("2006-01-02T15:04:05.000000Z07:00")
	}
	return out
}

// shop is a fake server of SalesLoft's shape: filter from inclusively, ascending with nulls first, pages by number.
type shop struct {
	things []thing
	size   int
	before func(s *shop, q asked) // changes the shop before a request is answered
}

func (s *shop) serve(q asked) any {
	if s.before != nil {
		s.before(s, q)
	}
	slices.SortStableFunc(s.things, func(a, b thing) int { return a.at.Compare(b.at) })
	var from time.Time
	if text := q.query.Get("from"); text != "" {
		var err error
		if from, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return &fetch.Response{Status: 422, Body: []byte(`{"errors":{"from":["bad"]}}`)}
		}
	}
	page := 1
	if n, err := strconv.Atoi(q.query.Get("page")); err == nil {
		page = n
	}
	rows := []map[string]any{}
	for _, x := range s.things {
		if from.IsZero() || !x.at.IsZero() && !x.at.Before(from) {
			rows = append(rows, x.json())
		}
	}
	low := min(len(rows), (page-1)*s.size)
	return map[string]any{"size": s.size, "data": rows[low:min(len(rows), low+s.size)]}
}

// many returns n things, one every step from noon − n steps on.
func many(n int, step time.Duration) []thing {
	out := make([]thing, n)
	for i := range out {
		out[i] = thing{i + 1, noon.Add(-time.Duration(n-i) * step)}
	}
	return out
}

func ids(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	slices.Sort(out)
	return out
}
