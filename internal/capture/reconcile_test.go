package capture_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// listed is the feed with a listing every now and then, and a lookup.
const listed = feed + "    reconcile: {every: 300ms, lookup: {path: \"/things/{{ key.id }}\"}}\n"

// unasked is the same without a lookup.
const unasked = feed + "    reconcile: {every: 300ms}\n"

// soon makes a second complete listing count early.
func soon(o *capture.Options) { o.Confirm = 400 * time.Millisecond }

// dated are n rows of the feed.
func dated(n int) []map[string]any {
	var all []map[string]any
	for i := range n {
		all = append(all, row(i+1, "at", fmt.Sprintf("2026-01-01T00:%02d:%02dZ", i/60, i%60)))
	}
	return all
}

// ids are those of dated rows.
func ids(first, last int) []any {
	var all []any
	for id := first; id <= last; id++ {
		all = append(all, id)
	}
	return all
}

// tombstones are the keys that were deleted, sorted, once for each time.
func (b *bed) tombstones(stream string) []string {
	b.Helper()
	var keys []string
	for _, r := range b.read("test.c." + stream) {
		if isTombstone(r) {
			keys = append(keys, string(r.Key))
		}
	}
	slices.Sort(keys)
	return keys
}

// grave gives the tombstone of a key.
func (b *bed) grave(stream, key string) kafka.Record {
	b.Helper()
	for _, r := range b.read("test.c." + stream) {
		if isTombstone(r) && string(r.Key) == key {
			return r
		}
	}
	b.Fatalf("no tombstone of %s/%s", stream, key)
	return kafka.Record{}
}

// order gives the owner a command, which holds for an hour.
func (c *connector) order(id string, do offsets.CommandKind, stream string, n int64) {
	now := time.Now().UTC()
	c.Order(id, offsets.Command{Do: do, Connection: "c", Stream: stream, N: n, Author: "me", At: now, Expires: now.Add(time.Hour)})
}

// listings waits until n more listings of the stream were complete.
func (c *connector) listings(n int) {
	c.Helper()
	var last time.Time
	c.await(fmt.Sprintf("%d more complete listings", n), func(s capture.Status) bool {
		if len(s.Partitions) == 0 {
			return false
		}
		if at := s.Partitions[0].Listing.Complete; at.After(last) {
			last = at
			n--
		}
		return n < 0
	})
}

// TestD4SecondPassConfirms: what two complete listings of a snapshot, which every pass of it is (D10), do not show is deleted, with
// reason, generation and the time it was last seen; a record that comes back is created.
func TestD4SecondPassConfirms(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	s := settings{definition: things, config: config, change: soon}
	c := b.start(s)
	c.passes(2)
	shop.drop(7)
	gone := time.Now()
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	shop.put(dated(7)[6])
	c.await("its return", func(s capture.Status) bool { return counts(s).Created == 1 })
	c.passes(2)
	c.end()
	r := b.grave("things", "7")
	seen, err := time.Parse(time.RFC3339Nano, header(r, "ce_lastseen"))
	if header(r, "ce_reason") != "reconciled" || header(r, "ce_generation") == "" || header(r, "ce_op") != "d" || err != nil || seen.After(gone) {
		t.Errorf("the tombstone says %q", r.Headers)
	}
	if got := b.tombstones("things"); !slices.Equal(got, []string{"7"}) {
		t.Errorf("tombstones %q", got)
	}
	if past := b.past("candidate/c/things/7"); len(past) != 2 || past[1] != "" {
		t.Errorf("the candidate's past: %q", past)
	}
	b.audit(b.sourceOf(s), false)
}

// TestD4OnePassIsNotEnough: a listing that misses a record once deletes nothing (D4): it is there again the next time.
func TestD4OnePassIsNotEnough(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: things, config: config, change: func(o *capture.Options) { o.Confirm = time.Hour }})
	c.passes(2)
	shop.drop(7)
	c.await("a candidate", func(s capture.Status) bool { return s.Streams[0].Candidates == 1 })
	shop.put(dated(7)[6])
	c.await("its sighting", func(s capture.Status) bool { return s.Streams[0].Candidates == 0 })
	c.passes(3)
	c.end()
	if got := b.lines("things"); len(got) != 30 {
		t.Errorf("events: %q", got)
	}
}

// TestD4LookupConfirms: D4. a record that vanished is looked up, beside one that was just seen, and deleted on its 404.
func TestD4LookupConfirms(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	s := settings{definition: listed, config: config}
	c := b.start(s)
	c.listings(1)
	shop.drop(3, 9, 30) // the last one is the record at the cursor
	c.await("the deletions", func(s capture.Status) bool { return counts(s).Deleted == 3 })
	c.listings(2)
	c.end()
	if got := b.tombstones("things"); !slices.Equal(got, []string{"3", "30", "9"}) {
		t.Errorf("tombstones %q", got)
	}
	b.audit(b.sourceOf(s), false)
}

