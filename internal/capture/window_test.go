package capture_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// byKey is the feed with a listing in the order of the key beside it.
const byKey = feed + `    reconcile:
      every: 300ms
      order: key
      listing: {path: /all, query: {after: "{{ last.id }}"}, paginator: {type: token}}
`

// alone is the list in the order of the key as a snapshot.
var alone = strings.Replace(things, "path: /things\n", "path: /all\n    query: {after: \"{{ last.id }}\"}\n    paginator: {type: token}\n", 1) +
	"    reconcile: {order: key}\n"

// rack is a shelf that lists its rows by id as well, five at a time: GET /all?after=ID.
type rack struct {
	*shelf
	jam   atomic.Int64 // behind this id the list is out of order: 503; 0: it is not
	jams  atomic.Int64 // how often that was
	asked chan string  // behind which record the second process asked first
	met   bool         // it has
}

func (b *bed) rack(n int) (*rack, map[string]any) {
	shop, config := b.shelf(dated(n)...)
	k := &rack{shelf: shop, asked: make(chan string, 1)}
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != "/all" {
			return false
		}
		text := r.URL.Query().Get("after")
		if r.UserAgent() == "second" && !k.met {
			k.met = true
			k.asked <- text
		}
		after, _ := strconv.Atoi(text)
		if jam := int(k.jam.Load()); jam > 0 && after >= jam {
			k.jams.Add(1)
			answer(w, http.StatusServiceUnavailable, map[string]any{})
			return true
		}
		rows := slices.DeleteFunc(slices.Clone(k.rows), func(r map[string]any) bool { return r["id"].(int) <= after })
		slices.SortFunc(rows, func(x, y map[string]any) int { return x["id"].(int) - y["id"].(int) })
		page := map[string]any{"data": rows[:min(5, len(rows))]}
		if len(rows) > 5 {
			page["next"] = rows[4]["id"]
		}
		answer(w, http.StatusOK, page)
		return true
	})
	return k, config
}

