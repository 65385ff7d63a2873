package simulator_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/simulator"
)

// page is an answer of the API, decoded.
type page struct {
	status   int
	header   http.Header
	body     []byte
	Metadata struct {
		Filtering map[string]map[string]string
		Paging    map[string]*int
		Sorting   map[string]string
	}
	Data   []map[string]any
	Error  string
	Errors map[string][]string
}

func (p page) ids() []int {
	ids := []int{}
	for _, record := range p.Data {
		ids = append(ids, int(record["id"].(float64)))
	}
	return ids
}

// updated is the updated_at of every record on the page, as instants; null is the zero time.
func (p page) updated(t *testing.T) []time.Time {
	t.Helper()
	var all []time.Time
	for _, record := range p.Data {
		text, _ := record["updated_at"].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil && text != "" {
			t.Fatal(err)
		}
		all = append(all, at)
	}
	return all
}

// do sends a request straight to the handler.
func do(s *simulator.SalesLoft, q *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, q)
	return w
}

// get asks the API; parameters are name, value, name, value.
func get(t *testing.T, s *simulator.SalesLoft, path string, parameters ...string) page {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	q := httptest.NewRequest("GET", "/v2"+path+"?"+values.Encode(), nil)
	q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
	w := do(s, q)
	p := page{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	if len(p.body) > 0 && p.body[0] == '{' {
		var single struct{ Data json.RawMessage }
		if json.Unmarshal(p.body, &single) == nil && strings.HasPrefix(string(single.Data), "{") {
			p.Data = make([]map[string]any, 1)
			if err := json.Unmarshal(single.Data, &p.Data[0]); err != nil {
				t.Fatal(err)
			}
		} else if err := json.Unmarshal(p.body, &p); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, p.body)
		}
	}
	return p
}

func people(n int) *simulator.SalesLoft { return simulator.New(simulator.Options{Seed: 1, People: n}) }

func TestEnvelope(t *testing.T) {
	s := people(5)
	p := get(t, s, "/people", "per_page", "2", "page", "2")
	number := func(n int) *int { return &n }
	if p.status != 200 || p.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("got status %d, content type %q", p.status, p.header.Get("Content-Type"))
	}
	want := map[string]*int{"per_page": number(2), "current_page": number(2), "next_page": number(3), "prev_page": number(1)}
	if diff := cmp.Diff(want, p.Metadata.Paging); diff != "" {
		t.Errorf("paging: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"sort_by": "updated_at", "sort_direction": "DESC NULLS LAST"}, p.Metadata.Sorting); diff != "" {
		t.Errorf("sorting: -want +got\n%s", diff)
	}
	if !strings.Contains(string(p.body), `"metadata":{"filtering":{},"paging"`) {
		t.Errorf("no empty filtering in %.100s", p.body)
	}
	last := get(t, s, "/people", "per_page", "2", "page", "3", "include_paging_counts", "true").Metadata.Paging
	want = map[string]*int{"per_page": number(2), "current_page": number(3), "next_page": nil, "prev_page": number(2), "total_pages": number(3), "total_count": number(5)}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("last page, with counts: -want +got\n%s", diff)
	}
	if got := get(t, s, "/people.json", "per_page", "1"); got.status != 200 || len(got.Data) != 1 {
		t.Errorf(".json: got %d, %d records", got.status, len(got.Data))
	}
}

func TestOrder(t *testing.T) {
	s := simulator.New(simulator.Options{Seed: 3, People: 60, NullUpdated: 3, Ties: 0.3})
	down := get(t, s, "/people", "per_page", "100")
	up := get(t, s, "/people", "per_page", "100", "sort_by", "updated_at", "sort_direction", "asc")
	ascending := func(a, b time.Time) int { return a.Compare(b) }
	if !slices.IsSortedFunc(up.updated(t), ascending) || len(up.Data) != 60 {
		t.Errorf("ASC is not in order: %v", up.updated(t))
	}
	if diff := cmp.Diff([]int{1, 2, 3}, up.ids()[:3]); diff != "" {
		t.Errorf("ASC puts nulls first: -want +got\n%s", diff)
	}
	reversed := slices.Clone(up.ids())
	slices.Reverse(reversed)
	if diff := cmp.Diff(reversed, down.ids()); diff != "" {
		t.Errorf("the default is DESC: -want +got\n%s", diff)
	}
	ties := 0
	for i, at := range up.updated(t)[1:] {
		if !at.IsZero() && at.Equal(up.updated(t)[i]) {
			ties++
		}
	}
	if ties == 0 {
		t.Error("no two records of a seeded team share a microsecond")
	}
	byID := get(t, s, "/people", "sort_by", "id", "sort_direction", "ASC", "per_page", "100").ids()
	if !slices.IsSorted(byID) || len(byID) != 60 {
		t.Errorf("sort_by=id: got %v", byID)
	}
	contacted := get(t, s, "/people", "sort_by", "last_contacted_at", "sort_direction", "ASC", "per_page", "100").Data
	if contacted[0]["last_contacted_at"] != nil || contacted[59]["last_contacted_at"] == nil {
		t.Errorf("last_contacted_at ASC: got %v first and %v last, want null first", contacted[0]["last_contacted_at"], contacted[59]["last_contacted_at"])
	}
}

// APIS.md §1, first trap: the guide's "sort" is no parameter, and what is no parameter is ignored.
func TestUnknownParametersAreIgnored(t *testing.T) {
	s := simulator.New(simulator.Options{People: 9, Users: 9})
	if diff := cmp.Diff(get(t, s, "/people").ids(), get(t, s, "/people", "sort", "id", "updated_after", "2999-01-01").ids()); diff != "" {
		t.Errorf("people: -want +got\n%s", diff)
	}
	byID := get(t, s, "/users", "sort", "updated_at", "sort_direction", "ASC", "updated_at[gte]", "2999-01-01")
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 7, 8, 9}, byID.ids()); diff != "" {
		t.Errorf("users have no filter and sort by id: -want +got\n%s", diff)
	}
}