// TestD4AliveButUnlisted: D4. what the listing leaves out and the lookup finds is alive: shown, and not deleted.
func TestD4AliveButUnlisted(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: listed, config: config})
	c.listings(1)
	hidden := dated(3)[2]
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch r.URL.Path {
		case "/things/3":
			answer(w, 200, map[string]any{"data": hidden})
			return true
		default:
			return false
		}
	})
	shop.drop(3)
	c.await("an unlisted record", func(s capture.Status) bool { return s.Partitions[0].Listing.Unlisted == 1 })
	c.listings(3)
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, which is alive", got)
	}
}

// TestD4MovedEndpoint: D4. where every lookup answers 404, that of a record which was just listed too, nothing is confirmed.
func TestD4MovedEndpoint(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: listed, config: config})
	c.listings(1)
	asked := 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasPrefix(r.URL.Path, "/things/") {
			asked++
			answer(w, 404, map[string]any{"error": "no such path"})
			return true
		}
		return false
	})
	shop.drop(3)
	c.await("a candidate", func(s capture.Status) bool { return s.Streams[0].Candidates == 1 })
	c.until("the lookups to be given up", func() bool { return strings.Contains(c.log.String(), "not even a record that was just listed") })
	c.listings(2)
	c.end()
	got := b.tombstones("things")
	shop.locked(func() {
		if len(got) > 0 || asked < 2 {
			t.Errorf("tombstones of %q after %d lookups", got, asked)
		}
	})
}

// TestD4EndpointMovesWhileAsked: D4. an endpoint that moves in the midst of a batch has still found the record that must be found,
// and finds none of the candidates any more: so that record is asked for before the batch and behind it.
func TestD4EndpointMovesWhileAsked(t *testing.T) {
	b := lay(t)
	shop, _ := b.shelf(dated(30)...)
	moved, once := make(chan struct{}), sync.Once{}
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, "/things/"):
			shop.ServeHTTP(w, r)
		case r.URL.Path == "/things/3": // it is there, and the list does not show it
			select {
			case <-moved:
			case <-time.After(patience):
			}
			answer(w, 404, map[string]any{"error": "no such path"})
		default:
			select {
			case <-moved:
				answer(w, 404, map[string]any{"error": "no such path"})
			default:
				shop.ServeHTTP(w, r)
				once.Do(func() { close(moved) })
			}
		}
	}))
	c := b.start(settings{definition: listed, config: map[string]any{"url": url}})
	c.listings(1)
	shop.drop(3)
	c.until("the lookups to be given up", func() bool {
		return strings.Contains(c.log.String(), "not even a record that was just listed") || counts(c.look()).Deleted > 0
	})
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, which is there", got)
	}
}

// TestD4WebPageIsNo404: D4. a proxy's page with 404 is not the API's own word.
func TestD4WebPageIsNo404(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: listed, config: config})
	c.listings(1)
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/things/3" {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			fmt.Fprint(w, "<html>not here</html>")
			return true
		}
		return false
	})
	shop.drop(3)
	c.await("a candidate", func(s capture.Status) bool { return s.Streams[0].Candidates == 1 })
	c.listings(2)
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q", got)
	}
}

// TestD2IncompleteDeletesNothing: D2. a listing that an error ends decides nothing, is counted, and after some of them raises
// the alarm; the incremental passes go on, and nothing halts.
func TestD2IncompleteDeletesNothing(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: strings.Replace(unasked, "every: 300ms", "every: 300ms, listing: {path: /all, paginator: {type: none}}", 1), config: config, change: soon})
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/all" {
			answer(w, 403, map[string]any{"error": "no"})
			return true
		}
		return false
	})
	c.passes(1)
	shop.drop(3)
	st := c.await("the alarm", func(s capture.Status) bool { return s.Partitions[0].Listing.Alarm })
	if l := st.Partitions[0].Listing; !strings.Contains(l.Why, "403") || l.Failed < 3 {
		t.Errorf("it says %+v", l)
	}
	shop.put(row(31, "at", "2026-01-01T01:00:00Z"))
	c.await("the incremental passes", func(s capture.Status) bool { return counts(s).Created == 1 })
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q", got)
	}
}

// TestD5GuardAndApproval: D5, D6. more than 20 and more than 5 % are withheld, everything else flows; after an approval and
// another complete listing they go, and no more than was shown.
func TestD5GuardAndApproval(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(100)...)
	s := settings{definition: listed, config: config}
	c := b.start(s)
	c.listings(1)
	shop.drop(ids(1, 30)...)
	st := c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 30 })
	if x := st.Streams[0]; len(x.Sample) == 0 || !strings.Contains(st.Partitions[0].Listing.Held, "30 deletions") {
		t.Errorf("it shows %+v %+v", x, st.Partitions[0].Listing)
	}
	shop.put(row(101, "at", "2026-01-01T01:00:00Z"))
	c.await("the changes", func(s capture.Status) bool { return counts(s).Created == 1 })
	command := func(id string, do offsets.CommandKind, n int64) offsets.Outcome {
		c.order(id, do, "things", n)
		return b.outcome(id)
	}
	if o := command("dry", offsets.DryRun, 0); len(o.Partitions) != 1 || o.Partitions[0].Missing != 30 || len(o.Partitions[0].Sample) == 0 || o.Partitions[0].Held == "" {
		t.Errorf("the dry run says %+v", o)
	}
	if o := command("few", offsets.Approve, 29); !strings.Contains(o.Error, "more than 29") {
		t.Errorf("an approval of fewer says %+v", o)
	}
	if got := b.tombstones("things"); len(got) > 0 {
		t.Fatalf("tombstones of %q before the approval", got)
	}
	if o := command("all", offsets.Approve, 30); o.Error != "" || len(o.Partitions) != 1 {
		t.Errorf("the approval says %+v", o)
	}
	c.await("the deletions", func(s capture.Status) bool { return counts(s).Deleted == 30 && s.Streams[0].Withheld == 0 })
	shop.drop(ids(41, 50)...)
	c.await("the next to be withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 10 })
	c.listings(2)
	c.end()
	if got := b.tombstones("things"); len(got) != 30 {
		t.Errorf("%d tombstones, approved were 30", len(got))
	}
	b.audit(b.sourceOf(s), false)
}

