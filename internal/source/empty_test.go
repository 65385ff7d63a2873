package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// emptyCase is a second pass over a feed whose record 7 stood at the cursor in the first.
type emptyCase struct {
	lookup bool
	serve  func(q asked) any
	halts  bool
}

// emptyCases are the ways in which a feed can show nothing.
func emptyCases(cursor time.Time) map[string]emptyCase {
	gone := &fetch.Response{Status: 404, Body: []byte(`{"error":"gone"}`)}
	looked := func(found any) func(asked) any {
		return func(q asked) any {
			if strings.HasSuffix(q.path, "/7") {
				return found
			}
			return []any{}
		}
	}
	return map[string]emptyCase{
		"deleted": {false, looked(nil), false},
		"exclusive after all": {false, func(q asked) any { // the record lies exactly on the bound, and is shown from one granule before
			from, _ := time.Parse(time.RFC3339Nano, cmpOr(q.query.Get("from"), q.query.Get("since")))
			if from.Before(cursor.Add(-5 * time.Minute)) {
				return []any{thing{7, cursor.Add(-5 * time.Minute)}.json()}
			}
			return []any{}
		}, true},
		"came in between": {false, func(q asked) any {
			if q.n == 1 || q.query.Get("page") == "2" {
				return []any{}
			}
			return []any{thing{7, cursor}.json()}
		}, false},
		"lookup contradicts":      {true, looked(thing{7, cursor}.json()), true},
		"lookup shows it changed": {true, looked(thing{7, noon}.json()), false},
		"lookup agrees":           {true, looked(gone), false},
	}
}

// lookedUp says how a thing is looked up, where lists answer by wrap.
const lookedUp = "    reconcile: {lookup: {path: \"/things/{{ key.id }}\", records: data}}\n"

// wrap makes an answer of records.
func wrap(x any) any {
	if resp, ok := x.(*fetch.Response); ok {
		return resp
	}
	return map[string]any{"data": x, "size": 100}
}

// once shows record 7 on the first page, and nothing on those behind it.
func once(at time.Time) server {
	return func(q asked) any {
		if q.n == 1 {
			return wrap([]any{thing{7, at}.json()})
		}
		return wrap([]any{})
	}
}

// P11: the filter owes us the record that it was anchored on, also in another process than the one that saw it.
func TestP11EmptyAnswerMustBeBelievable(t *testing.T) {
	cursor := noon.Add(-time.Hour)
	for kind, stream := range map[string]string{"keyset": keysetStream, "page": listStream} {
		for name, c := range emptyCases(cursor) {
			for where, restarts := range map[string]bool{"running": false, "restarted": true} {
				t.Run(kind+"/"+name+"/"+where, func(t *testing.T) {
					stream := stream
					if c.lookup {
						stream += lookedUp
					}
					d := newDriver(t, bound(t, stream, nil))
					first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, once(cursor))
					if first.err != nil || first.checkpoint.Cursor != at(-time.Hour) {
						t.Fatalf("%v %+v", first.err, first.checkpoint)
					}
					if restarts {
						d = newDriver(t, bound(t, stream, nil))
					}
					got := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, func(q asked) any { return wrap(c.serve(q)) })
					if c.halts {
						want(t, got.err, cdc.Halt, "got none, twice")
						return
					}
					if got.err != nil || !got.last.checkpoint.Ended.Equal(noon) || got.checkpoint.Cursor != first.checkpoint.Cursor {
						t.Errorf("%v %q %+v", got.err, got.queries, got.checkpoint)
					}
				})
			}
		}
	}
}

