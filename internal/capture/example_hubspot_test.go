package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crm serves HubSpot's contacts: a search that shows a number of results at most, and a list that has no such end.
type crm struct {
	shelf
	most int
}

type searched struct {
	FilterGroups []struct {
		Filters []struct {
			PropertyName, Operator string
			Value                  int64
		}
	}
	Sorts      []struct{ PropertyName, Direction string }
	Properties []string
	Limit      int
	After      int
}

func changedAt(contact map[string]any) time.Time {
	at, err := time.Parse(time.RFC3339Nano, contact["properties"].(map[string]any)["lastmodifieddate"].(string))
	if err != nil {
		panic(err)
	}
	return at
}

func (s *crm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, _ := strings.CutPrefix(r.URL.Path, "/crm/v3/objects/contacts")
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && path == "/search":
		s.search(w, r)
	case path == "" && q.Get("properties") == "email,lastmodifieddate":
		low, _ := strconv.Atoi(q.Get("after"))
		s.page(w, s.rows, low, 100)
	case s.find("id", strings.TrimPrefix(path, "/")) != nil:
		answer(w, http.StatusOK, s.find("id", strings.TrimPrefix(path, "/")))
	default:
		answer(w, http.StatusNotFound, map[string]any{"status": "error"})
	}
}

func (s *crm) page(w http.ResponseWriter, rows []map[string]any, low, size int) {
	out := map[string]any{"results": cut(rows, low, size), "total": len(rows)}
	if low+size < len(rows) {
		out["paging"] = map[string]any{"next": map[string]any{"after": strconv.Itoa(low + size)}}
	}
	answer(w, http.StatusOK, out)
}

func (s *crm) search(w http.ResponseWriter, r *http.Request) {
	var in searched
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.FilterGroups) != 1 || in.FilterGroups[0].Filters[0].Operator != "GTE" ||
		in.Sorts[0].Direction != "ASCENDING" || in.After+in.Limit > s.most {
		answer(w, http.StatusBadRequest, map[string]any{"status": "error", "message": fmt.Sprint("There was a problem with the request. ", err)})
		return
	}
	var rows []map[string]any
	for _, row := range s.rows {
		if changedAt(row).UnixMilli() >= in.FilterGroups[0].Filters[0].Value {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]any) int { return changedAt(a).Compare(changedAt(b)) })
	s.page(w, rows, in.After, in.Limit)
}

// contact is one; ids are texts in the order of creation.
func contact(id int, email string, at time.Time) map[string]any {
	properties := map[string]any{"email": email, "lastmodifieddate": at.UTC().Format("2006-01-02T15:04:05.000Z")}
	return row(fmt.Sprintf("%04d", id), "archived", false, "properties", properties)
}

// There are more contacts than the search pages through, and more of one millisecond than a page has; the index shows a change
// late; a contact that is archived is in no list.
func TestExampleHubSpotContacts(t *testing.T) {
	b := lay(t)
	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	api := &crm{most: 400}
	for i := range 900 {
		at := began.Add(time.Duration(i) * 100 * time.Millisecond)
		if i >= 300 && i < 550 {
			at = began.Add(30 * time.Second) // an import
		}
		api.put(contact(i, "a", at))
	}
	e := b.example("hubspot-contacts", map[string]any{
		"url": b.serve(bearer("pat", api)), "token": "pat", "properties": []any{"email", "lastmodifieddate"},
	})
	c := e.run(900)
	last := began.Add(899 * 100 * time.Millisecond)
	api.put(contact(5, "b", last))
	c.updated(1)
	api.put(contact(6, "late", last.Add(-30*time.Second)))
	c.updated(2)
	api.drop("0007")
	c.deleted(1)
	told := e.told("0007")
	if len(told) != 2 || told[1] != "d" {
		t.Error(told)
	}
	e.ends(c, 900+2+1)
}