// outcome waits for what became of a command.
func (b *bed) outcome(id string) offsets.Outcome {
	b.Helper()
	var found offsets.Outcome
	b.until("the outcome of "+id, func() bool {
		for _, r := range b.read("test.controls") {
			c, err := offsets.Decode[offsets.Command](r.Value)
			if err != nil {
				b.Fatal(err)
			}
			if string(r.Key) == id && c.Outcome != nil {
				found = *c.Outcome
				return true
			}
		}
		return false
	})
	return found
}

// TestD5EmptyListing: D5. an empty listing deletes nothing of itself, however few there were.
func TestD5EmptyListing(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(5)...)
	c := b.start(settings{definition: things, config: config, change: soon})
	c.passes(1)
	shop.drop(ids(1, 5)...)
	st := c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 5 })
	if held := st.Partitions[0].Listing.Held; !strings.Contains(held, "empty") {
		t.Errorf("it says %q", held)
	}
	c.passes(6)
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q", got)
	}
}

// TestD6ApprovalOfEverything: D6. when nothing is left upstream no lookup can be proven by what is there (D4), so what is missing is
// withheld as of an empty listing (D5), and goes with an approval.
func TestD6ApprovalOfEverything(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(5)...)
	s := settings{definition: listed, config: config}
	c := b.start(s)
	c.listings(2)
	shop.drop(ids(1, 5)...)
	c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 5 })
	c.order("all", offsets.Approve, "things", 5)
	c.await("the deletions", func(s capture.Status) bool { return counts(s).Deleted == 5 })
	c.end()
	if got := b.tombstones("things"); len(got) != 5 {
		t.Errorf("tombstones of %q", got)
	}
	b.audit(b.sourceOf(s), false)
}

// TestD5EmptyListingIsNoWitness: D5, D4. an empty listing is not believed, so it is no first pass that a second one could confirm:
// what the next listing leaves out once is not deleted.
func TestD5EmptyListingIsNoWitness(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	const confirm = time.Second
	c := b.start(settings{definition: things, config: config, change: func(o *capture.Options) { o.Confirm = confirm }})
	c.passes(1)
	var since time.Time
	withheld, left := false, 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if since.IsZero() {
			since = time.Now()
		}
		rows := shop.rows[:0:0]
		if withheld && time.Since(since) > 2*confirm && left < 1 {
			left++
			rows = shop.rows[1:]
		} else if left > 0 {
			rows = shop.rows
		}
		answer(w, 200, map[string]any{"data": rows})
		return true
	})
	c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 30 })
	shop.locked(func() { withheld = true })
	c.await("their return", func(s capture.Status) bool { return s.Streams[0].Withheld+s.Streams[0].Candidates == 0 })
	c.passes(2)
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, on the word of one listing", got)
	}
}

// TestD5EmptyWalkAfterDrift: D5, P9. a pass whose pages moved is walked again; where that walk shows nothing the listing is empty,
// whatever the walk before it has shown.
func TestD5EmptyWalkAfterDrift(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	paged := strings.Replace(things, "path: /things\n", "path: /things\n    query: {page: \"{{ page }}\"}\n    paginator: {type: page}\n", 1)
	trouble, walks := false, 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		n, _ := strconv.Atoi(r.URL.Query().Get("page"))
		if trouble && n == 1 {
			walks++
		}
		var rows []map[string]any
		switch {
		case walks%2 == 1 && n == 1: // without the first row
			rows = shop.rows[1:20]
		case walks%2 == 1 && n == 2: // and with one that page 1 has shown
			rows = shop.rows[19:]
		case !trouble && n <= 2:
			rows = shop.rows[(n-1)*15 : n*15]
		}
		answer(w, http.StatusOK, map[string]any{"data": append([]map[string]any{}, rows...)})
		return true
	})
	c := b.start(settings{definition: paged, config: config, change: soon})
	c.passes(2)
	shop.locked(func() { trouble = true })
	c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 1 })
	c.passes(6)
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, on the word of empty listings", got)
	}
}