// window is what Kafka holds of the listing's progress; false where there is none.
func (b *bed) window() (cdc.Window, bool) {
	text, ok := b.state()["window/c/things/-/0"]
	if !ok {
		return cdc.Window{}, false
	}
	w, err := offsets.Decode[cdc.Window]([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	return w, true
}

// foundBy is the generation of the listing that first found a key missing.
func (b *bed) foundBy(key string) int64 {
	c, err := offsets.Decode[offsets.Candidate]([]byte(b.past("candidate/c/things/" + key)[0]))
	if err != nil {
		b.Fatal(err)
	}
	return c.Generation
}

// hasty makes windows small, and a second listing count early; the requests say which process asks.
func hasty(agent string) func(*capture.Options) {
	return func(o *capture.Options) {
		o.Window, o.Confirm, o.Fetch.UserAgent = time.Nanosecond, 400*time.Millisecond, agent
	}
}

// jammed runs a connection until a listing that misses 3 and 70 of 100 has come to a halt behind 51, and a window says how far it got.
func (b *bed) jammed(k *rack, s settings) *connector {
	b.Helper()
	c := b.start(s)
	c.passes(1)
	c.listings(2)
	c.end()
	k.drop(3)
	k.drop(70)
	k.jam.Store(51)
	s.change = hasty("first")
	c = b.start(s)
	b.until("a window that misses 3", func() bool { w, ok := b.window(); return ok && slices.Equal(w.Missing, []string{"3"}) },
		func() any { w, _ := b.window(); return w })
	b.until("the end of the way", func() bool { return k.jams.Load() > 0 })
	return c
}

// cutShort is a connection whose listing was cut short, with the window that it left.
func cutShort(t *testing.T, definition string) (*bed, *rack, settings, cdc.Window) {
	t.Helper()
	b := lay(t)
	k, config := b.rack(100)
	s := settings{definition: definition, config: config}
	b.jammed(k, s).end()
	w, _ := b.window()
	return b, k, s, w
}

// goesOn starts a second process and returns behind which record its listing asks first.
func (b *bed) goesOn(k *rack, s settings) (*connector, string) {
	b.Helper()
	k.jam.Store(0)
	s.change = hasty("second")
	c := b.start(s)
	return c, <-k.asked
}

// TestD3ListingByKeyGoesOn: D3. a listing in the order of the key goes on after a crash where it was, and so does a snapshot; what
// it had not shown by then is missing, and nothing else is.
func TestD3ListingByKeyGoesOn(t *testing.T) {
	for name, definition := range map[string]string{
		"listing":  byKey,
		"snapshot": alone,
		"tokens":   strings.NewReplacer("{{ last.id }}", "{{ page_token }}", "{type: token}", "{type: token, next: next, stable: true}").Replace(byKey),
	} {
		t.Run(name, func(t *testing.T) {
			b, k, s, w := cutShort(t, definition)
			c, after := b.goesOn(k, s)
			if after != w.Last {
				t.Errorf("the listing goes on behind %q, not behind %s", after, w.Last)
			}
			c.await("the deletions", func(s capture.Status) bool { return len(s.Streams) == 1 && counts(s).Deleted == 2 })
			c.end()
			if got := b.tombstones("things"); !slices.Equal(got, []string{"3", "70"}) {
				t.Errorf("tombstones of %q", got)
			}
			if before, behind := b.foundBy("3"), b.foundBy("70"); before != behind {
				t.Errorf("the listing that went on found 70 missing (%d), and not 3 (%d)", behind, before)
			}
			if past := b.past("candidate/c/things/1"); len(past) > 0 {
				t.Errorf("a record that was shown before the crash is missing: %q", past)
			}
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestD3WindowEndsWithItsListing: D3, D7. no other listing goes on from where one that has ended was.
func TestD3WindowEndsWithItsListing(t *testing.T) {
	b := lay(t)
	k, config := b.rack(30)
	s := settings{definition: strings.Replace(byKey, "every: 300ms", "every: 1h", 1), config: config, change: hasty("first")}
	c := b.start(s)
	c.passes(1)
	c.order("now", offsets.List, "things", 0)
	c.listings(0)
	b.until("no window", func() bool { _, ok := b.window(); return !ok })
	c.end()
	c, after := b.goesOn(k, settings{definition: byKey, config: config})
	if c.end(); after != "" {
		t.Errorf("the next listing begins behind %q", after)
	}
}

// TestD3SightingsShrinkTheWindow: D3, (4). what an incremental pass shows while a listing is cut is not missing from it: its cursor has
// passed it, and nothing shows it again.
func TestD3SightingsShrinkTheWindow(t *testing.T) {
	b := lay(t)
	k, config := b.rack(100)
	s := settings{definition: byKey, config: config}
	c := b.jammed(k, s)
	k.put(row(3, "at", "2026-02-01T00:00:00Z"))
	b.until("nothing missing", func() bool { w, ok := b.window(); return ok && len(w.Missing) == 0 })
	c.end()
	c, after := b.goesOn(k, s)
	c.await("the deletion", func(s capture.Status) bool { return len(s.Streams) == 1 && counts(s).Deleted == 1 })
	c.end()
	if got := b.tombstones("things"); after == "" || !slices.Equal(got, []string{"70"}) {
		t.Errorf("behind %q: tombstones of %q", after, got)
	}
	if past := b.past("candidate/c/things/3"); len(past) > 0 {
		t.Errorf("a record that was seen is a candidate: %q", past)
	}
}

// TestP23WindowOfAnotherListing: P23. under another filter what a listing had shown says nothing.
func TestP23WindowOfAnotherListing(t *testing.T) {
	b, k, s, _ := cutShort(t, byKey)
	s.definition += "    filter: record.id != 60\n"
	c, after := b.goesOn(k, s)
	if c.end(); after != "" {
		t.Errorf("the listing under another filter begins behind %q", after)
	}
}

// TestD3WindowOutlastsAnIncrementalPass: D3. what fails in a pass that lists nothing says nothing of how far the listing beside it is.
func TestD3WindowOutlastsAnIncrementalPass(t *testing.T) {
	b, k, s, w := cutShort(t, byKey)
	var refused atomic.Bool
	all := k.spoil
	k.break_(func(rw http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path != "/all" && !refused.Swap(true) {
			answer(rw, http.StatusGone, map[string]any{})
			return true
		}
		return all(rw, r, n)
	})
	k.jam.Store(51)
	s.change = hasty("between")
	c := b.start(s)
	c.passes(1)
	c.end()
	if now, ok := b.window(); !refused.Load() || !ok || !now.Began.Equal(w.Began) {
		t.Errorf("refused %v, the window %+v is %+v", refused.Load(), w, now)
	}
}

// TestD3SnapshotBeginsAnewWhereItsTokenIsDead: D3, P17. what a window goes on with may be what is wrong: a snapshot that would halt for
// it begins anew.
func TestD3SnapshotBeginsAnewWhereItsTokenIsDead(t *testing.T) {
	b, k, s, w := cutShort(t, alone)
	all := k.spoil
	k.break_(func(rw http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Query().Get("after") == w.Last && r.UserAgent() == "second" && !k.met {
			k.met = true
			k.asked <- w.Last
			answer(rw, http.StatusBadRequest, map[string]any{"error": "no such place"})
			return true
		}
		return all(rw, r, n)
	})
	c, after := b.goesOn(k, s)
	c.await("the deletions", func(s capture.Status) bool {
		return len(s.Streams) == 1 && (counts(s).Deleted == 2 || s.Streams[0].Halted != "")
	})
	c.end()
	if got := b.tombstones("things"); after != w.Last || !slices.Equal(got, []string{"3", "70"}) {
		t.Errorf("behind %q: tombstones of %q", after, got)
	}
}

// TestD3CutListingGoesOnAtOnce: D3. a listing that a crash has cut goes on when the next process begins, whenever the next one would
// be due.
func TestD3CutListingGoesOnAtOnce(t *testing.T) {
	b, k, s, w := cutShort(t, byKey)
	s.definition = strings.Replace(byKey, "every: 300ms", "every: 24h", 1)
	c, after := b.goesOn(k, s)
	if c.end(); after != w.Last {
		t.Errorf("behind %q, not behind %s", after, w.Last)
	}
}

// TestD3WindowOfLongAgo: D3. a listing that has lain still for more than an hour begins anew: who was missing may be back.
func TestD3WindowOfLongAgo(t *testing.T) {
	b, k, s, w := cutShort(t, byKey)
	w.At = w.At.Add(-61 * time.Minute)
	value, err := offsets.Encode(w)
	if err != nil {
		t.Fatal(err)
	}
	b.forge("window/c/things/-/0", value)
	c, after := b.goesOn(k, s)
	if c.end(); after != "" {
		t.Errorf("the listing of an hour ago goes on behind %q", after)
	}
}