func TestFilters(t *testing.T) {
	s := simulator.New(simulator.Options{Seed: 2, People: 40, NullUpdated: 2})
	all := get(t, s, "/people", "sort_direction", "ASC", "per_page", "100")
	at := all.updated(t)
	text := all.Data[20]["updated_at"].(string)
	asked := func(parameters ...string) []int {
		t.Helper()
		p := get(t, s, "/people", append(parameters, "sort_direction", "ASC", "per_page", "100")...)
		if p.status != 200 {
			t.Fatalf("%q: status %d: %s", parameters, p.status, p.body)
		}
		return p.ids()
	}
	ids := all.ids()
	for _, c := range []struct {
		op   string
		want []int
	}{
		{"gte", ids[20:]}, {"gt", ids[21:]}, {"lte", ids[2:21]}, {"lt", ids[2:20]},
	} {
		if diff := cmp.Diff(c.want, asked("updated_at["+c.op+"]", text)); diff != "" {
			t.Errorf("%s the value itself: -want +got\n%s", c.op, diff)
		}
	}
	if diff := cmp.Diff(ids[10:20], asked("updated_at[gt]", all.Data[9]["updated_at"].(string), "updated_at[lt]", text)); diff != "" {
		t.Errorf("combined: -want +got\n%s", diff)
	}
	// Instants are compared, not strings, at microseconds: finer digits are cut off.
	utc := at[20].UTC().Format("2006-01-02T15:04:05.000000Z")
	finer := at[20].UTC().Format("2006-01-02T15:04:05.000000") + "9Z"
	before := at[20].Add(-time.Microsecond).UTC().Format(time.RFC3339Nano)
	for name, c := range map[string]struct {
		op, text string
		want     []int
	}{
		"another zone": {"gte", utc, ids[20:]}, "finer, gte": {"gte", finer, ids[20:]}, "finer, gt": {"gt", finer, ids[21:]},
		"a microsecond before, gt": {"gt", before, ids[20:]}, "a day": {"gte", at[20].UTC().AddDate(0, 0, 400).Format("2006-01-02"), ids[40:]},
	} {
		if diff := cmp.Diff(c.want, append([]int{}, asked("updated_at["+c.op+"]", c.text)...)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	p := get(t, s, "/people", "updated_at[gte]", text, "updated_at[lt]", utc)
	if diff := cmp.Diff(map[string]map[string]string{"updated_at": {"gte": text, "lt": utc}}, p.Metadata.Filtering); diff != "" {
		t.Errorf("echo: -want +got\n%s", diff)
	}
	if got := asked("ids[]", "3", "ids[]", "4000", "ids[]", "5"); len(got) != 2 {
		t.Errorf("unknown ids are left out: got %v", got)
	}
	if got := asked("ids", "3,5"); len(got) != 2 {
		t.Errorf("ids as a list: got %v", got)
	}
}

// An unescaped + arrives as a blank; that is no timestamp.
func TestInvalidIs422(t *testing.T) {
	s := people(3)
	for parameters, field := range map[[2]string]string{
		{"updated_at[gte]", "yesterday"}:                       "updated_at",
		{"updated_at[gt]", "2018-03-13T00:41:41.550510 04:00"}: "updated_at",
		{"updated_at[lt]", ""}:                                 "updated_at",
		{"sort_by", "first_name_of_dog"}:                       "sort_by",
		{"sort_direction", "UP"}:                               "sort_direction",
		{"ids", "a"}:                                           "ids",
	} {
		p := get(t, s, "/people", parameters[0], parameters[1])
		if p.status != 422 || len(p.Errors[field]) == 0 {
			t.Errorf("%q: got %d %s, want 422 and errors.%s", parameters, p.status, p.body, field)
		}
	}
}

func TestPerPageIsSilentlyCorrected(t *testing.T) {
	s := people(130)
	for sent, want := range map[string]int{"": 25, "0": 25, "-3": 25, "many": 25, "1": 1, "100": 100, "101": 100, "1000": 100} {
		p := get(t, s, "/people", "per_page", sent)
		if p.status != 200 || len(p.Data) != want || *p.Metadata.Paging["per_page"] != want {
			t.Errorf("per_page=%s: got %d, %d records, echo %d; want %d", sent, p.status, len(p.Data), *p.Metadata.Paging["per_page"], want)
		}
	}
	capped := simulator.New(simulator.Options{People: 130, PageCap: 50})
	if p := get(t, capped, "/people", "per_page", "100"); len(p.Data) != 50 || *p.Metadata.Paging["per_page"] != 50 {
		t.Errorf("PageCap 50: got %d records, echo %d", len(p.Data), *p.Metadata.Paging["per_page"])
	}
}

func TestPastTheEndIsEmpty(t *testing.T) {
	s := simulator.New(simulator.Options{People: 10, RateBudget: -1})
	for _, number := range []string{"2", "500", "9223372036854775807"} {
		p := get(t, s, "/people", "page", number)
		if p.status != 200 || len(p.Data) != 0 || p.Metadata.Paging["next_page"] != nil || !strings.Contains(string(p.body), `"data":[]`) {
			t.Errorf("page %s: got %d %s", number, p.status, p.body)
		}
	}
	if p := get(t, simulator.New(simulator.Options{}), "/people"); p.status != 200 || len(p.Data) != 0 {
		t.Errorf("an empty team: got %d %s", p.status, p.body)
	}
}

func TestSingleRecords(t *testing.T) {
	s := people(3)
	if p := get(t, s, "/people/2"); p.status != 200 || p.ids()[0] != 2 {
		t.Errorf("got %d %s", p.status, p.body)
	}
	for _, id := range []string{"4", "0", "x", "99999999999999999999"} {
		if p := get(t, s, "/people/"+id); p.status != 404 || p.Error == "" {
			t.Errorf("%s: got %d %s, want 404", id, p.status, p.body)
		}
	}
	gone := s.Delete("people", 1)
	if p := get(t, s, "/people/"+gone[0]+".json"); p.status != 404 {
		t.Errorf("a removed record: got %d", p.status)
	}
	for _, path := range []string{"/dogs", "/dogs/1", "/activities"} {
		if p := get(t, s, path); p.status != 404 || p.Error == "" {
			t.Errorf("%s: got %d %s, want 404", path, p.status, p.body)
		}
	}
}

// The offset of the team's zone moves with daylight saving.
func TestTimestamps(t *testing.T) {
	s := simulator.New(simulator.Options{Seed: 5, People: 300})
	offsets := map[string]int{}
	for _, name := range []string{"created_at", "updated_at"} {
		for number := 1; number <= 3; number++ {
			for _, record := range get(t, s, "/people", "per_page", "100", "page", strconv.Itoa(number)).Data {
				text := record[name].(string)
				if _, err := time.Parse("2006-01-02T15:04:05.000000-07:00", text); err != nil || len(text) != 32 {
					t.Fatalf("%s: %q: %v", name, text, err)
				}
				offsets[text[26:]]++
			}
		}
	}
	if len(offsets) != 2 || offsets["-04:00"] == 0 || offsets["-05:00"] == 0 {
		t.Errorf("offsets over 200 days in New York: %v", offsets)
	}
}

func TestRateCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{People: 10})
		remaining := 600
		for _, c := range []struct{ page, cost int }{{1, 1}, {100, 1}, {101, 3}, {150, 3}, {151, 8}, {250, 8}, {251, 10}, {500, 10}, {501, 30}} {
			p := get(t, s, "/people", "page", strconv.Itoa(c.page))
			remaining -= c.cost
			if got := p.header.Get("x-ratelimit-endpoint-cost"); got != strconv.Itoa(c.cost) {
				t.Errorf("page %d: cost %s, want %d", c.page, got, c.cost)
			}
			if got := p.header.Get("x-ratelimit-remaining-minute"); got != strconv.Itoa(remaining) {
				t.Errorf("page %d: remaining %s, want %d", c.page, got, remaining)
			}
		}
	})
}

