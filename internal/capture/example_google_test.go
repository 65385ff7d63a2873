package capture_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
)

// calendar serves the events of one calendar: page tokens inside a listing, a token for the next one on its last page.
type calendar struct {
	ledger
	full int // listings that began at nothing
}

func (s *calendar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	size, err := strconv.Atoi(q.Get("maxResults"))
	if r.URL.Path != "/calendar/v3/calendars/team@example.com/events" || err != nil {
		answer(w, http.StatusNotFound, map[string]any{"error": map[string]any{"code": 404}})
		return
	}
	from, known := 0, true
	sync, token := q.Get("syncToken"), q.Get("pageToken")
	switch {
	case token != "":
		from, known = s.read(token)
		if s.moved != nil {
			s.moved()
			s.moved = nil
		}
	case sync != "":
		from, known = s.read(sync)
	default:
		s.full++
	}
	if _, same := s.read(sync); !known || sync != "" && !same {
		answer(w, http.StatusGone, map[string]any{"error": map[string]any{"code": 410, "errors": []any{map[string]any{"reason": "fullSyncRequired"}}}})
		return
	}
	entries, next, more := s.page(from, min(size, 50), sync == "")
	out := map[string]any{"kind": "calendar#events", "items": []any{}}
	for _, e := range entries {
		if e.row == nil {
			e.row = row(e.id, "status", "cancelled")
		}
		out["items"] = append(out["items"].([]any), e.row)
	}
	if out["nextPageToken"] = s.cursor(next); !more {
		delete(out, "nextPageToken")
		out["nextSyncToken"] = s.cursor(next)
	}
	answer(w, http.StatusOK, out)
}

// Only the last page has the token for the next pass; a cancelled event is a tombstone. A token that has expired, here in the
// middle of a pass, leads to a full one, which finds what was deleted meanwhile.
func TestExampleGoogleCalendar(t *testing.T) {
	b := lay(t)
	api := &calendar{}
	event := func(id int, summary string) map[string]any {
		return row(fmt.Sprint("e", id), "status", "confirmed", "summary", summary)
	}
	for i := range 120 {
		api.put(event(i, "a"))
	}
	api.put(event(200, "gone before"))
	api.drop("e200")
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "1//r" {
			answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"access_token": "ya29", "token_type": "Bearer", "expires_in": 3599})
	})
	mux.Handle("/calendar/", bearer("ya29", api))
	at := b.serve(mux)
	b.expires = true
	e := b.example("google-calendar", map[string]any{"url": at + "/calendar/v3", "token_url": at + "/token", "calendar": "team@example.com",
		"client_id": "app", "client_secret": "s", "refresh_token": "1//r"})
	c := e.run(120)
	api.put(event(2, "b"))
	api.drop("e3")
	c.updated(1)
	c.deleted(1)
	api.mu.Lock()
	for i := 10; i < 90; i++ { // two pages
		api.change(fmt.Sprint("e", i), event(i, "moved"))
	}
	api.moved = func() {
		api.change("e4", nil)
		api.change("e5", event(5, "meanwhile"))
		api.age++
	}
	before := api.full
	api.mu.Unlock()
	c.updated(1 + 80 + 1)
	c.deleted(2)
	if api.mu.Lock(); api.full == before {
		t.Error("no full listing")
	}
	api.mu.Unlock()
	e.says("e3", `r {"id":"e3","status":"confirmed","summary":"a"}`, "d")
	e.says("e4", `r {"id":"e4","status":"confirmed","summary":"a"}`, "d")
	e.says("e200")
	e.ends(c, 120+82+2)
}
