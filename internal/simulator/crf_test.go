package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/simulator"
)

// send sends a request straight to a handler; headers are name, value, name, value.
func send(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

// decoded is the body of an answer.
func decoded[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %.300s", err, w.Body)
	}
	return v
}

type object = map[string]any

func exchange(o simulator.Options, loans int) *simulator.CRF {
	o.Records = map[string]int{"loans": loans}
	return simulator.NewCRF(o)
}

// askCRF asks the exchange with its key and its partner.
func askCRF(x *simulator.CRF, path string, parameters ...string) *httptest.ResponseRecorder {
	values := url.Values{"partnerId": {simulator.PartnerID}}
	for i := 0; i < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	return send(x.Handler(), "GET", "/api"+path+"?"+values.Encode(), "", "x-api-key", simulator.APIKey)
}

// loanPage is an answer of /loans.
type loanPage struct {
	Loans          []object
	Cursor         string
	HasMoreResults *bool
}

func (p loanPage) ids() []string {
	ids := []string{}
	for _, l := range p.Loans {
		ids = append(ids, l["id"].(string))
	}
	return ids
}

func loans(t *testing.T, x *simulator.CRF, view, cursor string, parameters ...string) loanPage {
	t.Helper()
	parameters = append(parameters, "viewType", view)
	if cursor != "" {
		parameters = append(parameters, "cursor", cursor)
	}
	w := askCRF(x, "/loans", parameters...)
	if w.Code != 200 {
		t.Fatalf("%s: got %d %s", view, w.Code, w.Body)
	}
	return decoded[loanPage](t, w)
}

// walk reads a view to its end, and returns the ids and the last cursor.
func walk(t *testing.T, x *simulator.CRF, view, cursor string, parameters ...string) ([]string, string) {
	t.Helper()
	ids := []string{}
	for {
		p := loans(t, x, view, cursor, parameters...)
		ids, cursor = append(ids, p.ids()...), p.Cursor
		if !*p.HasMoreResults {
			return ids, cursor
		}
	}
}

var views = []string{"Listings", "BuyerOwned", "SellerOwned", "BuyerPending"}

func TestCRFRefusals(t *testing.T) {
	x := exchange(simulator.Options{}, 10)
	partner := "partnerId=" + simulator.PartnerID
	cursor := loans(t, x, "Listings", "").Cursor
	for name, c := range map[string]struct {
		target, key string
		want        int
	}{
		"header x-api-key [doc]":            {"/api/loans?viewType=Listings&" + partner, "", 401},
		"a wrong key":                       {"/api/loans?viewType=Listings&" + partner, "wrong", 401},
		"no partner":                        {"/api/loans?viewType=Listings", simulator.APIKey, 400},
		"another partner":                   {"/api/loans?viewType=Listings&partnerId=x", simulator.APIKey, 403},
		"no view":                           {"/api/loans?" + partner, simulator.APIKey, 400},
		"an unknown view":                   {"/api/loans?viewType=Mine&" + partner, simulator.APIKey, 400},
		"maxResults is no number":           {"/api/loans?viewType=Listings&maxResults=many&" + partner, simulator.APIKey, 400},
		"maxResults of nothing":             {"/api/loans?viewType=Listings&maxResults=0&" + partner, simulator.APIKey, 400},
		"an unknown cursor":                 {"/api/loans?viewType=Listings&cursor=abc&" + partner, simulator.APIKey, 400},
		"a cursor of another view":          {"/api/loans?viewType=BuyerOwned&cursor=" + cursor + "&" + partner, simulator.APIKey, 400},
		"a cursor of another maxResults":    {"/api/loans?viewType=Listings&maxResults=7&cursor=" + cursor + "&" + partner, simulator.APIKey, 400},
		"an unknown loan":                   {"/api/loans/x%7CLN-0000001?" + partner, simulator.APIKey, 404},
		"an unknown loan's log":             {"/api/loan/events?loanId=LN-9999999&" + partner, simulator.APIKey, 404},
		"a log from no date":                {"/api/loan/events?loanId=LN-0000001&fromDate=soon&" + partner, simulator.APIKey, 400},
		"an unknown document":               {"/api/loan/document?documentId=x&" + partner, simulator.APIKey, 404},
		"an address that is not the API's":  {"/api/dogs?" + partner, simulator.APIKey, 404},
		"the cursor itself is not at fault": {"/api/loans?viewType=Listings&cursor=" + cursor + "&" + partner, simulator.APIKey, 200},
	} {
		w := send(x.Handler(), "GET", c.target, "", "x-api-key", c.key)
		if w.Code != c.want || c.want >= 400 && decoded[object](t, w)["error"] == "" {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, c.want)
		}
	}
	x.ExpireCursors()
	if w := askCRF(x, "/loans", "viewType", "Listings", "cursor", cursor); w.Code != 410 {
		t.Errorf("an expired cursor: got %d %s, want 410", w.Code, w.Body)
	}
}

