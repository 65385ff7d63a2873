package source

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/internal/cdc"
)

// endings are ways of paging whose answers show three records, one a page.
var endings = map[string]string{
	"page":   "query: {page: '{{ page }}'}\n    paginator: {type: page, SIGN}",
	"offset": "query: {offset: '{{ offset }}'}\n    paginator: {type: offset, SIGN}",
	"last":   "query: {after: '{{ last.id }}'}\n    paginator: {type: token, SIGN}",
	"token":  "query: {token: '{{ page_token }}'}\n    paginator: {type: token, next: next, SIGN}",
	"link":   "query: {x: 1}\n    paginator: {type: link, next: next, SIGN}",
	"opaque": "query: {cursor: '{{ cursor }}'}\n    incremental: {type: opaque, next: cursor, SIGN}",
}

// ending answers with record n of three; then with none. more(n) is what it says beside them.
func ending(more func(n int) map[string]any) server {
	return func(q asked) any {
		out := map[string]any{"data": []any{}, "cursor": fmt.Sprint("c", min(q.n, 4)), "meta": map[string]any{"size": 1}}
		if q.n <= 3 {
			out["data"] = []any{map[string]any{"id": q.n}}
		}
		if q.n < 3 {
			out["next"] = fmt.Sprintf("p%d", q.n+1)
		}
		for name, x := range more(q.n) {
			out[name] = x
		}
		return out
	}
}

func endingStream(kind, sign string) string {
	return "\n    path: /things\n    records: data\n    primary_key: id\n    " + strings.Replace(endings[kind], "SIGN", sign, 1) + "\n"
}

// P10: a name that no answer has is no end. Beside a place to go on from it halts; where it is the only sign, the pass goes on until
// an empty page, and proves nothing missing (D2).
func TestP10MoreWithATypoEndsNothing(t *testing.T) {
	says := ending(func(n int) map[string]any {
		return map[string]any{"has_more": n < 3, "meta": map[string]any{"more": n < 3}}
	})
	for kind := range endings {
		for sign, near := range map[string]string{
			"more: has_moer":                            `there is no "has_moer" (did you mean "has_more"?); there are cursor, data, has_more, meta`,
			"more: meta.moer":                           `there is no "meta.moer" (did you mean "meta.more"?); there are meta.more`,
			`more: "response.body.has_moer == true"`:    `did you mean "has_more"?`,
			`more: "response.headers.x_more == 'true'"`: "there is no header x_more",
		} {
			t.Run(kind+" "+sign, func(t *testing.T) {
				got := newDriver(t, bound(t, endingStream(kind, sign), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, says)
				if kind == "token" || kind == "link" {
					want(t, got.err, cdc.Halt, near)
					if hint := cdc.Hint(got.err); !strings.Contains(hint, "paginator.more") || !strings.Contains(hint, "??") {
						t.Errorf("hint %q", hint)
					}
					return
				}
				if got.err != nil || len(distinct(got.keys)) != 3 || got.complete {
					t.Errorf("%v, %q, complete %v", got.err, got.keys, got.complete)
				}
				if !strings.Contains(got.why, near) || !strings.Contains(got.why, "more` names") {
					t.Errorf("why %q", got.why)
				}
			})
		}
	}
}

// P10: some APIs leave out what is false. An answer of the pass that had it, or a definition that says so, makes that an end.
func TestP10MoreThatIsLeftOut(t *testing.T) {
	for _, c := range []struct {
		name, sign string
		serve      server
		pages      int
	}{
		{"it was there before", "more: has_more", ending(func(n int) map[string]any {
			if n < 3 {
				return map[string]any{"has_more": true}
			}
			return nil
		}), 3},
		{"said", `more: "response.body.has_more ?? false"`, ending(func(n int) map[string]any {
			if n < 3 {
				return map[string]any{"has_more": true}
			}
			return nil
		}), 3},
		{"said, and one page", `more: "response.body.has_more ?? false"`, func(asked) any { return `{"data":[{"id":1}],"cursor":"c1"}` }, 1},
		{"compared with nil", `more: "response.body.left != nil"`, ending(func(n int) map[string]any {
			if n < 3 {
				return map[string]any{"left": 3 - n}
			}
			return nil
		}), 3},
		{"null", "more: has_more", func(asked) any { return `{"data":[{"id":1}],"cursor":"c1","has_more":null}` }, 1},
	} {
		for kind := range endings {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				got := newDriver(t, bound(t, endingStream(kind, c.sign), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, c.serve)
				if got.err != nil || got.pages != c.pages || !got.complete {
					t.Errorf("%v, %d pages, complete %v: %s", got.err, got.pages, got.complete, got.why)
				}
			})
		}
	}
	empty := newDriver(t, bound(t, endingStream("page", "more: has_more"), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `{"data":[]}` })
	if empty.err != nil || !empty.complete {
		t.Errorf("an empty first page is an end by itself: %v %s", empty.err, empty.why)
	}
}

