package simulator

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PartnerID is the partner whose key the simulated CRF Exchange takes.
const PartnerID = "7d0c1f62-5b1e-4c55-9a2e-3f3a54a0c0de"

// CRF is a simulated CRF Exchange (APIS.md §2): resources "loans", in up to four views, and "loan/events", the log of each
// loan. Its methods may be called from any goroutine.
//
// Ours, since nothing is published [chosen]: the cursor is a place in the order (time of change, number) of all loans of a
// view, so that a late commit falls behind it; an unknown cursor is 400 and an expired one 410; more than 500 results are
// silently 500; GET /loans/{id} is a lookup, which viewType narrows to a view; the log of a loan outlives it; 120 requests
// a minute are the budget; the bodies of errors.
type CRF struct {
	*Upstream
	loans, events *resource
	logged        map[int64]bool // loans that have an entry in their log
}

// The views, as bits of moment.views. A moving loan goes round.
const (
	viewListings = 1 << iota
	viewBuyerPending
	viewBuyerOwned
	viewSellerOwned
	viewEnd
)

var viewNames = map[string]uint8{
	"Listings": viewListings, "BuyerOwned": viewBuyerOwned, "SellerOwned": viewSellerOwned, "BuyerPending": viewBuyerPending,
}

// NewCRF returns an exchange as o describes it.
func NewCRF(o Options) *CRF {
	x := &CRF{Upstream: build(o, 500, 120), logged: map[int64]bool{}}
	x.routes = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /api/loans", x.serve(x.listLoans))
		mux.HandleFunc("GET /api/loans/{id}", x.serve(x.oneLoan))
		mux.HandleFunc("GET /api/loan/events", x.serve(x.loanEvents))
		mux.HandleFunc("GET /api/loan/document", x.serve(x.document))
	}
	x.failure, x.instant = crfFailure, sevenDigits
	x.actions["expire_cursors"] = func(int) []string { x.ExpireCursors(); return nil }
	x.actions["leave"] = x.Leave
	x.loans = &resource{name: "loans", write: (*writer).loan, key: loanID, places: loanViews, born: x.bornLoan, move: x.moveLoan, follow: x.record}
	x.events = &resource{name: "loan/events", write: (*writer).loanEvent, parent: x.loans, log: true,
		key:    func(seed uint64, id int64) string { return guid(seed, saltEvent, id) },
		places: func(seed uint64, _ moment, o origin) []string { return []string{loanID(seed, o.parent)} },
	}
	x.add(x.loans, o.Records["loans"])
	x.add(x.events, 0)
	x.stats = Stats{}
	return x
}