// P11: what a checkpoint says of its witness is small, is news once, and is asked for as long as it can be.
func TestP11WitnessInTheCheckpoint(t *testing.T) {
	cursor, text := noon.Add(-time.Hour), at(-time.Hour)
	known := cdc.Checkpoint{Cursor: text, Passes: 1, Witness: &cdc.Witness{Key: "7", Cursor: text}}
	bare := known
	bare.Witness = nil
	src := bound(t, listStream+lookedUp, nil)
	d := newDriver(t, src)
	first := d.pass(Partition{Name: "-"}, bare, 0, once(cursor)) // an older version wrote it
	again := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, once(cursor))
	if w := first.checkpoint.Witness; w == nil || *w != *known.Witness || first.quiet || !again.quiet {
		t.Errorf("%+v, quiet %v, and then %v", w, first.quiet, again.quiet)
	}
	for name, c := range map[string]struct {
		stream  string
		cp      cdc.Checkpoint
		queries int
	}{
		"no lookup any more":    {listStream, known, 2},
		"not what is asked for": {listStream + lookedUp, cdc.Checkpoint{Cursor: at(0), Passes: 1, Witness: known.Witness}, 2},
		"of no stream":          {listStream + lookedUp, cdc.Checkpoint{Cursor: text, Passes: 1, Witness: &cdc.Witness{Stream: "x", Key: "7", Cursor: text}}, 2},
		"known":                 {listStream + lookedUp, known, 3},
	} {
		got := newDriver(t, bound(t, c.stream, nil)).pass(Partition{Name: "-"}, c.cp, 0, func(q asked) any {
			if strings.HasSuffix(q.path, "/7") {
				return &fetch.Response{Status: 404, Body: []byte("{}")}
			}
			return wrap([]any{})
		})
		if got.err != nil || len(got.queries) != c.queries || name == "known" && got.checkpoint.Witness != nil {
			t.Errorf("%s: %v %q %+v", name, got.err, got.queries, got.checkpoint.Witness)
		}
	}
	if cp := Expire(known); cp.Witness != nil {
		t.Error("P17: the witness of a cursor that is void")
	}
	long := strings.Replace(listStream, "primary_key: id", "primary_key: name", 1) + strings.Replace(lookedUp, "key.id", "key.name", 1)
	got := newDriver(t, bound(t, long, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		row := thing{7, cursor}.json()
		row["name"] = strings.Repeat("k", maxWitness)
		return map[string]any{"data": []any{row}[:min(1, 2-q.n)]}
	})
	if got.err != nil || got.checkpoint.Cursor != text || got.checkpoint.Witness != nil {
		t.Errorf("%v, %d bytes of witness", got.err, len(got.checkpoint.Witness.Key))
	}
}

// P11: of several streams under one cursor the witness is one of its stream.
func TestP11WitnessOfSeveralStreams(t *testing.T) {
	stream := strings.Replace(bundle, "gifts: gifts", `gifts: {path: gifts, reconcile: {lookup: {path: "/gifts/{{ key.id }}"}}}`, 1)
	row := fmt.Sprintf(`{"id":4,"updated":%d}`, noon.Unix()-60)
	first := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.n > 1 {
			row = ""
		}
		return `{"buys":[],"bids":[],"gifts":[` + row + `]}`
	})
	if w := first.checkpoint.Witness; first.err != nil || w == nil || *w != (cdc.Witness{Stream: "gifts", Key: "4", Cursor: fmt.Sprint(noon.Unix() - 60)}) {
		t.Fatalf("%v %+v", first.err, w)
	}
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, *first.checkpoint, 0, func(q asked) any {
		if q.path == "/v1/gifts/4" {
			return fmt.Sprintf(`{"gifts":{"id":4,"updated":%d}}`, noon.Unix()-60)
		}
		return `{"buys":[],"bids":[],"gifts":[]}`
	})
	want(t, got.err, cdc.Halt, "got none, twice")
}

// P11 in the middle of a pass: the record of the page before was there a moment ago.
func TestP11EmptyPageInTheMiddle(t *testing.T) {
	s := &shop{things: many(300, time.Second), size: 100}
	got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if from, err := time.Parse(time.RFC3339Nano, q.query.Get("from")); err == nil && from.Equal(noon.Add(-201*time.Second)) {
			return map[string]any{"data": []any{}, "size": 100} // matches nothing with 200, as another spelling of the time would
		}
		return s.serve(q)
	})
	want(t, got.err, cdc.Halt, "got none, twice")
}

// P13: entries of a log feed that were read before are skipped, ids beside the cursor.
const logStream = `
    path: /events
    query: {from: "{{ anchor ?? start }}", page: "{{ tie_page }}"}
    records: data
    primary_key: thing
    record_id: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, order: asc, lookback: 5m}
`

// entries makes events of few things.
func entries(q asked, s *shop) any {
	out := s.serve(q).(map[string]any)
	for _, row := range out["data"].([]map[string]any) {
		row["thing"] = fmt.Sprint("t", row["id"].(int)%3)
	}
	return out
}

func TestP13EntriesAreReadOnce(t *testing.T) {
	s := &shop{things: many(250, time.Second), size: 100}
	src := bound(t, logStream, nil)
	d := newDriver(t, src)
	serve := func(q asked) any { return entries(q, s) }
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
	if got.err != nil || len(got.keys) != 250 || got.complete {
		t.Fatalf("%v, %d entries, complete %v", got.err, len(got.keys), got.complete)
	}
	if got.keys[0] != "t1" || got.keys[4] != "t2" {
		t.Errorf("%q", got.keys[:5])
	}
	again := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, serve)
	if again.err != nil || len(again.keys) != 0 || again.skipped == 0 || !again.quiet {
		t.Errorf("%v, %d entries again, %d skipped, quiet %v", again.err, len(again.keys), again.skipped, again.quiet)
	}
	s.things = append(s.things, thing{777, noon.Add(-3 * time.Minute)}) // a late commit
	late := d.pass(Partition{Name: "-"}, *again.checkpoint, 0, serve)
	if late.err != nil || len(late.keys) != 1 || late.recent == nil {
		t.Errorf("%v, %q, kept %d", late.err, late.keys, len(late.recent))
	}
}

