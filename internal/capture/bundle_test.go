package capture_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/schemas"
)

// categories are the six lists of one answer.
var categories = []string{"buys", "lots", "pledges", "draws", "raffles", "tickets"}

// bundle is one request with six streams under one offset and one cursor.
const bundle = `
source: auction
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  items:
    path: /items
    query: {since: "{{ cursor ?? -1 }}", offset: "{{ offset }}", limit: 100}
    records:
      buy_now_items: buys
      auction_items: {path: lots, filter: record.live, reconcile: {lookup: {path: "/lots/{{ key.id }}", records: .}}}
      pledges: {path: pledges, hash: {exclude: [seen]}}
      prize_draws: draws
      raffles: {path: raffles, primary_key: [book, no]}
      tickets: tickets
    primary_key: id
    paginator: {type: offset, size: 100}
    incremental: {cursor_field: updated, format: unix, lookback: 1h}
    interval: 200ms
`

// hall serves the bundle: rows by category, filtered inclusively by since, in the order in which they were put there.
type hall struct {
	mu   sync.Mutex
	rows map[string][]map[string]any
}

func (h *hall) put(category string, rows ...map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range rows {
		i := slices.IndexFunc(h.rows[category], func(r map[string]any) bool { return r["id"] == row["id"] })
		if i < 0 {
			h.rows[category] = append(h.rows[category], row)
		} else {
			h.rows[category][i] = row
		}
	}
}

func (h *hall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id, ok := strings.CutPrefix(r.URL.Path, "/lots/"); ok {
		i := slices.IndexFunc(h.rows["lots"], func(r map[string]any) bool { return fmt.Sprint(r["id"]) == id })
		if i < 0 {
			answer(w, http.StatusNotFound, map[string]any{})
			return
		}
		answer(w, http.StatusOK, h.rows["lots"][i])
		return
	}
	since, err := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	low, err2 := strconv.Atoi(r.URL.Query().Get("offset"))
	if err := errors.Join(err, err2); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	out := map[string]any{}
	for _, category := range categories {
		rows := []map[string]any{}
		for _, row := range h.rows[category] {
			if row["updated"].(int64) >= since {
				rows = append(rows, row)
			}
		}
		out[category] = rows[min(low, len(rows)):min(low+100, len(rows))]
	}
	answer(w, http.StatusOK, out)
}

func (b *bed) hall() (*hall, map[string]any) {
	h := &hall{rows: map[string][]map[string]any{}}
	began := time.Now().Add(-time.Minute).Unix()
	for i, n := range []int{250, 30, 1, 0, 120, 100} {
		for id := range n {
			h.put(categories[i], row(id, "updated", began-int64(n-id), "live", true, "seen", 0, "book", "b", "no", id))
		}
	}
	return h, map[string]any{"url": b.serve(h)}
}

func streamOf(s capture.Status, name string) capture.StreamStatus {
	i := slices.IndexFunc(s.Streams, func(st capture.StreamStatus) bool { return st.Name == name })
	if i < 0 {
		return capture.StreamStatus{}
	}
	return s.Streams[i]
}

