package source

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

const snapshotStream = `
    path: /things
    query: {page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page}
`

// numbered serves pages of 100 by number, in the order of things, which before may change.
func numbered(things *[]thing, before func(q asked)) server {
	const size = 100
	return func(q asked) any {
		if before != nil {
			before(q)
		}
		n, err := strconv.Atoi(q.query.Get("page"))
		if err != nil {
			panic(err)
		}
		data := []any{}
		for i := (n - 1) * size; i < min(n*size, len(*things)); i++ {
			data = append(data, (*things)[i].json())
		}
		return map[string]any{"data": data, "size": size}
	}
}

// P9, D2: a snapshot over numbered pages that hold still is complete.
func TestP9StillPagesAreComplete(t *testing.T) {
	things := many(250, time.Second)
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, nil))
	if diff := cmp.Diff(ids(1, 250), distinct(got.keys)); got.err != nil || diff != "" || !got.complete || got.checkpoint.Drifting {
		t.Error(got.err, diff, got.complete, got.checkpoint)
	}
	if got.pages != 4 {
		t.Errorf("%d pages: without an echo only an empty page is the end (P10)", got.pages)
	}
	echo := strings.Replace(snapshotStream, "type: page", "type: page, size_echo: size", 1)
	if got := newDriver(t, bound(t, echo, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, nil)); got.pages != 3 {
		t.Errorf("%d pages with an echo", got.pages)
	}
}

// P9: a key that a page shows twice says that rows moved: what moved up onto pages that were read was missed. The pass is
// walked again from its start.
func TestP9DriftIsWalkedAgain(t *testing.T) {
	things := many(250, time.Second)
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, func(q asked) {
		if q.n == 2 { // one row is inserted in front, another leaves for the end: 101 moves up, 100 is seen twice
			things = append([]thing{{999, noon}}, things...)
		}
	}))
	if diff := cmp.Diff(distinct(append(ids(1, 250), "999")), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	if !got.complete || got.checkpoint.Drifting {
		t.Errorf("the second walk held still: %v %+v", got.complete, got.checkpoint)
	}
}

// P9: pages that never hold still: three walks again, then the cursor of P4, marked as drifting, and never complete.
func TestP9NeverStillIsDrifting(t *testing.T) {
	things := many(250, time.Second)
	churn := func(asked) { things = append([]thing{{1000 + len(things), noon}}, things...) }
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, churn))
	if got.err != nil || got.complete || got.checkpoint == nil || !got.checkpoint.Drifting || len(got.notices) != 1 {
		t.Errorf("%v complete %v %+v %q", got.err, got.complete, got.checkpoint, got.notices)
	}
	if walks := strings.Count(strings.Join(got.queries, "\n")+"\n", "page=1\n"); walks != 4 {
		t.Errorf("%d walks", walks)
	}
	still := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, *got.checkpoint, 0, numbered(&things, nil))
	if still.checkpoint.Drifting || still.quiet {
		t.Errorf("the mark stays: %+v", still.checkpoint)
	}
}

// P9: a record that changed after the pass began may have moved others.
func TestP9NewerThanTheStartIsDrift(t *testing.T) {
	things := many(250, time.Second)
	d := newDriver(t, bound(t, listStream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, func(q asked) {
		d.now = noon.Add(time.Duration(q.n) * 10 * time.Second)
		if q.n == 2 { // id 1 is deleted and 500 created: 101 is on page 1 now, and nobody is seen twice
			things = append(things[1:], thing{500, d.now.Add(-time.Second)})
		}
	}))
	if diff := cmp.Diff(distinct(append(ids(1, 250), "500")), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	future := many(50, time.Second)
	future = append(future, thing{99, noon.AddDate(80, 0, 0)})
	if got := newDriver(t, bound(t, listStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&future, nil)); got.checkpoint.Drifting {
		t.Error("a record dated 2106 is no sign of drift")
	}
}

// P9: too many keys to notice a second sighting prove nothing.
func TestP9SightingsAreBounded(t *testing.T) {
	src := bound(t, snapshotStream, nil)
	src.SetLimits(Limits{Sightings: 150})
	things := many(250, time.Second)
	if got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, numbered(&things, nil)); got.err != nil || got.complete {
		t.Error(got.err, got.complete)
	}
}

