package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// bank serves Plaid's /transactions/sync for one item.
type bank struct {
	ledger
	ready   bool     // else the transactions are still being fetched
	cursors []string // that were asked for
	middle  string   // the cursor of a page that was not the last
}

func (s *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct {
		AccessToken string `json:"access_token"`
		Cursor      string
		Count       int
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	if err != nil || r.URL.Path != "/transactions/sync" || in.AccessToken != "access" || in.Count > 500 ||
		r.Header.Get("PLAID-CLIENT-ID") != "me" || r.Header.Get("PLAID-SECRET") != "secret" {
		answer(w, http.StatusBadRequest, map[string]any{"error_type": "INVALID_REQUEST", "error_code": "INVALID_FIELD"})
		return
	}
	s.cursors = append(s.cursors, in.Cursor)
	out := map[string]any{"added": []any{}, "modified": []any{}, "removed": []any{}, "next_cursor": "", "has_more": false}
	if !s.ready {
		answer(w, http.StatusOK, out)
		return
	}
	from := 0
	if in.Cursor != "" {
		from, _ = s.read(in.Cursor)
	}
	if s.moved != nil && in.Cursor != "" && in.Cursor == s.middle {
		s.moved()
		s.moved = nil
		answer(w, http.StatusBadRequest, map[string]any{"error_type": "TRANSACTIONS_ERROR", "error_code": "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"})
		return
	}
	entries, next, more := s.page(from, min(in.Count, 50), in.Cursor == "")
	for _, e := range entries {
		list := "modified"
		switch {
		case e.row == nil:
			list, e.row = "removed", map[string]any{"account_id": "a"}
		case e.new:
			list = "added"
		}
		e.row["transaction_id"] = e.id
		out[list] = append(out[list].([]any), e.row)
	}
	if out["next_cursor"], out["has_more"] = s.cursor(next), more; more {
		s.middle = s.cursor(next)
	}
	answer(w, http.StatusOK, out)
}

// At first there is no cursor yet. A change while the pages are read makes the pass begin anew from its own first cursor, and what
// was published of it is not published again. A transaction that is posted replaces the pending one: one list removes, one adds.
func TestExamplePlaidTransactions(t *testing.T) {
	b := lay(t)
	api := &bank{}
	e := b.example("plaid-transactions", map[string]any{"url": b.serve(api), "client_id": "me", "secret": "secret", "access_token": "access"})
	c := e.run(0)
	c.passes(2)
	tx := func(id int, amount float64) map[string]any { return row(fmt.Sprint("t", id), "amount", amount) }
	for i := range 120 {
		api.put(tx(i, 1.5))
	}
	api.mu.Lock()
	api.ready = true
	api.mu.Unlock()
	c.published(120)
	c.passes(1)

	api.mu.Lock()
	for i := 10; i < 90; i++ { // two pages
		api.change(fmt.Sprint("t", i), tx(i, 2.5))
	}
	first := api.cursors[len(api.cursors)-1]
	api.cursors = nil
	api.moved = func() { api.change("t11", tx(11, 3.5)) }
	api.mu.Unlock()
	c.updated(81)
	api.mu.Lock()
	asked := slices.Clone(api.cursors)
	api.mu.Unlock()
	if len(asked) < 3 || asked[0] != first || asked[1] == first || asked[2] != first {
		t.Errorf("P17: after %q: %q", first, asked[:min(4, len(asked))])
	}
	api.drop("t0") // pending
	api.put(tx(300, 1.5))
	c.deleted(1)
	c.published(120 + 81 + 2)
	e.says("t0", `c {"amount":1.5,"id":"t0","transaction_id":"t0"}`, "d")
	e.ends(c, 120+81+2)
}
