package simulator_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/simulator"
)

// subject is one of the simulated systems, as the tests of faults see it: a listing in pages of ten, and lookups.
type subject struct {
	*simulator.Upstream
	resource string
	cursor   bool // positions are opaque cursors
	login    bool // what a login gave out can end
	page     func(position string) *httptest.ResponseRecorder
	lookup   func(id string) *httptest.ResponseRecorder
	decode   func(body []byte) (ids []string, next string)
}

// subjects are the four systems, each with a good hundred records.
func subjects(t *testing.T) map[string]subject {
	t.Helper()
	return map[string]subject{"salesloft": salesloftSubject(), "crf-exchange": crfSubject(), "focus": focusSubject(t), "givergy": givergySubject(t)}
}

func salesloftSubject() subject {
	s := simulator.New(simulator.Options{Seed: 1, People: 120, RateBudget: -1})
	ask := func(target string) *httptest.ResponseRecorder {
		return send(s.Handler(), "GET", "/v2/people"+target, "", "Authorization", "Bearer "+simulator.APIKey)
	}
	return subject{
		Upstream: s.Upstream, resource: "people",
		page: func(position string) *httptest.ResponseRecorder {
			return ask("?per_page=10&sort_direction=ASC&page=" + position)
		},
		lookup: func(id string) *httptest.ResponseRecorder { return ask("/" + id) },
		decode: func(body []byte) ([]string, string) {
			var p page
			if json.Unmarshal(body, &p) != nil || p.Metadata.Paging["current_page"] == nil {
				return nil, ""
			}
			next := ""
			if n := p.Metadata.Paging["next_page"]; n != nil {
				next = strconv.Itoa(*n)
			}
			return keys(p.ids()), next
		},
	}
}

func crfSubject() subject {
	x := exchange(simulator.Options{Seed: 1, RateBudget: -1}, 250)
	return subject{
		Upstream: x.Upstream, resource: "loans", cursor: true,
		page: func(position string) *httptest.ResponseRecorder {
			parameters := []string{"viewType", "Listings", "maxResults", "10"}
			if position != "" {
				parameters = append(parameters, "cursor", position)
			}
			return askCRF(x, "/loans", parameters...)
		},
		lookup: func(id string) *httptest.ResponseRecorder { return askCRF(x, "/loans/"+url.PathEscape(id)) },
		decode: func(body []byte) ([]string, string) {
			var p loanPage
			if json.Unmarshal(body, &p) != nil || p.HasMoreResults == nil || !*p.HasMoreResults {
				return p.ids(), ""
			}
			return p.ids(), p.Cursor
		},
	}
}

func focusSubject(t *testing.T) subject {
	f := focus(simulator.Options{Seed: 1, PageCap: 10}, 120)
	token, _ := focusLogin(t, f)
	ask := func(verb, body string) *httptest.ResponseRecorder {
		return send(f.Handler(), "POST", "/api/client/recording."+verb, body, "Authorization", "Bearer "+token)
	}
	return subject{
		Upstream: f.Upstream, resource: "client/recording", cursor: true, login: true,
		page: func(position string) *httptest.ResponseRecorder {
			if position == "" {
				return ask("cursor", `{}`)
			}
			return ask("cursor", from(position))
		},
		lookup: func(id string) *httptest.ResponseRecorder { return ask("get", `{"interactionId":`+id+`}`) },
		decode: func(body []byte) ([]string, string) {
			var p recordingPage
			if json.Unmarshal(body, &p) != nil || len(p.Recordings) == 0 {
				return nil, ""
			}
			return keys(p.ids()), p.Cursor
		},
	}
}

func givergySubject(t *testing.T) subject {
	g := gala(simulator.Options{Seed: 1, RateBudget: -1}, 1, 0, 0, 120)
	event := exported + "/" + idsOf(rows[[]object](t, g, exported+"?since=-1"))[0] + "/guests"
	cookie := givergyLogin(t, g)
	offset := 0
	return subject{
		Upstream: g.Upstream, resource: "guests", login: true,
		page: func(position string) *httptest.ResponseRecorder {
			offset, _ = strconv.Atoi(position)
			return send(g.Handler(), "GET", fmt.Sprintf("%s?since=-1&limit=10&offset=%d", event, offset), "", "Cookie", cookie)
		},
		lookup: func(id string) *httptest.ResponseRecorder {
			return send(g.Handler(), "GET", event+"/"+id, "", "Cookie", cookie)
		},
		decode: func(body []byte) ([]string, string) {
			var p []object
			if json.Unmarshal(body, &p) != nil || len(p) == 0 {
				return nil, ""
			}
			return idsOf(p), strconv.Itoa(offset + len(p))
		},
	}
}

