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
	"tidemark/internal/fetch"
)

// P6: every request asks from the last record's cursor, inclusively, so nothing is lost where a page is cut.
func TestP6KeysetReadsEverythingOnce(t *testing.T) {
	src := bound(t, keysetStream, nil)
	s := &shop{things: many(1234, time.Second), size: 100}
	for i := range s.things { // runs of three share a cursor, so that borders fall inside them
		s.things[i].at = s.things[i/3*3].at
	}
	d := newDriver(t, src)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if diff := cmp.Diff(ids(1, 1234), distinct(got.keys)); diff != "" {
		t.Error(diff)
	}
	if !got.complete {
		t.Error("a full keyset pass is complete (D2)")
	}
	if got.pages > 1234/98+2 {
		t.Errorf("%d pages", got.pages)
	}
	if cp := got.checkpoint; cp.Cursor != at(-1*time.Second) && cp.Cursor != s.things[1233].at.Format("2006-01-02T15:04:05.000000Z07:00") ||
		cp.Anchor != "" || cp.Passes != 1 || !cp.Ended.Equal(noon) {
		t.Errorf("%+v", cp)
	}
}

// P6, P9: rows that move while a pass reads are found at their new place, and none that did not move is lost, as it would be by
// page numbers.
func TestP6RowsThatMoveAreNotSkipped(t *testing.T) {
	src := bound(t, keysetStream, nil)
	next := 0
	s := &shop{things: many(1000, time.Second), size: 100}
	s.before = func(s *shop, q asked) {
		for range 7 { // seven of the oldest get a new updated_at before every request
			s.things[0].at = noon.Add(time.Duration(next) * time.Millisecond)
			next++
			slices.SortStableFunc(s.things, func(a, b thing) int { return a.at.Compare(b.at) })
		}
	}
	d := newDriver(t, src)
	d.now = noon.Add(time.Minute)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(1, 1000), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P7: a page out of order, or below what was asked for, halts; it never ends the pass.
func TestP7OrderIsVerified(t *testing.T) {
	cursor := cdc.Checkpoint{Cursor: at(-time.Hour), Passes: 1}
	for name, c := range map[string]struct {
		rows []thing
		text string
	}{
		"descending":     {[]thing{{1, noon.Add(-time.Minute)}, {2, noon.Add(-2 * time.Minute)}}, "order is not ascending"},
		"filter ignored": {[]thing{{1, noon.Add(-48 * time.Hour)}, {2, noon.Add(-time.Minute)}}, "filter was ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, bound(t, keysetStream, nil))
			got := d.pass(Partition{Name: "-"}, cursor, 0, func(q asked) any {
				var rows []any
				for _, x := range c.rows {
					rows = append(rows, x.json())
				}
				return map[string]any{"size": 100, "data": rows}
			})
			want(t, got.err, cdc.Halt, c.text)
			if len(got.keys) > 0 || got.checkpoint != nil {
				t.Errorf("a refused page counts: %q %+v", got.keys, got.checkpoint)
			}
		})
	}
}

// P7, in the middle of a pass: the server forgets the filter on the second page.
func TestP7FilterIgnoredOnALaterPage(t *testing.T) {
	s := &shop{things: many(300, time.Second), size: 100}
	d := newDriver(t, bound(t, keysetStream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.n > 1 {
			q.query.Del("from")
		}
		return s.serve(q)
	})
	want(t, got.err, cdc.Halt, "filter was ignored")
}

func tied250() []thing {
	things := many(30, time.Minute)
	for i := range 250 {
		things = append(things, thing{1000 + i, noon.Add(-10*time.Minute - 30*time.Second)})
	}
	return things
}

// P8: 250 records share one microsecond, at 100 a page.
func TestP8TiesLongerThanAPage(t *testing.T) {
	for _, n := range []int{99, 100, 101, 199, 200, 201, 250} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := &shop{things: tied250()[:30+n], size: 100}
			d := newDriver(t, bound(t, keysetStream, nil))
			got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
			if got.err != nil {
				t.Fatal(got.err)
			}
			if diff := cmp.Diff(distinct(slices.Concat(ids(1, 30), ids(1000, 999+n))), distinct(got.keys)); diff != "" {
				t.Error(diff)
			}
			if !got.complete || got.checkpoint.Cursor != at(-time.Minute) {
				t.Errorf("complete %v, %+v", got.complete, got.checkpoint)
			}
			for _, cp := range got.history {
				cursor, _ := time.Parse(time.RFC3339Nano, cp.Cursor)
				if anchor, err := time.Parse(time.RFC3339Nano, cp.Anchor); err == nil && cursor.After(anchor) {
					t.Errorf("the cursor %s is ahead of what was read in order, %s (4)", cp.Cursor, cp.Anchor)
				}
			}
		})
	}
}

