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

// P3: records beyond server time − settle are published and counted, and do not move the cursor.
func TestP3FutureRecordsDoNotMoveTheCursor(t *testing.T) {
	things := append(many(20, time.Minute), thing{2099, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}, thing{77, noon.Add(time.Second)})
	for name, c := range map[string]struct{ stream, cursor string }{
		"keyset": {keysetStream, at(-time.Minute)},
		"settle": {strings.Replace(keysetStream, "lookback: 5m", "lookback: 5m, settle: 150s", 1), at(-3 * time.Minute)},
	} {
		s := &shop{things: slices.Clone(things), size: 100}
		got := newDriver(t, bound(t, c.stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
		if got.err != nil || got.checkpoint.Cursor != c.cursor || got.beyond == 0 {
			t.Errorf("%s: %v %+v, %d beyond", name, got.err, got.checkpoint, got.beyond)
		}
		if !slices.Contains(got.keys, "2099") || !slices.Contains(got.keys, "77") {
			t.Errorf("%s: not published: %q", name, got.keys)
		}
	}
	s := &shop{size: 100}
	for i := range 250 { // more of them than a page holds, and the pass still ends
		s.things = append(s.things, thing{i + 1, time.Date(2099, 1, 1, 0, 0, i, 0, time.UTC)})
	}
	got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(1, 250), distinct(got.keys)); got.err != nil || diff != "" || got.checkpoint.Cursor != "" {
		t.Error(got.err, diff, got.checkpoint)
	}
}

// P3: the cursor never goes back, also where everything that the lookback shows is older.
func TestP3CursorOnlyMovesForward(t *testing.T) {
	s := &shop{things: []thing{{1, noon.Add(-4 * time.Minute)}, {2, noon.Add(-3 * time.Minute)}}, size: 2}
	cp := cdc.Checkpoint{Cursor: at(-time.Minute), Passes: 5}
	got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cp, 0, s.serve)
	for _, h := range got.history {
		if h.Cursor != cp.Cursor {
			t.Errorf("moved to %s", h.Cursor)
		}
	}
	if got.err != nil || len(distinct(got.keys)) != 2 {
		t.Error(got.err, got.keys)
	}
}

// P3, P12: with a lookback, restarts in the middle of a pass never walk the cursor backwards: the anchor stands beside it,
// and a resumed pass goes on at the anchor, not a lookback before it.
func TestP3RestartsInsideTheLookbackDoNotWalkBackwards(t *testing.T) {
	s := &shop{things: many(3000, time.Second), size: 100}
	src := bound(t, strings.Replace(keysetStream, "lookback: 5m", "lookback: 20m", 1), nil)
	d := newDriver(t, src)
	cp := cdc.Checkpoint{Cursor: at(-10 * time.Minute), Passes: 1, Request: src.Requests[0].RequestPrint}
	var keys []string
	for restart := 0; ; restart++ {
		if restart > 60 {
			t.Fatalf("no end after %d restarts: %+v", restart, cp)
		}
		got := d.pass(Partition{Name: "-"}, cp, 1, s.serve) // one page, then a crash
		if got.err != nil {
			t.Fatal(got.err)
		}
		keys = append(keys, got.keys...)
		if got.checkpoint.Cursor < cp.Cursor {
			t.Fatalf("from %s back to %s", cp.Cursor, got.checkpoint.Cursor)
		}
		cp = *got.checkpoint
		if cp.Anchor == "" {
			break
		}
		if want := at(-30 * time.Minute); !strings.HasPrefix(cp.Start, strings.TrimSuffix(want, ".000000Z")) {
			t.Fatalf("the pass's lower end moved to %s", cp.Start)
		}
	}
	if diff := cmp.Diff(ids(3000-1800+1, 3000), distinct(keys)); diff != "" {
		t.Error(diff)
	}
	if cp.Cursor != at(-time.Second) || cp.Passes != 2 {
		t.Errorf("%+v", cp)
	}
}

const listStream = `
    path: /things
    query: {since: "{{ cursor ?? start }}", page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, lookback: 5m, start: "{{ config.start }}"}
`

