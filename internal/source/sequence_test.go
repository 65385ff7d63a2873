package source

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// changes is a fake _changes feed without `pending`, as PouchDB serves it.
type changes struct {
	ids  []string // by sequence − 1; the latest change of an id stands alone, older ones are ""
	size int
}

func (c *changes) serve(q asked) any {
	if q.path == "/v1" {
		return &fetch.Response{Status: 200, Header: map[string][]string{"Content-Type": {"text/plain"}}, Body: fmt.Appendf(nil, `{"update_seq":%d}`, len(c.ids))}
	}
	since, _ := strconv.Atoi(q.query.Get("since"))
	results := []any{}
	last := since
	for i := since; i < len(c.ids) && len(results) < c.size; i++ {
		last = i + 1
		if c.ids[i] != "" {
			results = append(results, map[string]any{"seq": i + 1, "id": c.ids[i], "doc": map[string]any{"_id": c.ids[i]}})
		}
	}
	return map[string]any{"results": results, "last_seq": last}
}

const changesStream = `
    path: /_changes
    query: {since: "{{ cursor ?? 0 }}"}
    records: results
    primary_key: id
    value: doc
    incremental: {type: sequence, next: last_seq, head: {path: "", place: update_seq}}
`

// P10, P5: a sequence ends at an empty page, whose cursor is stored, and every page has a checkpoint.
func TestP10SequenceEndsAtAnEmptyPage(t *testing.T) {
	for _, kind := range []string{"sequence", "opaque"} {
		c := &changes{size: 10}
		for i := range 25 {
			c.ids = append(c.ids, "d"+strconv.Itoa(i))
		}
		c.ids = append(c.ids, "", "", "") // changed since: nothing left of these numbers
		src := bound(t, strings.Replace(changesStream, "sequence", kind, 1), nil)
		d := newDriver(t, src)
		got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, c.serve)
		if got.err != nil || len(got.keys) != 25 || got.checkpoint.Cursor != "28" || !got.complete || len(got.history) != got.pages {
			t.Errorf("%s: %v %q %+v complete %v", kind, got.err, got.keys, got.checkpoint, got.complete)
		}
		c.ids = append(c.ids, "", "")
		empty := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, c.serve)
		if empty.err != nil || empty.checkpoint.Cursor != "30" || empty.quiet || empty.complete {
			t.Errorf("%s: the cursor of an empty answer: %v %+v", kind, empty.err, empty.checkpoint)
		}
		idle := d.pass(Partition{Name: "-"}, *empty.checkpoint, 0, c.serve)
		if idle.err != nil || !idle.quiet {
			t.Errorf("%s: nothing new is nothing to commit: %v %+v", kind, idle.err, idle.checkpoint)
		}
	}
}

// P11: a database that was dropped and made anew echoes our cursor with nothing behind it; its head gives it away.
func TestP11RecreatedSequenceIsExpired(t *testing.T) {
	for _, kind := range []string{"sequence", "opaque"} {
		c := &changes{ids: []string{"a", "b"}, size: 10}
		src := bound(t, strings.Replace(changesStream, "sequence", kind, 1), nil)
		cp := cdc.Checkpoint{Cursor: "500", Passes: 9, Request: src.Requests[0].RequestPrint}
		got := newDriver(t, src).pass(Partition{Name: "-"}, cp, 0, c.serve)
		want(t, got.err, cdc.Expired, "it was made anew")
		full := newDriver(t, src).pass(Partition{Name: "-"}, Expire(cp), 0, c.serve)
		if full.err != nil || len(full.keys) != 2 || !full.complete || full.checkpoint.Cursor != "2" {
			t.Errorf("%v %q %+v", full.err, full.keys, full.checkpoint)
		}
	}
}

// P11: an answer below what was asked for comes from another sequence.
func TestP11SequenceGoesBackwards(t *testing.T) {
	src := bound(t, changesStream, nil)
	got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "500"}, 0, func(asked) any {
		return `{"results":[{"id":"a","doc":{}}],"last_seq":3}`
	})
	want(t, got.err, cdc.Expired, "made anew")
}