// The budget ends with the minute of the Date header, not sixty seconds after the first call.
func TestThrottledUntilTheClockMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{People: 10, Skew: 7 * time.Second})
		wait(40 * time.Second) // 47 s past the minute by the server's clock
		s.Spend(598)           // another integration of the team
		for range 2 {
			if p := get(t, s, "/people"); p.status != 200 {
				t.Fatalf("inside the budget: got %d", p.status)
			}
		}
		p := get(t, s, "/people")
		if p.status != 429 || p.Error != "API rate limit exceeded" || p.header.Get("Retry-After") != "" || p.header.Get("x-ratelimit-remaining-minute") != "0" {
			t.Errorf("over the budget: got %d %s, headers %v", p.status, p.body, p.header)
		}
		date, err := http.ParseTime(p.header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		if date.Second() != 47 {
			t.Errorf("Date: got %v, want 47 s past the minute", date)
		}
		wait(12 * time.Second)
		if p := get(t, s, "/people"); p.status != 429 {
			t.Errorf("59 s past the minute: got %d", p.status)
		}
		wait(time.Second)
		if p := get(t, s, "/people"); p.status != 200 {
			t.Errorf("the next minute: got %d", p.status)
		}
		if got := s.Stats().Throttled; got != 2 {
			t.Errorf("throttled: got %d, want 2", got)
		}
	})
}

// wait lets time pass in a bubble.
func wait(d time.Duration) { <-time.After(d) }

func TestUnauthorized(t *testing.T) {
	s := people(3)
	for _, header := range []string{"", "Bearer wrong", simulator.APIKey, "Basic " + simulator.APIKey} {
		q := httptest.NewRequest("GET", "/v2/people", nil)
		q.Header.Set("Authorization", header)
		w := do(s, q)
		if w.Code != 401 || !strings.Contains(w.Body.String(), `{"error":"`) {
			t.Errorf("Authorization %q: got %d %s", header, w.Code, w.Body)
		}
	}
	if got := get(t, s, "/people").header.Get("x-ratelimit-remaining-minute"); got != "599" {
		t.Errorf("refused calls cost: remaining %s", got)
	}
}

