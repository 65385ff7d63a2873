package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/judge"
	"tidemark/internal/offsets"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// sourceOf is the bound definition that a test's connection runs.
func (b *bed) sourceOf(s settings) *source.Source {
	b.Helper()
	return b.options(s).Source
}

// TestP2PageBordersPublishOnce: pages of a keyset overlap by a row; while the first commit is held up, everything is compared
// with what is staged.
func TestP2PageBordersPublishOnce(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 2, People: 250, PageCap: 20})
	hold := make(chan struct{})
	b.wire.strikes(nth(kmsg.EndTxn, strike{hold: hold}, 2)) // the first is the owner record's
	s := settings{definition: people, config: api.config()}
	c := b.start(s)
	b.until("every page while a commit waits", func() bool { return b.wire.hits() == 1 && api.Stats().Records >= 250+12 })
	close(hold)
	c.await("250 events", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Read >= 250 })
	c.passes(1)
	c.end()
	if n := len(b.events("people")); n != 250 {
		t.Errorf("%d events, want 250", n)
	}
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestP2KeyTwiceOnAPage: one answer holds a key twice, new and as it was. The bytes of last time are no proof any more once
// something is staged for the key: the topic ends with what the listing ends with.
func TestP2KeyTwiceOnAPage(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", "a"))
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.passes(2)
	listed := 0
	shop.break_(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		if listed++; listed == 1 {
			answer(w, http.StatusOK, map[string]any{"data": []any{row(1, "v", "b"), row(1, "v", "a")}})
			return true
		}
		return false // a again, and from now on
	})
	c.passes(3)
	c.end()
	lines := b.lines("things")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"v":"a"`) {
		t.Errorf("the API says a, the topic ends with %s", last)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP3P12LateRecord: a record that becomes visible with an updated_at behind the cursor, inside the lookback, is published,
// and the cursor never goes back.
func TestP3P12LateRecord(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 3, People: 30})
	s := settings{definition: people, config: api.config()}
	c := b.start(s)
	c.passes(1)
	late := api.Late("people", 1, time.Hour)[0]
	changed := time.Now().Truncate(time.Microsecond)
	after := api.Change("people", 1)[0]
	st := c.await("the cursor behind the late record", func(s capture.Status) bool {
		at, err := time.Parse(time.RFC3339Nano, s.Partitions[0].Cursor)
		return err == nil && !at.Before(changed) && counts(s).Updated == 1
	})
	api.Settle()
	c.await("the late record", func(s capture.Status) bool { return counts(s).Updated == 2 })
	c.passes(1)
	c.end()
	var updated []string
	for _, e := range b.events("people") {
		if e.Op == "u" {
			updated = append(updated, e.Key)
		}
	}
	if d := cmp.Diff(sorted([]string{late, after}), sorted(updated)); d != "" {
		t.Error(d)
	}
	if cp := b.checkpoint("people"); cp.Cursor < st.Partitions[0].Cursor {
		t.Errorf("the cursor went back from %s to %s", st.Partitions[0].Cursor, cp.Cursor)
	}
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestP3FutureMovesNothing: a record dated 2099 is published and does not move the cursor; what is dated before it still comes.
func TestP3FutureMovesNothing(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "at", "2020-01-01T00:00:00Z"), row(2, "at", "2099-01-01T00:00:00Z"))
	s := settings{definition: feed, config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(3, "at", "2020-01-02T00:00:00Z"))
	c.await("the third", func(s capture.Status) bool {
		return counts(s).Published() == 3 && s.Partitions[0].Cursor == "2020-01-02T00:00:00Z"
	})
	c.end()
	want := []string{`1 r {"at":"2020-01-01T00:00:00Z","id":1}`, `2 r {"at":"2099-01-01T00:00:00Z","id":2}`, `3 c {"at":"2020-01-02T00:00:00Z","id":3}`}
	got := b.lines("things")
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP8TieLongerThanAPage: 250 people share one microsecond at 100 a page.
func TestP8TieLongerThanAPage(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 8, People: 300})
	s := settings{definition: people, config: api.config()}
	c := b.start(s)
	c.passes(1)
	tied := api.Tie("people", 250)
	c.await("all of the tie", func(s capture.Status) bool { return counts(s).Updated == int64(len(tied)) })
	c.passes(1)
	c.end()
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestShown4TouchesPublishNothing: updated_at or counts alone moved on 5,000 people: no event, the cursor advances, suppressed
// rises by as many at least.
func TestShown4TouchesPublishNothing(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 4, People: 5000})
	s := settings{definition: people, config: api.config()}
	c := b.start(s)
	before := c.passes(1)
	if n := counts(before).Published(); n != 5000 {
		t.Fatalf("%d published, want 5000", n)
	}
	first := time.Now().Truncate(time.Microsecond)
	api.Touch("people", 2500)
	touched := api.TouchCounts("people", 2500)
	c.await("the cursor behind the touches", func(s capture.Status) bool {
		at, err := time.Parse(time.RFC3339Nano, s.Partitions[0].Cursor)
		return err == nil && !at.Before(first) && counts(s).Suppressed >= counts(before).Suppressed+5000
	})
	after := c.passes(1)
	c.end()
	if n := counts(after).Published(); n != 5000 || len(touched) != 2500 {
		t.Errorf("%d events after %d touches, want none beyond 5000", n, len(touched)+2500)
	}
	if rose := counts(after).Suppressed - counts(before).Suppressed; rose < 5000 {
		t.Errorf("suppressed rose by %d, want 5000 or more", rose)
	}
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestP14LookupConfirmsRollback: an older version is held as a candidate; the lookup says the same, and it is published with
// its reason and its own cursor.
func TestP14LookupConfirmsRollback(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 14, People: 1})
	s := settings{definition: strings.Replace(people, "lookback: 5m", "lookback: 3h", 1), config: api.config()}
	c := b.start(s)
	c.passes(1)
	api.Change("people", 1)
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	api.Regress("people", 1)
	c.await("the rollback", func(s capture.Status) bool { return counts(s).Updated == 2 && s.Streams[0].Held == 0 })
	c.passes(2)
	c.end()
	all := b.read("test.c.people")
	if len(all) != 3 {
		t.Fatalf("%d events, want 3", len(all))
	}
	var said struct {
		UpdatedAt string `json:"updated_at"`
	}
	if err := json.Unmarshal(all[2].Value, &said); err != nil {
		t.Fatal(err)
	}
	if r, cursor := header(all[2], "ce_reason"), header(all[2], "ce_cursor"); r != "rollback" || cursor != said.UpdatedAt {
		t.Errorf("ce_reason %q, ce_cursor %q, want rollback and %q", r, cursor, said.UpdatedAt)
	}
	past := b.past("candidate/c/people/1")
	if len(past) < 2 || past[len(past)-1] != "" {
		t.Fatalf("the candidate's past is %q: kept, then removed", past)
	}
	if held, err := offsets.Decode[offsets.Candidate]([]byte(past[0])); err != nil || held.Kind != offsets.Older {
		t.Errorf("candidate %+v (%v)", held, err)
	}
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// versioned is the shelf with a version and nobody to ask twice.
const versioned = things + "    version: n\n"

// TestP14TwoPassesConfirmRollback: without a lookup two complete passes have to show the older version, then it is published.
func TestP14TwoPassesConfirmRollback(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "n", 2, "v", "new"))
	s := settings{definition: versioned, config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(1, "n", 1, "v", "old"))
	c.await("the rollback", func(s capture.Status) bool { return counts(s).Updated == 1 && s.Streams[0].Held == 0 })
	c.passes(2)
	c.end()
	all := b.read("test.c.things")
	if len(all) != 2 || header(all[1], "ce_reason") != "rollback" {
		t.Errorf("events %q", b.lines("things"))
	}
	most := 0
	for _, text := range b.past("candidate/c/things/1") {
		if text != "" {
			held, err := offsets.Decode[offsets.Candidate]([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, held.Passes)
		}
	}
	if most != 2 {
		t.Errorf("published after %d complete passes that agreed, want 2", most)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP14FlappingReplica: a stale replica answers every other pass. Passes that disagree confirm nothing.
func TestP14FlappingReplica(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "n", 2, "v", "new"))
	s := settings{definition: versioned, config: config}
	c := b.start(s)
	c.passes(2)
	n := 0
	shop.break_(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		if n++; n%2 == 1 {
			answer(w, http.StatusOK, map[string]any{"data": []any{row(1, "n", 1, "v", "old")}})
			return true
		}
		return false
	})
	st := c.passes(10)
	c.end()
	if lines := b.lines("things"); len(lines) != 1 {
		t.Errorf("published %q, although no two passes agreed", lines)
	}
	if counts(st).Held < 2 {
		t.Errorf("held %d times", counts(st).Held)
	}
}

// opaque is a feed whose cursor can expire.
const opaque = `
source: log
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: /things
    query: {since: "{{ cursor }}"}
    records: data
    primary_key: id
    incremental: {type: opaque, next: next, more: more}
    interval: 200ms