func TestCRFPages(t *testing.T) {
	x := exchange(simulator.Options{Seed: 1, RateBudget: -1}, 1500)
	for sent, want := range map[string]int{"": 100, "3": 3, "500": 500, "501": 500, "9999": 500} { // default 100, max 500 [doc]
		var parameters []string
		if sent != "" {
			parameters = []string{"maxResults", sent}
		}
		p := loans(t, x, "Listings", "", parameters...)
		if len(p.Loans) != want || !*p.HasMoreResults || p.Cursor == "" {
			t.Errorf("maxResults=%s: got %d loans, more %v; want %d", sent, len(p.Loans), *p.HasMoreResults, want)
		}
	}
	listed := map[string]int{}
	for _, view := range views { // one cursor per view [guide]
		ids, cursor := walk(t, x, view, "", "maxResults", "70")
		if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("%s: a loan came twice", view)
		}
		listed[view] = len(ids)
		p := loans(t, x, view, cursor, "maxResults", "70")
		if len(p.Loans) != 0 || *p.HasMoreResults || p.Cursor == "" || !strings.Contains(fmt.Sprintf("%#v", p.Loans), "{}") {
			t.Errorf("%s: at the end: got %+v, want no loans, and a cursor", view, p)
		}
		x.Change("loans", 40)
		more, _ := walk(t, x, view, p.Cursor, "maxResults", "70")
		for _, id := range more {
			if w := askCRF(x, "/loans/"+url.PathEscape(id), "viewType", view); w.Code != 200 {
				t.Errorf("%s: %s changed, and is not in it: %d", view, id, w.Code)
			}
		}
		if len(more) == 0 || len(more) > 40 {
			t.Errorf("%s: %d loans after 40 changes", view, len(more))
		}
	}
	if listed["Listings"] < 600 || listed["BuyerOwned"] == 0 || listed["SellerOwned"] == 0 || listed["BuyerPending"] == 0 {
		t.Errorf("listed: %v", listed)
	}
	if x.Stats().Live["loans"] != 1500 {
		t.Errorf("live: %v", x.Stats().Live)
	}
}