// token asks for tokens.
func token(t *testing.T, s *simulator.SalesLoft, form ...string) (int, map[string]any) {
	t.Helper()
	values := url.Values{"client_id": {simulator.ClientID}, "client_secret": {simulator.ClientSecret}}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	q := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(values.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := do(s, q)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, answer
}

func refresh(t *testing.T, s *simulator.SalesLoft, with string) (int, map[string]any) {
	t.Helper()
	return token(t, s, "grant_type", "refresh_token", "refresh_token", with)
}

// with asks for people with an access token and returns the status.
func with(s *simulator.SalesLoft, access any) int {
	q := httptest.NewRequest("GET", "/v2/people", nil)
	q.Header.Set("Authorization", fmt.Sprintf("Bearer %v", access))
	return do(s, q).Code
}

func TestRefreshTokensAreSingleUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{People: 3, Tokens: true})
		status, first := refresh(t, s, simulator.RefreshToken)
		if status != 200 || first["expires_in"] != 7200.0 || first["token_type"] != "bearer" || first["refresh_token"] == simulator.RefreshToken {
			t.Fatalf("first: got %d %v", status, first)
		}
		if status, answer := refresh(t, s, simulator.RefreshToken); status != 400 || answer["error"] != "invalid_grant" || answer["error_description"] == "" {
			t.Errorf("a used one: got %d %v, want invalid_grant", status, answer)
		}
		if got := with(s, first["access_token"]); got != 200 {
			t.Errorf("access token: got %d", got)
		}
		wait(2 * time.Hour)
		if got := with(s, first["access_token"]); got != 401 {
			t.Errorf("after expires_in: got %d, want 401", got)
		}
		status, second := refresh(t, s, first["refresh_token"].(string))
		if status != 200 || with(s, second["access_token"]) != 200 {
			t.Errorf("second: got %d %v", status, second)
		}
		s.ExpireTokens()
		if got := with(s, second["access_token"]); got != 401 {
			t.Errorf("after ExpireTokens: got %d, want 401", got)
		}
		s.RevokeGrant()
		if status, answer := refresh(t, s, second["refresh_token"].(string)); status != 400 || answer["error"] != "invalid_grant" {
			t.Errorf("after RevokeGrant: got %d %v", status, answer)
		}
		if got := s.Stats().Refreshes; got != 2 {
			t.Errorf("refreshes: got %d, want 2", got)
		}
		if status, third := refresh(t, s, s.Authorize()); status != 200 || with(s, third["access_token"]) != 200 {
			t.Errorf("a person agreed anew: got %d %v", status, third)
		}
	})
}

// K19: an answer that got lost can be asked for again where the server waits for the first use of the new token.
func TestTokenGrace(t *testing.T) {
	s := simulator.New(simulator.Options{People: 3, Tokens: true, TokenGrace: true})
	s.Fail(simulator.Fault{Kind: simulator.Truncated, Resource: "oauth/token"})
	q := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(url.Values{"grant_type": {"refresh_token"}, "client_id": {simulator.ClientID},
		"client_secret": {simulator.ClientSecret}, "refresh_token": {simulator.RefreshToken}}.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := do(s, q); w.Code != 200 || json.Valid(w.Body.Bytes()) {
		t.Fatalf("the lost answer: got %d %s", w.Code, w.Body)
	}
	status, again := refresh(t, s, simulator.RefreshToken)
	if status != 200 {
		t.Fatalf("the same token again: got %d %v", status, again)
	}
	if got := with(s, again["access_token"]); got != 200 {
		t.Errorf("access token: got %d", got)
	}
	if status, _ := refresh(t, s, simulator.RefreshToken); status != 400 {
		t.Errorf("after the new token was used: got %d, want 400", status)
	}
}

func TestOtherGrants(t *testing.T) {
	s := simulator.New(simulator.Options{People: 3, Tokens: true})
	status, answer := token(t, s, "grant_type", "client_credentials")
	if status != 200 || answer["refresh_token"] != nil || with(s, answer["access_token"]) != 200 {
		t.Errorf("client_credentials: got %d %v", status, answer)
	}
	if status, answer := token(t, s, "grant_type", "password"); status != 400 || answer["error"] != "unsupported_grant_type" {
		t.Errorf("password: got %d %v", status, answer)
	}
	if status, answer := token(t, s, "grant_type", "client_credentials", "client_secret", "wrong"); status != 401 || answer["error"] != "invalid_client" {
		t.Errorf("wrong secret: got %d %v", status, answer)
	}
	if status, _ := token(t, people(1), "grant_type", "client_credentials"); status != 404 {
		t.Errorf("without Options.Tokens: got %d, want 404", status)
	}
}

// record asks for one record.
func record(t *testing.T, s *simulator.SalesLoft, resource, id string) map[string]any {
	t.Helper()
	p := get(t, s, "/"+resource+"/"+id)
	if p.status != 200 {
		t.Fatalf("%s/%s: got %d %s", resource, id, p.status, p.body)
	}
	return p.Data[0]
}

// without returns a copy of a record less some members.
func without(record map[string]any, names ...string) map[string]any {
	rest := map[string]any{}
	for name, value := range record {
		if !slices.Contains(names, name) {
			rest[name] = value
		}
	}
	return rest
}

// team has n records of every kind.
func team(seed int64, n int) *simulator.SalesLoft {
	records := map[string]int{}
	for _, resource := range people(0).Resources() {
		records[resource] = n
	}
	return simulator.New(simulator.Options{Seed: seed, People: n, Accounts: n, Calls: n, Emails: n, Cadences: n, CadenceMemberships: n,
		Notes: n, Users: n, Records: records, RateBudget: -1})
}

// APIS.md §1: which resources there are, which of them can be filtered, and what they are sorted by when nothing is said.
func TestEndpoints(t *testing.T) {
	s := team(3, 40)
	filtered := []string{
		"account_stages", "accounts", "actions", "activities/calls", "activities/emails", "activity_histories", "cadence_memberships", "cadences",
		"call_data_records", "crm_activities", "email_templates", "notes", "people", "successes", "team_templates",
	}
	snapshots := []string{"users", "tasks", "steps", "tags", "groups", "custom_fields", "imports", "crm_users", "person_stages"}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(filtered), snapshots...))), slices.Sorted(slices.Values(s.Resources()))); diff != "" {
		t.Errorf("resources: -want +got\n%s", diff)
	}
	sorts := map[string]string{
		"activity_histories": "occurred_at", "tasks": "due_date", "cadence_memberships": "added_at", "users": "id", "crm_users": "id", "tags": "name", "imports": "created_at",
	}
	for _, resource := range s.Resources() {
		by := "updated_at"
		if other, ok := sorts[resource]; ok {
			by = other
		}
		p := get(t, s, "/"+resource, "sort_direction", "ASC", "updated_at[gte]", "2999-01-01", "per_page", "100")
		want := 40
		if slices.Contains(filtered, resource) {
			want = 0
		}
		if p.status != 200 || len(p.Data) != want || p.Metadata.Sorting["sort_by"] != by {
			t.Errorf("%s: got %d, %d records by %v; want %d by %s", resource, p.status, len(p.Data), p.Metadata.Sorting, want, by)
		}
		if paging := strings.Contains(string(p.body), `"paging":`); paging == (resource == "groups") {
			t.Errorf("%s: metadata.paging is there: %v", resource, paging)
		}
		gone := s.Delete(resource, 1)[0]
		if p := get(t, s, "/"+resource+"/"+gone); p.status != 404 {
			t.Errorf("%s/%s is gone: got %d", resource, gone, p.status)
		}
	}
	texts := []string{}
	for _, task := range get(t, s, "/tasks", "sort_direction", "ASC", "per_page", "100").Data {
		texts = append(texts, task["due_date"].(string))
	}
	if !slices.IsSorted(texts) || len(texts) != 39 {
		t.Errorf("due_date: got %v", texts)
	}
}