// TestD5DeclaredInsideTheGuard: D5. the guard holds for what upstream declares deleted too; what is beyond it waits in the
// state, survives a restart, and goes with an approval.
func TestD5DeclaredInsideTheGuard(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(100)...)
	s := settings{definition: strings.Replace(feed, "lookback: 5m", "lookback: 0s", 1) + "    delete: record.gone ?? false\n", config: config}
	c := b.start(s)
	c.passes(1)
	var gone []map[string]any
	for i := range 40 {
		gone = append(gone, row(i+1, "gone", true, "at", fmt.Sprintf("2026-01-02T00:00:%02dZ", i)))
	}
	shop.put(gone...)
	c.await("what is withheld", func(s capture.Status) bool { return counts(s).Deleted == 20 && s.Streams[0].Withheld == 20 })
	c.end()
	c = b.start(s)
	c.await("the same after a restart", func(s capture.Status) bool { return len(s.Streams) == 1 && s.Streams[0].Withheld == 20 })
	c.passes(2)
	if got := b.tombstones("things"); len(got) != 20 {
		t.Errorf("%d tombstones inside the guard of 20", len(got))
	}
	c.order("yes", offsets.Approve, "things", 20)
	c.await("the rest", func(s capture.Status) bool { return counts(s).Deleted == 20 && s.Streams[0].Withheld == 0 })
	c.end()
	if got := b.tombstones("things"); len(got) != 40 || len(slices.Compact(got)) != 40 {
		t.Errorf("%d tombstones of 40 keys", len(got))
	}
	b.audit(b.sourceOf(s), false)
}

// TestP23ChangedListingWaits: P23. after a change of the filter two complete listings have to agree before anything is deleted,
// whatever a lookup says.
func TestP23ChangedListingWaits(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: listed, config: config})
	c.listings(2)
	c.end()
	shop.drop(3)
	s := settings{definition: strings.Replace(listed, "every: 300ms", "every: 24h", 1) + "    filter: record.id > 0\n", config: config}
	c = b.start(s)
	c.order("one", offsets.List, "things", 0)
	c.await("a candidate", func(s capture.Status) bool { return len(s.Streams) == 1 && s.Streams[0].Candidates == 1 })
	c.passes(3) // lookups are asked in turns with them
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q after one listing under a new filter", got)
	}
	c.order("two", offsets.List, "things", 0)
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP23CandidateOfAnotherListing: P23. a candidate that listings under another filter, or another credential, found is not asked
// for before two listings under the new one agree: who asks now may see less, and every lookup would confirm what is not so.
func TestP23CandidateOfAnotherListing(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: listed, config: config})
	c.listings(2)
	before, after := 0, 0 // by who asks: a lookup that the end of the first cut off may reach the server late
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != "/things/3" {
			return false
		}
		if r.UserAgent() == "second" {
			after++
			answer(w, http.StatusNotFound, map[string]any{})
		} else {
			before++
			answer(w, http.StatusServiceUnavailable, map[string]any{})
		}
		return true
	})
	shop.drop(3)
	c.await("a candidate", func(s capture.Status) bool { return len(s.Streams) == 1 && s.Streams[0].Candidates == 1 })
	c.listings(1)
	c.end()
	s := settings{definition: strings.Replace(listed, "every: 300ms", "every: 24h", 1) + "    filter: record.id > 0\n", config: config}
	s.change = func(o *capture.Options) { o.Fetch.UserAgent = "second" }
	c = b.start(s)
	c.passes(5)
	c.end()
	got := b.tombstones("things")
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if len(got) > 0 || before == 0 || after > 0 {
		t.Errorf("tombstones of %q; asked %d times before the filter changed, %d times after it", got, before, after)
	}
}

// TestD3CandidatesSurviveARestart: D4. the candidates wait in the state: a process that begins anew goes on with them.
func TestD3CandidatesSurviveARestart(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	s := settings{definition: things, config: config, change: func(o *capture.Options) { o.Confirm = time.Hour }}
	c := b.start(s)
	c.passes(2)
	shop.drop(3)
	c.await("a candidate", func(s capture.Status) bool { return s.Streams[0].Candidates == 1 })
	c.end()
	found := b.state()["candidate/c/things/3"]
	s.change = soon
	c = b.start(s)
	c.await("the deletion", func(s capture.Status) bool { return len(s.Streams) == 1 && counts(s).Deleted == 1 })
	c.end()
	if past := b.past("candidate/c/things/3"); len(past) != 2 || past[0] != found {
		t.Errorf("the candidate was found again: %q", past)
	}
	b.audit(b.sourceOf(s), false)
}