// P4: a pass without page checkpoints takes no cursor beyond the server time of its first request: what changed while it
// walked is asked for again.
func TestP4CursorIsBoundedByTheFirstRequest(t *testing.T) {
	things := many(150, time.Second)
	d := newDriver(t, bound(t, without(listStream, "zzz"), nil))
	d.took = 10 * time.Second
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		d.now = noon.Add(time.Duration(q.n) * 30 * time.Second)
		if q.n == 3 { // it was on page 1 when it changed, so this walk shows it at its new place
			return map[string]any{"data": []any{thing{1, d.now.Add(-time.Second)}.json()}}
		}
		if q.n > 3 {
			return map[string]any{"data": []any{}}
		}
		var rows []any
		for _, x := range things[(q.n-1)*75 : q.n*75] {
			rows = append(rows, x.json())
		}
		return map[string]any{"data": rows}
	})
	if got.err != nil {
		t.Fatal(got.err)
	}
	cursor, err := time.Parse(time.RFC3339Nano, got.checkpoint.Cursor)
	if err != nil || !cursor.Equal(noon.Add(30*time.Second)) {
		t.Errorf("cursor %s, the first request was sent at %s", got.checkpoint.Cursor, at(30*time.Second))
	}
	if len(got.history) != 1 {
		t.Errorf("P5: page numbers have no page checkpoints: %+v", got.history)
	}
}

// P5: who may commit a cursor in the middle of a pass.
func TestP5PageCheckpoints(t *testing.T) {
	token := `
    path: /things
    query: {since: "{{ cursor }}", token: "{{ page_token }}"}
    records: data
    primary_key: id
    paginator: {type: token, next: next, stable: STABLE}
    incremental: {cursor_field: updated_at, format: rfc3339}
`
	opaque := `
    path: /things
    query: {cursor: "{{ cursor }}"}
    records: data
    primary_key: id
    incremental: {type: opaque, next: next, more: more, checkpoint: CHECKPOINT}
`
	for name, c := range map[string]struct {
		stream string
		want   bool
	}{
		"stable token":   {strings.Replace(token, "STABLE", "true", 1), true},
		"unstable token": {strings.Replace(token, "STABLE", "false", 1), false},
		"opaque page":    {strings.Replace(opaque, "CHECKPOINT", "page", 1), true},
		"opaque pass":    {strings.Replace(opaque, "CHECKPOINT", "pass", 1), false},
		"sequence":       {strings.Replace(strings.Replace(opaque, "CHECKPOINT", "page", 1), "opaque", "sequence", 1), true},
		"keyset":         {keysetStream, true},
		"page":           {listStream, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			serve := func(q asked) any {
				n++
				return map[string]any{"data": []any{thing{n, noon.Add(time.Duration(n-100) * time.Second)}.json()}, "next": n, "more": n < 5, "size": 1}
			}
			src := bound(t, c.stream, nil)
			got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 3, serve)
			if got.err != nil || (got.checkpoint != nil) != c.want {
				t.Fatalf("%v, checkpoint %+v", got.err, got.checkpoint)
			}
			if !c.want {
				return
			}
			// From the checkpoint the pass goes on behind what was read.
			rest := newDriver(t, src).pass(Partition{Name: "-"}, *got.checkpoint, 1, serve)
			if rest.err != nil || !strings.Contains(rest.queries[0], "3") && !strings.Contains(rest.queries[0], "11:58:23") {
				t.Errorf("%v: goes on with %q", rest.err, rest.queries)
			}
		})
	}
}

// P12: what is committed late, inside the lookback, is found by the next pass.
func TestP12LateCommits(t *testing.T) {
	s := &shop{things: many(300, time.Second), size: 100}
	d := newDriver(t, bound(t, keysetStream, nil))
	first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	s.things = append(s.things, thing{9999, noon.Add(-4 * time.Minute)}, thing{8888, noon.Add(-6 * time.Minute)})
	second := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, s.serve)
	if !slices.Contains(second.keys, "9999") || slices.Contains(second.keys, "8888") {
		t.Errorf("%q", second.queries)
	}
	if second.complete {
		t.Error("an incremental pass is complete (D2)")
	}

	deep := bound(t, strings.Replace(keysetStream, "lookback: 5m", "lookback: 5m, deep_lookback: {every: 1h, span: 12h}", 1), nil)
	d = newDriver(t, deep)
	cp := *first.checkpoint
	cp.Deep = noon.Add(-30 * time.Minute)
	cp.Request = deep.Requests[0].RequestPrint
	if got := d.pass(Partition{Name: "-"}, cp, 0, s.serve); slices.Contains(got.keys, "8888") || !got.checkpoint.Deep.Equal(cp.Deep) {
		t.Error("deep before its time")
	}
	cp.Deep = noon.Add(-time.Hour)
	got := d.pass(Partition{Name: "-"}, cp, 0, s.serve)
	if !slices.Contains(got.keys, "8888") || !got.checkpoint.Deep.Equal(noon) || got.quiet {
		t.Errorf("%+v %q", got.checkpoint, got.queries)
	}
}

