package capture_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// till serves Stripe's events, newest first, as long as they are kept.
type till struct {
	mu    sync.Mutex
	all   []map[string]any // in the order in which they happened
	kept  time.Time        // older ones are not shown
	moved func()           // before a second page is made
}

// happens adds an event; the caller holds the lock, or nothing is served yet.
func (s *till) happens(kind, object string, at time.Time, name string) {
	s.all = append(s.all, map[string]any{
		"id": fmt.Sprint("evt_", len(s.all)), "object": "event", "type": kind, "created": at.Unix(),
		"data": map[string]any{"object": map[string]any{"id": object, "name": name}},
	})
}

func (s *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if r.URL.Path != "/v1/events" || err != nil || limit > 100 || q.Get("type") != "customer.*" {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"type": "invalid_request_error"}})
		return
	}
	after := q.Get("starting_after")
	if after != "" && s.moved != nil {
		s.moved()
		s.moved = nil
	}
	from, _ := strconv.ParseInt(q.Get("created[gte]"), 10, 64)
	var rows []map[string]any
	for _, e := range s.all {
		at := e["created"].(int64)
		if at >= from && at >= s.kept.Unix() && strings.HasPrefix(e["type"].(string), "customer.") {
			rows = append(rows, e)
		}
	}
	slices.Reverse(rows)
	slices.SortStableFunc(rows, func(a, b map[string]any) int { return int(b["created"].(int64) - a["created"].(int64)) })
	low := 1 + slices.IndexFunc(rows, func(e map[string]any) bool { return e["id"] == after })
	if after != "" && low == 0 {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"message": "No such event: " + after}})
		return
	}
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": cut(rows, low, limit), "has_more": low+limit < len(rows)})
}

// The newest come first and are published last, those of one second too; what comes on top while the pages are read waits for the
// next pass; an event that says that its object is deleted is a tombstone; events that are not kept any longer delete nothing.
func TestExampleStripeEvents(t *testing.T) {
	b := lay(t)
	now := time.Now().UTC().Truncate(time.Second)
	api := &till{kept: now.AddDate(0, 0, -30)}
	for i := range 10 {
		api.happens("customer.created", fmt.Sprint("old_", i), api.kept.Add(time.Duration(i)*time.Second), "a")
	}
	for i := range 240 { // of 60 customers, four of one second each
		kind := []string{"created", "updated", "updated", "updated"}[i%4]
		api.happens("customer."+kind, fmt.Sprint("cus_", i/4), now.Add(time.Duration(i/4-300)*time.Second), fmt.Sprint("v", i%4))
	}
	api.happens("charge.refunded", "ch_1", now.Add(-2*time.Minute), "another type")
	api.moved = func() { api.happens("customer.updated", "cus_0", now.Add(-time.Minute), "on top") }
	e := b.example("stripe-events", map[string]any{"url": b.serve(bearer("sk", api)) + "/v1", "api_key": "sk"})
	c := e.run(251)
	var told []string
	for _, line := range append(e.told("cus_0"), e.told("cus_59")...) {
		told = append(told, line[:1]+line[strings.LastIndex(line, ":")+1:])
	}
	if d := cmp.Diff([]string{`r"v0"}`, `u"v1"}`, `u"v2"}`, `u"v3"}`, `u"on top"}`, `r"v0"}`, `u"v1"}`, `u"v2"}`, `u"v3"}`}, told); d != "" {
		t.Error(d)
	}
	api.mu.Lock()
	api.happens("customer.deleted", "cus_7", now.Add(-time.Minute), "v3")   // in the second of the cursor
	api.happens("customer.deleted", "cus_8", now.Add(-2*time.Minute), "v3") // it shows itself late
	api.kept = now.Add(-time.Hour)                                          // the old ones leave
	api.mu.Unlock()
	c.deleted(2)
	if told := e.told("cus_7"); told[len(told)-1] != "d" {
		t.Error(told)
	}
	e.ends(c, 251+2)
	if told := e.told("old_3"); len(told) != 1 {
		t.Errorf("what is not kept was not undone: %q", told)
	}
}