`

// TestP17ExpiredCursorReadsEverything: 410 for a cursor begins a full pass, which publishes what was missed and nothing twice.
func TestP17ExpiredCursorReadsEverything(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", "a"), row(2, "v", "b"))
	expired, full := false, 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch since := r.URL.Query().Get("since"); {
		case since == "":
			full++
			next := "one"
			if expired {
				next = "two"
			}
			answer(w, http.StatusOK, map[string]any{"data": shop.rows, "next": next, "more": false})
		case expired && since == "one":
			answer(w, http.StatusGone, map[string]any{"error": "cursor too old"})
		default:
			answer(w, http.StatusOK, map[string]any{"data": []any{}, "next": since, "more": false})
		}
		return true
	})
	s := settings{definition: opaque, config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(3, "v", "c"))
	shop.mu.Lock()
	expired = true
	shop.mu.Unlock()
	c.await("the full pass", func(s capture.Status) bool { return s.Partitions[0].Cursor == "two" && counts(s).Published() == 3 })
	c.passes(1)
	c.end()
	want := []string{`1 r {"id":1,"v":"a"}`, `2 r {"id":2,"v":"b"}`, `3 c {"id":3,"v":"c"}`}
	got := b.lines("things")
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	shop.locked(func() {
		if full != 2 {
			t.Errorf("%d full listings, want 2", full)
		}
	})
}

// TestP17DeadPageTokenRestartsThePass: a page token that died restarts the pass from its cursor, not the world.
func TestP17DeadPageTokenRestartsThePass(t *testing.T) {
	for _, stable := range []bool{false, true} { // a stable one stands in the checkpoint
		t.Run(fmt.Sprint("stable ", stable), func(t *testing.T) { deadPageToken(t, stable) })
	}
}

func deadPageToken(t *testing.T, stable bool) {
	b := lay(t)
	shop, config := b.shelf()
	died, begun := 0, 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch {
		case r.URL.Query().Get("token") == "":
			begun++
			answer(w, http.StatusOK, map[string]any{"data": []any{row(1, "v", "a")}, "next": "t"})
		case died < 1:
			died++
			answer(w, http.StatusBadRequest, map[string]any{"error": "no such token"})
		default:
			answer(w, http.StatusOK, map[string]any{"data": []any{row(2, "v", "b")}})
		}
		return true
	})
	s := settings{definition: strings.Replace(things, "interval: 200ms", "interval: 24h", 1) + `    query: {token: "{{ page_token }}"}
    paginator: {type: token, next: next, stable: ` + fmt.Sprint(stable) + `}
    errors: [{status: 400, do: restart_pass}]