// P12: a pass may stand still on its way, for a pause or a crash, and its cursor gets further than what was committed late behind
// it. So the next one looks back from where that pass began.
func TestP12LookbackFromWhereTheLastPassBegan(t *testing.T) {
	s := &shop{things: []thing{{1, noon.Add(-time.Minute)}, {2, noon.Add(-33 * time.Minute)}, {3, noon.Add(-36 * time.Minute)}}, size: 100}
	d := newDriver(t, bound(t, keysetStream, nil))
	cp := cdc.Checkpoint{Cursor: at(-time.Minute), Since: noon.Add(-30 * time.Minute), Passes: 1}
	got := d.pass(Partition{Name: "-"}, cp, 0, s.serve)
	if got.err != nil || !slices.Contains(got.keys, "2") || slices.Contains(got.keys, "3") {
		t.Errorf("%v %q, asked %q", got.err, got.keys, got.queries)
	}
}

// P16: instants are compared, never strings, and the server's own text is sent back.
func TestP16OffsetsThatChange(t *testing.T) {
	rows := []string{
		"2026-03-08T01:59:59.999999-05:00", "2026-03-08T03:00:00.000000-04:00", // daylight saving begins
		"2026-03-08T12:30:00.1234567+05:30", "2026-03-08T07:00:00.2Z", "2026-03-08T08:00:00.2+01:00",
	}
	d := newDriver(t, bound(t, strings.Replace(keysetStream, "lookback: 5m", "lookback: 0s", 1), nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		var data []any
		for i, text := range rows {
			when, _ := time.Parse(time.RFC3339Nano, text)
			if from, err := time.Parse(time.RFC3339Nano, q.query.Get("from")); err != nil || !when.Before(from) {
				data = append(data, map[string]any{"id": i, "updated_at": text})
			}
		}
		return map[string]any{"size": 3, "data": data[:min(len(data), 3)]}
	})
	if got.err != nil || len(distinct(got.keys)) != len(rows) {
		t.Fatal(got.err, got.keys)
	}
	if sent := got.queries[1]; !strings.HasSuffix(sent, "from=2026-03-08T12:30:00.1234567+05:30") {
		t.Errorf("sent %s", sent)
	}
	if got.checkpoint.Cursor != "2026-03-08T07:00:00.2Z" {
		t.Errorf("cursor %s", got.checkpoint.Cursor)
	}
}

// P16: unix times keep their type, and 0 to 9 digits are read.
func TestP16UnixTimes(t *testing.T) {
	stream := `
    path: /things
    method: POST
    body: {since: "{{ anchor ?? -1 }}"}
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: updated, format: unix, order: asc, lookback: 0s}
`
	d := newDriver(t, bound(t, stream, nil))
	var bodies []string
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		bodies = append(bodies, string(q.Body))
		if q.n == 1 {
			return `{"size":2,"data":[{"id":1,"updated":1700000000},{"id":2,"updated":1700000001}]}`
		}
		return `{"size":2,"data":[{"id":2,"updated":1700000001}]}`
	})
	if diff := cmp.Diff([]string{`{"since":-1}`, `{"since":1700000001}`}, bodies); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	if got.checkpoint.Cursor != "1700000001" {
		t.Errorf("%+v", got.checkpoint)
	}
}

