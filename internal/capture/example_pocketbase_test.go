package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pocket serves the records of a PocketBase's collection. Who shows no good token is a guest, and guests see nothing.
type pocket struct {
	shelf
	logins int
	guests int // requests without a good token
}

var pocketFilter = regexp.MustCompile(`^updated >= '([^']*)'$`)

func (s *pocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	path, _ := strings.CutPrefix(r.URL.Path, "/api/collections/")
	guest := r.Header.Get("Authorization") != fmt.Sprint("token-", s.logins)
	id, one := strings.CutPrefix(path, "posts/records/")
	switch {
	case path == "users/auth-with-password":
		var in struct{ Identity, Password string }
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Identity != "me" || in.Password != "secret" {
			answer(w, http.StatusBadRequest, map[string]any{"message": "Failed to authenticate."})
			return
		}
		s.logins++
		answer(w, http.StatusOK, map[string]any{"token": fmt.Sprint("token-", s.logins), "record": row("u")})
	case one && !guest && s.find("id", id) != nil:
		answer(w, http.StatusOK, s.find("id", id))
	case one:
		answer(w, http.StatusNotFound, map[string]any{"message": "The requested resource wasn't found."})
	case path == "posts/records":
		size, _ := strconv.Atoi(q.Get("perPage"))
		page, _ := strconv.Atoi(q.Get("page"))
		page = max(page, 1)
		m := pocketFilter.FindStringSubmatch(q.Get("filter"))
		if q.Get("filter") == "" {
			m = []string{"", ""}
		}
		if m == nil || q.Get("sort") != "updated,id" {
			answer(w, http.StatusBadRequest, map[string]any{"message": "Something went wrong while processing your request."})
			return
		}
		rows := []map[string]any{}
		if guest {
			s.guests++
		}
		for _, x := range s.rows {
			if !guest && x["updated"].(string) >= m[1] { // texts, so a T matches nothing of its day
				rows = append(rows, x)
			}
		}
		slices.SortFunc(rows, func(a, b map[string]any) int {
			return strings.Compare(a["updated"].(string)+a["id"].(string), b["updated"].(string)+b["id"].(string))
		})
		answer(w, http.StatusOK, map[string]any{"page": page, "perPage": size, "totalItems": -1, "totalPages": -1, "items": cut(rows, (page-1)*size, size)})
	default:
		answer(w, http.StatusNotFound, map[string]any{"message": "File not found."})
	}
}

// More records of one millisecond than a page has; times with a blank; a record that is gone. Then all tokens expire: the
// collection looks empty, with 200, until the next login; nothing is deleted for that.
func TestExamplePocketBaseRecords(t *testing.T) {
	b := lay(t)
	api := &pocket{}
	began := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	post := func(id int, title string, at time.Time) map[string]any {
		return row(fmt.Sprintf("r%04d", id), "title", title, "updated", at.Format("2006-01-02 15:04:05.000Z"))
	}
	for i := range 1400 {
		at := began.Add(time.Duration(i) * time.Second / 2)
		if i >= 100 && i < 1300 {
			at = began.Add(time.Minute) // an import
		}
		api.put(post(i, "a", at))
	}
	e := b.example("pocketbase-records", map[string]any{"url": b.serve(api), "collection": "posts", "identity": "me", "password": "secret"})
	e.definition = strings.Replace(e.definition, "expires: 1h", "expires: 5s", 1)
	c := e.run(1400)
	last := began.Add(1399 * time.Second / 2)
	api.put(post(3, "b", last))
	c.updated(1)
	api.drop("r0004")
	c.deleted(1)
	api.mu.Lock()
	api.logins++ // the token in hand is not good any more
	api.guests = 0
	at := api.logins
	api.mu.Unlock()
	api.put(post(5, "c", last))
	b.until("guests, and another login", func() bool {
		api.mu.Lock()
		defer api.mu.Unlock()
		return api.guests > 0 && api.logins > at
	})
	c.updated(2)
	if got := e.told("r0004"); len(got) != 2 || got[1] != "d" {
		t.Error(got)
	}
	e.ends(c, 1400+2+1)
}