// P13: a crash between two pages of a log feed: ids are committed with their page, and the lookback of the next pass skips
// them.
func TestP13RecentSurvivesARestart(t *testing.T) {
	s := &shop{things: many(250, time.Second), size: 100}
	src := bound(t, logStream, nil)
	serve := func(q asked) any { return entries(q, s) }
	var keys []string
	cp, recent := cdc.Checkpoint{}, []string(nil)
	for range 10 {
		d := newDriver(t, src) // another process
		d.recent = recent
		got := d.pass(Partition{Name: "-"}, cp, 1, serve)
		if got.err != nil {
			t.Fatal(got.err)
		}
		keys, cp = append(keys, got.keys...), *got.checkpoint
		if got.recent != nil {
			recent = got.recent
		}
	}
	if len(keys) != 250 {
		t.Errorf("%d entries", len(keys))
	}
}

// P13: the same inside a run of equal cursors, and over pages that have no checkpoint of their own: ids are kept with every
// page that publishes.
func TestP13RecentWithoutAMovingCursor(t *testing.T) {
	numberedLog := strings.NewReplacer(`from: "{{ anchor ?? start }}", page: "{{ tie_page }}"`, `from: "{{ cursor }}", page: "{{ page }}"`,
		"type: keyset", "type: page", ", order: asc", "").Replace(logStream)
	for name, stream := range map[string]string{"ties": logStream, "page": numberedLog} {
		s := &shop{things: tied250(), size: 100}
		src := bound(t, stream, nil)
		var keys []string
		cp, recent := cdc.Checkpoint{}, []string(nil)
		for stop := range 14 {
			d := newDriver(t, src)
			d.recent = recent
			got := d.pass(Partition{Name: "-"}, cp, stop+1, func(q asked) any { return entries(q, s) })
			if got.err != nil {
				t.Fatal(got.err)
			}
			keys = append(keys, got.keys...)
			if got.checkpoint != nil {
				cp = *got.checkpoint
			}
			if recent = d.recent; len(got.keys) > 0 && got.recent == nil {
				t.Fatalf("%s: entries without their ids", name)
			}
		}
		if len(keys) != 280 {
			t.Errorf("%s: %d entries of 280", name, len(keys))
		}
	}
}

// P13: the ids are those that can be shown again, and bounded by count.
func TestP13RecentIsBounded(t *testing.T) {
	src := bound(t, logStream, nil)
	serve := func(n int) server {
		s := &shop{things: many(n, time.Second), size: 100}
		return func(q asked) any { return entries(q, s) }
	}
	got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve(1000))
	if n := len(got.recent); n < 300 || n > 303 {
		t.Errorf("%d ids kept for 300 s", n)
	}
	src.SetLimits(Limits{Recent: 50})
	got = newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve(1000))
	if len(got.recent) != 50 || !strings.HasSuffix(got.recent[49], " 1000") {
		t.Errorf("%d ids kept", len(got.recent))
	}
}

// P13: a page that failed in its middle has read nothing.
func TestP13FailedPageReadsNothing(t *testing.T) {
	src := bound(t, logStream, nil)
	r := src.Requests[0]
	pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	pos.Remember(nil)
	whole := `{"size":2,"data":[{"id":1,"thing":"a","updated_at":"2026-03-10T11:00:00Z"},{"id":2,"thing":"a","updated_at":"2026-03-10T11:00:01Z"}]}`
	var page Page
	err = r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(whole[:len(whole)-20]), ServerTime: noon}, nil, &page)
	want(t, err, cdc.Retry, "cut off")
	for range 2 { // the same page twice, from the same position: a value
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(whole), ServerTime: noon}, nil, &page); err != nil || len(page.Records) != 2 {
			t.Fatalf("%v, %d entries", err, len(page.Records))
		}
	}
}

const newestFirst = `
    path: /events
    query: {from: "{{ cursor }}", token: "{{ page_token }}"}
    records: data
    primary_key: thing
    record_id: id
    paginator: {type: token, next: next}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, order: desc, lookback: 5m}
`

// newest serves a feed newest first, and ignores `from`, as Stripe's would.
func newest(s *[]thing) server {
	const size = 100
	return func(q asked) any {
		all := slices.Clone(*s)
		slices.SortStableFunc(all, func(a, b thing) int { return b.at.Compare(a.at) })
		low := 0
		if token := q.query.Get("token"); token != "" {
			low = 1 + slices.IndexFunc(all, func(x thing) bool { return fmt.Sprint("after-", x.id) == token })
		}
		out := map[string]any{}
		data := []any{}
		for _, x := range all[low:min(low+size, len(all))] {
			row := x.json()
			row["thing"] = fmt.Sprint("t", x.id)
			data = append(data, row)
			if low+len(data) < len(all) {
				out["next"] = fmt.Sprint("after-", x.id)
			} else {
				delete(out, "next")
			}
		}
		out["data"] = data
		return out
	}
}

