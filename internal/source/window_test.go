package source

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

const windowStream = `
    path: /things
    query: {from: "{{ cursor ?? start }}", to: "{{ cursor_end }}", page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page, size_echo: size}
    incremental: {cursor_field: updated_at, format: unix, lookback: 0s, settle: 10s, window: 1h, start: "{{ config.start }}"}
`

// between serves what changed in [from, to] by pages of ten, and notes what was asked for, in minutes before noon.
func between(things *[]thing, before func(q asked), notes *[]string) server {
	const size = 10
	ago := func(text string) string {
		if text == "" {
			return ""
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(err)
		}
		return strconv.FormatInt((n-noon.Unix())/60, 10)
	}
	return func(q asked) any {
		if before != nil {
			before(q)
		}
		from, to := q.query.Get("from"), q.query.Get("to")
		if q.query.Get("page") == "1" {
			*notes = append(*notes, ago(from)+".."+ago(to))
		}
		rows := []any{}
		for _, x := range *things {
			at := strconv.FormatInt(x.at.Unix(), 10)
			if at >= from && (to == "" || at <= to) { // texts of one length
				rows = append(rows, map[string]any{"id": x.id, "updated_at": x.at.Unix()})
			}
		}
		n, _ := strconv.Atoi(q.query.Get("page"))
		low := min((n-1)*size, len(rows))
		return map[string]any{"size": size, "data": rows[low:min(low+size, len(rows))]}
	}
}

func startAt(d time.Duration) map[string]any {
	return map[string]any{"start": noon.Add(d).Format(time.RFC3339)}
}

// P15, P4: windows lie one behind the other, an empty one too; none but the last, which is open, ends behind server time −
// settle; the cursor moves once, at the end.
func TestP15Windows(t *testing.T) {
	things := slices.DeleteFunc(many(45, 5*time.Minute), func(x thing) bool { return x.at.Before(noon.Add(-2*time.Hour)) && x.at.After(noon.Add(-3*time.Hour)) })
	var windows []string
	d := newDriver(t, bound(t, windowStream, startAt(-4*time.Hour)))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, between(&things, nil, &windows))
	if diff := cmp.Diff([]string{"-240..-180", "-180..-120", "-120..-60", "-60.."}, windows); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	var all []string
	for _, x := range things {
		all = append(all, strconv.Itoa(x.id))
	}
	if diff := cmp.Diff(distinct(all), distinct(got.keys)); diff != "" || !got.complete || len(got.history) != 1 || got.checkpoint.Drifting {
		t.Errorf("%s, complete %v, %d checkpoints, drifting %v", diff, got.complete, len(got.history), got.checkpoint.Drifting)
	}
	if got.checkpoint.Cursor != strconv.FormatInt(things[len(things)-1].at.Unix(), 10) {
		t.Errorf("%+v", got.checkpoint)
	}

	windows, d.now = nil, noon.Add(2*time.Hour) // the next pass begins at its cursor, where there are windows too
	got = d.pass(Partition{Name: "-"}, *got.checkpoint, 0, between(&things, nil, &windows))
	if diff := cmp.Diff([]string{"-5..55", "55..115", "115.."}, windows); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	windows, d.now = nil, noon.Add(55*time.Minute+9*time.Second) // an end at 55 lies behind server time − settle
	got = d.pass(Partition{Name: "-"}, *got.checkpoint, 0, between(&things, nil, &windows))
	if diff := cmp.Diff([]string{"-5.."}, windows); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// P15: without a cursor and a start there is nothing to count windows from: all is one, and open.
