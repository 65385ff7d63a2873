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