// P10, (1), (4): six lists, six topics, one cursor, which commits with or behind everything that it passed; and nothing is
// published twice by a second process. What each stream has for itself (key, filter, hash, lookups, parked records) stays so.
func TestP10SixStreamsOfOneRequest(t *testing.T) {
	b := lay(t)
	api, config := b.hall()
	api.put("lots", row(500, "updated", time.Now().Unix()-90, "seen", 1)) // P20, P19: no `live`
	s := settings{definition: bundle, config: config}
	c := b.start(s)
	st := c.passes(2)
	if len(st.Streams) != 6 || len(st.Partitions) != 1 || st.Partitions[0].Stream != "items" || st.Partitions[0].Drifting {
		t.Fatalf("%+v", st)
	}
	for i, name := range []string{"buy_now_items", "auction_items", "pledges", "prize_draws", "raffles", "tickets"} {
		if got, want := streamOf(st, name), []int64{250, 30, 1, 0, 120, 100}[i]; got.Counts.Read != want || got.Keys != want || got.Counts.Published() != want {
			t.Errorf("%s: %+v, want %d", name, got, want)
		}
	}
	if lots := streamOf(st, "auction_items"); lots.Parked != 1 || streamOf(st, "pledges").Parked != 0 {
		t.Errorf("P19: %+v", lots)
	}
	first := b.checkpoint("items")
	c.end()

	at, events := int64(-1), 0
	for _, tx := range b.transactions() {
		if len(tx.of("test.offsets", "cursor/c/items/-")) > 0 && at < 0 {
			at = tx.at
		}
		for _, category := range []string{"buy_now_items", "auction_items", "pledges", "raffles", "tickets"} {
			n := len(tx.of("test.c."+category, ""))
			if events += n; n > 0 && at >= 0 && tx.at > at {
				t.Errorf("(4): the cursor was committed before %d events of %s", n, category)
			}
		}
	}
	if events != 501 || at < 0 {
		t.Errorf("%d events, cursor at %d", events, at)
	}

	c = b.start(s)
	c.passes(1)
	now := time.Now().Unix()
	api.put("pledges", row(0, "updated", now, "live", true, "seen", 9, "book", "b", "no", 0))                   // `seen` alone is no change, `updated` is
	api.put("raffles", row(7, "updated", now, "live", true, "seen", 0, "book", "b", "no", 7, "won", true))      // a change
	api.put("lots", row(3, "updated", now, "live", false, "seen", 0), row(500, "updated", now+1, "live", true)) // leaves the filter; is mended
	st = c.await("the changes", func(s capture.Status) bool {
		return streamOf(s, "raffles").Counts.Updated == 1 && streamOf(s, "auction_items").Counts.Deleted == 1 && streamOf(s, "auction_items").Parked == 0
	})
	for _, s := range st.Streams {
		if s.Counts.Read != 0 {
			t.Errorf("%s publishes again what it has published: %+v", s.Name, s.Counts)
		}
	}
	api.put("lots", row(4, "updated", now-600, "live", true, "seen", 0, "old", true)) // P14: an older version, which the lookup confirms
	c.await("the rollback", func(s capture.Status) bool {
		lots := streamOf(s, "auction_items")
		return lots.Counts.Updated == 1 && lots.Held == 0
	})
	c.passes(1)
	c.end()
	if last := b.checkpoint("items"); last.Cursor < first.Cursor || last.Passes <= first.Passes {
		t.Errorf("%+v after %+v", last, first)
	}
	if keys := b.lines("raffles"); !slices.ContainsFunc(keys, func(l string) bool { return strings.HasPrefix(l, `["b",7] u `) }) {
		t.Errorf("%d events of raffles", len(keys))
	}
	b.audit(b.sourceOf(s), false)
}

// P19: too many bad records of one list halt all that the request reads, since they have one cursor; it stays where it was.
func TestP19HaltsAllStreamsOfTheRequest(t *testing.T) {
	b := lay(t)
	api, config := b.hall()
	s := settings{definition: bundle, config: config}
	c := b.start(s)
	c.passes(1)
	before := b.checkpoint("items")
	for i := range 60 {
		api.put("lots", row(1000+i, "updated", time.Now().Unix())) // no `live`
	}
	c.halted("c/items", "could not be published")
	for _, st := range c.look().Streams {
		if st.Halted == "" {
			t.Errorf("%s goes on without a cursor of its own", st.Name)
		}
	}
	c.end()
	if after := b.checkpoint("items"); after.Cursor != before.Cursor {
		t.Errorf("the cursor moved from %s to %s", before.Cursor, after.Cursor)
	}
	b.audit(b.sourceOf(s), false)
}

// (4): a stream whose schema cannot be loaded halts those that share its cursor, before anything of them is read.
func TestHaltedStreamHoldsItsRequest(t *testing.T) {
	b := lay(t)
	_, config := b.hall()
	definition := strings.Replace(bundle, "prize_draws: draws", "prize_draws: {path: draws, schema: auction/draw}", 1)
	s := avro(b, settings{definition: definition, config: config, change: func(o *capture.Options) {
		o.Schema = func(name string) ([]byte, error) {
			if name == "auction/draw" {
				return nil, errors.New("no such schema")
			}
			return schemas.Get(name)
		}
	}})
	c := b.start(s)
	c.halted("no such schema")
	c.end()
	for _, name := range []string{"buy_now_items", "tickets"} {
		if n := len(b.lines(name)); n != 0 {
			t.Errorf("%d events of %s", n, name)
		}
	}
}