func TestScenarios(t *testing.T) {
	for _, resource := range people(0).Resources() {
		s := team(9, 9)
		before := map[string]map[string]any{}
		for id := 1; id <= 9; id++ {
			before[strconv.Itoa(id)] = record(t, s, resource, strconv.Itoa(id))
		}
		changed := s.Change(resource, 1)[0]
		if now := record(t, s, resource, changed); cmp.Equal(without(before[changed], "updated_at"), without(now, "updated_at")) {
			t.Errorf("%s: Change left the content", resource)
		}
		if s.Revert(resource, 9); !cmp.Equal(without(before[changed], "updated_at"), without(record(t, s, resource, changed), "updated_at")) {
			t.Errorf("%s: Revert: -want +got\n%s", resource, cmp.Diff(before[changed], record(t, s, resource, changed)))
		}
		touched := s.Touch(resource, 4)
		seen := map[any]bool{}
		for _, id := range touched {
			now := record(t, s, resource, id)
			if !cmp.Equal(without(before[id], "updated_at"), without(now, "updated_at")) || resource != "tags" && now["updated_at"] == before[id]["updated_at"] {
				t.Errorf("%s: Touch: %s", resource, cmp.Diff(before[id], now))
			}
			seen[now["updated_at"]] = true
		}
		if len(touched) != 4 || resource != "tags" && len(seen) != 4 {
			t.Errorf("%s: Touch of 4: %d records with %d timestamps", resource, len(touched), len(seen))
		}
		counted := s.TouchCounts(resource, 1)[0]
		now := record(t, s, resource, counted)
		if !cmp.Equal(without(before[counted], "updated_at", "counts"), without(now, "updated_at", "counts")) {
			t.Errorf("%s: TouchCounts: %s", resource, cmp.Diff(before[counted], now))
		}
		if now["counts"] != nil && cmp.Equal(before[counted]["counts"], now["counts"]) {
			t.Errorf("%s: TouchCounts left counts", resource)
		}
	}
}

func TestTie(t *testing.T) {
	s := people(300)
	tied := s.Tie("people", 250)
	at := record(t, s, "people", tied[0])["updated_at"].(string)
	ids := map[int]bool{}
	for number := 1; number <= 4; number++ {
		for _, id := range get(t, s, "/people", "updated_at[gte]", at, "updated_at[lte]", at, "sort_direction", "ASC", "per_page", "100", "page", strconv.Itoa(number)).ids() {
			ids[id] = true
		}
	}
	if len(tied) != 250 || len(ids) != 250 {
		t.Errorf("got %d tied, %d found at %s", len(tied), len(ids), at)
	}
}

// A late commit is invisible, in lists and alone, until its time, and then stands below what was seen before it.
func TestLateCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := people(20)
		late := s.Late("people", 1, 8*time.Second)[0]
		wait(time.Second)
		s.Change("people", 5)
		before := get(t, s, "/people", "per_page", "5")
		old := record(t, s, "people", late)
		if s.Stats().Pending != 1 || slices.Contains(keys(before.ids()), late) {
			t.Errorf("visible too early: pending %d, %v", s.Stats().Pending, before.ids())
		}
		wait(6 * time.Second)
		if diff := cmp.Diff(old, record(t, s, "people", late)); diff != "" {
			t.Errorf("after 7 s: -want +got\n%s", diff)
		}
		wait(time.Second)
		now := record(t, s, "people", late)
		if cmp.Equal(old, now) || s.Stats().Pending != 0 {
			t.Error("after 8 s it is still invisible")
		}
		after := get(t, s, "/people", "per_page", "6")
		if diff := cmp.Diff(append(keys(before.ids()), late), keys(after.ids())); diff != "" {
			t.Errorf("its updated_at is older than that of five seen before: -want +got\n%s", diff)
		}
		states := states(s, "people", late)
		last := states[len(states)-1]
		if lag := last.At.Sub(last.Updated).Round(time.Second); lag != 8*time.Second {
			t.Errorf("history: visible %v after its updated_at, want 8 s", lag)
		}
		if again := s.Change("people", 20); len(again) != 20 {
			t.Errorf("a record that was late does not change any more: %d of 20 do", len(again))
		}
		s.Late("people", 3, time.Hour)
		if s.Settle(); s.Stats().Pending != 0 {
			t.Error("Settle left late commits")
		}
	})
}

