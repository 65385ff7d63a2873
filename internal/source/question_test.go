package source

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fetch"
)

// TestQuestions: a question is the stream's own request with what is asked for in its place, wherever the page size stands.
func TestQuestions(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	third := int64(3)
	for _, c := range []struct {
		lines, url, body string
		q                Question
	}{
		{"query: {per_page: 100, since: '{{ cursor }}'}\nincremental: {cursor_field: at, format: unix}", "/orders?per_page=7&since=5", "", Question{Size: 7, Cursor: int64(5)}},
		{"query: {per_page: 100, since: '{{ cursor ?? -1 }}'}\nincremental: {cursor_field: at, format: unix}", "/orders?per_page=100&since=-1", "", Question{}},
		{"query: {page: '{{ page }}', kind: 100}\npaginator: {type: page}", "/orders?page=3&kind=100&x=1", "", Question{Size: 7, Page: &third, Extra: "x=1"}},
		{"method: POST\nform: {limit: 9, token: '{{ page_token }}'}\npaginator: {type: token, next: next}", "/orders", "limit=7&token=abc", Question{Size: 7, Token: "abc"}},
		{"method: POST\nbody: {size: 9, from: '{{ offset }}'}\npaginator: {type: offset}", "/orders", `{"size":7,"from":40}`, Question{Size: 7, Offset: 40}},
		{"query: {x: 1}", "https://other.example.com/", "", Question{Link: "https://other.example.com/"}},
	} {
		r := mustBind(t, withStream(c.lines), nil).Requests[0]
		before, _ := r.Ask(r.Partitions()[0], Question{}, now)
		got, err := r.Ask(r.Partitions()[0], c.q, now)
		if err != nil || strings.TrimPrefix(got.URL, "https://api.example.com/v1") != c.url || string(got.Body) != c.body {
			t.Errorf("%s: %s %s, %v", c.lines, got.URL, got.Body, err)
		}
		if after, _ := r.Ask(r.Partitions()[0], Question{}, now); after.URL != before.URL || string(after.Body) != string(before.Body) {
			t.Errorf("%s: a question changed the stream's own request to %s %s", c.lines, after.URL, after.Body)
		}
	}
}

// TestGlimpses: an answer is read as it comes, out of order and all; what is no answer is an error, never an empty page (P18).
func TestGlimpses(t *testing.T) {
	r := mustBind(t, withStream("query: {since: '{{ anchor }}'}\npaginator: {type: keyset, size_echo: meta.size}\nincremental: {cursor_field: at, format: rfc3339, order: asc}"), nil).Requests[0]
	p := r.Partitions()[0]
	answer := func(body string) *fetch.Response {
		return &fetch.Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
	}
	g, err := r.Glimpse(p, answer(`{"meta":{"size":2,"total":9,"x":"y","deep":{"n":3}},"data":[{"id":2,"at":"2026-01-02T00:00:00Z","n":5},{"id":1,"at":"2026-01-01T00:00:00Z"},{"id":3,"at":null},{"at":"soon"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Rows) != 4 || string(g.Rows[0].Key) != "2" || g.Rows[0].At.Day() != 2 || !g.Rows[2].At.IsZero() || g.Rows[3].Key != nil || g.Rows[3].Odd == nil {
		t.Errorf("%+v", g.Rows)
	}
	if got, _ := json.Marshal(g.Numbers); string(got) != `{"meta.deep.n":3,"meta.size":2,"meta.total":9}` {
		t.Errorf("%s", got)
	}
	if q, more := r.Follow(Question{}, g, ""); more {
		t.Errorf("the last record has no time, and yet it goes on at %v", q.Cursor)
	}
	g.Rows = g.Rows[:2]
	if q, more := r.Follow(Question{}, g, ""); !more || q.Cursor != "2026-01-01T00:00:00Z" {
		t.Errorf("it goes on at %v", q.Cursor)
	}
	for _, body := range []string{`{"data":[}`, `<html>`, ``, `{"data":[],"data":[]}`} {
		if g, err := r.Glimpse(p, answer(body)); err == nil {
			t.Errorf("%s: %+v", body, g)
		}
	}
	if _, exact := r.Exact(Row{Text: "2026-01-01T00:00:00.5Z", At: time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC)}); !exact {
		t.Error("a text that is sent back as it came is exact")
	}
}

// TestAncestorsOfARequest: a request of several streams has the parents of its streams.
func TestAncestorsOfARequest(t *testing.T) {
	d, err := Open("givergy")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"items", "buy_now_items", "guests"} {
		if got := d.Ancestors(name); !slices.Equal(got, []string{"events"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestCursorOf: whoever names a place writes it as the API does, or a time as people write times.
func TestCursorOf(t *testing.T) {
	for _, c := range []struct{ incremental, text, want string }{
		{"cursor_field: at, format: rfc3339", "2024-01-31", "2024-01-31T00:00:00Z"},
		{"cursor_field: at, format: rfc3339", "2024-01-31T01:00:00+01:00", "2024-01-31T01:00:00+01:00"}, // P16: the API's own text stays
		{"cursor_field: at, format: '%d.%m.%Y'", "2024-01-31", "31.01.2024"},
		{"cursor_field: at, format: '/Date(%Q%z)/'", "2024-01-31 12:00:00", "/Date(1706702400000+0000)/"},
		{"cursor_field: at, format: unix_ms", "2024-01-31T12:00:00", "1706702400000"},
		{"cursor_field: at, format: {record: '%Y-%m-%d %H:%M', zone: Europe/Berlin}", "2024-01-31T12:00:00Z", "2024-01-31 13:00"},
		{"cursor_field: at, format: {record: '%Y-%m-%d %H:%M', zone: Europe/Berlin}", "2024-01-31", "2024-01-31 00:00"},
		{"cursor_field: at, format: unix", "yesterday", ""},
		{"type: sequence, next: n", "17", "17"},
		{"type: sequence, next: n", "2024-01-31", ""},
		{"type: opaque, next: n", "abc", "abc"},
	} {
		s := mustBind(t, minimal+"    query: {since: '{{ cursor }}'}\n    incremental: {"+c.incremental+"}\n", nil)
		got, err := s.Requests[0].CursorOf(c.text)
		if (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("%s: %q is %q, not %q: %v", c.incremental, c.text, got, c.want, err)
		}
	}
	if _, err := mustBind(t, minimal, nil).Requests[0].CursorOf("2024-01-31"); err == nil {
		t.Error("a snapshot has a cursor")
	}
}
