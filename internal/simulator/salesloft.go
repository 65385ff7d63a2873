package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// SalesLoft is a simulated SalesLoft team (APIS.md §1). Its methods may be called from any goroutine.
type SalesLoft struct {
	*Upstream
	endpoints map[string]endpoint // by resource
	grant     grant
}

// endpoint is what a list of SalesLoft can do.
type endpoint struct {
	path    string   // below /v2
	filters bool     // has updated_at[…]; the others are snapshot streams
	sorts   []string // sort_by; the first is the default
	write   func(*writer)
	plain   bool // no created_at and updated_at
	whole   bool // one answer holds everything, and there is no metadata.paging
}

// endpoints returns the resources, those with an option of their own first, in its order. Of the others the fields are
// [chosen], and so is that tags have no timestamps, and that groups come all at once: that they have no paging is [seen].
func endpoints() []endpoint {
	both := []string{"updated_at", "created_at"}
	byID := []string{"id", "updated_at"}
	return []endpoint{
		{path: "people", filters: true, sorts: []string{"updated_at", "created_at", "last_contacted_at", "id"}, write: (*writer).person},
		{path: "accounts", filters: true, sorts: []string{"updated_at", "created_at", "last_contacted_at", "id"}, write: (*writer).account},
		{path: "activities/calls", filters: true, sorts: both, write: (*writer).call},
		{path: "activities/emails", filters: true, sorts: both, write: (*writer).email},
		{path: "cadences", filters: true, sorts: both, write: (*writer).cadence},
		{path: "cadence_memberships", filters: true, sorts: append([]string{"added_at"}, both...), write: (*writer).membership},
		{path: "notes", filters: true, sorts: both, write: (*writer).note},
		{path: "users", sorts: byID, write: (*writer).user},

		{path: "account_stages", filters: true, sorts: both, write: (*writer).stage},
		{path: "actions", filters: true, sorts: both, write: (*writer).action},
		{path: "activity_histories", filters: true, sorts: append([]string{"occurred_at"}, both...), write: (*writer).activity},
		{path: "call_data_records", filters: true, sorts: both, write: (*writer).callData},
		{path: "crm_activities", filters: true, sorts: both, write: (*writer).crmActivity},
		{path: "email_templates", filters: true, sorts: []string{"updated_at", "created_at", "last_used_at", "id"}, write: (*writer).template},
		{path: "successes", filters: true, sorts: both, write: (*writer).success},
		{path: "team_templates", filters: true, sorts: both, write: (*writer).template},
		{path: "tasks", sorts: []string{"due_date"}, write: (*writer).task},
		{path: "steps", sorts: both, write: (*writer).cadenceStep},
		{path: "tags", sorts: []string{"name"}, write: (*writer).tag, plain: true},
		{path: "groups", sorts: both, write: (*writer).group, whole: true},
		{path: "custom_fields", sorts: []string{"updated_at", "created_at", "name"}, write: (*writer).customField},
		{path: "imports", sorts: []string{"created_at", "updated_at"}, write: (*writer).imported},
		{path: "crm_users", sorts: byID, write: (*writer).crmUser},
		{path: "person_stages", sorts: both, write: (*writer).stage},
	}
}

// New returns a team as o describes it.
func New(o Options) *SalesLoft {
	if o.Zone == nil {
		zone, err := time.LoadLocation("America/New_York")
		if err != nil {
			panic(err) // the zones are compiled in
		}
		o.Zone = zone
	}
	o.TokenLife = cmp.Or(o.TokenLife, 2*time.Hour)
	s := &SalesLoft{Upstream: build(o, 100, 600), endpoints: map[string]endpoint{}}
	s.grant = grant{refresh: map[string]bool{RefreshToken: true}, spends: map[string]string{}, access: map[string]time.Time{}}
	s.routes = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /v2/{path...}", s.serve(s.api))
		mux.HandleFunc("POST /oauth/token", s.serve(s.token))
	}
	s.failure, s.logout = salesloftFailure, func() { clear(s.grant.access) }
	// Six digits, and the team's own offset, which moves with daylight saving [seen].
	s.instant = func(dst []byte, at int64) []byte {
		dst = time.UnixMicro(at).In(o.Zone).AppendFormat(append(dst, '"'), layout)
		return append(dst, '"')
	}
	s.actions["expire_tokens"] = func(int) []string { s.ExpireTokens(); return nil }
	s.actions["revoke_grant"] = func(int) []string { s.RevokeGrant(); return nil }
	s.actions["authorize"] = func(int) []string { return []string{s.Authorize()} }
	named := []int{o.People, o.Accounts, o.Calls, o.Emails, o.Cadences, o.CadenceMemberships, o.Notes, o.Users}
	for i, e := range endpoints() {
		n := o.Records[e.path]
		if i < len(named) {
			n = named[i]
		}
		s.endpoints[e.path] = e
		s.add(&resource{name: e.path, write: e.record}, n)
	}
	return s
}