func TestP15NothingToBeginWith(t *testing.T) {
	things := many(25, time.Minute)
	var windows []string
	got := newDriver(t, bound(t, windowStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, between(&things, nil, &windows))
	if got.err != nil || !slices.Equal(windows, []string{".."}) || len(distinct(got.keys)) != 25 {
		t.Error(got.err, windows)
	}
}

// P9, P15: a window whose rows move is walked again, by itself; one that never holds still marks the pass.
func TestP15DriftWithinAWindow(t *testing.T) {
	for name, c := range map[string]struct {
		until   int // the rows move at the first so many requests of the second window
		windows []string
		drifts  bool
	}{
		"once":  {2, []string{"-180..-120", "-120..-60", "-120..-60", "-60.."}, false},
		"never": {1 << 30, []string{"-180..-120", "-120..-60", "-120..-60", "-120..-60", "-120..-60", "-60.."}, true},
	} {
		t.Run(name, func(t *testing.T) {
			things := many(90, 2*time.Minute)
			var windows []string
			n := 0
			got := newDriver(t, bound(t, windowStream, startAt(-3*time.Hour))).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, between(&things, func(q asked) {
				if from, _ := strconv.ParseInt(q.query.Get("from"), 10, 64); from == noon.Add(-2*time.Hour).Unix() && q.query.Get("page") == "2" {
					if n++; n < c.until { // a row is inserted in front: the tenth moves to the second page
						things = append([]thing{{1000 + n, noon.Add(-90 * time.Minute)}}, things...)
					}
				}
			}, &windows))
			if diff := cmp.Diff(c.windows, windows); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
			if got.complete == c.drifts || got.checkpoint.Drifting != c.drifts {
				t.Errorf("complete %v, %+v", got.complete, got.checkpoint)
			}
		})
	}
}

// P11, P15: windows that are all empty are no answer to believe where the record at the cursor should be in one of them; the whole
// is asked for from a granule earlier, and then from the first window again.
func TestP15EmptyWindowsAreNotBelieved(t *testing.T) {
	things := []thing{{1, noon.Add(-3 * time.Hour)}}
	blind := true
	var windows []string
	serve := between(&things, nil, &windows)
	d := newDriver(t, bound(t, windowStream, nil))
	cp := cdc.Checkpoint{Cursor: strconv.FormatInt(things[0].at.Unix(), 10), Passes: 1}
	filter := func(q asked) any {
		out := serve(q)
		if blind && q.query.Get("to") != "" {
			return map[string]any{"size": 10, "data": []any{}}
		}
		return out
	}
	got := d.pass(Partition{Name: "-"}, cp, 0, filter)
	want(t, got.err, cdc.Halt, "got none, twice")
	if diff := cmp.Diff([]string{"-180..-120", "-120..-60", "-60..", "-180..", "-180..-120", "-120..-60", "-60.."}, windows); diff != "" {
		t.Error(diff)
	}
	blind, windows = false, nil
	if got := d.pass(Partition{Name: "-"}, cp, 0, filter); got.err != nil || len(windows) != 3 {
		t.Error(got.err, windows)
	}
}

// P6, P15: an exclusive filter begins behind what it is given, so the next window begins a granule before the end of this one; a
// window that the request's format cannot tell from nothing halts.
func TestP15Borders(t *testing.T) {
	things := many(10, 20*time.Minute)
	var windows []string
	exclusive := strings.Replace(windowStream, "window: 1h", "window: 1h, granularity: 1m, inclusive: false", 1)
	got := newDriver(t, bound(t, exclusive, startAt(-2*time.Hour))).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, between(&things, nil, &windows))
	if diff := cmp.Diff([]string{"-120..-60", "-61..-1", "-2.."}, windows); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	days := strings.Replace(windowStream, "format: unix", "format: {record: unix, request: date}", 1)
	got = newDriver(t, bound(t, days, startAt(-72*time.Hour))).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `{"size":10,"data":[]}` })
	want(t, got.err, cdc.Halt, "ends where it begins")
}

// TestP15ListingIsNotCut: P15, D1. a listing that is declared beside windows, and has no use for them, is asked for once.
func TestP15ListingIsNotCut(t *testing.T) {
	src := bound(t, windowStream+"    reconcile: {every: 24h, listing: {path: /all, query: {page: \"{{ page }}\"}}}\n", startAt(-10*time.Hour))
	things := many(25, time.Minute)
	var notes []string
	pos, err := src.Requests[0].BeginListing(Partition{Name: "-"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, src)
	got := d.follow(pos, 0, between(&things, func(q asked) { q.query.Set("from", "0") }, &notes))
	if got.err != nil || !got.complete || got.pages != 3 {
		t.Errorf("%v, %q: %q", got.err, got.why, got.queries)
	}
}
