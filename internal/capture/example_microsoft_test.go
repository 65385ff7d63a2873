package capture_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// tenant serves the delta of a tenant's users. Its cursors are addresses; one that has expired is answered with the address of a
// new beginning.
type tenant struct {
	ledger
	aged bool // an address that expired by its age is a bad request
}

func (s *tenant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	here := "http://" + r.Host + "/v1.0/users/delta"
	if r.URL.Path != "/v1.0/users/delta" || len(q) > 1 {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"code": "BadRequest", "message": r.URL.String()}})
		return
	}
	from, full, known := 0, true, true
	if token := q.Get("$deltatoken"); token != "" {
		full = false
		from, known = s.read(token)
	}
	if token := q.Get("$skiptoken"); token != "" {
		full = token[0] == 'f'
		from, known = s.read(token[1:])
		if s.moved != nil {
			s.moved()
			s.moved = nil
		}
	}
	if !known {
		if s.aged {
			answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"code": "syncStateNotFound"}})
			return
		}
		w.Header().Set("Location", here+"?$deltatoken=")
		answer(w, http.StatusGone, map[string]any{"error": map[string]any{"code": "resyncRequired"}})
		return
	}
	entries, next, more := s.page(from, 50, full)
	out := map[string]any{"@odata.context": "x", "value": []any{}}
	for _, e := range entries {
		if e.row == nil {
			e.row = row(e.id, "@removed", map[string]any{"reason": "deleted"})
		}
		out["value"] = append(out["value"].([]any), e.row)
	}
	switch {
	case more && full:
		out["@odata.nextLink"] = here + "?$skiptoken=" + url.QueryEscape("f"+s.cursor(next))
	case more:
		out["@odata.nextLink"] = here + "?$skiptoken=" + url.QueryEscape("d"+s.cursor(next))
	default:
		out["@odata.deltaLink"] = here + "?$deltatoken=" + url.QueryEscape(s.cursor(next))
	}
	answer(w, http.StatusOK, out)
}

// The last page gives the address to go on from; a user that changes while the pages are read is shown twice; the delta says who
// is removed. When its address has expired everything is listed anew, and that finds who went meanwhile.
func TestExampleMicrosoftGraphDelta(t *testing.T) {
	b := lay(t)
	api := &tenant{}
	user := func(id int, name string) map[string]any { return row(fmt.Sprint("u", id), "displayName", name) }
	for i := range 120 {
		api.put(user(i, "a"))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/contoso/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "https://graph.microsoft.com/.default" {
			answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"access_token": "eyJ", "token_type": "Bearer", "expires_in": 3599})
	})
	mux.Handle("/v1.0/", bearer("eyJ", api))
	at := b.serve(mux)
	b.expires = true
	e := b.example("microsoft-graph-delta", map[string]any{"url": at + "/v1.0", "login": at, "tenant": "contoso", "client_id": "app", "client_secret": "s"})
	api.moved = func() { api.change("u1", user(1, "moved")) }
	c := e.run(121)
	api.put(user(2, "b"))
	api.drop("u3")
	c.deleted(1)
	c.updated(2)
	api.expire(func() {
		api.change("u4", nil)
		api.change("u5", user(5, "meanwhile"))
	})
	c.updated(3)
	c.deleted(2)
	api.expire(func() {
		api.aged = true
		api.change("u6", user(6, "a week later"))
	})
	c.updated(4)
	e.says("u3", `r {"displayName":"a","id":"u3"}`, "d")
	e.says("u4", `r {"displayName":"a","id":"u4"}`, "d")
	e.ends(c, 120+1+2+2+1)
}