`, config: config}
	c := b.start(s)
	c.await("a pass", func(s capture.Status) bool { return len(s.Partitions) == 1 && s.Partitions[0].Passes == 1 })
	c.end()
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if begun != 2 {
		t.Errorf("the first page was asked for %d times", begun)
	}
	if d := cmp.Diff([]string{`1 r {"id":1,"v":"a"}`, `2 r {"id":2,"v":"b"}`}, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
}

// TestP17CursorFromTheAnswer: an answer that says where to begin instead is followed, from there on and with nothing before it.
func TestP17CursorFromTheAnswer(t *testing.T) {
	for status, do := range map[int]string{410: "expired", 409: "restart_pass"} {
		t.Run(do, func(t *testing.T) {
			b := lay(t)
			shop, config := b.shelf()
			var asked []string
			shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				since := r.URL.Query().Get("since")
				if len(asked) < 5 {
					asked = append(asked, since)
				}
				switch since {
				case "":
					answer(w, http.StatusOK, map[string]any{"data": []any{row(1, "v", "a")}, "next": "old", "more": false})
				case "old":
					answer(w, status, map[string]any{"error": map[string]any{"begin": "new"}})
				default:
					answer(w, http.StatusOK, map[string]any{"data": []any{row(2, "v", "b")}, "next": "new", "more": false})
				}
				return true
			})
			s := settings{definition: opaque + fmt.Sprintf("    errors: [{status: %d, do: %s, cursor_from: error.begin}]\n", status, do), config: config}
			c := b.start(s)
			st := c.await("the new cursor", func(s capture.Status) bool {
				return len(s.Partitions) > 0 && s.Partitions[0].Cursor == "new" && s.Partitions[0].Passes > 1
			})
			c.end()
			shop.locked(func() {
				if d := cmp.Diff([]string{"", "old", "new"}, asked[:3]); d != "" || st.Partitions[0].Complete {
					t.Error(d, st.Partitions[0])
				}
			})
			if d := cmp.Diff([]string{`1 r {"id":1,"v":"a"}`, `2 c {"id":2,"v":"b"}`}, sorted(b.lines("things"))); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestP14ParkedLookup: a lookup that the definition sets aside confirms nothing and stops nothing: the older version stays held.
func TestP14ParkedLookup(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "n", 2, "v", "new"), row(2, "n", 1, "v", "x"))
	asked := 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasPrefix(r.URL.Path, "/things/") {
			asked++
			answer(w, http.StatusForbidden, map[string]any{"error": "private"})
			return true
		}
		return false
	})
	s := settings{definition: versioned + "    errors: [{status: 403, do: park_record}]\n    reconcile: {lookup: {path: \"/things/{{ key.id }}\"}}\n", config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(1, "n", 1, "v", "old"))
	c.await("it is held", func(s capture.Status) bool { return s.Streams[0].Held == 1 })
	shop.put(row(2, "n", 2, "v", "y"))
	st := c.await("the other one's change", func(s capture.Status) bool { return counts(s).Updated >= 1 })
	c.end()
	shop.locked(func() {
		if st.Partitions[0].Failures != 0 || asked == 0 {
			t.Errorf("%+v, %d lookups", st.Partitions[0], asked)
		}
	})
	if got := b.lines("things"); !slices.Contains(got, `2 u {"id":2,"n":2,"v":"y"}`) {
		t.Errorf("%q", got)
	}
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// TestP19ParkedOncePerContent: a bad record stands in the dead-letter topic once per content, in the transaction of its page,
// also over restarts; mended, it is published, and the parked entry goes.
func TestP19ParkedOncePerContent(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "keep", true), row(2, "keep", true))
	s := settings{definition: things + "    filter: record.keep\n", config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(2), row(3)) // P20: undefined, not null
	c.await("two parked", func(s capture.Status) bool { return s.Streams[0].Parked == 2 })
	c.passes(2)
	c.end()
	letters := b.read("test.dead-letters")
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want one for each content", len(letters))
	}
	for _, l := range letters {
		if header(l, "stream") != "things" || header(l, "hash") == "" || !strings.Contains(header(l, "reason"), "keep") {
			t.Errorf("dead letter %s: %v", l.Key, l.Headers)
		}
	}
	c = b.start(s) // its state says what is parked
	c.passes(1)
	shop.put(row(2, "keep", true), row(3, "keep", true, "v", 1)) // 2 is again what was published last
	c.await("both are sound", func(s capture.Status) bool { return s.Streams[0].Parked == 0 && counts(s).Published() == 1 })
	c.end()
	if d := cmp.Diff([]string{`1 r {"id":1,"keep":true}`, `2 r {"id":2,"keep":true}`, `3 c {"id":3,"keep":true,"v":1}`}, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
	if n := len(b.read("test.dead-letters")); n != 2 {
		t.Errorf("%d dead letters after a restart, want 2", n)
	}
	for key := range b.state() {
		if strings.HasPrefix(key, "parked/") {
			t.Errorf("%s is left", key)
		}
	}
	b.audit(b.sourceOf(s), false)
}

// TestP19ReturnToTheOldBytes: a record is parked in its second content and then comes with the very bytes of the first, which
// nobody parses; it is sound again all the same.
func TestP19ReturnToTheOldBytes(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "keep", true))
	c := b.start(settings{definition: things + "    filter: record.keep\n", config: config})
	c.passes(2)
	shop.put(row(1))
	c.await("one parked", func(s capture.Status) bool { return s.Streams[0].Parked == 1 })
	shop.put(row(1, "keep", true))
	c.await("none parked", func(s capture.Status) bool { return s.Streams[0].Parked == 0 })
	c.end()
	if past := b.past("parked/c/things/1"); len(past) != 2 || past[1] != "" {
		t.Errorf("the parked entry's past is %q", past)
	}
}

// TestP19TooManyHalt: more than 20 and more than 5 % parked halt the stream with the cursor where it was, also where a page
// goes through several transactions.
func TestP19TooManyHalt(t *testing.T) {
	for name, bound := range map[string]int{"one transaction": 0, "several": 12} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			api := b.team(simulator.Options{Seed: 19, People: 100})
			s := avro(b, settings{definition: people, config: api.config(), change: func(o *capture.Options) { o.Records = bound }})
			c := b.start(s)
			c.passes(1)
			before := b.checkpoint("people")
			api.Spoil("people", 30, simulator.WrongType)
			c.halted("c/people", "of this pass could not be published", "dead-letter")
			c.end()
			if after := b.checkpoint("people"); after.Cursor != before.Cursor {
				t.Errorf("the cursor moved from %s to %s", before.Cursor, after.Cursor)
			}
		})
	}
}

// TestP20LeavingTheFilter: a known key that leaves the filter is tombstoned, or kept; one that was never in it is nothing.
func TestP20LeavingTheFilter(t *testing.T) {
	for onLeave, want := range map[string][]string{
		"delete": {`1 d `, `1 r {"id":1,"live":true}`, `2 r {"id":2,"live":true}`},
		"keep":   {`1 r {"id":1,"live":true}`, `2 r {"id":2,"live":true}`},
	} {
		t.Run(onLeave, func(t *testing.T) {
			b := lay(t)
			shop, config := b.shelf(row(1, "live", true), row(2, "live", true), row(3, "live", false), row(4))
			s := settings{definition: things + "    filter: record.live ?? false\n    on_leave: " + onLeave + "\n", config: config}
			c := b.start(s)
			c.passes(1)
			shop.put(row(1, "live", false))
			st := c.passes(3)
			c.end()
			if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
				t.Error(d)
			}
			if st.Streams[0].Parked != 0 {
				t.Errorf("%d parked: ?? says what undefined means", st.Streams[0].Parked)
			}
			if all := b.read("test.c.things"); onLeave == "delete" && header(all[slices.IndexFunc(all, isTombstone)], "ce_reason") != "filtered" {
				t.Error("the tombstone does not say that the record left the filter")
			}
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestP20Declared: what upstream declares deleted is tombstoned once, and a key that comes back is created.
func TestP20Declared(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "gone", false))
	s := settings{definition: things + "    delete: record.gone\n", config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row(1, "gone", true), row(2, "gone", true))
	c.passes(3)
	shop.put(row(1, "gone", false, "v", 2))
	c.passes(2)
	c.end()
	if d := cmp.Diff([]string{`1 r {"gone":false,"id":1}`, `1 d `, `1 c {"gone":false,"id":1,"v":2}`}, b.lines("things")); d != "" {
		t.Error(d)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP23ChangedRulesRehashSilently: another exclude list publishes nothing by itself; the next real change is published once.
func TestP23ChangedRulesRehashSilently(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", "a", "seen", 1), row(2, "v", "b", "seen", 1))
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	c.end()
	excluding := settings{definition: things + "    hash: {exclude: [seen]}\n", config: config}
	c = b.start(excluding)
	c.await("both re-hashed", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Rehashed == 2 })
	c.passes(1)
	shop.put(row(1, "v", "a", "seen", 2))
	c.passes(2)
	shop.put(row(1, "v", "changed", "seen", 3))
	st := c.passes(2)
	c.end()
	want := []string{`1 r {"id":1,"seen":1,"v":"a"}`, `1 u {"id":1,"seen":3,"v":"changed"}`, `2 r {"id":2,"seen":1,"v":"b"}`}
	if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
	if counts(st).Rehashed != 2 {
		t.Errorf("%d re-hashed, want 2, once", counts(st).Rehashed)
	}
	b.audit(b.sourceOf(excluding), true)
}

// TestP23ChangedRequestReadsEverything: another request makes the cursor void; the full pass repeats nothing.
func TestP23ChangedRequestReadsEverything(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1, "at", "2020-01-01T00:00:00Z"), row(2, "at", "2020-01-02T00:00:00Z"))
	c := b.start(settings{definition: feed, config: config})
	c.passes(1)
	c.end()
	since := make(chan string, 100)
	shop2 := &shelf{rows: []map[string]any{row(0, "at", "2010-01-01T00:00:00Z"), row(1, "at", "2020-01-01T00:00:00Z"), row(2, "at", "2020-01-02T00:00:00Z")}}
	shop2.spoil = func(_ http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			since <- r.URL.Query().Get("since")
		}
		return false
	}
	changed := settings{definition: strings.Replace(feed, "query: {", "query: {all: 1, ", 1), config: map[string]any{"url": b.serve(shop2)}}
	c = b.start(changed)
	c.await("the full pass", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Published() == 1 })
	c.end()
	if first := <-since; first != "" {
		t.Errorf("the first request asks from %q, want from the beginning", first)
	}
	want := []string{`0 c {"at":"2010-01-01T00:00:00Z","id":0}`, `1 r {"at":"2020-01-01T00:00:00Z","id":1}`, `2 r {"at":"2020-01-02T00:00:00Z","id":2}`}
	if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
}

// TestP23ChangedKeyIsRefused: another primary_key halts the stream with what to do, and publishes nothing.
func TestP23ChangedKeyIsRefused(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1, "other", "x"))
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	c.end()
	c = b.start(settings{definition: strings.Replace(things, "primary_key: id", "primary_key: other", 1), config: config})
	c.halted("c/things", "key", "primary_key", "offsets reset c/things --tombstone-old")
	c.end()
	if n := len(b.events("things")); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestP24Partitions: keys begin with the partition's values; with key_scope: stream one key is one key wherever it stands, and
// a partition that leaves the configuration keeps its keys.
func TestP24Partitions(t *testing.T) {
	const list = "    partition: {view: [%s]}\n    query: {view: \"{{ partition.view }}\"}\n"
	for scope, want := range map[string][]string{
		"": {`["a",1] r {"id":1}`, `["b",1] r {"id":1}`}, "    key_scope: stream\n": {`1 r {"id":1}`},
	} {
		t.Run(fmt.Sprintf("scope %t", scope != ""), func(t *testing.T) {
			b := lay(t)
			_, config := b.shelf(row(1))
			c := b.start(settings{definition: things + scope + fmt.Sprintf(list, "a, b"), config: config})
			c.passes(2)
			c.end()
			if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
				t.Error(d)
			}
			before := b.state()
			for _, p := range []string{"a", "b"} {
				if before["cursor/c/things/view="+p] == "" {
					t.Errorf("partition %s has no checkpoint", p)
				}
			}
			c = b.start(settings{definition: things + scope + fmt.Sprintf(list, "a"), config: config})
			c.passes(1)
			c.end()
			if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
				t.Errorf("a retired partition: %s", d)
			}
			if b.state()["cursor/c/things/view=b"] != before["cursor/c/things/view=b"] {
				t.Error("the retired partition's checkpoint is not left alone")
			}
		})
	}
}

// TestK4P24KeyOfAnotherType: the type of a key field is fixed by the first record, also over a restart; another type is parked.
func TestK4P24KeyOfAnotherType(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1))
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.passes(1)
	shop.put(row("x"))
	c.await("parked", func(s capture.Status) bool { return s.Streams[0].Parked == 1 })
	c.end()
	shop.drop(1)
	shop.put(row("y"))
	c = b.start(s)
	c.await("parked too", func(s capture.Status) bool { return len(s.Streams) > 0 && s.Streams[0].Parked == 2 })
	c.end()
	if d := cmp.Diff([]string{`1 r {"id":1}`}, b.lines("things")); d != "" {
		t.Error(d)
	}
	for _, l := range b.read("test.dead-letters") {
		b.says(header(l, "reason"), "key", "string", "number")
	}
	b.audit(b.sourceOf(s), false)
}

// TestK4Keys: one field is its plain text, several are a compact JSON array in the declared order.
func TestK4Keys(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(7, "a", map[string]any{"b": "x/ü"}))
	c := b.start(settings{definition: strings.Replace(things, "primary_key: id", "primary_key: [a.b, id]", 1), config: config})
	c.passes(1)
	c.end()
	d := b.start(settings{definition: strings.Replace(things, "primary_key: id", "primary_key: a.b", 1), config: config, name: "d"})
	d.passes(1)
	d.end()
	if e := b.events("things"); len(e) != 1 || e[0].Key != `["x/ü",7]` {
		t.Errorf("events %v", e)
	}
	if r := b.read("test.d.things"); len(r) != 1 || string(r[0].Key) != "x/ü" {
		t.Errorf("events %v", r)
	}
}

// TestLiveTeam: a team that keeps changing in every way, judged with all that may be demanded.
func TestLiveTeam(t *testing.T) {
	b := lay(t)
	o := simulator.Lively(11)
	o.People, o.ChangesPerSecond, o.PageCap = 200, 200, 30
	o.Accounts, o.Calls, o.Emails, o.Cadences, o.CadenceMemberships, o.Notes, o.Users = 0, 0, 0, 0, 0, 0, 0
	o.LateCommits, o.Ties, o.Lateness = 0.1, 0.1, time.Second
	api := b.team(o)
	s := settings{definition: people, config: api.config(), change: func(o *capture.Options) { o.Records = 40 }}
	c := b.start(s)
	for range 15 {
		api.Step(20)
		c.passes(1)
	}
	api.Freeze()
	c.passes(3)
	c.end()
	if v := b.trial(api, judge.Options{AtRest: true, Ops: true}); !v.Clean() {
		t.Errorf("%v\n%s", v, strings.Join(v.Examples, "\n"))
	}
	b.audit(b.sourceOf(s), false)
}

// TestP1PartitionsOfOneKeySpaceTakeTurns: P1. where partitions have keys in common, no answer of one is waited for while another is being
// read, so that an older answer never overwrites a newer one.
func TestP1PartitionsOfOneKeySpaceTakeTurns(t *testing.T) {
	b := lay(t)
	var under, most atomic.Int32
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := under.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-time.After(150 * time.Millisecond) // long enough for a second request to come, if there is one
		under.Add(-1)
		answer(w, 200, map[string]any{"data": []any{row(1, "v", "a")}})
	}))
	c := b.start(settings{config: map[string]any{"url": url}, definition: `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: /things/{{ partition.view }}
    partition: {view: [one, two, three]}
    key_scope: stream
    records: data
    primary_key: id
    interval: 200ms
`})
	c.await("two passes of each", func(s capture.Status) bool {
		return len(s.Partitions) == 3 && min(s.Partitions[0].Passes, s.Partitions[1].Passes, s.Partitions[2].Passes) >= 2
	})
	c.end()
	if n := most.Load(); n != 1 {
		t.Errorf("%d requests of one key space were under way at a time", n)
	}
	if lines := b.lines("things"); len(lines) != 1 {
		t.Errorf("one record in three views was published as %q", lines)
	}
}