func TestCRFLoan(t *testing.T) {
	x := exchange(simulator.Options{Seed: 4}, 30)
	seven := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00$`)
	x.TouchCounts("loans", 30) // each has a document more
	for _, l := range loans(t, x, "Listings", "").Loans {
		if want := fmt.Sprint(l["sellerPartnerId"], "|", l["sellerLoanId"]); l["id"] != want || len(l["sellerPartnerId"].(string)) != 36 {
			t.Errorf("id: got %v, want %v", l["id"], want)
		}
		for _, name := range []string{"dateListed", "dateModified"} {
			if !seven.MatchString(l[name].(string)) {
				t.Errorf("%s: got %v, want seven digits and an offset", name, l[name])
			}
		}
		documents := l["documents"].([]any)
		if len(documents) == 0 {
			t.Errorf("%v has no document", l["id"])
		}
		for _, d := range documents {
			d := d.(object)
			w := askCRF(x, "/loan/document", "documentId", d["documentId"].(string))
			if w.Code != 200 || w.Body.Len() != int(d["size"].(float64)) || w.Header().Get("Content-Type") != d["contentType"] {
				t.Errorf("document %v: got %d, %d bytes of %v", d, w.Code, w.Body.Len(), w.Header())
			}
		}
	}
}

func TestCRFLookup(t *testing.T) {
	x := exchange(simulator.Options{Seed: 2, RateBudget: -1}, 40)
	ids, _ := walk(t, x, "Listings", "")
	w := askCRF(x, "/loans/"+url.PathEscape(ids[0]))
	if w.Code != 200 || decoded[object](t, w)["id"] != ids[0] {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	gone := x.Delete("loans", 40)
	for _, id := range gone {
		if w := askCRF(x, "/loans/"+url.PathEscape(id)); w.Code != 404 {
			t.Errorf("%s is gone: got %d", id, w.Code)
		}
	}
	if left, _ := walk(t, x, "Listings", ""); len(left) != 0 || len(gone) != 40 {
		t.Errorf("of 40, %d are gone, and %d are listed", len(gone), len(left))
	}
}

// A loan that leaves a view stops appearing there, and the new view's cursor sees it.
func TestCRFViews(t *testing.T) {
	x := exchange(simulator.Options{Seed: 3, RateBudget: -1}, 60)
	cursors, before := map[string]string{}, map[string][]string{}
	for _, view := range views {
		before[view], cursors[view] = walk(t, x, view, "")
	}
	moved := x.Move("loans", 30)
	left := x.Leave(15)
	if len(moved) != 30 || len(left) != 15 {
		t.Fatalf("moved %d, left %d", len(moved), len(left))
	}
	last := map[string][]byte{}
	vanished := 0
	for state := range x.History("loans") {
		if key := fmt.Sprintf(`["%s","%s"]`, state.Partition, state.ID); state.Key != key {
			t.Fatalf("key %s, want %s", state.Key, key)
		}
		if last[state.Key] = state.Value; state.Value == nil {
			vanished++
		}
	}
	if vanished < 40 {
		t.Errorf("45 loans left a view, the history shows %d", vanished)
	}
	for _, view := range views {
		now, _ := walk(t, x, view, "")
		fresh, _ := walk(t, x, view, cursors[view])
		for _, id := range now {
			key := fmt.Sprintf(`["%s","%s"]`, view, id)
			if last[key] == nil {
				t.Errorf("%s is listed, and the history says that it is gone", key)
			}
			delete(last, key)
			if !slices.Contains(before[view], id) && !slices.Contains(fresh, id) {
				t.Errorf("%s entered and did not pass the cursor", key)
			}
		}
	}
	for key, value := range last {
		if value != nil {
			t.Errorf("%s: the history says that it is there, and it is not listed", key)
		}
	}
}

func TestCRFEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exchange(simulator.Options{Seed: 6, RateBudget: -1}, 1)
		began := time.Now()
		for range 6 {
			wait(time.Minute)
			x.Change("loans", 1)
		}
		ask := func(parameters ...string) []object {
			t.Helper()
			w := askCRF(x, "/loan/events", append(parameters, "loanId", "LN-0000001")...)
			if w.Code != 200 || w.Body.Bytes()[0] != '[' { // a bare array [doc]
				t.Fatalf("%q: got %d %s", parameters, w.Code, w.Body)
			}
			return decoded[[]object](t, w)
		}
		all := ask()
		if len(all) != 7 || all[0]["kind"] != "Add" {
			t.Fatalf("got %v, want the Add and six more", all)
		}
		for _, name := range []string{"kind", "dateCreated", "eventId", "loanId", "sellerPartnerId", "sellerLoanId", "listingMetadata"} {
			if all[3][name] == nil {
				t.Errorf("an event has no %s: %v", name, all[3])
			}
		}
		from := began.Add(150 * time.Second).UTC().Format(time.RFC3339)
		to := began.Add(250 * time.Second).UTC().Format(time.RFC3339)
		if got := ask("fromDate", from); len(got) != 4 {
			t.Errorf("fromDate: got %d", len(got))
		}
		if got := ask("fromDate", from, "toDate", to); len(got) != 2 {
			t.Errorf("fromDate and toDate: got %d", len(got))
		}
		want := 0
		for _, e := range all {
			if e["kind"] == "Add" || e["kind"] == "Payment" {
				want++
			}
		}
		if got := ask("kinds", "Add", "kinds", "Payment"); len(got) != want || want == 7 {
			t.Errorf("kinds is repeated: got %d, want %d of 7", len(got), want)
		}
		loan := x.Delete("loans", 1)[0]
		if got := ask(); len(got) != 7 {
			t.Errorf("the log outlives the loan, and does not say that it went: got %d", len(got))
		}
		n := 0
		for state := range x.History("loan/events") {
			if n++; state.Partition != loan || state.Value == nil {
				t.Errorf("got %+v", state)
			}
		}
		if n != 7 || len(x.Change("loan/events", 3)) > 0 {
			t.Errorf("the history has %d events; a log does not change", n)
		}
	})
}

func TestCRFBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exchange(simulator.Options{RateBudget: 2}, 1)
		wait(20 * time.Second)
		for range 2 {
			loans(t, x, "Listings", "")
		}
		w := askCRF(x, "/loans", "viewType", "Listings")
		if w.Code != 429 || w.Header().Get("Retry-After") != "40" {
			t.Fatalf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		after, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if err != nil {
			t.Fatal(err)
		}
		wait(time.Duration(after) * time.Second)
		loans(t, x, "Listings", "")
	})
}