// TestD4SecondListingOfEveryPartition: D4, P24. where partitions share their keys each of them is listed a second time, soon, and none
// of them without a pause until the others have been.
func TestD4SecondListingOfEveryPartition(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	rows := map[string][]map[string]any{"/things/one": dated(3), "/things/two": dated(2)}
	listings := map[string]int{}
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		since := r.URL.Query().Get("since")
		if since == "" {
			listings[r.URL.Path]++
		}
		some := slices.DeleteFunc(slices.Clone(rows[r.URL.Path]), func(r map[string]any) bool { return r["at"].(string) < since })
		answer(w, http.StatusOK, map[string]any{"data": some, "size": 100})
	}))
	c := b.start(settings{config: map[string]any{"url": url}, change: soon, definition: strings.NewReplacer("every: 300ms", "every: 1h", "path: /things\n",
		"path: /things/{{ partition.view }}\n    partition: {view: [one, two]}\n    key_scope: stream\n").Replace(unasked)})
	c.passes(1)
	c.order("before", offsets.List, "things", 0)
	b.outcome("before")
	mu.Lock()
	rows["/things/one"] = dated(2)
	mu.Unlock()
	c.order("look", offsets.List, "things", 0)
	b.outcome("look")
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	if got := b.tombstones("things"); !slices.Equal(got, []string{"3"}) {
		t.Errorf("tombstones of %q", got)
	}
	for path, n := range listings {
		if n > 40 { // the first pass, two by command, and the seconds: several, where the other one is slow
			t.Errorf("%d listings of %s", n, path)
		}
	}
}

// TestD2SecondListingThatFailsWaits: D2, P22. a second listing that is due and fails is not made again at once, and again.
func TestD2SecondListingThatFailsWaits(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: strings.Replace(unasked, "every: 300ms", "every: 1h", 1), config: config, change: soon})
	c.passes(1)
	var listings atomic.Int64
	shop.drop(3)
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Query().Get("since") != "" || listings.Add(1) == 1 {
			return false
		}
		answer(w, http.StatusForbidden, map[string]any{})
		return true
	})
	c.order("look", offsets.List, "things", 0)
	c.await("a listing that fails", func(s capture.Status) bool { return s.Partitions[0].Listing.Failed > 0 })
	c.passes(10)
	c.end()
	if n := listings.Load(); n != 2 {
		t.Errorf("%d listings, of which all but the first failed", n)
	}
}

// TestD4SecondListingComesSoon: D4. what a listing did not show waits for a second one, and that is planned for it, not for the next
// day.
func TestD4SecondListingComesSoon(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	s := settings{definition: strings.Replace(unasked, "every: 300ms", "every: 24h", 1), config: config, change: soon}
	c := b.start(s)
	c.passes(2)
	shop.drop(3)
	c.order("look", offsets.List, "things", 0)
	b.outcome("look")
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP1ListingHasOneTurnAtATime: P1. a pass that ends while a listing waits for its turn, or reads, does not have the listing asked
// for once more: its turns would be more with each pass, and the passes would wait for them.
func TestP1ListingHasOneTurnAtATime(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	asked := 0
	shop.break_(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Query().Get("since") == "" {
			asked++
		}
		<-time.After(150 * time.Millisecond) // so that a pass is under way when a listing is due
		return false
	})
	c := b.start(settings{definition: unasked, config: config})
	c.listings(6)
	c.end()
	begun := 1 + strings.Count(c.log.String(), "listing begins") // the first pass is one
	shop.locked(func() {
		if asked > begun {
			t.Errorf("%d listings of one page, and %d requests for it", begun, asked)
		}
	})
}

// TestD1DeclaredListing: D1. a feed whose own request cannot list everything says how that is done; the totals must agree, and
// a listing as long as its cap is not complete.
func TestD1DeclaredListing(t *testing.T) {
	for name, c := range map[string]struct {
		total int
		cap   string
		why   string // "": complete
	}{
		"complete":    {29, "", ""},
		"other total": {28, "", "shows 29 keys and says that there are 28"},
		"capped":      {29, ", cap: 29", "cut off at 29"},
	} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			shop, config := b.shelf(dated(30)...)
			definition := feed + "    reconcile: {every: 300ms, total: count" + c.cap + ", listing: {path: /all, query: {page: \"{{ page }}\"}, paginator: {type: page}}}\n"
			shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != "/all" {
					return false
				}
				rows := []map[string]any{}
				if page := int(r.URL.Query().Get("page")[0] - '0'); page <= 3 {
					rows = append(rows, shop.rows[min((page-1)*10, len(shop.rows)):min(page*10, len(shop.rows))]...)
				}
				answer(w, 200, map[string]any{"data": rows, "count": c.total})
				return true
			})
			s := settings{definition: definition, config: config, change: soon}
			n := b.start(s)
			n.passes(1)
			shop.drop(3)
			if c.why == "" {
				n.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
				n.end()
				b.audit(b.sourceOf(s), false)
				return
			}
			st := n.await("an incomplete listing", func(s capture.Status) bool {
				return s.Partitions[0].Listing.Failed > 1 && !strings.Contains(s.Partitions[0].Listing.Why, "30 keys")
			})
			if why := st.Partitions[0].Listing.Why; !strings.Contains(why, c.why) {
				t.Errorf("it says %q, want %q", why, c.why)
			}
			n.end()
			if got := b.tombstones("things"); len(got) > 0 {
				t.Errorf("tombstones of %q", got)
			}
		})
	}
}

