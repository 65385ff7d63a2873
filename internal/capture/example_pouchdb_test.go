package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cabinet serves a PouchDB's list of documents, in order of the id.
type cabinet struct {
	shelf
	moved func() // before a second page is made
}

func (s *cabinet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	q := r.URL.Query()
	if id, ok := strings.CutPrefix(r.URL.Path, "/db/"); ok && id != "_all_docs" {
		if one := s.find("id", id); one != nil {
			answer(w, http.StatusOK, one["doc"])
		} else {
			answer(w, http.StatusNotFound, map[string]any{"error": "not_found", "reason": "deleted"})
		}
		return
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	start := ""
	if key := q.Get("startkey"); key != "" && err == nil {
		if err = json.Unmarshal([]byte(key), &start); s.moved != nil {
			s.moved()
			s.moved = nil
		}
	}
	skip, err2 := strconv.Atoi(q.Get("skip"))
	if err != nil || err2 != nil || q.Get("include_docs") != "true" {
		answer(w, http.StatusBadRequest, map[string]any{"error": "query_parse_error"})
		return
	}
	slices.SortFunc(s.rows, func(a, b map[string]any) int { return strings.Compare(a["id"].(string), b["id"].(string)) })
	low := slices.IndexFunc(s.rows, func(d map[string]any) bool { return d["id"].(string) >= start })
	if low < 0 {
		low = len(s.rows)
	}
	answer(w, http.StatusOK, map[string]any{"total_rows": len(s.rows), "offset": low, "rows": cut(s.rows, low+skip, limit)})
}

func doc(id string, v any) map[string]any {
	return row(id, "key", id, "value", map[string]any{"rev": "1-a"}, "doc", map[string]any{"_id": id, "v": v})
}

// The document that a page would begin behind is deleted before that page is made, and another is skipped for it: the total says
// so, and the list is read again. Design documents are counted and not published.
func TestExamplePouchDBAllDocs(t *testing.T) {
	b := lay(t)
	api := &cabinet{}
	for i := range 2300 {
		api.put(doc(fmt.Sprintf("d%04d", i), i))
	}
	api.put(doc("_design/views", 0))
	e := b.example("pouchdb-all-docs", map[string]any{"url": b.serve(api), "database": "db"})
	api.moved = func() { // the design document comes first
		api.rows = slices.DeleteFunc(api.rows, func(r map[string]any) bool { return r["id"] == "d0998" })
	}
	c := e.run(2300)
	c.deleted(1)
	c.published(2301)
	api.put(doc("d0007", "changed"), doc("e", "new"))
	c.published(2303)
	api.drop("d2299")
	c.deleted(2)
	if got := e.told("d2299"); len(got) != 2 || got[1] != "d" {
		t.Error(got)
	}
	if got := e.told("d0999"); len(got) != 1 || got[0][0] != 'r' {
		t.Errorf("the first pass skips it, and finds it: %q", got)
	}
	e.ends(c, 2300+1+2+1)
}
