package capture_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// desk serves Zendesk's incremental export of tickets: from a time on, or from a cursor; the last minute is not shown yet.
type desk struct {
	mu      sync.Mutex
	tickets map[int]map[string]any
	ahead   time.Duration // of the desk's clock
	moved   func()        // before a page by cursor is made, once
}

// put sets a ticket.
func (s *desk) put(id int, status string, at time.Time) {
	s.tickets[id] = row(id, "status", status, "updated_at", at.UTC().Format(time.RFC3339), "generated_timestamp", at.Unix())
}

func (s *desk) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	user, password, _ := r.BasicAuth()
	from, id := int64(0), 0
	var err error
	if cursor := q.Get("cursor"); cursor != "" {
		var text []byte
		if text, err = base64.StdEncoding.DecodeString(cursor); err == nil {
			_, err = fmt.Sscanf(string(text), "%d||%d", &from, &id)
		}
		if s.moved != nil {
			s.moved()
			s.moved = nil
		}
	} else {
		from, err = strconv.ParseInt(q.Get("start_time"), 10, 64)
	}
	if err != nil || user+":"+password != "agent@example.com/token:secret" || r.URL.Path != "/api/v2/incremental/tickets/cursor.json" {
		answer(w, http.StatusBadRequest, map[string]any{"error": "InvalidValue"})
		return
	}
	var rows []map[string]any
	for _, t := range s.tickets {
		at := t["generated_timestamp"].(int64)
		if (at > from || at == from && t["id"].(int) > id) && at <= time.Now().Add(s.ahead-time.Minute).Unix() {
			rows = append(rows, t)
		}
	}
	slices.SortFunc(rows, func(a, b map[string]any) int {
		return int(a["generated_timestamp"].(int64)-b["generated_timestamp"].(int64))*1000 + a["id"].(int) - b["id"].(int)
	})
	page := cut(rows, 0, 100)
	if len(page) > 0 {
		last := page[len(page)-1]
		from, id = last["generated_timestamp"].(int64), last["id"].(int)
	}
	answer(w, http.StatusOK, map[string]any{
		"tickets": page, "after_cursor": base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d||%d", from, id)), "end_of_stream": len(page) == len(rows),
	})
}

// The first request has a time, every other one a cursor; a ticket that changes while the pages are read is shown twice; what
// changed in the last minute waits; a deleted ticket says so; and a desk that is empty so far is no error.
func TestExampleZendeskTickets(t *testing.T) {
	b := lay(t)
	began := time.Now().Add(-time.Hour)
	api := &desk{tickets: map[int]map[string]any{}}
	e := b.example("zendesk-tickets", map[string]any{"url": b.serve(api) + "/api/v2", "user": "agent@example.com/token", "api_token": "secret"})
	c := e.run(0)
	c.passes(1)
	api.locked(func() {
		for i := 1; i <= 250; i++ {
			api.put(i, "open", began.Add(time.Duration(i/4)*time.Second)) // four of one second
		}
		api.put(300, "open", began.AddDate(-20, 0, 0)) // before the configured beginning
		api.moved = func() { api.put(2, "pending", began.Add(5*time.Minute)) }
	})
	c.published(250)
	api.locked(func() {
		api.put(2, "solved", began.Add(6*time.Minute))
		api.put(3, "open", began.Add(6*time.Minute)) // nothing but its times moved: updated_at is a change, too
		api.put(4, "deleted", began.Add(6*time.Minute))
		api.put(5, "solved", time.Now().Add(time.Hour))
	})
	c.deleted(1)
	c.passes(2)
	if got := e.told("5"); len(got) != 1 {
		t.Errorf("before its time: %q", got)
	}
	before := counts(c.look()).Updated
	api.locked(func() { api.ahead = 2 * time.Hour })
	c.updated(before + 1)
	if got := e.told("4"); len(got) != 2 || got[1] != "d" {
		t.Error(got)
	}
	e.says("300")
	e.ends(c, 250+int(before)+1+1)
}