// TestD10Conditional: D10. a snapshot of one page is asked for conditionally; the answer that nothing has changed publishes and
// deletes nothing, what changes is read, and what vanishes is deleted.
func TestD10Conditional(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	unchanged := 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		tag := fmt.Sprintf("%q", fmt.Sprint(shop.rows))
		w.Header().Set("ETag", tag[:min(len(tag), 60)]+fmt.Sprint(len(shop.rows))+`"`)
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			unchanged++
			w.WriteHeader(http.StatusNotModified)
			return true
		}
		return false
	})
	s := settings{definition: things, config: config, change: soon}
	c := b.start(s)
	c.passes(5)
	shop.drop(3)
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	shop.put(row(99, "at", "x"))
	c.await("the new one", func(s capture.Status) bool { return counts(s).Created == 1 })
	c.passes(4)
	c.end()
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if unchanged < 2 {
		t.Errorf("%d answers said that nothing had changed", unchanged)
	}
	if got := b.tombstones("things"); !slices.Equal(got, []string{"3"}) {
		t.Errorf("tombstones %q", got)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP24SharedKeysNeedEveryPartition: P24. with one hash for all partitions a key is missing when a complete pass of every one
// did not show it.
func TestP24SharedKeysNeedEveryPartition(t *testing.T) {
	b := lay(t)
	var leftOne, leftTwo atomic.Bool
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rows := []any{row(9, "v", "x")}
		if r.URL.Path == "/things/one" && !leftOne.Load() || r.URL.Path == "/things/two" && !leftTwo.Load() {
			rows = append(rows, row(1, "v", "a"))
		}
		answer(w, 200, map[string]any{"data": rows})
	}))
	s := settings{config: map[string]any{"url": url}, change: soon, definition: strings.Replace(things, "path: /things\n",
		"path: /things/{{ partition.view }}\n    partition: {view: [one, two]}\n    key_scope: stream\n", 1)}
	c := b.start(s)
	c.passes(2)
	leftOne.Store(true)
	c.passes(6)
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, which the other partition shows", got)
	}
	leftTwo.Store(true)
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestD5EmptyPartitionOfSharedKeys: D5. where partitions share their keys, one that is suddenly empty is no witness for the verdict of
// another, nor after a restart; one that was always empty holds nothing back.
func TestD5EmptyPartitionOfSharedKeys(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	rows := map[string][]any{"/things/one": {row(1, "v", "a"), row(2, "v", "b")}, "/things/two": {row(3, "v", "c")}, "/things/three": {}}
	set := func(path string, to ...any) {
		mu.Lock()
		defer mu.Unlock()
		rows[path] = to
	}
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		answer(w, 200, map[string]any{"data": append([]any{}, rows[r.URL.Path]...)})
	}))
	s := settings{config: map[string]any{"url": url}, change: soon, definition: strings.Replace(things, "path: /things\n",
		"path: /things/{{ partition.view }}\n    partition: {view: [one, two, three]}\n    key_scope: stream\n", 1)}
	c := b.start(s)
	c.passes(3)
	set("/things/two")
	c.passes(3)
	c.end()
	c = b.start(s)
	c.passes(8)
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, which an empty answer did not show", got)
	}
	if held := c.look().Partitions[0].Listing.Held; !strings.Contains(held, "the listing of view=two is empty") {
		t.Errorf("held because %q", held)
	}
	set("/things/two", row(3, "v", "c"))
	set("/things/one", row(1, "v", "a"))
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	if got := b.tombstones("things"); !slices.Equal(got, []string{"2"}) {
		t.Errorf("tombstones %q", got)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP21ParentComesBack: P21. what belonged to a parent that was deleted comes back with it and may lie behind the cursor of its
// partition: that is read from its beginning, and not from there on. What comes back as it was is no newer than its grave (D7), and
// waits for a second complete pass, which comes soon (P14).
func TestP21ParentComesBack(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1), row(2))
	api.list("/events/1/items", row("x", "at", "2026-01-01T00:00:00Z"))
	api.list("/events/2/items", row("x", "at", "2026-01-01T00:00:00Z"), row("y", "at", "2026-01-01T00:00:00Z"), row("z", "at", "2026-01-03T00:00:00Z"))
	s := settings{definition: galaWith("", "", "query: {since: \"{{ cursor }}\"}\n    incremental: {cursor_field: at, format: rfc3339, lookback: 0s}\n"+
		"    reconcile: {every: 24h, orphans: delete}"), config: config, change: soon}
	c := b.begin(s)
	b.has("items", `[2,"z"] r {"at":"2026-01-03T00:00:00Z","id":"z"}`)
	c.read("items", "event=2", 2)
	api.list("/events", row(1))
	c.await("the children's deletion", func(s capture.Status) bool { return len(s.Streams) == 2 && s.Streams[1].Counts.Deleted == 3 })
	c.end()
	c = b.begin(s)
	api.list("/events/2/items", row("x", "at", "2026-01-01T00:00:00Z"), row("y", "at", "2026-01-02T00:00:00Z"))
	api.list("/events", row(1), row(2))
	b.has("items", `[2,"y"] c {"at":"2026-01-02T00:00:00Z","id":"y"}`) // newer than its grave, older than the cursor
	b.has("items", `[2,"x"] c {"at":"2026-01-01T00:00:00Z","id":"x"}`)
	c.read("items", "event=2", 2)
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestD8Orphans: D8. a parent that vanished, and was confirmed to be gone, takes its children with it, keeps them, or has them
// withheld until they are approved, as the definition says; those of other parents stay.
func TestD8Orphans(t *testing.T) {
	for setting, want := range map[string]int{"delete": 30, "withhold": 0, "keep": 0} {
		t.Run(setting, func(t *testing.T) {
			b := lay(t)
			api, config := b.fair()
			api.list("/events", row(1), row(2))
			api.list("/events/1/items", row("x"))
			var items []map[string]any
			for i := range 30 { // more than the guard lets go: their parent was counted, they are not (D5)
				items = append(items, row(fmt.Sprint("y", i)))
			}
			api.list("/events/2/items", items...)
			s := settings{definition: galaWith("", "", "reconcile: {orphans: "+setting+"}"), config: config, change: soon}
			c := b.begin(s)
			b.has("items", `[2,"y29"] r {"id":"y29"}`)
			b.has("items", `[1,"x"] r {"id":"x"}`)
			api.list("/events", row(1))
			c.await("the parent's deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
			switch setting {
			case "delete":
				c.await("the children's", func(s capture.Status) bool { return s.Streams[1].Counts.Deleted == 30 })
				if r := header(b.grave("items", `[2,"y7"]`), "ce_reason"); r != "orphan" {
					t.Errorf("ce_reason %q", r)
				}
			case "withhold":
				c.await("the children to be withheld", func(s capture.Status) bool { return s.Streams[1].Withheld == 30 })
			}
			c.read("items", "event=1", 3)
			if got := b.tombstones("items"); len(got) != want {
				t.Errorf("%d tombstones, want %d", len(got), want)
			}
			if setting == "withhold" {
				c.order("yes", offsets.Approve, "items", 30)
				c.await("the approved ones", func(s capture.Status) bool { return s.Streams[1].Counts.Deleted == 30 && s.Streams[1].Withheld == 0 })
			}
			c.end()
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestD8OrphansAfterACrash: D8, D7. what an ownership has not finished the next one does: that the parents are gone stands in
// the checkpoint.
func TestD8OrphansAfterACrash(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("y"), row("z"))
	s := settings{definition: galaWith("", "", "reconcile: {orphans: keep}"), config: config, change: soon}
	c := b.begin(s)
	b.has("items", `[2,"z"] r {"id":"z"}`)
	api.list("/events", row(1))
	c.await("the parent's deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	s.definition = galaWith("", "", "reconcile: {orphans: delete}") // as if that had been cut short
	c = b.begin(s)
	c.await("the children's deletion", func(s capture.Status) bool { return s.Streams[1].Counts.Deleted == 2 })
	c.end()
	if got := b.tombstones("items"); !slices.Equal(got, []string{`[2,"y"]`, `[2,"z"]`}) {
		t.Errorf("tombstones %q", got)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP14HeldVersionLapses: P14, D7. a deleted record that a listing shows once more, as it was, is held; a complete listing that
// does not show it agrees with nothing, so it is not held for ever: shown once more long after, it would count as the third.
func TestP14HeldVersionLapses(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: unasked, config: config, change: soon})
	c.listings(1)
	shop.drop(7)
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	stale := 1
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Query().Get("since") != "" || stale == 0 {
			return false
		}
		stale--
		answer(w, 200, map[string]any{"data": dated(30), "size": 100})
		return true
	})
	c.await("a held version", func(s capture.Status) bool { return counts(s).Held == 1 })
	c.await("its end", func(s capture.Status) bool { return s.Streams[0].Held == 0 })
	c.end()
	if past := b.past("candidate/c/things/7"); len(past) == 0 || past[len(past)-1] != "" {
		t.Errorf("the candidate's past: %q", past)
	}
	if got := b.lines("things"); len(got) != 31 {
		t.Errorf("%d events", len(got))
	}
}

// TestP14BackupTakesWithheldDeletionsBackAsTheyWere: P14, D5. a record is declared deleted, the guard withholds that, and a backup
// brings it back as it was published. Nothing is published for it, and once a lookup or two complete passes agree nothing waits.
func TestP14BackupTakesWithheldDeletionsBackAsTheyWere(t *testing.T) {
	for name, lookup := range map[string]string{"passes": "", "lookup": ", lookup: {path: \"/things/{{ key.id }}\"}"} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			shop, config := b.shelf(dated(30)...)
			s := settings{config: config, change: soon,
				definition: feed + "    reconcile: {every: 300ms, guard: {records: 0, percent: 1}" + lookup + "}\n    delete: record.gone ?? false\n"}
			c := b.start(s)
			c.listings(1)
			shop.put(row(7, "at", "2026-01-03T00:00:00Z", "gone", true))
			c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 1 })
			shop.put(dated(7)[6])
			c.await("its return", func(s capture.Status) bool { return s.Streams[0].Withheld+s.Streams[0].Held == 0 })
			c.end()
			if got := b.tombstones("things"); len(got) > 0 {
				t.Errorf("tombstones of %q", got)
			}
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestP14BackupTakesWithheldDeletionsBack: P14, D5. a record is gone, or declared deleted, and the guard withholds that; then a
// backup is restored, and it is there again, older than it was. Once two complete passes agree it is published, and nothing waits
// any more: an approval would delete what is there.
func TestP14BackupTakesWithheldDeletionsBack(t *testing.T) {
	for name, leave := range map[string]func(*shelf){
		"gone":     func(s *shelf) { s.drop(7) },
		"declared": func(s *shelf) { s.put(row(7, "at", "2026-01-03T00:00:00Z", "gone", true)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			shop, config := b.shelf(dated(30)...)
			s := settings{config: config, change: soon,
				definition: feed + "    reconcile: {every: 300ms, guard: {records: 0, percent: 1}}\n    delete: record.gone ?? false\n"}
			c := b.start(s)
			c.listings(1)
			shop.put(row(7, "at", "2026-01-02T00:00:00Z"))
			c.await("a newer version", func(s capture.Status) bool { return counts(s).Updated == 1 })
			leave(shop)
			c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 1 })
			shop.put(dated(7)[6])
			c.await("its return", func(s capture.Status) bool {
				return counts(s).Updated == 2 && s.Streams[0].Withheld+s.Streams[0].Held == 0
			})
			c.end()
			if got := b.tombstones("things"); len(got) > 0 {
				t.Errorf("tombstones of %q", got)
			}
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestD6TheRestStaysGuarded: D5, D6. an approval lets go what it names, and what the same listing misses besides is withheld, with
// the reason: without one nobody would look at it again.
func TestD6TheRestStaysGuarded(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(dated(30)...)
	c := b.start(settings{definition: things + "    reconcile: {guard: {records: 0, percent: 1}}\n", config: config, change: soon})
	c.passes(1)
	shop.drop(1)
	c.await("what is withheld", func(s capture.Status) bool { return s.Streams[0].Withheld == 1 })
	shop.break_(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		answer(w, 500, map[string]any{"error": "no"})
		return true
	})
	c.order("yes", offsets.Approve, "things", 1)
	b.outcome("yes")
	shop.drop(2)
	shop.break_(nil)
	st := c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 && s.Streams[0].Withheld == 1 })
	c.end()
	if st.Streams[0].Guarded == "" || !slices.Equal(b.tombstones("things"), []string{"1"}) {
		t.Errorf("withheld for %q, tombstones %q", st.Streams[0].Guarded, b.tombstones("things"))
	}
}

// TestP20FilteredSightingsCount: P20, D4. a record outside the filter that the list shows is there: no listing counts it as missing,
// and it waits for no second one, be it kept or its deletion withheld.
func TestP20FilteredSightingsCount(t *testing.T) {
	for name, c := range map[string]struct{ lines, guard string }{
		"kept":     {"    on_leave: keep\n", "{records: 20, percent: 5}"},
		"withheld": {"", "{records: 0, percent: 1}"},
	} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			rows := dated(30)
			for i := range rows {
				rows[i]["open"] = true
			}
			shop, config := b.shelf(rows...)
			n := b.start(settings{definition: things + "    filter: record.open\n    reconcile: {guard: " + c.guard + "}\n" + c.lines, config: config,
				change: func(o *capture.Options) { o.Confirm = time.Hour }})
			n.passes(1)
			shop.drop(1)
			n.await("what is missing", func(s capture.Status) bool { return s.Streams[0].Candidates+s.Streams[0].Withheld == 1 })
			shop.put(row(1, "open", false))
			st := n.await("its sighting", func(s capture.Status) bool {
				return s.Streams[0].Candidates == 0 && s.Partitions[0].Listing.Missing == 0
			})
			n.end()
			if got := b.tombstones("things"); len(got) > 0 || name == "withheld" && st.Streams[0].Withheld != 1 {
				t.Errorf("tombstones of %q, %+v", got, st.Streams[0])
			}
		})
	}
}

// TestP24SecondPassOfEveryPartition: P24, D4. a record moves to a view that has just been listed, out of one that is listed next, and
// then the first one answers no more. However often the second is listed: the first has said once that the record is not there, so
// there is no second pass that agrees.
func TestP24SecondPassOfEveryPartition(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	armed, moved, after := false, false, 0
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		rows := []any{row(9, "v", "x")}
		switch one := r.URL.Path == "/things/one"; {
		case one && moved:
			answer(w, 500, map[string]any{"error": "no"})
			return
		case one:
			moved = armed
		case moved:
			after++
		default:
			rows = append(rows, row(1, "v", "a"))
		}
		answer(w, 200, map[string]any{"data": rows})
	}))
	s := settings{config: map[string]any{"url": url}, change: soon, definition: strings.Replace(things, "path: /things\n",
		"path: /things/{{ partition.view }}\n    partition: {view: [one, two]}\n    key_scope: stream\n", 1)}
	c := b.start(s)
	c.passes(2)
	mu.Lock()
	armed = true
	mu.Unlock()
	c.until("passes of the other view", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return after >= 15
	})
	c.end()
	if got := b.tombstones("things"); len(got) > 0 {
		t.Errorf("tombstones of %q, which may be in the view that does not answer", got)
	}
}