// at is a page that must be well.
func (s subject) at(t *testing.T, position string) (ids []string, next string) {
	t.Helper()
	w := s.page(position)
	if w.Code != 200 {
		t.Fatalf("page %q: got %d %s", position, w.Code, w.Body)
	}
	return s.decode(w.Body.Bytes())
}

// walk reads the listing to its end.
func (s subject) walk(t *testing.T) []string {
	t.Helper()
	all, next := s.at(t, "")
	for next != "" {
		var ids []string
		ids, next = s.at(t, next)
		all = append(all, ids...)
	}
	return all
}

// everywhere runs a test against each system.
func everywhere(t *testing.T, f func(t *testing.T, s subject)) {
	for name, s := range subjects(t) {
		t.Run(name, func(t *testing.T) { f(t, s) })
	}
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestFaultsThatRefuse(t *testing.T) {
	everywhere(t, func(t *testing.T, s subject) {
		for _, status := range []int{400, 401, 403, 404, 429, 500, 502, 503} { // a burst, and then it is over
			s.Fail(simulator.Fault{Status: status, Times: 2, Resource: s.resource})
			got := []int{s.page("").Code, s.page("").Code, s.page("").Code}
			if diff := cmp.Diff([]int{status, status, 200}, got); diff != "" {
				t.Errorf("%d, twice: -want +got\n%s", status, diff)
			}
		}
		for _, after := range []string{"", "7", "Wed, 21 Oct 2026 07:28:00 GMT"} { // P22
			s.Fail(simulator.Fault{Status: 429, RetryAfter: after})
			if w := s.page(""); w.Code != 429 || w.Header().Get("Retry-After") != after || !json.Valid(w.Body.Bytes()) {
				t.Errorf("429: got %d, Retry-After %q, want %q", w.Code, w.Header().Get("Retry-After"), after)
			}
		}
		s.Fail(simulator.Fault{Kind: simulator.HTML})
		if w := s.page(""); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(w.Body.String(), "<form") {
			t.Errorf("HTML: got %d %s", w.Code, w.Body)
		}
		ids, next := s.at(t, "")
		s.Fail(simulator.Fault{Kind: simulator.Expired})
		s.at(t, "") // carries no cursor
		if got := s.page(next).Code; s.cursor != (got == 410) || !s.cursor && got != 200 {
			t.Errorf("Expired: got %d", got)
		}
		s.Heal()
		s.Fail(simulator.Fault{Kind: simulator.Moved, Times: -1})
		s.at(t, "")
		for _, id := range ids {
			if got := s.lookup(id).Code; got != 404 {
				t.Errorf("Moved: the lookup of %s is %d", id, got)
			}
		}
		s.Heal()
		s.Fail(simulator.Fault{Kind: simulator.FalseGone})
		if lie, truth := s.lookup(ids[0]), s.lookup(ids[0]); lie.Code != 404 || truth.Code != 200 || !json.Valid(lie.Body.Bytes()) {
			t.Errorf("FalseGone: got %d, then %d", lie.Code, truth.Code)
		}
		s.Fail(simulator.Fault{Kind: simulator.Logout, Skip: 1}) // 401 in mid-pass
		_, next = s.at(t, "")
		if got := s.page(next).Code; got != 401 {
			t.Errorf("Logout: got %d, want 401", got)
		}
		if got := s.page(next).Code; s.login != (got == 401) {
			t.Errorf("after Logout: got %d; logins end: %v", got, s.login)
		}
	})
}

func TestFaultsOfTheWire(t *testing.T) {
	everywhere(t, func(t *testing.T, s subject) {
		s.Freeze()
		strip := func(w *httptest.ResponseRecorder) string { // cursors are new in every answer
			ids, _ := s.decode(w.Body.Bytes())
			return strings.Join(ids, " ")
		}
		whole := s.page("")
		s.Fail(simulator.Fault{Kind: simulator.Truncated})
		if w := s.page(""); w.Code != 200 || json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
			t.Errorf("Truncated: got %d %s", w.Code, w.Body)
		}
		s.Fail(simulator.Fault{Kind: simulator.Gzip})
		w := s.page("")
		z, err := gzip.NewReader(w.Body)
		if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("Gzip: %v, %v", err, w.Header())
		}
		body, err := io.ReadAll(z)
		if ids, _ := s.decode(body); err != nil || strings.Join(ids, " ") != strip(whole) {
			t.Errorf("Gzip: %v, got %s", err, body)
		}
		s.Fail(simulator.Fault{Kind: simulator.Duplicate})
		if w := s.page(""); strip(w) != strip(whole) || duplicates(t, w.Body.Bytes()) != 1 || duplicates(t, whole.Body.Bytes()) != 0 {
			t.Errorf("Duplicate: %d names are there twice in %.300s", duplicates(t, w.Body.Bytes()), w.Body)
		}
		ids, _ := s.decode(whole.Body.Bytes())
		s.Fail(simulator.Fault{Kind: simulator.Duplicate})
		if w := s.lookup(ids[0]); duplicates(t, w.Body.Bytes()) != 1 {
			t.Errorf("Duplicate, of a lookup: %.300s", w.Body)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		everywhereInBubble(t, func(s subject) {
			s.Fail(simulator.Fault{Kind: simulator.Slow, N: 40})
			began := time.Now()
			ids, _ := s.at(t, "")
			if took := time.Since(began); took != 40*time.Second || len(ids) != 10 {
				t.Errorf("Slow: took %v for %d records", took, len(ids))
			}
		})
	})
}

