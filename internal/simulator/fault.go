package simulator

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind says how a planted fault spoils an answer.
type Kind string

// The kinds of fault; Faults says of each what it does.
const (
	Status       Kind = "status"
	HTML         Kind = "html"
	Expired      Kind = "expired"
	Logout       Kind = "logout"
	Moved        Kind = "moved"
	FalseGone    Kind = "false_gone"
	Truncated    Kind = "truncated"
	Cut          Kind = "cut"
	Reset        Kind = "reset"
	Hang         Kind = "hang"
	Slow         Kind = "slow"
	Gzip         Kind = "gzip"
	Duplicate    Kind = "duplicate"
	Stale        Kind = "stale"
	Hidden       Kind = "hidden"
	LateCommits  Kind = "late"
	Ties         Kind = "ties"
	Drift        Kind = "drift"
	Empty        Kind = "empty"
	IgnoreFilter Kind = "ignore_filter"
	IgnoreSort   Kind = "ignore_sort"
	Capped       Kind = "capped"
	DropPage     Kind = "drop_page"
	RepeatPage   Kind = "repeat_page"
	Shuffle      Kind = "shuffle"
	CutListing   Kind = "cut_listing"
	Tenant       Kind = "tenant"
)

// FaultKind describes a kind of fault.
type FaultKind struct {
	Kind Kind
	Does string
	N    int    // what Fault.N is where it is 0
	when when   // which requests it strikes
	set  string // of the kinds of one set only one strikes a request
}

// when is a set of kinds of request.
type when int

const (
	always  when = iota
	lists        // lists, one page of them
	later        // lists, but for their first page
	lookups      // a record's own address
	cursors      // requests that carry an opaque cursor
)

// Faults returns the kinds of fault.
func Faults() []FaultKind {
	return []FaultKind{
		{Kind: Status, Does: "answers Status, with the system's own body and RetryAfter", set: "refusal"},
		{Kind: HTML, Does: "answers 200 with a login page", set: "refusal"},
		{Kind: Expired, Does: "answers 410 to a cursor", set: "refusal", when: cursors},
		{Kind: Logout, Does: "ends sessions and access tokens, and answers 401", set: "refusal"},
		{Kind: Moved, Does: "the address of lookups is gone: all are 404", set: "refusal", when: lookups},
		{Kind: FalseGone, Does: "a lookup says 404 of a record that is there", set: "refusal", when: lookups},
		{Kind: Truncated, Does: "a complete answer whose JSON stops in the middle", set: "wire"},
		{Kind: Cut, Does: "the connection breaks in the middle of the body", set: "wire"},
		{Kind: Reset, Does: "the connection breaks before any answer; what a token request did is done", set: "wire"},
		{Kind: Hang, Does: "no answer until the client gives up", set: "wire"},
		{Kind: Slow, Does: "the body takes N seconds", N: 10, set: "wire"},
		{Kind: Gzip, Does: "the answer is compressed, asked for or not"},
		{Kind: Duplicate, Does: "the first record has a name twice"},
		{Kind: Stale, Does: "a replica answers that has not seen the last N changes", N: 50},
		{Kind: Hidden, Does: "a lost permission: half of the records are hidden, from lists and lookups"},
		{Kind: LateCommits, Does: "N records change now, and are seen to have changed later, before the page is made", N: 5, when: lists},
		{Kind: Ties, Does: "N records get one time of change before the page is made", N: 150, when: lists},
		{Kind: Drift, Does: "N rows leave their places on the pages before this one: they change, or go where change moves no row", N: 1, when: later},
		{Kind: Empty, Does: "the page has no data, whatever was asked", when: lists},
		{Kind: IgnoreFilter, Does: "the filter, or the cursor, is not applied", when: lists},
		{Kind: IgnoreSort, Does: "the order is by number", when: lists},
		{Kind: Capped, Does: "the page has N records at most", N: 10, when: lists},
		{Kind: DropPage, Does: "the next page is answered instead of this one", when: lists},
		{Kind: RepeatPage, Does: "the page before is answered instead of this one", when: lists},
		{Kind: Shuffle, Does: "the records of the page are in no order", when: lists},
		{Kind: CutListing, Does: "the listing ends after N records", N: 200, when: lists},
		{Kind: Tenant, Does: "the page holds the records of another tenant", when: lists},
	}
}

// describe returns what is known of a kind; false: there is no such kind.
func describe(kind Kind) (FaultKind, bool) {
	all := Faults()
	i := slices.IndexFunc(all, func(k FaultKind) bool { return k.Kind == kind })
	if i < 0 {
		return FaultKind{}, false
	}
	return all[i], true
}

// Fault is a planted fault.
type Fault struct {
	Kind       Kind
	Resource   string // only for this resource ("people", "activities/calls", "oauth/token"); empty: all
	Status     int    // for Kind Status: 401, 403, 404, 422, 429, 500, …
	RetryAfter string // for Kind Status: the header, as it is sent; empty: none
	N          int    // how many, of what the kind counts; 0: what Faults says
	Skip       int    // how many matching requests pass first
	Times      int    // how many are hit; 0 is one, below 0 all
	Every      int    // of the requests that match, one in so many is hit; 0: each
}