// P10: who says that a pass has ended.
func TestP10End(t *testing.T) {
	page := `
    path: /things
    query: {page: "{{ page }}", token: "{{ page_token }}"}
    records: data
    primary_key: id
    paginator: {PAGINATOR}
`
	row := func(n int) any { return thing{n, noon}.json() }
	for _, c := range []struct {
		name, paginator string
		serve           server
		pages           int
		keys            int
		halt            string
	}{
		{"more", "type: page, more: more", func(q asked) any { return map[string]any{"data": []any{row(q.n)}, "more": q.n < 3} }, 3, 3, ""},
		{"more over an empty page", "type: page, more: more", func(q asked) any {
			if q.n == 2 {
				return map[string]any{"data": []any{}, "more": true}
			}
			return map[string]any{"data": []any{row(q.n)}, "more": q.n < 3}
		}, 3, 2, ""},
		{"done", "type: page, done: \"response.body.left == 0\"", func(q asked) any { return map[string]any{"data": []any{row(q.n)}, "left": 3 - q.n} }, 3, 3, ""},
		{"next page's number", "type: page, next: next", func(q asked) any {
			return map[string]any{"data": []any{row(q.n)}, "next": []any{nil, 2, 3, nil}[q.n]}
		}, 3, 3, ""},
		{"next page leads back", "type: page, next: next", func(q asked) any { return map[string]any{"data": []any{row(q.n)}, "next": 1} }, 0, 0, "the page after 1 is"},
		{"token", "type: token, next: next", func(q asked) any {
			if q.query.Get("token") != []string{"", "", "t1", "t2"}[q.n] {
				return &fetch.Response{Status: 400}
			}
			return map[string]any{"data": []any{row(q.n)}, "next": []any{nil, "t1", "t2", ""}[q.n]}
		}, 3, 3, ""},
		{"token over an empty page", "type: token, next: next", func(q asked) any {
			return map[string]any{"data": []any{}, "next": []any{nil, "t1", "t2", nil}[q.n]}
		}, 3, 0, ""},
		{"token to itself", "type: token, next: next", func(q asked) any { return map[string]any{"data": []any{row(q.n)}, "next": "t"} }, 0, 0, "leads to itself"},
		{"more without a token", "type: token, next: next, more: more", func(q asked) any { return map[string]any{"data": []any{row(q.n)}, "more": true} }, 0, 0, "has no token"},
		{"none", "type: none", func(q asked) any { return map[string]any{"data": []any{row(1), row(2)}} }, 1, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(page, "PAGINATOR", c.paginator, 1)
			if !strings.Contains(c.paginator, "page") {
				text = strings.Replace(text, `page: "{{ page }}", `, "", 1)
			}
			if !strings.Contains(c.paginator, "token") {
				text = strings.Replace(text, `token: "{{ page_token }}"`, "", 1)
			}
			got := newDriver(t, bound(t, strings.Replace(text, ", }", "}", 1), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, c.serve)
			if c.halt != "" {
				want(t, got.err, cdc.Halt, c.halt)
				return
			}
			if got.err != nil || got.pages != c.pages || len(distinct(got.keys)) != c.keys || !got.complete {
				t.Errorf("%v, %d pages, %q, complete %v", got.err, got.pages, got.keys, got.complete)
			}
		})
	}
}