// P12, P3: a sequence looks back too, and its cursor does not follow.
func TestP12SequenceLookback(t *testing.T) {
	c := &changes{size: 3}
	for i := range 20 {
		c.ids = append(c.ids, "d"+strconv.Itoa(i))
	}
	src := bound(t, strings.Replace(changesStream, "type: sequence", "type: sequence, lookback: 8", 1), nil)
	cp := cdc.Checkpoint{Cursor: "20", Passes: 1, Request: src.Requests[0].RequestPrint}
	d := newDriver(t, src)
	first := d.pass(Partition{Name: "-"}, cp, 2, c.serve)
	if first.err != nil || first.checkpoint.Cursor != "20" || first.checkpoint.Anchor != "18" || !first.quiet {
		t.Fatalf("%v %+v", first.err, first.checkpoint)
	}
	rest := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, c.serve)
	if rest.err != nil || rest.checkpoint.Cursor != "20" || rest.checkpoint.Anchor != "" || rest.queries[0] != "/v1/_changes?since=18" {
		t.Errorf("%v %+v %q", rest.err, rest.checkpoint, rest.queries)
	}
}

const opaqueStream = `
    path: /loans
    query: {cursor: "{{ cursor }}"}
    records: loans
    primary_key: id
    incremental: {type: opaque, next: cursor, more: hasMore}
`

// P10: `more` decides where it is given; without it an empty page or an unchanged cursor does.
func TestP10OpaqueEnds(t *testing.T) {
	feed := func(q asked) any {
		n := 0
		if c := q.query.Get("cursor"); c != "" {
			n, _ = strconv.Atoi(strings.TrimPrefix(c, "c"))
		}
		loans := []any{}
		if n < 3 {
			loans = append(loans, map[string]any{"id": n})
		}
		return map[string]any{"loans": loans, "cursor": fmt.Sprintf("c%d", min(n+1, 4)), "hasMore": n < 2}
	}
	got := newDriver(t, bound(t, opaqueStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, feed)
	if got.err != nil || len(got.keys) != 3 || got.pages != 3 || got.checkpoint.Cursor != "c3" {
		t.Errorf("%v %q %+v", got.err, got.queries, got.checkpoint)
	}
	plain := bound(t, strings.Replace(opaqueStream, ", more: hasMore", "", 1), nil)
	got = newDriver(t, plain).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, feed)
	if got.err != nil || len(got.keys) != 3 || got.pages != 4 || got.checkpoint.Cursor != "c4" {
		t.Errorf("%v %q %+v", got.err, got.queries, got.checkpoint)
	}
	same := newDriver(t, plain).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "x"}, 0, func(asked) any {
		return `{"loans":[{"id":1}],"cursor":"x"}`
	})
	if same.err != nil || same.pages != 1 {
		t.Errorf("an unchanged cursor ends the pass: %v %d", same.err, same.pages)
	}
	gap := newDriver(t, bound(t, opaqueStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.query.Get("cursor") == "" {
			return `{"loans":[],"cursor":"c1","hasMore":true}`
		}
		return `{"loans":[{"id":1}],"cursor":"c2","hasMore":false}`
	})
	if gap.err != nil || gap.pages != 2 || len(gap.keys) != 1 || gap.checkpoint.Cursor != "c2" {
		t.Errorf("an empty page is no end where the answer says that there is more: %v %q", gap.err, gap.queries)
	}
	stuck := newDriver(t, bound(t, opaqueStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "x"}, 0, func(asked) any {
		return `{"loans":[{"id":1}],"cursor":"x","hasMore":true}`
	})
	want(t, stuck.err, cdc.Halt, "did not move")
	lost := newDriver(t, bound(t, opaqueStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "x"}, 0, func(asked) any {
		return `{"loans":[{"id":1}],"hasMore":false}`
	})
	want(t, lost.err, cdc.Halt, "has no cursor")
	text := newDriver(t, bound(t, changesStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return `{"results":[],"last_seq":"12-abc"}`
	})
	want(t, text.err, cdc.Halt, "is not an integer")
}

