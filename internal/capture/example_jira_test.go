package capture_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tracker serves Jira's search: JQL whose times are minutes in the zone of the account, pages by a token that belongs to its JQL.
type tracker struct {
	shelf
	zone *time.Location
}

var jql = regexp.MustCompile(`^\(project is not EMPTY\) AND updated >= "(\d{4}-\d\d-\d\d \d\d:\d\d)" ORDER BY updated ASC$`)

const jiraTime = "2006-01-02T15:04:05.000-0700"

func (s *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, _ := r.BasicAuth()
	if id, ok := strings.CutPrefix(r.URL.Path, "/rest/api/3/issue/"); ok {
		if one := s.find("id", id); one != nil {
			answer(w, http.StatusOK, row(one["id"], "expand", "renderedFields,names", "fields", one["fields"]))
		} else {
			answer(w, http.StatusNotFound, map[string]any{"errorMessages": []string{"Issue does not exist"}})
		}
		return
	}
	q := r.URL.Query()
	m := jql.FindStringSubmatch(q.Get("jql"))
	low := 0
	if token := q.Get("nextPageToken"); token != "" && m != nil {
		var of string
		if low, of = 0, ""; strings.Contains(token, "|") {
			n, rest, _ := strings.Cut(token, "|")
			low, _ = strconv.Atoi(n)
			of = rest
		}
		if of != m[1] {
			m = nil
		}
	}
	if r.URL.Path != "/rest/api/3/search/jql" || user+":"+password != "me:secret" || m == nil {
		answer(w, http.StatusBadRequest, map[string]any{"errorMessages": []string{"Error in the JQL Query: " + q.Get("jql")}})
		return
	}
	since, err := time.ParseInLocation("2006-01-02 15:04", m[1], s.zone)
	if err != nil {
		panic(err)
	}
	var rows []map[string]any
	for _, one := range s.rows {
		if !issueTime(one).Before(since) {
			rows = append(rows, row(one["id"], "expand", "operations", "fields", one["fields"]))
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]any) int { return issueTime(a).Compare(issueTime(b)) })
	out := map[string]any{"issues": cut(rows, low, 50), "isLast": low+50 >= len(rows)}
	if low+50 < len(rows) {
		out["nextPageToken"] = fmt.Sprintf("%d|%s", low+50, m[1])
	}
	answer(w, http.StatusOK, out)
}

func issueTime(issue map[string]any) time.Time {
	at, err := time.Parse(jiraTime, issue["fields"].(map[string]any)["updated"].(string))
	if err != nil {
		panic(err)
	}
	return at
}

// The minute of the cursor is asked for again, in the account's zone; many issues change in one minute; one that is gone is
// confirmed by its own address, whose answer differs in what says how it was asked for.
func TestExampleJiraIssues(t *testing.T) {
	b := lay(t)
	zone, err := time.LoadLocation("America/New_York") // a text in UTC would be hours late there
	if err != nil {
		t.Fatal(err)
	}
	api := &tracker{zone: zone}
	began := time.Now().Add(-2 * time.Hour).Truncate(time.Minute)
	issue := func(id int, summary string, at time.Time) map[string]any {
		return row(strconv.Itoa(id), "fields", map[string]any{"summary": summary, "updated": at.In(zone).Format(jiraTime)})
	}
	for i := range 180 {
		at := began.Add(time.Duration(i) * 15 * time.Second)
		if i >= 20 && i < 140 {
			at = began.Add(5*time.Minute + time.Duration(i)*time.Millisecond) // a bulk change
		}
		api.put(issue(i, "a", at))
	}
	e := b.example("jira-issues", map[string]any{"url": b.serve(api), "user": "me", "api_token": "secret", "zone": "America/New_York"})
	c := e.run(180)
	last := began.Add(179 * 15 * time.Second)
	api.put(issue(3, "b", last.Truncate(time.Minute))) // the first moment of the last minute
	c.updated(1)
	api.put(issue(4, "late", last.Add(-4*time.Minute)))
	c.updated(2)
	api.drop("5")
	c.deleted(1)
	if got := e.told("5"); len(got) != 2 || got[1] != "d" || strings.Contains(got[0], "expand") {
		t.Error(got)
	}
	e.ends(c, 180+2+1)
}