func keys(ids []int) []string {
	var names []string
	for _, id := range ids {
		names = append(names, strconv.Itoa(id))
	}
	return names
}

// states returns the history of a resource, or of one of its keys.
func states(s *simulator.SalesLoft, resource, key string) []simulator.State {
	var all []simulator.State
	for state := range s.History(resource) {
		if key == "" || state.Key == key {
			all = append(all, state)
		}
	}
	return all
}

func TestDeleteAndRestore(t *testing.T) {
	s := people(10)
	gone := s.Delete("people", 2)
	if ids := keys(get(t, s, "/people", "per_page", "100").ids()); len(ids) != 8 || slices.Contains(ids, gone[0]) {
		t.Errorf("after Delete: %v", ids)
	}
	history := states(s, "people", gone[0])
	if last := history[len(history)-1]; last.Value != nil || s.Stats().Live["people"] != 8 {
		t.Errorf("after Delete: last state %s, live %d", last.Value, s.Stats().Live["people"])
	}
	s.Change("people", 8) // never what is gone
	if got := len(states(s, "people", gone[0])); got != 2 {
		t.Errorf("a removed record has %d states, want 2", got)
	}
	if back := s.Restore("people", 9); len(back) != 2 || s.Stats().Live["people"] != 10 {
		t.Errorf("Restore: got %v", back)
	}
	record(t, s, "people", gone[0])
}

func TestRegress(t *testing.T) {
	s := people(5)
	s.Change("people", 5)
	key := s.Regress("people", 1)[0]
	all := states(s, "people", key)
	if len(all) != 3 || !all[2].Updated.Before(all[1].Updated) || all[2].At.Before(all[1].At) {
		t.Errorf("got %v, want the third state an hour older by its updated_at", all)
	}
}

func TestSpoil(t *testing.T) {
	s := people(5)
	id := s.Spoil("people", 1, simulator.NoKey)[0]
	p := get(t, s, "/people", "per_page", "1")
	if _, there := p.Data[0]["id"]; there {
		t.Errorf("NoKey: got %s", p.body)
	}
	if mended := s.Spoil("people", 9, simulator.Sound); len(mended) != 1 || mended[0] != id {
		t.Errorf("Sound: got %v, want %s", mended, id)
	}
	record(t, s, "people", id)
	id = s.Spoil("people", 1, simulator.WrongType)[0]
	wrong := record(t, s, "people", id)
	if _, object := wrong["first_name"].(map[string]any); !object || wrong["do_not_contact"] != "maybe" {
		t.Errorf("WrongType: got %v", wrong)
	}
	id = s.Spoil("people", 1, simulator.Huge)[0]
	if p := get(t, s, "/people/"+id); len(p.body) < 2<<20 || p.status != 200 {
		t.Errorf("Huge: got %d bytes", len(p.body))
	}
	history := states(s, "people", id)
	if last := history[len(history)-1]; last.Spoil != simulator.Huge {
		t.Errorf("history: got spoil %q", last.Spoil)
	}
}

// What the history says is what the API showed: its last states are the lists, byte for byte.
func TestHistoryIsCompleteAndOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := simulator.Lively(11)
		o.RateBudget, o.Deletes, o.Restores = -1, 0.02, 0.02
		s := simulator.New(o)
		for range 40 {
			s.Step(50)
			wait(time.Second)
		}
		s.Freeze()
		for _, resource := range s.Resources() {
			last := map[string][]byte{}
			var at time.Time
			for state := range s.History(resource) {
				if state.At.Before(at) {
					t.Fatalf("%s: %v after %v", resource, state.At, at)
				}
				at = state.At
				if last[state.Key] = state.Value; state.Value == nil {
					delete(last, state.Key)
				}
			}
			live := 0
			for number := 1; ; number++ {
				p := get(t, s, "/"+resource, "per_page", "100", "page", strconv.Itoa(number))
				if len(p.Data) == 0 {
					break
				}
				var raw struct{ Data []json.RawMessage }
				if err := json.Unmarshal(p.body, &raw); err != nil {
					t.Fatal(err)
				}
				for i, id := range keys(p.ids()) {
					if string(last[id]) != string(raw.Data[i]) {
						t.Errorf("%s/%s: the history's last state is not what the API shows", resource, id)
					}
				}
				live += len(p.Data)
			}
			if live != len(last) || live != s.Stats().Live[resource] {
				t.Errorf("%s: %d listed, %d in the history, %d counted", resource, live, len(last), s.Stats().Live[resource])
			}
		}
	})
}

// Invariant 8 can be held against this API: updated_at of a record never goes back, but for Regress.
func TestUpdatedNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{Seed: 4, People: 30, LateCommits: 0.4, Ties: 0.2, Lateness: time.Minute})
		for range 60 {
			s.Step(10)
			wait(time.Second)
		}
		s.Freeze()
		last := map[string]time.Time{}
		late := 0
		for state := range s.History("people") {
			if state.Updated.Before(last[state.Key]) {
				t.Errorf("%s: %v after %v", state.Key, state.Updated, last[state.Key])
			}
			if last[state.Key] = state.Updated; state.At.Sub(state.Updated) > 5*time.Second {
				late++
			}
		}
		if late < 30 {
			t.Errorf("only %d late commits", late)
		}
	})
}