// P18: an API that has not prepared its data yet answers with an empty cursor (Plaid). Nothing was passed, so the pass ends where it
// began; the answer to a request that had a cursor has one too.
func TestP18NoCursorYet(t *testing.T) {
	for _, none := range []string{`""`, `null`} {
		d := newDriver(t, bound(t, opaqueStream, nil))
		answer := `{"loans":[],"cursor":` + none + `,"hasMore":false}`
		got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return answer })
		if got.err != nil || got.checkpoint == nil || got.checkpoint.Cursor != "" || got.checkpoint.Passes != 1 || got.complete {
			t.Fatalf("%v %+v complete %v", got.err, got.checkpoint, got.complete)
		}
		again := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, func(asked) any { return `{"loans":[{"id":1}],"cursor":"c1","hasMore":false}` })
		if again.err != nil || again.checkpoint.Cursor != "c1" || again.queries[0] != "/v1/loans" || !again.complete {
			t.Errorf("%v %+v %q", again.err, again.checkpoint, again.queries)
		}
		for _, c := range []struct{ cursor, answer string }{
			{"c1", answer},
			{"", `{"loans":[{"id":1}],"cursor":` + none + `,"hasMore":false}`},
			{"", `{"loans":[],"cursor":` + none + `,"hasMore":true}`},
		} {
			lost := d.pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: c.cursor}, 0, func(asked) any { return c.answer })
			want(t, lost.err, cdc.Halt, "has no cursor")
		}
	}
}

// P17: `start` is for a request that has no cursor in hand, and not for the rest of the pass: a server may take one of the two alone.
func TestP17StartGivesWayToTheCursor(t *testing.T) {
	stream := strings.NewReplacer(`cursor: "{{ cursor }}"`, `cursor: "{{ cursor }}", from: "{{ start }}"`, "more: hasMore", `more: hasMore, start: "{{ config.start }}"`).Replace(opaqueStream)
	serve := func(q asked) any {
		return map[string]any{"loans": []any{map[string]any{"id": q.n}}, "cursor": fmt.Sprintf("c%d", q.n), "hasMore": q.n < 3}
	}
	got := newDriver(t, bound(t, stream, map[string]any{"start": "2024-01-31"})).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
	wanted := []string{"/v1/loans?from=2024-01-31", "/v1/loans?cursor=c1", "/v1/loans?cursor=c2"}
	if diff := cmp.Diff(wanted, got.queries); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P5, P17: `checkpoint: pass` keeps no cursor of the middle of a chain, so an error in it starts again at its beginning.
func TestP17CheckpointPassRestartsTheChain(t *testing.T) {
	stream := strings.Replace(opaqueStream, "more: hasMore", "more: hasMore, checkpoint: pass", 1) +
		"    errors: [{status: 400, when: \"response.body.code == 'MUTATION'\", do: restart_pass}]\n"
	src := bound(t, stream, nil)
	cp := cdc.Checkpoint{Cursor: "c0", Passes: 1, Request: src.Requests[0].RequestPrint}
	got := newDriver(t, src).pass(Partition{Name: "-"}, cp, 0, func(q asked) any {
		if q.n == 3 {
			return &fetch.Response{Status: 400, Body: []byte(`{"code":"MUTATION"}`)}
		}
		return map[string]any{"loans": []any{map[string]any{"id": q.n}}, "cursor": fmt.Sprintf("c%d", q.n), "hasMore": true}
	})
	want(t, got.err, cdc.Restart, "restart_pass")
	if got.checkpoint != nil {
		t.Errorf("%+v", got.checkpoint)
	}
}

// An inner paginator: the cursor comes with the last page only (Google Calendar).
func TestOpaqueWithInnerPages(t *testing.T) {
	stream := `
    path: /events
    query: {sync: "{{ cursor }}", token: "{{ page_token }}"}
    records: items
    primary_key: id
    paginator: {type: token, next: nextPageToken}
    incremental: {type: opaque, next: nextSyncToken}
`
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "s1"}, 0, func(q asked) any {
		out := map[string]any{"items": []any{map[string]any{"id": q.n}}}
		if q.n < 3 {
			out["nextPageToken"] = fmt.Sprintf("p%d", q.n)
		} else {
			out["nextSyncToken"] = "s2"
		}
		return out
	})
	wanted := []string{"/v1/events?sync=s1", "/v1/events?sync=s1&token=p1", "/v1/events?sync=s1&token=p2"}
	if diff := cmp.Diff(wanted, got.queries); got.err != nil || diff != "" || got.checkpoint.Cursor != "s2" || len(got.history) != 1 {
		t.Error(got.err, diff, got.history)
	}
}
