//go:build synctests

package supervisor

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// reply is what a request is answered with.
type reply struct {
	status int
	media  string // "": JSON
	body   []byte
	broken bool // the connection breaks off
}

func said(format string, args ...any) reply {
	return reply{200, "", fmt.Appendf(nil, format, args...), false}
}

func refusal(status int) reply {
	return reply{status, "", []byte(`{"error":"no"}`), false}
}

var webPage = []byte("<html><body>please log in</body></html>")

// ServeHTTP implements http.Handler: /feed shows what changes, /all lists, /one/… looks up, /login gives a token.
func (a *adversary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-time.After(a.latency())
	rep := a.answer(r)
	<-time.After(a.latency())
	if rep.broken {
		panic(http.ErrAbortHandler)
	}
	media := rep.media
	if media == "" {
		media = "application/json"
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // whoever is gone does not read it
}

func (a *adversary) latency() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Duration(a.random.IntN(400)) * time.Millisecond
}

func (a *adversary) answer(r *http.Request) reply {
	a.mu.Lock()
	defer a.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "login" {
		return said(`{"token":"t%d"}`, a.token)
	}
	if a.plot.Session && r.Header.Get("X-Session") != fmt.Sprint("t", a.token) {
		return refusal(401)
	}
	view := ""
	if a.plot.Views > 0 {
		view = parts[1]
	}
	switch parts[0] {
	case "feed":
		return a.feed(view, r.URL.Query())
	case "all":
		return a.list(view, r.URL.Query())
	default:
		t := thing{ID: parts[len(parts)-1], Views: []string{parts[1]}}
		return a.lookUp(a.keyOf(&t))
	}
}

// rows are the records of a view that the credential may see, in the order of the list.
func (a *adversary) rows(view string) []thing {
	var rows []thing
	for _, t := range a.things {
		if !t.Hidden && (view == "" || slices.Contains(t.Views, view)) {
			rows = append(rows, *t)
		}
	}
	a.sort(rows)
	return rows
}

func (a *adversary) sort(rows []thing) {
	slices.SortFunc(rows, func(x, y thing) int {
		if a.plot.Reads == "" || a.plot.ByKey {
			return strings.Compare(x.ID, y.ID)
		}
		return x.At.Compare(y.At)
	})
}

// feed shows what has changed, and always tells the truth; that is the listing's counterpart.
func (a *adversary) feed(view string, q url.Values) reply {
	rows := a.rows(view)
	slices.SortFunc(rows, func(x, y thing) int { return x.At.Compare(y.At) })
	if a.plot.Reads == "timestamp" {
		rep, _ := a.from(rows, q.Get("since"))
		return rep
	}
	cursor := q.Get("cursor")
	at := sort.Search(len(rows), func(i int) bool { return rows[i].At.UTC().Format(stamp) > cursor })
	some := rows[at:min(len(rows), at+a.plot.Page)]
	if cursor == "" {
		cursor = "0"
	}
	if len(some) > 0 {
		cursor = some[len(some)-1].At.UTC().Format(stamp)
	}
	return said(`{"data":%s,"cursor":%q,"more":%t}`, array(some), cursor, at+len(some) < len(rows))
}

// from is a page of an inclusive filter; it says whether it is the last one.
func (a *adversary) from(rows []thing, since string) (rep reply, ended bool) {
	at := slices.IndexFunc(rows, func(t thing) bool { return t.At.UTC().Format(stamp) >= since })
	if at < 0 {
		at = len(rows)
	}
	some := rows[at:min(len(rows), at+a.plot.Page)]
	return said(`{"data":%s,"size":%d}`, array(some), a.plot.Page), len(some) < a.plot.Page
}

func array(rows []thing) []byte {
	var b bytes.Buffer
	for i, t := range rows {
		b.WriteByte("[,"[min(i, 1)])
		b.Write(t.json())
	}
	if len(rows) == 0 {
		b.WriteByte('[')
	}
	b.WriteByte(']')
	return b.Bytes()
}