// P8: rows leave the run while it is walked, and those behind them move up onto pages that were read; a whole walk that
// shows nothing new is the proof.
func TestP8RowsLeaveATie(t *testing.T) {
	s := &shop{things: tied250(), size: 100}
	left := 0
	s.before = func(s *shop, q asked) {
		if q.query.Get("page") != "2" || left > 0 {
			return
		}
		for i := range s.things { // 40 rows of the first page leave between the first and the second
			if s.things[i].id >= 1000 && left < 40 {
				s.things[i].at = noon.Add(time.Duration(left) * time.Millisecond)
				left++
			}
		}
	}
	d := newDriver(t, bound(t, keysetStream, nil))
	d.now = noon.Add(time.Minute)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(distinct(slices.Concat(ids(1, 30), ids(1000, 1249))), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P8: rows leave during two walks, so that neither shows the same forty; only what two walks agree on is known.
func TestP8RowsLeaveInEveryWalk(t *testing.T) {
	var things []thing
	for i := range 350 {
		things = append(things, thing{i + 1, noon.Add(-time.Hour)})
	}
	walk, moved := 0, 0
	s := &shop{things: things, size: 100}
	leave := func(n int) {
		for i := range s.things {
			if n > 0 && s.things[i].at.Equal(noon.Add(-time.Hour)) {
				s.things[i].at = noon.Add(time.Duration(moved) * time.Millisecond)
				n--
				moved++
			}
		}
	}
	s.before = func(s *shop, q asked) {
		switch page := q.query.Get("page"); {
		case page == "1":
			walk++
		case page == "3" && walk == 0:
			leave(40) // 201 to 240 move up to the second page, which was read
		case page == "2" && walk == 1:
			leave(100) // and then to the first, which was read
		}
	}
	d := newDriver(t, bound(t, keysetStream, nil))
	d.now = noon.Add(time.Minute)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(1, 350), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P8: a crash in the middle of a run reads the run again.
func TestP8CheckpointInsideATieLosesNothing(t *testing.T) {
	for stop := 1; stop < 12; stop++ {
		s := &shop{things: tied250(), size: 100}
		src := bound(t, keysetStream, nil)
		d := newDriver(t, src)
		first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, stop, s.serve)
		cp := cdc.Checkpoint{}
		if first.checkpoint != nil {
			cp = *first.checkpoint
		}
		second := d.pass(Partition{Name: "-"}, cp, 0, s.serve)
		got := distinct(slices.Concat(first.keys, second.keys))
		if diff := cmp.Diff(distinct(slices.Concat(ids(1, 30), ids(1000, 1249))), got); second.err != nil || diff != "" {
			t.Errorf("stopped after %d pages: %v %s", stop, second.err, diff)
		}
		if stop < first.pages+1 && first.checkpoint != nil && first.checkpoint.Anchor != "" && second.complete {
			t.Errorf("stopped after %d pages: a resumed pass is complete (D3)", stop)
		}
	}
}

// P8: a server that cannot page inside a run halts, it does not go on without the rest.
func TestP8NoTiePageHalts(t *testing.T) {
	stream := without(keysetStream, "tie_page")
	s := &shop{things: tied250(), size: 100}
	d := newDriver(t, bound(t, stream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	want(t, got.err, cdc.Halt, "share the cursor "+at(-10*time.Minute-30*time.Second))

	t.Run("without an echo", func(t *testing.T) {
		d := newDriver(t, bound(t, strings.Replace(stream, ", size_echo: size", "", 1), nil))
		got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
		want(t, got.err, cdc.Halt, "share the cursor")
	})
}

// P8: without a known page size, a quiet feed that shows its last records alone is not taken for a run that is cut off.
func TestP10PageSizeIsMeasuredOnAQuietFeed(t *testing.T) {
	stream := strings.Replace(without(keysetStream, "tie_page"), ", size_echo: size", "", 1)
	s := &shop{things: append(many(50, time.Hour), thing{51, noon.Add(-time.Hour)}), size: 100}
	src := bound(t, stream, nil)
	cp := cdc.Checkpoint{Cursor: at(-time.Hour), Passes: 3, Request: src.Requests[0].RequestPrint}
	d := newDriver(t, src)
	got := d.pass(Partition{Name: "-"}, cp, 0, s.serve)
	if got.err != nil || got.checkpoint == nil || !got.quiet || got.checkpoint.Cursor != cp.Cursor {
		t.Fatalf("%v %+v quiet %v %q", got.err, got.checkpoint, got.quiet, got.queries)
	}
	again := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, s.serve)
	if again.pages != 2 {
		t.Errorf("measured once: %q", again.queries)
	}
	one := &shop{things: []thing{{1, noon.Add(-time.Hour)}}, size: 100}
	alone := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cp, 0, one.serve)
	if alone.err != nil {
		t.Error(alone.err)
	}
}

// P8: null cursors are published, move nothing, and are walked like a run where they fill a page.
func TestP8NullCursors(t *testing.T) {
	for _, n := range []int{3, 100, 250} {
		things := many(30, time.Minute)
		for i := range n {
			things = append(things, thing{id: 1000 + i})
		}
		s := &shop{things: things, size: 100}
		d := newDriver(t, bound(t, keysetStream, nil))
		got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
		if diff := cmp.Diff(distinct(slices.Concat(ids(1, 30), ids(1000, 999+n))), distinct(got.keys)); got.err != nil || diff != "" {
			t.Errorf("%d nulls: %v %s", n, got.err, diff)
		}
		if got.checkpoint == nil || got.checkpoint.Cursor != at(-time.Minute) {
			t.Errorf("%d nulls: %+v", n, got.checkpoint)
		}
	}
	s := &shop{size: 100}
	for i := range 250 {
		s.things = append(s.things, thing{id: i + 1})
	}
	got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(1, 250), distinct(got.keys)); got.err != nil || diff != "" || got.checkpoint == nil || got.checkpoint.Cursor != "" {
		t.Error(got.err, diff, got.checkpoint)
	}
}

// P8: ties are equality at the server's granularity, not of texts.
func TestP8GranularityMakesTies(t *testing.T) {
	stream := strings.Replace(keysetStream, "granularity: 1us", "granularity: 1s", 1)
	var things []thing
	for i := range 250 { // one second, and the server filters and sorts by whole seconds
		things = append(things, thing{i + 1, noon.Add(-time.Minute + time.Duration(249-i)*time.Millisecond)})
	}
	things = append(things, thing{999, noon.Add(-time.Second)})
	d := newDriver(t, bound(t, stream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		coarse := &shop{size: 100}
		for _, x := range things {
			coarse.things = append(coarse.things, thing{x.id, x.at.Truncate(time.Second)})
		}
		if from, err := time.Parse(time.RFC3339Nano, q.query.Get("from")); err == nil {
			q.query.Set("from", from.Truncate(time.Second).Format(time.RFC3339Nano))
		}
		out := coarse.serve(q).(map[string]any)
		for _, row := range out["data"].([]map[string]any) { // records show what the filter does not see
			for _, x := range things {
				if row["id"] == x.id {
					row["updated_at"] = x.json()["updated_at"]
				}
			}
		}
		return out
	})
	if diff := cmp.Diff(distinct(slices.Concat(ids(1, 250), []string{"999"})), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P10: a short page ends the pass only where the answer echoes its size: a silent cap looks the same.
func TestP10SilentCapIsNotTheEnd(t *testing.T) {
	stream := strings.Replace(keysetStream, ", size_echo: size", "", 1)
	s := &shop{things: many(230, time.Second), size: 50} // asked for 100, capped at 50
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(1, 230), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	short := &shop{things: many(230, time.Second), size: 50}
	echoed := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, short.serve)
	if diff := cmp.Diff(ids(1, 230), distinct(echoed.keys)); echoed.err != nil || diff != "" {
		t.Error(echoed.err, diff)
	}
	if echoed.pages != got.pages-1 {
		t.Errorf("%d pages with an echo, %d without", echoed.pages, got.pages)
	}
}

// P18: where the page size is said to be echoed, an answer without it is not the API's.
func TestP18MissingEchoHalts(t *testing.T) {
	d := newDriver(t, bound(t, keysetStream, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `{"data":[]}` })
	want(t, got.err, cdc.Halt, "does not say its page size")
}

// P8: a page parameter that the server ignores halts the walk.
func TestP8IgnoredTiePageHalts(t *testing.T) {
	s := &shop{things: tied250(), size: 100}
	got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		q.query.Del("page")
		return s.serve(q)
	})
	want(t, got.err, cdc.Halt, "is an earlier one again")
}

// P8: a server that pages up to a number of rows only (HubSpot: 10,000) cannot show a longer run: the pass halts before it asks.
func TestP8TieBeyondTheServersReach(t *testing.T) {
	for _, most := range []int{200, 300} {
		s := &shop{things: tied250(), size: 100}
		stream := strings.Replace(keysetStream, "size_echo: size", fmt.Sprintf("size_echo: size, reanchor_after: %d", most), 1)
		got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
			if page := q.query.Get("page"); page != "" && page > strconv.Itoa(most/100) {
				return &fetch.Response{Status: 400}
			}
			return s.serve(q)
		})
		if most == 200 {
			want(t, got.err, cdc.Halt, "pages among 200 at most")
		} else if got.err != nil || len(distinct(got.keys)) != 280 {
			t.Errorf("%v, %d keys", got.err, len(distinct(got.keys)))
		}
	}
}
