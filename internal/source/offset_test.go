package source

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

const offsetStream = `
    path: /things
    query: {since: "{{ cursor ?? -1 }}", offset: "{{ offset }}", limit: 100}
    records: data
    primary_key: id
    paginator: {type: offset, size: 100}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, lookback: 5m}
`

var overlapStream = strings.Replace(offsetStream, "size: 100", "size: 100, overlap: true", 1)

// sliced serves 100 rows from an offset on, in the order of things, which before may change.
func sliced(things *[]thing, before func(q asked)) server {
	return func(q asked) any {
		if before != nil {
			before(q)
		}
		low, err := strconv.Atoi(q.query.Get("offset"))
		if err != nil {
			panic(err)
		}
		data := []any{}
		for i := low; i < min(low+100, len(*things)); i++ {
			data = append(data, (*things)[i].json())
		}
		return map[string]any{"data": data, "left": max(0, len(*things)-low-len(data))}
	}
}

func offsets(queries []string) string {
	var out []string
	for _, q := range queries {
		_, rest, _ := strings.Cut(q, "offset=")
		text, _, _ := strings.Cut(rest, "&")
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// P10, P4: offsets advance by the rows that were received, a short page is no end, an empty one is; the cursor moves only
// when the pass has ended.
func TestP10OffsetsAdvanceByTheRowsReceived(t *testing.T) {
	for _, c := range []struct {
		stream, asked string
		rows          int
	}{
		{offsetStream, "0 100 200 250", 250},
		{offsetStream, "0", 0},
		{strings.Replace(offsetStream, "size: 100", `done: "response.body.left == 0"`, 1), "0 100 200", 250},
		{overlapStream, "0 99 198 249", 250}, // the last page shows the joint row alone
		{overlapStream, "0 0", 1},
		{overlapStream, "0", 0},
	} {
		things := many(c.rows, time.Second)
		got := newDriver(t, bound(t, c.stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, nil))
		if diff := cmp.Diff(ids(1, c.rows), distinct(got.keys)); got.err != nil || diff != "" || !got.complete || got.checkpoint.Drifting {
			t.Error(got.err, diff, got.complete, got.checkpoint)
		}
		if offsets(got.queries) != c.asked || len(got.history) != 1 {
			t.Errorf("asked for %s, not %s; %d checkpoints", offsets(got.queries), c.asked, len(got.history))
		}
	}
}

// P9: a row that leaves a page which was read pulls the others up. Where a joint row is shown, it differs: the pass steps one
// page back, and is walked again from its start; without one, nothing may tell, and that is what reconciliation is for.
func TestP9JointRow(t *testing.T) {
	for name, change := range map[string]func(things []thing) []thing{
		"a row leaves":  func(things []thing) []thing { return things[1:] },
		"a row comes":   func(things []thing) []thing { return append([]thing{{999, noon.Add(-time.Hour)}}, things...) },
		"all leave":     func([]thing) []thing { return nil },
		"one swaps out": func(things []thing) []thing { return slices.Insert(things[1:], 120, thing{998, noon.Add(-time.Hour)}) },
	} {
		t.Run(name, func(t *testing.T) {
			things := many(250, time.Second)
			got := newDriver(t, bound(t, overlapStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, func(q asked) {
				if q.n == 2 {
					things = change(things)
				}
			}))
			var all []string
			for _, x := range things {
				all = append(all, fmt.Sprint(x.id))
			}
			seen := distinct(got.keys)
			for _, id := range all {
				if !slices.Contains(seen, id) {
					t.Errorf("%s was missed: asked for %s", id, offsets(got.queries))
				}
			}
			if asked := offsets(got.queries); got.err != nil || !strings.HasPrefix(asked, "0 99 0 ") || strings.Count(" "+asked, " 0") < 3 {
				t.Errorf("%v, asked for %s", got.err, asked)
			}
			if !got.complete || got.checkpoint.Drifting {
				t.Errorf("the last walk held still: %v %+v", got.complete, got.checkpoint)
			}
		})
	}
}

// P9: rows that never hold still end in a mark and no completeness, with or without a joint row.
func TestP9OffsetsThatDriftForEver(t *testing.T) {
	for _, stream := range []string{offsetStream, overlapStream} {
		things := many(250, time.Second)
		churn := func(asked) { things = append([]thing{{1000 + len(things), noon.Add(-time.Hour)}}, things...) }
		got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, churn))
		if got.err != nil || got.complete || !got.checkpoint.Drifting || len(got.notices) != 1 || got.checkpoint.Cursor == "" {
			t.Errorf("%v %v %+v %q", got.err, got.complete, got.checkpoint, got.notices)
		}
	}
}

// P9: a record newer than the pass's start says that rows may have moved.
func TestP9OffsetNewerThanTheStart(t *testing.T) {
	things := many(250, time.Second)
	d := newDriver(t, bound(t, offsetStream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, func(q asked) {
		d.now = noon.Add(time.Duration(q.n) * 10 * time.Second)
		if q.n == 2 { // id 1 is deleted and 500 created: 101 moved up, and nobody is seen twice
			things = append(things[1:], thing{500, d.now.Add(-time.Second)})
		}
	}))
	if diff := cmp.Diff(distinct(append(ids(1, 250), "500")), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P9, P10, P18: what cannot be a walk halts: an offset that is ignored, more of nothing, pages longer than was asked for.
func TestOffsetHalts(t *testing.T) {
	things := many(100, time.Second)
	ignored := func(q asked) any {
		q.query.Set("offset", "0")
		return sliced(&things, nil)(q)
	}
	for _, stream := range []string{offsetStream, overlapStream} {
		want(t, newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, ignored).err, cdc.Halt, "the page was ignored")
	}
	more := strings.Replace(offsetStream, "size: 100", "more: more", 1)
	got := newDriver(t, bound(t, more, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return map[string]any{"data": []any{}, "more": true}
	})
	want(t, got.err, cdc.Halt, "no row to go on from")
	small := strings.Replace(offsetStream, "size: 100", "size: 50", 1)
	want(t, newDriver(t, bound(t, small, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, nil)).err, cdc.Halt, "asked for 50 rows and got 100")
}

// D1: pages that overlap show rows twice, and a walk that drifts is taken again; a cap counts keys.
func TestD1CapCountsKeys(t *testing.T) {
	stream := strings.Replace(strings.Replace(overlapStream, "    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, lookback: 5m}\n",
		"    reconcile: {cap: 251}\n", 1), `since: "{{ cursor ?? -1 }}", `, "", 1)
	for n, complete := range map[int]bool{250: true, 251: false} {
		things := many(n, time.Second)
		moved := false
		got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, sliced(&things, func(q asked) {
			if q.n == 3 && !moved { // rows move, once
				moved = true
				things = append(slices.Clone(things[1:]), things[0])
			}
		}))
		if got.err != nil || got.complete != complete {
			t.Errorf("%d keys: complete %v, %v", n, got.complete, got.err)
		}
	}
}