// P10: links by header and body are resolved against the request, and the pass ends where there is none.
func TestP10Links(t *testing.T) {
	header := `
    path: /things
    query: {limit: 100}
    records: .
    primary_key: id
    paginator: {type: link, header: true}
`
	var asked1 []string
	got := newDriver(t, bound(t, header, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		asked1 = append(asked1, q.URL)
		h := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
		if q.n < 3 {
			h.Set("Link", fmt.Sprintf(`<https://api.test/v1/things?page=%d&limit=100>; rel="next", <https://api.test/v1/things?page=9>; rel="last"`, q.n+1))
		}
		return &fetch.Response{Status: 200, Header: h, Body: fmt.Appendf(nil, `[{"id":%d}]`, q.n)}
	})
	wanted := []string{"https://api.test/v1/things?limit=100", "https://api.test/v1/things?page=2&limit=100", "https://api.test/v1/things?page=3&limit=100"}
	if diff := cmp.Diff(wanted, asked1); got.err != nil || diff != "" || !got.complete {
		t.Error(got.err, diff, got.complete)
	}

	inBody := strings.NewReplacer("header: true", `next: '["@odata.nextLink"]'`, "records: .", "records: value").Replace(header)
	got = newDriver(t, bound(t, inBody, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		return map[string]any{"value": []any{map[string]any{"id": q.n}}, "@odata.nextLink": []any{nil, "things?skip=1", nil}[q.n]}
	})
	if got.err != nil || !slices.Equal(got.queries, []string{"/v1/things?limit=100", "/v1/things?skip=1"}) {
		t.Error(got.err, got.queries)
	}
	got = newDriver(t, bound(t, inBody, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		return map[string]any{"value": []any{map[string]any{"id": q.n}}, "@odata.nextLink": "?skip=1"}
	})
	want(t, got.err, cdc.Halt, "leads to itself")
}

func TestNextLink(t *testing.T) {
	for line, wanted := range map[string]string{
		`<https://a/b?x=1,2;3>; rel="next"`:                      "https://a/b?x=1,2;3",
		`<a>; rel=prev, <b>; title="x, <c>; rel=next"; rel=next`: "b",
		`<a>; rel="first prev", <b>; rel="last next"`:            "b",
		`<a>;rel="NEXT"`:      "a",
		`<a>; rev=next`:       "",
		`<a`:                  "",
		`a; rel=next`:         "",
		`<a>; rel="ne\xt"`:    "a",
		`<a>; flag; rel=next`: "a",
		"":                    "",
	} {
		if got := nextLink(http.Header{"Link": {line}}); got != wanted {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// FuzzNextLink proves that a Link header's target is taken from the header as it stands, and that the address it leads to is
// one: absolute, and what it stays when it is read again. That it lies at the API is for fetch to see.
func FuzzNextLink(f *testing.F) {
	f.Add(`<https://a/b>; rel="next", <c>; rel=last`)
	f.Add(`<a>; x="\"`)
	f.Fuzz(func(t *testing.T, line string) {
		got := nextLink(http.Header{"Link": {line}})
		if !strings.Contains(line, got) {
			t.Errorf("%q is not in %q", got, line)
		}
		link, err := resolve("https://api.test/v1/things?page=1", got)
		if err != nil {
			return
		}
		again, err := resolve(link, link)
		if u, err2 := url.Parse(link); err != nil || again != link || err2 != nil || u.Scheme == "" || u.Fragment != "" {
			t.Errorf("%q leads to %q, and that to %q: %v %v", got, link, again, err, err2)
		}
	})
}

// The pass ends somewhere, whatever the server sends (10).
func TestPagesAreBounded(t *testing.T) {
	src := bound(t, strings.Replace(snapshotStream, "type: page", "type: page, more: more", 1), nil)
	src.SetLimits(Limits{Pages: 20})
	got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		return map[string]any{"data": []any{thing{q.n, noon}.json()}, "more": true}
	})
	want(t, got.err, cdc.Halt, "does not end: 20 pages")
}

// P9: a page parameter that is ignored gives the first page for ever.
func TestP9IgnoredPageHalts(t *testing.T) {
	things := many(100, time.Second)
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		q.query.Set("page", "1")
		return numbered(&things, nil)(q)
	})
	want(t, got.err, cdc.Halt, "the page was ignored")
}