// record writes a record: what all of them have, and what only these have.
func (e endpoint) record(w *writer) {
	w.key(func() { w.number("id", w.m.id) })
	if !e.plain {
		w.time("created_at", w.created)
		w.time("updated_at", w.m.updated)
	}
	e.write(w)
}

// api answers everything under /v2.
func (s *SalesLoft) api(c *call) reply {
	s.stats.Requests++
	path := strings.TrimSuffix(c.PathValue("path"), ".json")
	r, id := s.resource(path), ""
	if cut := strings.LastIndexByte(path, '/'); r == nil && cut >= 0 {
		r, id = s.resource(path[:cut]), path[cut+1:]
	}
	a := ask{name: path}
	if r != nil {
		number, _ := strconv.Atoi(c.URL.Query().Get("page"))
		a = ask{name: r.name, list: id == "", later: id == "" && number > 1, lookup: id != ""}
	}
	c.hit = s.hit(a)
	if answer, refused := s.refused(c, c.hit); refused {
		return answer
	}
	token, bearer := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	switch {
	case !bearer || !s.authorized(token, c.now):
		return s.refusal(c, http.StatusUnauthorized)
	case r == nil:
		return s.refusal(c, http.StatusNotFound)
	}
	q, bad := query{page: 1}, map[string][]string(nil)
	if a.list {
		q, bad = s.parse(r, c.URL.Query())
	}
	switch {
	case !s.charge(c.header, q.page, c.now):
		return s.refusal(c, http.StatusTooManyRequests)
	case len(bad) > 0:
		return c.reply(http.StatusUnprocessableEntity, invalid(c.dst, bad))
	case a.lookup:
		return s.single(c, r, id)
	default:
		return c.reply(http.StatusOK, s.answer(c, r, q))
	}
}

// cost is what a call costs, by its page [doc].
func cost(page int) int {
	switch {
	case page <= 100:
		return 1
	case page <= 150:
		return 3
	case page <= 250:
		return 8
	case page <= 500:
		return 10
	default:
		return 30
	}
}

// charge takes a call from the team's budget and writes the two headers. The lock is held.
func (s *SalesLoft) charge(header http.Header, page int, now time.Time) bool {
	price := cost(page)
	header.Set("x-ratelimit-endpoint-cost", strconv.Itoa(price))
	granted := s.take(price, now)
	if s.o.RateBudget >= 0 {
		header.Set("x-ratelimit-remaining-minute", strconv.Itoa(max(0, s.o.RateBudget-s.rate.used)))
	}
	return granted
}

// salesloftFailure is the documented body of an error.
func salesloftFailure(dst []byte, status int) []byte {
	text := "Internal Server Error"
	switch status {
	case http.StatusUnauthorized:
		text = "Invalid Bearer token"
	case http.StatusForbidden:
		text = "required scope access not included"
	case http.StatusNotFound:
		text = "Resource not found"
	case http.StatusUnprocessableEntity:
		return invalid(dst, map[string][]string{"updated_at": {"must be an iso8601 timestamp"}})
	case http.StatusTooManyRequests:
		text = "API rate limit exceeded"
	}
	return errorBody(dst, text)
}

func invalid(dst []byte, fields map[string][]string) []byte {
	return encoded(dst, map[string]any{"errors": fields})
}

// token answers POST /oauth/token; without Options.Tokens there is no such thing. Faults of the wire come after the
// exchange: the token is used up and the answer is lost (K19).
func (s *SalesLoft) token(c *call) reply {
	c.hit = s.hit(ask{name: "oauth/token"})
	if !s.o.Tokens {
		return s.refusal(c, http.StatusNotFound)
	}
	if answer, refused := s.refused(c, c.hit); refused {
		return answer
	}
	form := url.Values{}
	if strings.HasPrefix(c.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		var err error
		if form, err = url.ParseQuery(string(c.form)); err != nil {
			return c.reply(http.StatusBadRequest, fmt.Append(c.dst, `{"error":"invalid_request"}`))
		}
	}
	status, body := s.tokens(c, form)
	return c.reply(status, body)
}