// list answers for a page of a listing, truly or not. While it is read, things happen.
func (a *adversary) list(view string, q url.Values) reply {
	number, _ := strconv.Atoi(q.Get("page"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	first := number <= 1 && offset == 0 && q.Get("since")+q.Get("token")+q.Get("after") == ""
	s := a.walks[view]
	if first || s == nil {
		a.walked++
		s = &stroll{n: a.walked, lie: a.choose(view)}
		a.begun = append(a.begun, fmt.Sprintf("%s %s: %s", time.Now().UTC().Format(stamp), view, s.lie))
		a.walks[view] = s
	}
	s.page++
	if number > 0 {
		s.page = number
	}
	s.at = time.Now()
	if !a.frozen && a.random.IntN(4) == 0 {
		a.change() // between two pages
	}
	rows, total := a.twisted(view, s)
	rep := a.page(rows, total, q, s)
	if l := s.lie; l != nil {
		rep = a.loudly(l, view, s, rep)
	}
	return rep
}

// page cuts a page out of rows.
func (a *adversary) page(rows []thing, total int, q url.Values, s *stroll) reply {
	size := a.plot.Page
	switch a.plot.Pages {
	case "keyset":
		since := q.Get("since")
		if s.lie != nil && s.lie.Do == "repeated" {
			since = ""
		}
		rep, ended := a.from(rows, since)
		s.ended = ended
		return rep
	case "page":
		number, _ := strconv.Atoi(q.Get("page"))
		if s.lie != nil && s.lie.Do == "repeated" && number == s.lie.Page+1 {
			number--
		}
		at := min(len(rows), (max(1, number)-1)*size)
		some := rows[at:min(len(rows), at+size)]
		s.ended = at+len(some) >= len(rows)
		return said(`{"data":%s,"more":%t,"total":%d}`, array(some), !s.ended, total)
	case "offset":
		at, _ := strconv.Atoi(q.Get("offset"))
		if s.lie != nil && s.lie.Do == "repeated" && s.page == s.lie.Page+1 {
			at = max(0, at-size)
		}
		at = min(len(rows), at)
		s.ended = at+size >= len(rows)
		return said(`{"data":%s,"total":%d}`, array(rows[at:min(len(rows), at+size)]), total)
	}
	token := q.Get("token") + q.Get("after")
	order := func(t thing) string {
		if a.plot.Reads == "" || a.plot.ByKey {
			return t.ID
		}
		return t.At.UTC().Format(stamp)
	}
	at := sort.Search(len(rows), func(i int) bool { return order(rows[i]) > token })
	some := rows[at:min(len(rows), at+size)]
	if s.ended = at+len(some) >= len(rows); s.ended {
		return said(`{"data":%s,"next":null,"total":%d}`, array(some), total)
	}
	return said(`{"data":%s,"next":%q,"total":%d}`, array(some), order(some[len(some)-1]), total)
}

// choose says which lie a listing tells that begins now; nil: the truth. Lies end between two listings, not within one.
func (a *adversary) choose(view string) *telling {
	if a.calm {
		return nil
	}
	for _, l := range a.lies {
		if l.of(view) && !l.since.IsZero() && time.Since(l.since) < l.For && !slices.Contains(lookups, l.Do) {
			a.told[l.Do]++
			return l
		}
	}
	for _, l := range a.lies {
		if l.of(view) && l.since.IsZero() && l.N <= a.walked && !slices.Contains(lookups, l.Do) {
			a.begin(l, view)
			a.told[l.Do]++
			return l
		}
	}
	return nil
}

// begin chooses whom a lie conceals. Where nothing would betray it, nobody is concealed twice.
func (a *adversary) begin(l *telling, view string) {
	l.since, l.victims = time.Now(), map[string]bool{}
	rows := a.rows(view)
	size := a.plot.Page
	from := min(len(rows), (l.Page-1)*size)
	switch l.Do {
	case "rows dropped", "login sees less":
		rows = slices.DeleteFunc(rows, func(thing) bool { return a.random.Float64() > l.Share })
	case "page dropped", "other tenant's page":
		rows = rows[from:min(len(rows), from+size)]
	case "cut off":
		rows = rows[min(len(rows), []int{200, l.Page * size}[a.random.IntN(2)]):]
	case "stale replica":
		rows = a.age()
	default:
		return
	}
	for _, t := range rows {
		key := a.keyOf(&t)
		if l.silent() && !a.plot.betrayed(l.Do) {
			if a.shy[key] {
				continue
			}
			a.shy[key] = true
		}
		l.victims[key] = true
		if l.Do == "other tenant's page" {
			a.names++
			t.ID, t.N = fmt.Sprintf("%sx%d", t.ID, a.names), 99
			l.strange = append(l.strange, t)
		}
	}
}

// age makes the replica that is behind, and returns what it does not know yet.
func (a *adversary) age() (young []thing) {
	a.replica = map[string]thing{}
	then := time.Now().Add(-time.Duration(2+a.random.IntN(20)) * time.Minute)
	for key, t := range a.things {
		a.replica[key] = *t
		if t.At.After(then) && a.random.IntN(2) == 0 {
			old := *t
			old.At, old.N = t.At.Add(-time.Hour), t.N+1000 // as it was, before
			a.replica[key] = old
		}
		if t.At.After(then) && t.N <= 1 {
			young = append(young, *t)
		}
	}
	return young
}

// twisted are the rows that a listing shows of a view, and how many it says there are.
func (a *adversary) twisted(view string, s *stroll) (rows []thing, total int) {
	rows = a.rows(view)
	total = len(rows)
	l := s.lie
	if l == nil {
		return rows, total
	}
	if l.Do == "stale replica" {
		for i, t := range rows {
			if old, ok := a.replica[a.keyOf(&t)]; ok && old.N > 1000 && old.N-1000 == t.N {
				rows[i] = old
				a.shown(a.keyOf(&t), old)
			}
		}
	}
	if l.Do != "login sees less" || s.less {
		rows = slices.DeleteFunc(rows, func(t thing) bool { return l.victims[a.keyOf(&t)] })
	}
	for _, t := range l.strange {
		if view == "" || slices.Contains(t.Views, view) {
			rows = append(rows, t)
			a.shown(a.keyOf(&t), t)
		}
	}
	a.sort(rows)
	switch border := l.Page * a.plot.Page; l.Do {
	case "rows swapped": // the last row of a page is shown again by the next one, and the first one of that is missed
		if s.page > l.Page && border < len(rows) {
			rows[border-1], rows[border] = rows[border], rows[border-1]
		}
	case "shuffled":
		a.random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	case "empty":
		rows, total = nil, 0
	case "another total":
		total++
	}
	return rows, total
}

// conceal adds the last record of a page to those that another login does not see, so that asking for the page again betrays it
// (D2). It is false where the page has none.
func (a *adversary) conceal(l *telling, view string, page int) bool {
	rows := a.rows(view)
	at := min(page*a.plot.Page, len(rows))
	if at <= (page-1)*a.plot.Page {
		return false
	}
	l.victims[a.keyOf(&rows[at-1])] = true
	return true
}

// loudly spoils a page so that it shows.
func (a *adversary) loudly(l *telling, view string, s *stroll, rep reply) reply {
	if l.Do == "login sees less" && s.page == l.Page && !s.less && a.conceal(l, view, s.page) {
		a.token++ // whoever asks next has to log in again, and until this listing ends
		s.less = true
	}
	if s.page != l.Page && l.Do != "page 403" || a.calm || time.Since(l.since) > l.For {
		return rep
	}
	switch l.Do {
	case "429":
		if l.struck++; l.struck > 2 { // each time it is asked again after twice as long
			return rep
		}
		return refusal(429)
	case "403", "404", "500":
		status, _ := strconv.Atoi(l.Do)
		return refusal(status)
	case "page 403":
		if s.page > 1 {
			return refusal(403)
		}
	case "web page":
		return reply{200, "text/html", webPage, false}
	case "error with 200":
		return said(`{"error":"try later"}`)
	case "truncated":
		rep.body = rep.body[:len(rep.body)/2]
	case "broken off":
		rep.broken = true
	case "no body":
		rep.body = nil
	}
	return rep
}

// lookUp answers for one record, truly or not.
func (a *adversary) lookUp(key string) reply {
	a.looked++
	t := a.things[key]
	rep := refusal(404)
	if t != nil && !t.Hidden {
		rep = said(`{"data":%s}`, t.json())
	}
	if a.calm {
		return rep
	}
	for _, l := range a.lies {
		if !slices.Contains(lookups, l.Do) || l.N > a.looked || !l.since.IsZero() && time.Since(l.since) > l.For {
			continue
		}
		if l.since.IsZero() {
			l.since = time.Now()
		}
		a.told["lookup "+l.Do]++
		switch l.Do {
		case "moved":
			return refusal(404)
		case "forbidden":
			return refusal(403)
		case "some forbidden":
			if strings.ContainsAny(key, "13579") {
				return refusal(403)
			}
			continue
		case "web page 404":
			return reply{404, "text/html", webPage, false}
		case "500":
			return refusal(500)
		default:
			other := thing{ID: "other", At: time.Now(), N: 1, Open: true}
			return said(`{"data":%s}`, other.json())
		}
	}
	return rep
}