// everywhereInBubble is everywhere without subtests, which a bubble does not allow.
func everywhereInBubble(t *testing.T, f func(s subject)) {
	for _, s := range subjects(t) {
		f(s)
	}
}

// duplicates counts names that are in one object more than once.
func duplicates(t *testing.T, body []byte) int {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	n := 0
	var value func()
	value = func() {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[any]bool{}
		for open, _ := token.(json.Delim); (open == '{' || open == '[') && d.More(); value() {
			if open == '{' {
				name, _ := d.Token()
				if seen[name] {
					n++
				}
				seen[name] = true
			}
		}
		if open, is := token.(json.Delim); is && (open == '{' || open == '[') {
			_, _ = d.Token() // its end
		}
	}
	value()
	return n
}

func TestFaultsOfListings(t *testing.T) {
	everywhere(t, func(t *testing.T, s subject) {
		first, next := s.at(t, "")
		second, third := s.at(t, next)
		all := s.walk(t)
		plant := func(kind simulator.Kind, n int, position string) []string {
			t.Helper()
			s.Fail(simulator.Fault{Kind: kind, N: n, Resource: s.resource})
			ids, _ := s.at(t, position)
			return ids
		}
		if len(first) != 10 || len(second) != 10 || third == "" || len(all) < 100 {
			t.Fatalf("pages of %d and %d, %d in all", len(first), len(second), len(all))
		}
		if got := plant(simulator.Empty, 0, ""); len(got) != 0 {
			t.Errorf("Empty: got %v", got)
		}
		if got := plant(simulator.DropPage, 0, ""); !slices.Equal(got, second) {
			t.Errorf("DropPage: got %v, want %v", got, second)
		}
		if got := plant(simulator.RepeatPage, 0, next); !slices.Equal(got, first) {
			t.Errorf("RepeatPage: got %v, want %v", got, first)
		}
		if got := plant(simulator.Shuffle, 0, ""); slices.Equal(got, first) || !same(got, first) {
			t.Errorf("Shuffle: got %v, want %v in another order", got, first)
		}
		if got := plant(simulator.Capped, 4, ""); !slices.Equal(got, first[:4]) {
			t.Errorf("Capped: got %v, want %v", got, first[:4])
		}
		s.Fail(simulator.Fault{Kind: simulator.CutListing, N: 25, Times: -1})
		if got := s.walk(t); !slices.Equal(got, all[:25]) {
			t.Errorf("CutListing: got %d records, want 25", len(got))
		}
		s.Heal()
		for _, id := range plant(simulator.Tenant, 0, "") {
			if slices.Contains(all, id) || s.lookup(id).Code != 404 {
				t.Errorf("Tenant: %s is one of ours", id)
			}
		}
		s.Fail(simulator.Fault{Kind: simulator.Hidden, Times: -1})
		half := s.walk(t)
		if len(half) < len(all)/3 || len(half) > 2*len(all)/3 {
			t.Errorf("Hidden: %d of %d are left", len(half), len(all))
		}
		for _, id := range all {
			if seen, got := slices.Contains(half, id), s.lookup(id).Code; seen != (got == 200) {
				t.Errorf("Hidden: %s is listed: %v, its lookup is %d", id, seen, got)
			}
		}
		s.Heal()
		var byNumber []string
		for state := range s.History(s.resource) {
			if slices.Contains(all, state.ID) && !slices.Contains(byNumber, state.ID) {
				byNumber = append(byNumber, state.ID)
			}
		}
		if got := plant(simulator.IgnoreSort, 0, ""); !slices.Equal(got, byNumber[:10]) || slices.Equal(got, first) {
			t.Errorf("IgnoreSort: got %v, want %v", got, byNumber[:10])
		}
		if got := plant(simulator.IgnoreFilter, 0, next); s.cursor && !slices.Equal(got, first) {
			t.Errorf("IgnoreFilter: got %v, want %v", got, first)
		}
	})
}

func TestFaultsOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		everywhereInBubble(t, func(s subject) {
			all := s.walk(t)
			read := func() string { return s.lookup(all[0]).Body.String() }
			before := read()
			for read() == before { // until it has changed
				s.Change(s.resource, 100)
			}
			now := read()
			s.Fail(simulator.Fault{Kind: simulator.Stale, N: 1 << 20})
			if got := read(); got != before || read() != now {
				t.Errorf("%s: Stale: got %s, want %s", s.resource, got, before)
			}
			gone := s.Delete(s.resource, 1000)
			s.Fail(simulator.Fault{Kind: simulator.Stale, N: len(gone)})
			old, _ := s.at(t, "")
			if present, _ := s.at(t, ""); len(old) != 10 || len(present) != 0 {
				t.Errorf("%s: Stale: %d records on the old page, %d now", s.resource, len(old), len(present))
			}
			s.Restore(s.resource, 1000)

			s.Fail(simulator.Fault{Kind: simulator.LateCommits, N: 7})
			if s.at(t, ""); s.Stats().Pending != 7 {
				t.Errorf("%s: LateCommits: %d are pending", s.resource, s.Stats().Pending)
			}
			wait(time.Minute)
			if s.Stats().Pending != 0 {
				t.Errorf("%s: LateCommits: %d are pending after a minute", s.resource, s.Stats().Pending)
			}
			s.Fail(simulator.Fault{Kind: simulator.Ties, N: 33})
			s.at(t, "")
			tied := map[time.Time]map[string]bool{}
			most := 0
			for state := range s.History(s.resource) {
				if tied[state.Updated] == nil {
					tied[state.Updated] = map[string]bool{}
				}
				tied[state.Updated][state.ID] = true
				most = max(most, len(tied[state.Updated]))
			}
			if most != 33 {
				t.Errorf("%s: Ties: the longest run is %d", s.resource, most)
			}
		})
	})
}