// P10: without a token the next page begins behind the last record of this one. The pass ends where the answer says so, or at an
// empty page. A page that ends with the record that it should have begun behind would be asked for again and again.
func TestP10GoesOnFromTheLastRecord(t *testing.T) {
	stream := `
    path: /things
    query: {after: "{{ last.id }}", limit: 2}
    records: data
    primary_key: id
    paginator: {PAGINATOR}
`
	rows := func(ids ...int) []any {
		out := []any{}
		for _, id := range ids {
			out = append(out, map[string]any{"id": id})
		}
		return out
	}
	behind := func(q asked, inclusive int) []any { // of 1 to 5, two at a time
		after, _ := strconv.Atoi(q.query.Get("after"))
		if after > 0 {
			after -= inclusive
		}
		return rows([]int{1, 2, 3, 4, 5}[after:min(after+2, 5)]...)
	}
	for _, c := range []struct {
		name, paginator string
		serve           server
		queries         string
		halt            string
	}{
		{"empty page", "type: token", func(q asked) any { return map[string]any{"data": behind(q, 0)} }, "limit=2, after=2&limit=2, after=4&limit=2, after=5&limit=2", ""},
		{"more", "type: token, more: more", func(q asked) any { return map[string]any{"data": behind(q, 0), "more": q.n < 3} }, "limit=2, after=2&limit=2, after=4&limit=2", ""},
		{"inclusive, more", "type: token, more: more", func(q asked) any { return map[string]any{"data": behind(q, 1), "more": q.n < 4} }, "limit=2, after=2&limit=2, after=3&limit=2, after=4&limit=2", ""},
		{"inclusive", "type: token", func(q asked) any { return map[string]any{"data": behind(q, 1)} }, "", "and so does the page before"},
		{"ignored", "type: token", func(asked) any { return map[string]any{"data": rows(1, 2)} }, "", "and so does the page before"},
		{"more, and nothing", "type: token, more: more", func(asked) any { return map[string]any{"data": rows(), "more": true} }, "", "no record to go on from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := newDriver(t, bound(t, strings.Replace(stream, "PAGINATOR", c.paginator, 1), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, c.serve)
			if c.halt != "" {
				want(t, got.err, cdc.Halt, c.halt)
				return
			}
			queries := strings.ReplaceAll(strings.Join(got.queries, ", "), "/v1/things?", "")
			if got.err != nil || !slices.Equal(distinct(got.keys), ids(1, 5)) || queries != c.queries || !got.complete {
				t.Errorf("%v, %q, %q, complete %v", got.err, got.keys, queries, got.complete)
			}
		})
	}
}

// P13: a newest-first feed that goes on from its last record is read back to the cursor, whatever comes on top meanwhile.
func TestP13NewestFirstBehindTheLastRecord(t *testing.T) {
	stream := strings.NewReplacer(`token: "{{ page_token }}"`, `after: "{{ last.id }}"`, ", next: next", ", more: more").Replace(newestFirst)
	things := many(500, time.Second)
	serve := func(q asked) any {
		all := slices.Clone(things)
		slices.SortStableFunc(all, func(a, b thing) int { return b.at.Compare(a.at) })
		low := 1 + slices.IndexFunc(all, func(x thing) bool { return fmt.Sprint(x.id) == q.query.Get("after") })
		data := []any{}
		for _, x := range all[low:min(low+100, len(all))] {
			row := x.json()
			row["thing"] = fmt.Sprint("t", x.id)
			data = append(data, row)
		}
		if q.n == 2 {
			things = append(things, thing{501, noon.Add(-time.Millisecond)})
		}
		return map[string]any{"data": data, "more": low+100 < len(all)}
	}
	d := newDriver(t, bound(t, stream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
	if got.err != nil || len(got.keys) != 500 || got.keys[0] != "t1" || !slices.IsSortedFunc(got.keys, byNumber) {
		t.Fatalf("%v %d %q", got.err, len(got.keys), got.keys[:min(5, len(got.keys))])
	}
	second := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, serve)
	if second.err != nil || !slices.Equal(second.keys, []string{"t501"}) {
		t.Errorf("%v %q %q", second.err, second.keys, second.queries)
	}
}
