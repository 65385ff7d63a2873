package capture_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// forge serves the issues of one repository: as GitHub, or as Gitea, which shows 50 at most and sorts by creation.
type forge struct {
	shelf
	gitea bool
	moved func() // before a second page is made
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	if number, ok := strings.CutPrefix(r.URL.Path, "/repos/o/r/issues/"); ok {
		if one := f.find("number", number); one != nil {
			answer(w, http.StatusOK, one)
		} else {
			answer(w, http.StatusNotFound, map[string]any{"message": "Not Found"})
		}
		return
	}
	since, err := time.Parse(time.RFC3339, q.Get("since"))
	if r.URL.Path != "/repos/o/r/issues" || q.Get("since") != "" && err != nil || since.Nanosecond() > 0 {
		answer(w, http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed"})
		return
	}
	page, _ := strconv.Atoi(q.Get("page"))
	if page = max(page, 1); page > 1 && f.moved != nil {
		f.moved()
		f.moved = nil
	}
	var rows []map[string]any
	for _, row := range f.rows {
		if at, _ := time.Parse(time.RFC3339, row["updated_at"].(string)); !at.Before(since) {
			rows = append(rows, row)
		}
	}
	size := 100
	slices.SortStableFunc(rows, func(a, b map[string]any) int {
		if f.gitea {
			return b["number"].(int) - a["number"].(int)
		}
		return strings.Compare(a["updated_at"].(string), b["updated_at"].(string))
	})
	if f.gitea {
		size = 50
	}
	if page*size < len(rows) {
		q.Set("page", strconv.Itoa(page+1))
		w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?%s>; rel="next", <http://%s/last>; rel="last"`, r.Host, r.URL.Path, q.Encode(), r.Host))
	}
	answer(w, http.StatusOK, cut(rows, (page-1)*size, size))
}

// A page that is shorter than what was asked for is not the last; what changes in the second of the cursor is found; a row that
// moves while the pages are read hides none; an issue that is gone is confirmed by its own address.
func TestExampleGitHubIssues(t *testing.T) {
	for _, gitea := range []bool{false, true} {
		t.Run(map[bool]string{false: "github", true: "gitea"}[gitea], func(t *testing.T) {
			b := lay(t)
			began := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
			at := func(s int) string { return began.Add(time.Duration(s) * time.Second).Format(time.RFC3339) }
			api := &forge{gitea: gitea}
			for i := 1; i <= 130; i++ {
				api.put(row(i, "number", i, "title", "a", "updated_at", at(i/2))) // two of one second
			}
			api.put(row(200, "number", 200, "title", "pull", "updated_at", at(65), "pull_request", map[string]any{"url": "x"}))
			e := b.example("github-issues", map[string]any{"url": b.serve(bearer("t", api)), "owner": "o", "repository": "r", "token": "t"})
			api.moved = func() { // the pages' border moves: P9
				api.rows = append(api.rows, row(131, "number", 131, "title", "new", "updated_at", at(70)))
				api.rows[0] = row(1, "number", 1, "title", "b", "updated_at", at(70))
			}
			c := e.run(131)
			twice := int64(1) // 1 is shown before it moves and behind that
			if gitea {
				twice = 0 // its list begins with the newest
			}
			c.updated(twice)
			api.put(row(2, "number", 2, "title", "tie", "updated_at", at(70)))
			c.updated(twice + 1)
			api.drop(3)
			c.deleted(1)
			text := func(op string, n int, title string, s int) string {
				return fmt.Sprintf(`%s {"id":%d,"number":%d,"title":%q,"updated_at":%q}`, op, n, n, title, at(s))
			}
			e.says("2", text("r", 2, "a", 1), text("u", 2, "tie", 70))
			e.says("3", text("r", 3, "a", 1), "d")
			e.says("200")
			e.ends(c, 131+int(twice)+1+1)
		})
	}
}