func TestSeed(t *testing.T) {
	run := func(seed int64) []simulator.State {
		var all []simulator.State
		synctest.Test(t, func(t *testing.T) {
			o := simulator.Lively(seed)
			s := simulator.New(o)
			s.Step(300)
			for _, resource := range s.Resources() {
				all = append(all, states(s, resource, "")...)
			}
		})
		return all
	}
	same := func(a, b simulator.State) bool {
		return a.Key == b.Key && a.At.Equal(b.At) && a.Updated.Equal(b.Updated) && bytes.Equal(a.Value, b.Value)
	}
	first := run(1)
	if !slices.EqualFunc(first, run(1), same) {
		t.Error("one seed gave two histories")
	}
	if slices.EqualFunc(first, run(2), same) {
		t.Error("two seeds gave one history")
	}
}

func TestRunKeepsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := simulator.Options{People: 500, ChangesPerSecond: 40}
		s := simulator.New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx)
		}()
		wait(30 * time.Second)
		if got := s.Stats().Changes; got < 1190 || got > 1210 {
			t.Errorf("40 a second over 30 s: got %d", got)
		}
		s.Freeze()
		frozen := s.Stats().Changes
		wait(30 * time.Second)
		if got := s.Stats(); got.Changes != frozen || !got.Frozen {
			t.Errorf("frozen: %d changes", got.Changes-frozen)
		}
		s.Thaw()
		wait(10 * time.Second)
		if got := s.Stats().Changes - frozen; got < 390 || got > 410 {
			t.Errorf("thawed, 10 s: got %d; what was missed is not made up", got)
		}
		cancel()
		<-done
	})
}

func TestAPersonIsAboutOneAndAHalfKilobytes(t *testing.T) {
	s := people(100)
	if size := len(get(t, s, "/people", "per_page", "100").body) / 100; size < 1200 || size > 2400 {
		t.Errorf("got %d bytes a record", size)
	}
}

func TestStatusFaults(t *testing.T) {
	s := people(3)
	for _, status := range []int{401, 403, 404, 422, 429, 500, 503} {
		s.Fail(simulator.Fault{Status: status})
		p := get(t, s, "/people")
		if p.status != status || p.Error == "" && len(p.Errors) == 0 {
			t.Errorf("%d: got %d %s", status, p.status, p.body)
		}
	}
	s.Fail(simulator.Fault{Status: 500, Resource: "users", Times: -1})
	s.Fail(simulator.Fault{Status: 503, Resource: "people", Skip: 1, Times: 2})
	var got []int
	for range 5 {
		got = append(got, get(t, s, "/people").status)
	}
	if diff := cmp.Diff([]int{200, 503, 503, 200, 200}, got); diff != "" {
		t.Errorf("skip 1, times 2: -want +got\n%s", diff)
	}
	s.Heal()
	if p := get(t, s, "/users"); p.status != 200 {
		t.Errorf("after Heal: got %d", p.status)
	}
}

func TestContentFaults(t *testing.T) {
	s := people(200)
	plant := func(kind simulator.Kind) page {
		t.Helper()
		s.Fail(simulator.Fault{Kind: kind})
		q := httptest.NewRequest("GET", "/v2/people?per_page=10&sort_direction=ASC&updated_at%5Bgte%5D=2999-01-01", nil)
		q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
		w := do(s, q)
		p := page{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
		_ = json.Unmarshal(p.body, &p) // some are no JSON, which is the point
		return p
	}
	if p := plant(simulator.HTML); p.status != 200 || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") || !strings.Contains(string(p.body), "<html") {
		t.Errorf("HTML: got %d %s", p.status, p.body)
	}
	if p := plant(simulator.Truncated); p.status != 200 || json.Valid(p.body) || p.header.Get("Content-Length") != strconv.Itoa(len(p.body)) {
		t.Errorf("Truncated: got %d %s", p.status, p.body)
	}
	if p := plant(simulator.IgnoreFilter); len(p.Data) != 10 {
		t.Errorf("IgnoreFilter: got %d records", len(p.Data))
	}
	s.Fail(simulator.Fault{Kind: simulator.Empty})
	if p := get(t, s, "/people"); p.status != 200 || len(p.Data) != 0 {
		t.Errorf("Empty: got %d records", len(p.Data))
	}
	s.Fail(simulator.Fault{Kind: simulator.IgnoreSort})
	if p := get(t, s, "/people", "per_page", "10"); !slices.IsSorted(p.ids()) || p.ids()[9] != 10 {
		t.Errorf("IgnoreSort: got %v", p.ids())
	}
}

func TestConnectionFaults(t *testing.T) {
	s := people(50)
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	ask := func(ctx context.Context) ([]byte, error) {
		q, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v2/people?per_page=50", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		return io.ReadAll(answer.Body)
	}
	s.Fail(simulator.Fault{Kind: simulator.Cut})
	if body, err := ask(t.Context()); err == nil || len(body) == 0 {
		t.Errorf("Cut: got %d bytes and error %v", len(body), err)
	}
	s.Fail(simulator.Fault{Kind: simulator.Reset})
	if _, err := ask(t.Context()); err == nil {
		t.Error("Reset: no error")
	}
	s.Fail(simulator.Fault{Kind: simulator.Hang})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client gave up")
	go func() { // gives up once the request is there
		for s.Stats().Failed < 3 {
			runtime.Gosched()
		}
		cancel(gone)
	}()
	if _, err := ask(ctx); err == nil || !errors.Is(context.Cause(ctx), gone) {
		t.Errorf("Hang: got %v", err)
	}
	if body, err := ask(t.Context()); err != nil || !json.Valid(body) {
		t.Errorf("afterwards: %v", err)
	}
}