// P10: `done` that is never there ends nothing either, and does not make a pass go on for ever.
func TestP10DoneWithATypoHalts(t *testing.T) {
	says := ending(func(n int) map[string]any { return map[string]any{"end": n == 3} })
	for kind := range endings {
		if kind == "opaque" { // it has none
			continue
		}
		t.Run(kind, func(t *testing.T) {
			got := newDriver(t, bound(t, endingStream(kind, "done: edn"), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, says)
			want(t, got.err, cdc.Halt, `there is no "edn" (did you mean "end"?)`)
			right := newDriver(t, bound(t, endingStream(kind, "done: end"), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, says)
			if right.err != nil || right.pages != 3 || !right.complete {
				t.Errorf("%v, %d pages, %s", right.err, right.pages, right.why)
			}
		})
	}
}

// P4: where pages are asked for by their own paginator, the cursor is only where the pass begins. One that each page gives anew is
// the API's clock: what changes on a page that was read already is behind the last page's, and comes again from the first one's.
func TestP4FirstPagesCursor(t *testing.T) {
	changes := map[int]int{1: 1, 2: 1, 3: 1} // the time at which a record changed last
	clock, fail := 10, ""
	serve := func(q asked) any {
		since := 0
		if _, err := fmt.Sscan(q.query.Get("since"), &since); err != nil && q.query.Get("since") != "" {
			fail = q.query.Get("since")
		}
		var page int
		for _, name := range []string{"page", "offset", "token"} {
			if n := 0; q.query.Get(name) != "" {
				if _, err := fmt.Sscan(q.query.Get(name), &n); err == nil {
					page = n
				}
			}
		}
		if q.query.Has("page") {
			page--
		}
		rows := []any{}
		for id := 1; id <= 3; id++ {
			if changes[id] >= since {
				rows = append(rows, map[string]any{"id": id, "at": changes[id]})
			}
		}
		out := map[string]any{"data": rows[min(page, len(rows)):min(page+1, len(rows))], "server_time": clock}
		if page+1 < len(rows) {
			out["next"], out["link"] = fmt.Sprint(page+1), fmt.Sprintf("/v1/things?since=%d&token=%d", since, page+1)
		}
		if clock++; clock == 12 { // the first page was read, and its record changes while the second one is
			changes[1] = clock
			clock++
		}
		return out
	}
	for kind, paginator := range map[string]string{
		"page":   "query: {since: '{{ cursor }}', page: '{{ page }}'}\n    paginator: {type: page}",
		"offset": "query: {since: '{{ cursor }}', offset: '{{ offset }}'}\n    paginator: {type: offset}",
		"token":  "query: {since: '{{ cursor }}', token: '{{ page_token }}'}\n    paginator: {type: token, next: next}",
		"link":   "query: {since: '{{ cursor }}'}\n    paginator: {type: link, next: link}",
	} {
		for _, cursor := range []string{"opaque", "sequence"} {
			t.Run(kind+" "+cursor, func(t *testing.T) {
				changes, clock = map[int]int{1: 1, 2: 1, 3: 1}, 10
				stream := "\n    path: /things\n    records: data\n    primary_key: id\n    " + paginator +
					"\n    incremental: {type: " + cursor + ", next: server_time}\n"
				d := newDriver(t, bound(t, stream, nil))
				first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
				if first.err != nil || first.pages < 3 || first.checkpoint.Cursor != "10" || fail != "" {
					t.Fatalf("%v, %d pages, cursor %+v: it is not the first page's", first.err, first.pages, first.checkpoint)
				}
				second := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, serve)
				if second.err != nil || len(second.keys) == 0 || second.keys[0] != "1" {
					t.Errorf("%v: the change on a page that was read already is lost: %q", second.err, second.queries)
				}
			})
		}
	}
}

// P4: a first page that repeats the cursor that it was asked with proves nothing beyond it: it stays, and that is told.
func TestP4FirstPageWithTheCursorThatWasSent(t *testing.T) {
	stream := "\n    path: /things\n    query: {since: '{{ cursor }}', page: '{{ page }}'}\n    records: data\n    primary_key: id\n" +
		"    paginator: {type: page, more: more}\n    incremental: {type: opaque, next: cursor}\n"
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "a"}, 0, func(q asked) any {
		return map[string]any{"data": []any{map[string]any{"id": q.n}}, "more": q.n < 3, "cursor": []any{nil, "a", "b", "c"}[q.n]}
	})
	if got.err != nil || got.checkpoint.Cursor != "a" || len(got.notices) != 1 || !strings.Contains(got.notices[0], "stays where it is") {
		t.Errorf("%v %+v %q", got.err, got.checkpoint, got.notices)
	}
}