// planted is a fault that waits for its turn.
type planted struct {
	Fault
	FaultKind
	wait int // how many matching requests still pass: of Skip, then of Every
}

// ask is a request as faults see it.
type ask struct {
	name                        string // of the resource
	list, later, lookup, cursor bool
}

func (k FaultKind) concerns(a ask) bool {
	switch k.when {
	case lists:
		return a.list
	case later:
		return a.later
	case lookups:
		return a.lookup
	case cursors:
		return a.cursor
	default:
		return true
	}
}

// touches reports whether a fault of a resource ("items/tickets") strikes a request for another ("items").
func touches(resource, name string) bool {
	return resource == "" || resource == name || strings.HasPrefix(resource, name+"/") || strings.HasPrefix(name, resource+"/")
}

// strikes are the faults that one request meets.
type strikes []Fault

// of returns the fault of a kind.
func (s strikes) of(kind Kind) (Fault, bool) {
	for _, f := range s {
		if f.Kind == kind {
			return f, true
		}
	}
	return Fault{}, false
}

func (s strikes) has(kind Kind) bool {
	_, ok := s.of(kind)
	return ok
}

// on returns those that strike a part of the request: a category of a bundle.
func (s strikes) on(name string) strikes {
	var part strikes
	for _, f := range s {
		if touches(f.Resource, name) {
			part = append(part, f)
		}
	}
	return part
}

// hit takes the planted faults that strike a request. The lock is held.
func (u *Upstream) hit(a ask) strikes {
	var taken strikes
	sets := map[string]bool{}
	for i := range u.faults {
		f := &u.faults[i]
		set := cmp.Or(f.set, string(f.Fault.Kind))
		if !touches(f.Resource, a.name) || !f.concerns(a) || sets[set] {
			continue
		}
		if f.wait > 0 {
			f.wait--
			continue
		}
		f.wait = f.Every - 1
		if f.Times > 0 {
			f.Times--
		}
		taken, sets[set] = append(taken, f.Fault), true
		if u.stats.Struck == nil {
			u.stats.Struck = map[Kind]int64{}
		}
		u.stats.Struck[f.Fault.Kind]++
	}
	u.faults = slices.DeleteFunc(u.faults, func(f planted) bool { return f.Times == 0 })
	if len(taken) > 0 {
		u.stats.Failed++
	}
	return taken
}

// Fail plants a fault. All that match a request strike it together; of several that exclude each other, as two ways to
// refuse do, the first planted strikes, and the other waits. An unknown kind never strikes.
func (u *Upstream) Fail(f Fault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f.Kind = cmp.Or(f.Kind, Status)
	k, known := describe(f.Kind)
	if !known {
		return
	}
	f.Times = cmp.Or(f.Times, 1)
	f.Status = cmp.Or(f.Status, http.StatusInternalServerError)
	f.N = cmp.Or(f.N, k.N)
	u.faults = append(u.faults, planted{Fault: f, FaultKind: k, wait: f.Skip})
}

// Heal removes every planted fault.
func (u *Upstream) Heal() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = nil
}

const loginPage = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form action=\"/login\">Please log in.</form></body></html>\n"

// refused is the answer of a request that a fault refuses. The lock is held.
func (u *Upstream) refused(c *call, hit strikes) (reply, bool) {
	if f, ok := hit.of(Status); ok {
		if f.RetryAfter != "" {
			c.header.Set("Retry-After", f.RetryAfter)
		}
		return u.refusal(c, f.Status), true
	}
	switch {
	case hit.has(HTML):
		return reply{status: http.StatusOK, body: append(c.dst, loginPage...), kind: "text/html; charset=utf-8", hit: hit}, true
	case hit.has(Expired):
		return u.refusal(c, http.StatusGone), true
	case hit.has(Moved):
		return c.reply(http.StatusNotFound, append(c.dst, `{"error":"Not Found"}`...)), true
	case hit.has(FalseGone):
		return u.refusal(c, http.StatusNotFound), true
	case hit.has(Logout):
		if u.logout != nil {
			u.logout()
		}
		return u.refusal(c, http.StatusUnauthorized), true
	}
	return reply{}, false
}

// stir lets the faults change the rows of a listing before its page is made. The lock is held.
func (u *Upstream) stir(l listing, hit strikes) {
	now := micros(time.Now())
	if f, ok := hit.of(LateCommits); ok {
		u.late(l.r, f.N, now, int64(u.o.Lateness/time.Microsecond))
	}
	if f, ok := hit.of(Ties); ok {
		u.tie(l.r, f.N, now)
	}
	if f, ok := hit.of(Drift); ok && !l.r.log {
		var moved []*row
		n, at := l.matching(l.r)
		for i := range min(f.N, n) {
			moved = append(moved, &l.r.rows[at(i)-1])
		}
		for _, w := range moved {
			if !w.late {
				u.commit(l.r, w, now, u.stamp(now), func(w *row) { w.gone = l.by != nil })
			}
		}
	}
}