// What a lying answer showed is noted, and nothing else is: who reads the API cannot tell it from the truth.
func TestWhatLiesShowed(t *testing.T) {
	everywhere(t, func(t *testing.T, s subject) {
		all := s.walk(t)
		key := all[0]
		shown := func() (got []string) {
			for state := range s.Shown(s.resource) {
				got = append(got, fmt.Sprint(state.ID, state.Value != nil))
			}
			return got
		}
		s.lookup(key)
		s.Fail(simulator.Fault{Kind: simulator.DropPage})
		s.at(t, "")
		if got := shown(); got != nil {
			t.Errorf("of answers that are true: %q", got)
		}
		for before := s.lookup(key).Body.String(); s.lookup(key).Body.String() == before; {
			s.Change(s.resource, 100)
		}
		s.Fail(simulator.Fault{Kind: simulator.Stale, N: 1 << 20})
		s.lookup(key)
		s.Fail(simulator.Fault{Kind: simulator.Hidden, Times: len(all)})
		gone := ""
		for _, id := range all {
			if s.lookup(id).Code == 404 && gone == "" {
				gone = id
			}
		}
		s.Heal()
		if got := shown(); len(got) < 2 || got[0] != key+"true" || got[1] != gone+"false" {
			t.Errorf("a stale lookup of %s, and one that does not find %s: %q", key, gone, got)
		}
		told := len(shown())
		s.Fail(simulator.Fault{Kind: simulator.Tenant})
		ids, _ := s.at(t, "")
		got := shown()[told:]
		for _, id := range ids {
			if !slices.Contains(got, id+"true") {
				t.Errorf("another tenant's %s is not among %q", id, got)
			}
		}
		if n := s.Stats().Struck; n[simulator.Stale] != 1 || n[simulator.Tenant] != 1 || n[simulator.Hidden] == 0 {
			t.Errorf("struck: %v", n)
		}
	})
}

// Rows that move lose their neighbours where pages are numbers or offsets (P5); opaque cursors do not care.
func TestDrift(t *testing.T) {
	everywhere(t, func(t *testing.T, s subject) {
		all := s.walk(t)
		s.Fail(simulator.Fault{Kind: simulator.Drift, N: 2})
		changes := s.Stats().Changes
		drifted := s.walk(t)
		if s.Stats().Changes == changes {
			t.Error("nothing moved")
		}
		lost := 0
		for _, id := range all {
			if !slices.Contains(drifted, id) {
				lost++
			}
		}
		if want := map[bool]int{true: 0, false: 2}[s.cursor]; lost != want {
			t.Errorf("%d records were lost, want %d", lost, want)
		}
	})
}

func TestFaultsTakeTurns(t *testing.T) {
	s := people(3)
	ask := func(n int) []int {
		var got []int
		for range n {
			got = append(got, get(t, s, "/people").status)
		}
		return got
	}
	s.Fail(simulator.Fault{Status: 503, Skip: 1, Times: 2, Every: 3})
	if diff := cmp.Diff([]int{200, 503, 200, 200, 503, 200, 200, 200, 200}, ask(9)); diff != "" {
		t.Errorf("skip 1, every third, twice: -want +got\n%s", diff)
	}
	s.Fail(simulator.Fault{Status: 500})
	s.Fail(simulator.Fault{Status: 502})
	if diff := cmp.Diff([]int{500, 502, 200}, ask(3)); diff != "" {
		t.Errorf("two refusals: -want +got\n%s", diff)
	}
	s.Fail(simulator.Fault{Kind: "no such kind", Times: -1})
	if diff := cmp.Diff([]int{200}, ask(1)); diff != "" {
		t.Errorf("an unknown kind: -want +got\n%s", diff)
	}
	all := get(t, s, "/people").ids() // together
	s.Fail(simulator.Fault{Kind: simulator.Capped, N: 2})
	s.Fail(simulator.Fault{Kind: simulator.DropPage})
	s.Fail(simulator.Fault{Kind: simulator.Gzip})
	s.Fail(simulator.Fault{Kind: simulator.Truncated, Skip: 1})
	failed := s.Stats().Failed
	q := httptest.NewRequest("GET", "/v2/people", nil)
	q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
	w := do(s, q)
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p page
	if err := json.NewDecoder(z).Decode(&p); err != nil || len(p.Data) != 1 || p.ids()[0] != all[2] {
		t.Errorf("capped at two, the second page, packed: %v, got %v of %v", err, p.ids(), all)
	}
	if n := s.Stats().Failed - failed; n != 1 {
		t.Errorf("three faults on one request count as %d", n)
	}
}