func loanViews(_ uint64, m moment, _ origin) []string {
	var names []string
	for name, bit := range viewNames {
		if m.views&bit != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bornLoan gives a new loan its views: most are listed, some of them as the partner's own.
func (x *CRF) bornLoan(m *moment, _ *origin) {
	m.views = []uint8{viewListings, viewListings, viewListings | viewSellerOwned, viewBuyerPending, viewBuyerOwned, viewSellerOwned}[x.random.IntN(6)]
}

// moveLoan takes a loan out of one of its views, or to the next one.
func (x *CRF) moveLoan(m *moment) {
	if rest := m.views & (m.views - 1); rest != 0 {
		m.views = rest
		return
	}
	if m.views <<= 1; m.views == viewEnd {
		m.views = viewListings
	}
}

// Leave takes n loans out of one of their views; those that were in one only are gone.
func (x *CRF) Leave(n int) []string {
	return x.change("loans", n, func(w *row) {
		if rest := w.views & (w.views - 1); rest != 0 {
			w.views = rest
		} else {
			w.vanish()
		}
	})
}

// record writes a visible state of a loan into its log: what became of it, but not that it went.
func (x *CRF) record(m moment) {
	if m.gone {
		return
	}
	kind := uint32(0) // Add
	if x.logged[m.id] {
		kind = 1 + uint32(mix(uint64(m.id)^uint64(m.content)<<32)%3)
	}
	x.logged[m.id] = true
	at := cmp.Or(max(m.updated, 0), m.at)
	x.insert(x.events, moment{at: m.at, updated: at, content: m.content, counts: kind}, origin{created: at, parent: m.id})
}

func crfFailure(dst []byte, status int) []byte {
	return errorBody(dst, cmp.Or(map[int]string{
		http.StatusBadRequest:      "The request is invalid.",
		http.StatusUnauthorized:    "Access denied: missing or invalid API key.",
		http.StatusForbidden:       "The partner has no access.",
		http.StatusNotFound:        "The loan was not found.",
		http.StatusGone:            "The cursor has expired.",
		http.StatusTooManyRequests: "Rate limit exceeded.",
	}[status], "An error has occurred."))
}

// sevenDigits is an instant with seven digits and an offset [doc].
func sevenDigits(dst []byte, at int64) []byte {
	dst = time.UnixMicro(at).UTC().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.000000")
	dst = append(dst, byte('0'+mix(uint64(at))%10))
	return append(dst, `+00:00"`...)
}

// begin refuses what every request is refused for: faults, the key, the budget, the partner.
func (x *CRF) begin(c *call, a ask) (url.Values, reply, bool) {
	x.stats.Requests++
	c.hit = x.hit(a)
	if answer, refused := x.refused(c, c.hit); refused {
		return nil, answer, false
	}
	values := c.URL.Query()
	var status int
	switch {
	case c.Header.Get("x-api-key") != x.o.APIKey:
		status = http.StatusUnauthorized
	case !x.take(1, c.now):
		status = http.StatusTooManyRequests
		untilTheMinute(c.header, c.now)
	case values.Get("partnerId") == "":
		status = http.StatusBadRequest
	case values.Get("partnerId") != PartnerID:
		status = http.StatusForbidden
	default:
		return values, reply{}, true
	}
	return nil, x.refusal(c, status), false
}

// listLoans answers GET /loans.
func (x *CRF) listLoans(c *call) reply {
	text := c.URL.Query().Get("cursor")
	values, answer, ok := x.begin(c, ask{name: "loans", list: true, later: text != "", cursor: text != ""})
	if !ok {
		return answer
	}
	view, known := viewNames[values.Get("viewType")]
	size := 100
	if given := values.Get("maxResults"); given != "" {
		var err error
		if size, err = strconv.Atoi(given); err != nil || size < 1 {
			return c.reply(http.StatusBadRequest, errorBody(c.dst, "maxResults must be from 1 to 500."))
		}
	}
	if !known {
		return c.reply(http.StatusBadRequest, errorBody(c.dst, "viewType must be one of Listings, BuyerOwned, SellerOwned, BuyerPending."))
	}
	l := listing{r: x.loans, from: null, to: math.MaxInt64, size: min(size, x.o.PageCap), after: &entry{updated: null}}
	l.match = func(w *row) bool { return w.views&view != 0 }
	bound := parameters(values)
	if text != "" {
		at, good := x.unseal(text)
		switch {
		case !good:
			return c.reply(http.StatusBadRequest, errorBody(c.dst, "The cursor is unknown."))
		case x.expired(at, c.now):
			return x.refusal(c, http.StatusGone)
		case at.bound != bound:
			return c.reply(http.StatusBadRequest, errorBody(c.dst, "The cursor belongs to other parameters."))
		}
		l.after = &at.entry
	}
	p := x.list(l, c.hit)
	dst := append(x.appendAll(append(c.dst, `{"loans":[`...), p), ']')
	dst = fmt.Appendf(dst, `,"cursor":%q,"hasMoreResults":%t}`, x.seal(p.last, bound, c.now), p.more)
	return c.reply(http.StatusOK, dst)
}

// parameters is a number for everything in a request but its cursor: a cursor belongs to all of it [guide].
func parameters(values url.Values) uint64 {
	rest := url.Values{}
	for name, all := range values {
		if name != "cursor" {
			rest[name] = all
		}
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(rest.Encode())) // never fails
	return sum.Sum64()
}

// oneLoan answers GET /loans/{id}.
func (x *CRF) oneLoan(c *call) reply {
	values, answer, ok := x.begin(c, ask{name: "loans", lookup: true})
	if !ok {
		return answer
	}
	r, w := x.find(x.loans, x.loanNumber(c.PathValue("id")), c.hit)
	if view, narrowed := viewNames[values.Get("viewType")]; w == nil || narrowed && w.views&view == 0 {
		return x.refusal(c, http.StatusNotFound)
	}
	return c.reply(http.StatusOK, x.render(c.dst, r, w.moment, w.origin))
}

// loanEvents answers GET /loan/events: a bare array [doc].
func (x *CRF) loanEvents(c *call) reply {
	values, answer, ok := x.begin(c, ask{name: "loan/events", list: true})
	if !ok {
		return answer
	}
	l := listing{r: x.events, from: null, to: math.MaxInt64, size: math.MaxInt32}
	for name, edge := range map[string]*int64{"fromDate": &l.from, "toDate": &l.to} {
		if text := values.Get(name); text != "" {
			at, good := instant(text)
			if !good {
				return c.reply(http.StatusBadRequest, errorBody(c.dst, name+" must be a date."))
			}
			*edge = at
		}
	}
	loan := sellerLoanNumber(values.Get("loanId"))
	if loan < 1 || loan > int64(len(x.loans.rows)) || !x.loans.rows[loan-1].committed {
		return x.refusal(c, http.StatusNotFound)
	}
	kinds := values["kinds"] // the parameter is repeated [doc]
	l.match = func(w *row) bool {
		return w.parent == loan && (len(kinds) == 0 || slices.Contains(kinds, eventKinds[w.counts]))
	}
	return c.reply(http.StatusOK, append(x.appendAll(append(c.dst, '['), x.list(l, c.hit)), ']'))
}

// document answers GET /loan/document with the bytes of a document.
func (x *CRF) document(c *call) reply {
	values, answer, ok := x.begin(c, ask{name: "loan/document", lookup: true})
	if !ok {
		return answer
	}
	text := values.Get("documentId")
	if w := x.loans.at(guidNumber(text)); w != nil {
		d := writer{seed: uint64(x.o.Seed), m: w.moment, origin: w.origin}
		for i := range d.documents() {
			if d.documentID(i) == text {
				body := fmt.Appendf(c.dst, "%%PDF-1.7\n%s\n", text)
				body = append(body, bytes.Repeat([]byte{'.'}, d.documentSize(i)-len(body))...)
				return reply{status: http.StatusOK, body: body, kind: "application/pdf", hit: c.hit}
			}
		}
	}
	return c.reply(http.StatusNotFound, errorBody(c.dst, "The document was not found."))
}

// loanNumber is the number of the loan with that id; 0: there is none.
func (x *CRF) loanNumber(id string) int64 {
	_, text, _ := strings.Cut(id, "|")
	n := sellerLoanNumber(text)
	if n == 0 || loanID(uint64(x.o.Seed), n) != id {
		return 0
	}
	return n
}