// POLLING.md, server time: an answer that was long under way shows an older team than its Date.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{People: 3, Latency: 5 * time.Second})
		began := time.Now()
		p := get(t, s, "/people")
		date, err := http.ParseTime(p.header.Get("Date"))
		if err != nil || time.Since(began) != 5*time.Second || !date.Equal(began.Add(5*time.Second)) {
			t.Errorf("took %v, Date %v (%v), began %v", time.Since(began), date, err, began)
		}
	})
}

func TestGzip(t *testing.T) {
	s := simulator.New(simulator.Options{People: 30, Gzip: true})
	q := httptest.NewRequest("GET", "/v2/people", nil)
	q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
	plain := do(s, q)
	q.Header.Set("Accept-Encoding", "gzip")
	packed := do(s, q)
	if packed.Header().Get("Content-Encoding") != "gzip" || plain.Header().Get("Content-Encoding") != "" {
		t.Fatalf("Content-Encoding: %q and %q", packed.Header().Get("Content-Encoding"), plain.Header().Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(z); err != nil || string(body) != plain.Body.String() {
		t.Errorf("unpacked: %d bytes, %v", len(body), err)
	}
}

func TestHistoryOverHTTP(t *testing.T) {
	s := people(4)
	s.Change("people", 2)
	s.Delete("people", 1)
	w := do(s, httptest.NewRequest("GET", "/_simulator/history?resource=people", nil))
	want := states(s, "people", "")
	decoder := json.NewDecoder(w.Body)
	n := 0
	for ; decoder.More(); n++ {
		var line struct {
			Key     string
			At      time.Time
			Updated time.Time `json:"updated_at"`
			Value   json.RawMessage
		}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		value := string(want[n].Value)
		if want[n].Value == nil {
			value = "null"
		}
		if line.Key != want[n].Key || !line.At.Equal(want[n].At) || !line.Updated.Equal(want[n].Updated) || string(line.Value) != value {
			t.Errorf("line %d: got %+v, want %+v", n, line, want[n])
		}
	}
	if n != 7 {
		t.Errorf("got %d lines, want 7", n)
	}
	if w := do(s, httptest.NewRequest("GET", "/_simulator/history?resource=dogs", nil)); w.Code != 404 || !strings.Contains(w.Body.String(), "people") {
		t.Errorf("no such resource: got %d %s", w.Code, w.Body)
	}
}

func TestControl(t *testing.T) {
	s := simulator.New(simulator.Options{People: 20, ChangesPerSecond: 1})
	control := func(body string) (int, string) {
		w := do(s, httptest.NewRequest("POST", "/_simulator/control", strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	for _, body := range []string{
		`{"action":"change","resource":"people","n":2}`, `{"action":"create","resource":"people","n":1}`, `{"action":"touch","resource":"people","n":3}`,
		`{"action":"touch_counts","resource":"people","n":1}`, `{"action":"tie","resource":"people","n":3}`, `{"action":"revert","resource":"people","n":1}`,
		`{"action":"late","resource":"people","n":1,"seconds":3600}`, `{"action":"delete","resource":"people","n":1}`, `{"action":"restore","resource":"people","n":1}`,
		`{"action":"spoil","resource":"people","n":1,"how":"no_key"}`, `{"action":"step","n":3}`, `{"action":"freeze"}`, `{"action":"thaw"}`, `{"action":"settle"}`,
		`{"action":"spend","n":5}`, `{"action":"fail","kind":"status","status":503,"times":1}`,
	} {
		if status, answer := control(body); status != 200 || !json.Valid([]byte(answer)) {
			t.Errorf("%s: got %d %s", body, status, answer)
		}
	}
	if status, answer := control(`{"action":"touch","resource":"people","n":3}`); status != 200 || strings.Count(answer, `"`) != 8 {
		t.Errorf("keys: got %d %s", status, answer)
	}
	if p := get(t, s, "/people"); p.status != 503 {
		t.Errorf("the planted fault: got %d", p.status)
	}
	for _, body := range []string{`{"action":"dance"}`, `{"actoin":"touch"}`, `{`} {
		if status, answer := control(body); status != 400 || !strings.Contains(answer, "error") {
			t.Errorf("%s: got %d %s", body, status, answer)
		}
	}
	w := do(s, httptest.NewRequest("GET", "/_simulator/stats", nil))
	var stats simulator.Stats
	if err := json.Unmarshal(w.Body.Bytes(), &stats); err != nil || stats.Live["people"] != 21 || stats.Requests != 1 || stats.Failed != 1 {
		t.Errorf("stats: got %s, %v", w.Body, err)
	}
}

// Requests and changes at once: for the race detector.
func TestConcurrency(t *testing.T) {
	o := simulator.Lively(1)
	o.RateBudget = -1
	s := simulator.New(o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.Step(5)
		}
	}()
	readers := make(chan int)
	for range 4 {
		go func() {
			n := 0
			for range 20 {
				q := httptest.NewRequest("GET", "/v2/people?per_page=100", nil)
				q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
				if w := do(s, q); json.Valid(w.Body.Bytes()) {
					n++
				}
				for range s.History("notes") {
					n += 0
				}
			}
			readers <- n
		}()
	}
	for range 4 {
		if n := <-readers; n != 20 {
			t.Errorf("%d of 20 answers were JSON", n)
		}
	}
	<-done
}

func BenchmarkPage(b *testing.B) {
	s := simulator.New(simulator.Options{People: 20_000, RateBudget: -1})
	handler := s.Handler()
	q := httptest.NewRequest("GET", "/v2/people?per_page=100&sort_direction=ASC&updated_at[gte]=2020-01-01", nil)
	q.Header.Set("Authorization", "Bearer "+simulator.APIKey)
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, q)
		b.SetBytes(int64(w.Body.Len()))
	}
}