// P13: a newest-first feed is read back to the cursor, and played oldest first.
func TestP13NewestFirstIsPlayedOldestFirst(t *testing.T) {
	things := many(500, time.Second)
	src := bound(t, newestFirst, nil)
	src.SetLimits(Limits{Play: 70})
	d := newDriver(t, src)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, newest(&things))
	if got.err != nil || len(got.keys) != 500 || got.keys[0] != "t1" || got.keys[499] != "t500" || !slices.IsSortedFunc(got.keys, byNumber) {
		t.Fatalf("%v %d %q", got.err, len(got.keys), got.keys[:min(5, len(got.keys))])
	}
	if got.checkpoint.Cursor != at(-time.Second) || got.checkpoint.Passes != 1 || len(got.history) != 8 {
		t.Errorf("%+v, %d checkpoints", got.checkpoint, len(got.history))
	}
	things = append(things, thing{501, noon.Add(-time.Millisecond)}, thing{502, noon.Add(-2 * time.Minute)})
	second := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, newest(&things))
	if second.err != nil || !slices.Equal(second.keys, []string{"t502", "t501"}) || len(second.queries) != 4 {
		t.Errorf("%v %q %q", second.err, second.keys, second.queries)
	}
}

// byNumber orders t1, t2, t10.
func byNumber(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }

// P11 holds for newest-first feeds too.
func TestP11NewestFirst(t *testing.T) {
	src := bound(t, newestFirst, nil)
	cp := cdc.Checkpoint{Cursor: at(-time.Hour), Passes: 1, Request: src.Requests[0].RequestPrint}
	lower := noon.Add(-time.Hour - 5*time.Minute)
	got := newDriver(t, src).pass(Partition{Name: "-"}, cp, 0, func(q asked) any {
		data := []any{}
		if from, _ := time.Parse(time.RFC3339Nano, q.query.Get("from")); from.Before(lower) {
			data = append(data, map[string]any{"id": 1, "thing": "a", "updated_at": at(-time.Hour)})
		}
		return map[string]any{"data": data}
	})
	want(t, got.err, cdc.Halt, "got none, twice")
	quiet := newDriver(t, src).pass(Partition{Name: "-"}, cp, 0, func(q asked) any { return map[string]any{"data": []any{}} })
	if quiet.err != nil || !quiet.quiet || quiet.checkpoint.Cursor != cp.Cursor {
		t.Errorf("%v %+v", quiet.err, quiet.checkpoint)
	}
}

// P13: a crash while the spool is played: what was committed is not played again, the rest is.
func TestP13RestartWhilePlaying(t *testing.T) {
	things := many(500, time.Second)
	for where, memory := range map[string]int{"in memory": 0, "in a file": 3000} {
		src := bound(t, newestFirst, nil)
		src.SetLimits(Limits{Play: 70, SpoolMemory: memory})
		var keys []string
		cp, recent := cdc.Checkpoint{}, []string(nil)
		for range 20 {
			d := newDriver(t, src)
			d.recent = recent
			got := d.pass(Partition{Name: "-"}, cp, 8, newest(&things)) // five pages read, three played
			if got.err != nil {
				t.Fatal(got.err)
			}
			keys = append(keys, got.keys...)
			if got.checkpoint != nil {
				cp = *got.checkpoint
			}
			if got.recent != nil {
				recent = got.recent
			}
		}
		if len(keys) != 500 || !slices.IsSortedFunc(keys, byNumber) {
			t.Errorf("%s: %d entries, sorted %v", where, len(keys), slices.IsSortedFunc(keys, byNumber))
		}
	}
}

// P13, 10: the spool is bounded, and the order that it is for is verified.
func TestP13SpoolIsBounded(t *testing.T) {
	things := many(500, time.Second)
	src := bound(t, newestFirst, nil)
	for _, l := range []Limits{{SpoolRecords: 300}, {SpoolBytes: 20_000}, {SpoolBytes: 20_000, SpoolMemory: 3000}} {
		src.SetLimits(l)
		want(t, newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, newest(&things)).err, cdc.Halt, "newest-first feed")
	}
	got := newDriver(t, bound(t, newestFirst, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return map[string]any{"data": []any{thing{1, noon.Add(-time.Hour)}.json(), thing{2, noon}.json()}}
	})
	want(t, got.err, cdc.Halt, "not descending")
}