// A fault of a category strikes that array of the bundle alone.
func TestFaultOfACategory(t *testing.T) {
	g := gala(simulator.Options{Seed: 1, RateBudget: -1}, 1, 5, 0, 0)
	path := exported + "/" + idsOf(rows[[]object](t, g, exported+"?since=-1"))[0] + "/items?since=-1"
	if future := rows[map[string][]object](t, g, strings.Replace(path, "-1", "9999999999", 1)); len(future["pledges"]) != 0 {
		t.Errorf("since the year 2286: %v", future)
	}
	g.Fail(simulator.Fault{Kind: simulator.Empty, Resource: "items/tickets"})
	got := map[string]int{}
	for category, records := range rows[map[string][]object](t, g, path) {
		got[category] = len(records)
	}
	if diff := cmp.Diff(map[string]int{"buyNows": 5, "auctionItems": 5, "pledges": 5, "prizeDraws": 5, "gliRaffles": 5, "tickets": 0}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	g.Fail(simulator.Fault{Kind: simulator.IgnoreFilter})
	if future := rows[map[string][]object](t, g, strings.Replace(path, "-1", "9999999999", 1)); len(future["pledges"]) != 5 {
		t.Errorf("IgnoreFilter: since the year 2286: %v", future)
	}
}

// K19: the refresh token is used up, and nobody has its successor.
func TestARotatedTokenIsLost(t *testing.T) {
	s := simulator.New(simulator.Options{Tokens: true})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {simulator.RefreshToken}, "client_id": {simulator.ClientID}, "client_secret": {simulator.ClientSecret}}
	s.Fail(simulator.Fault{Kind: simulator.Reset, Resource: "oauth/token"})
	if answer, err := server.Client().PostForm(server.URL+"/oauth/token", form); err == nil {
		answer.Body.Close()
		t.Fatal("the answer came")
	}
	if status, answer := refresh(t, s, simulator.RefreshToken); status != 400 || answer["error"] != "invalid_grant" || s.Stats().Refreshes != 1 {
		t.Errorf("the same token again: got %d %v after %d refreshes", status, answer, s.Stats().Refreshes)
	}
}

func TestEveryFaultIsDescribed(t *testing.T) {
	for _, k := range simulator.Faults() {
		if k.Kind == "" || k.Does == "" {
			t.Errorf("%+v", k)
		}
	}
}

// What the histories say is what lookups and lists show, in the life that every system leads.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := simulator.Lively(5)
		o.RateBudget, o.Deletes, o.Restores, o.Moves = -1, 0.1, 0.05, 0.1
		o.Records = map[string]int{"loans": 100, "client/recording": 100, "events": 6, "items": 8, "purchases": 10, "guests": 40}
		crf, focus, givergy := simulator.NewCRF(o), simulator.NewFocus(o), simulator.NewGivergy(o)
		systems := []*simulator.Upstream{crf.Upstream, focus.Upstream, givergy.Upstream}
		for range 30 {
			for _, u := range systems {
				u.Step(30)
			}
			wait(time.Second)
		}
		for _, u := range systems {
			u.Freeze()
			vanished, returned := 0, 0
			for _, resource := range u.Resources() {
				last := map[string]simulator.State{}
				var at time.Time
				for state := range u.History(resource) {
					if state.At.Before(at) {
						t.Fatalf("%s: %v after %v", resource, state.At, at)
					}
					before, known := last[state.Key]
					switch at = state.At; {
					case state.Value == nil && (!known || before.Value == nil):
						t.Errorf("%s: %s went twice", resource, state.Key)
					case state.Value == nil:
						vanished++
					case known && before.Value == nil:
						returned++
					}
					last[state.Key] = state
				}
				live := map[string]bool{}
				for _, state := range last {
					if state.Value != nil {
						live[state.ID] = true
					}
				}
				if n := u.Stats().Live[resource]; n != len(live) {
					t.Errorf("%s: %d live, and %d in the history", resource, n, len(live))
				}
			}
			if vanished == 0 || returned == 0 {
				t.Errorf("%v: %d vanished, %d returned", u.Resources(), vanished, returned)
			}
		}
		for _, view := range views {
			listed, _ := walk(t, crf, view, "")
			want := []string{}
			last := map[string]simulator.State{}
			for state := range crf.History("loans") {
				last[state.Key] = state
			}
			for _, state := range last {
				if state.Partition == view && state.Value != nil {
					want = append(want, state.ID)
				}
			}
			if !same(listed, want) {
				t.Errorf("%s: %d listed, %d in the history", view, len(listed), len(want))
			}
		}
	})
}