// P16: where the clock is put back, an anchor inside or just after that hour goes back one hour, since its text is
// ambiguous; nothing of the two hours with the same texts is lost.
func TestP16DaylightSavingFold(t *testing.T) {
	stream := `
    path: /things
    query: {from: "{{ anchor ?? start }}", page: "{{ tie_page }}"}
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: updated_at, format: {record: "%Y-%m-%dT%H:%M:%S", zone: America/New_York}, order: asc, lookback: 0s}
`
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	const layout = "2006-01-02T15:04:05"
	fold := time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC) // 02:00 EDT becomes 01:00 EST
	var all []time.Time
	for m := -150; m <= 150; m += 7 {
		all = append(all, fold.Add(time.Duration(m)*time.Minute))
	}
	for _, later := range []bool{false, true} { // which of the two instants the server takes an ambiguous text for
		t.Run(fmt.Sprint("the later one: ", later), func(t *testing.T) {
			d := newDriver(t, bound(t, stream, nil))
			d.now = fold.Add(24 * time.Hour)
			var cp cdc.Checkpoint
			var keys []string
			size := 12
			serve := func(q asked) any {
				from := time.Time{}
				if text := q.query.Get("from"); text != "" {
					from, _ = time.ParseInLocation(layout, text, zone)
					if other := from.Add(time.Hour); later && other.In(zone).Format(layout) == text {
						from = other
					} else if other := from.Add(-time.Hour); !later && other.In(zone).Format(layout) == text {
						from = other
					}
				}
				data := []any{}
				for i, x := range all {
					if !x.Before(from) && !x.After(d.now) {
						data = append(data, map[string]any{"id": i, "updated_at": x.In(zone).Format(layout)})
					}
				}
				page, _ := strconv.Atoi(q.query.Get("page"))
				low := min(len(data), max(page-1, 0)*size)
				return map[string]any{"size": size, "data": data[low:min(len(data), low+size)]}
			}
			for _, now := range []time.Time{fold.Add(-45 * time.Minute), fold.Add(-5 * time.Minute), fold.Add(20 * time.Minute),
				fold.Add(65 * time.Minute), fold.Add(90 * time.Minute), fold.Add(100 * time.Hour)} {
				d.now = now
				got := d.pass(Partition{Name: "-"}, cp, 0, serve)
				if got.err != nil {
					t.Fatalf("at %s: %v\n%s", now, got.err, strings.Join(got.queries, "\n"))
				}
				keys, cp = append(keys, got.keys...), *got.checkpoint
			}
			if diff := cmp.Diff(ids(0, len(all)-1), distinct(keys)); diff != "" {
				t.Error(diff)
			}
			for size = 5; size < 40; size += 3 { // one pass across the fold, its pages cut everywhere
				got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
				if diff := cmp.Diff(ids(0, len(all)-1), distinct(got.keys)); got.err != nil || diff != "" {
					t.Errorf("pages of %d: %v %s", size, got.err, diff)
				}
			}
		})
	}
}

// P17, P23: an expired cursor, and one of another request, begin a full pass that counts as a complete listing.
func TestP17ExpiredCursorIsAFullPass(t *testing.T) {
	s := &shop{things: many(30, time.Hour), size: 100}
	src := bound(t, keysetStream, nil)
	cp := cdc.Checkpoint{Cursor: at(-time.Hour), Anchor: at(-time.Hour), Start: at(-2 * time.Hour), Began: noon, Passes: 4, Request: src.Requests[0].RequestPrint}
	got := newDriver(t, src).pass(Partition{Name: "-"}, Expire(cp), 0, s.serve)
	if got.err != nil || len(got.keys) != 30 || !got.complete || got.checkpoint.Passes != 5 {
		t.Errorf("%v %q %+v", got.err, got.keys, got.checkpoint)
	}
	cp.Request = "another"
	got = newDriver(t, src).pass(Partition{Name: "-"}, cp, 0, s.serve)
	if got.err != nil || len(got.keys) != 30 || got.checkpoint.Request != src.Requests[0].RequestPrint {
		t.Errorf("%v %q %+v", got.err, got.keys, got.checkpoint)
	}
	if r := Restart(cp); r.Cursor != cp.Cursor || r.Anchor != "" || r.Start != "" || !r.Began.IsZero() {
		t.Errorf("%+v", r)
	}
}

// A cursor that cannot be read halts: beginning anew in silence would hide that it was lost (7).
func TestUnreadableCursorHalts(t *testing.T) {
	src := bound(t, keysetStream, nil)
	for _, cp := range []cdc.Checkpoint{{Cursor: "rubbish"}, {Cursor: at(0), Anchor: "rubbish"}, {Cursor: at(0), Anchor: at(0), Start: "rubbish"}} {
		_, err := src.Requests[0].Begin(Partition{Name: "-"}, cp, noon)
		want(t, err, cdc.Halt, "cannot be read")
	}
}

// The configured beginning is sent while there is no cursor, and is never undercut by a lookback.
func TestStartIsTheBeginning(t *testing.T) {
	s := &shop{things: many(30, time.Hour), size: 100}
	src := bound(t, keysetStream, map[string]any{"start": at(-10 * time.Hour)})
	d := newDriver(t, src)
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, s.serve)
	if diff := cmp.Diff(ids(21, 30), distinct(got.keys)); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	next := d.pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: at(-10*time.Hour + time.Minute), Passes: 1}, 0, s.serve)
	if next.err != nil || !strings.Contains(next.queries[0], "02:00:00") {
		t.Errorf("%v %q", next.err, next.queries)
	}
}
