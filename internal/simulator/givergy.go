package simulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the simulated Givergy takes as a login, and the namespace of its Custom Data Export.
const (
	GivergyUsername  = "simulated-user"
	GivergyPassword  = "simulated-password"
	GivergyNamespace = "simulated"
)

// defaultSince is what since is where it is left out: November 2020, and not everything [doc].
const defaultSince = 1606062358

// Givergy is a simulated Givergy (APIS.md §4): resources "events", "guests", and the categories of the two bundles
// ("items/buyNows", "purchases/donations"). What belongs to an event is a partition of its own. Delete archives: the record
// vanishes without a sign, an event with all that belongs to it. Its methods may be called from any goroutine.
//
// Ours, where nothing is published [chosen]: sessions live an hour; children are listed in the order of creation; of an event
// that is gone, the children of every second one are 404 and those of the others an empty answer; GET …/events/{id} and
// …/events/{id}/{items|purchases|guests}/{id} are lookups; orderBy is createdAsc, createdDesc, updatedAsc or updatedDesc; the
// budget is ten requests in ten seconds, and after ten refusals in a row they are 503; the fields of items and purchases.
type Givergy struct {
	*Upstream
	events   *resource
	bundles  map[string][]*resource // by "items", "purchases", "guests"
	sessions map[string]time.Time   // until when they are good
	seeding  bool
	refusals int // in a row
	errors   int64
}

// NewGivergy returns events as o describes them; Options.Records of "items" and "purchases" is for each of the six categories.
func NewGivergy(o Options) *Givergy {
	g := &Givergy{Upstream: build(o, 1000, 60), bundles: map[string][]*resource{}, sessions: map[string]time.Time{}, seeding: true}
	g.window = 10
	g.routes = func(mux *http.ServeMux) {
		mux.HandleFunc("POST /checkin/v1/auth/login", g.serve(g.login))
		mux.HandleFunc("GET /{namespace}/v1/events", g.serve(g.listEvents))
		mux.HandleFunc("GET /{namespace}/v1/events/{event}", g.serve(g.oneEvent))
		mux.HandleFunc("GET /{namespace}/v1/events/{event}/{kind}", g.serve(g.listChildren))
		mux.HandleFunc("GET /{namespace}/v1/events/{event}/{kind}/{id}", g.serve(g.oneChild))
	}
	g.failure, g.logout = g.fault, func() { clear(g.sessions) }
	g.instant = func(dst []byte, at int64) []byte { return strconv.AppendInt(dst, seconds(at), 10) }
	g.actions["expire_tokens"] = func(int) []string { g.ExpireSessions(); return nil }
	g.events = &resource{name: "events", write: (*writer).event, key: givergyKey(saltGivergy), born: g.bornEvent}
	g.add(g.events, o.Records["events"])
	salt := uint64(saltGivergy)
	for _, c := range givergyKinds() {
		salt++
		r := &resource{name: c.name(), write: c.write(salt), key: givergyKey(salt), parent: g.events, born: g.age,
			places: func(seed uint64, _ moment, o origin) []string { return []string{guid(seed, saltGivergy, o.parent)} }}
		g.add(r, o.Records[c.bundle])
		g.bundles[c.bundle] = append(g.bundles[c.bundle], r)
	}
	g.seeding = false
	return g
}

func seconds(at int64) int64 { return at / 1_000_000 }

func givergyKey(salt uint64) func(uint64, int64) string {
	return func(seed uint64, id int64) string { return guid(seed, salt, id) }
}

// number is the number of the record with that UUID; 0: there is none.
func (g *Givergy) number(r *resource, text string) int64 {
	if n := guidNumber(text); n > 0 && r.key(uint64(g.o.Seed), n) == text {
		return n
	}
	return 0
}

// age makes one in ten of the first records older than defaultSince, where the clock is later than that.
func (g *Givergy) age(m *moment, o *origin) {
	if g.seeding && m.id%10 == 0 && m.at > (defaultSince+1)*1_000_000 {
		m.updated = defaultSince*1_000_000 - 1 - g.random.Int64N(300*day)
		o.created = m.updated - g.random.Int64N(100*day)
	}
}

// bornEvent says when an event starts: of the first ones a third goes on, a third is over, and a third is to come; new ones
// start within a day.
func (g *Givergy) bornEvent(m *moment, o *origin) {
	g.age(m, o)
	const hour = day / 24
	switch {
	case g.seeding && m.id%3 == 1:
		o.start = m.at - g.random.Int64N(2*hour)
	case g.seeding && m.id%3 == 2:
		o.start = m.at - 8*hour - g.random.Int64N(20*day)
	default:
		o.start = m.at + g.random.Int64N(day)
	}
}

var givergyCodes = map[int]string{
	http.StatusBadRequest: "bad_request", http.StatusUnauthorized: "unauthorized", http.StatusForbidden: "forbidden",
	http.StatusNotFound: "not_found", http.StatusTooManyRequests: "too_many_requests", http.StatusServiceUnavailable: "service_unavailable",
}

// fault is the documented body of an error. The lock is held.
func (g *Givergy) fault(dst []byte, status int) []byte {
	return g.problem(dst, status, cmp.Or(http.StatusText(status), "Error"))
}

func (g *Givergy) problem(dst []byte, status int, message string) []byte {
	g.errors++
	return fmt.Appendf(dst, `{"code":%q,"message":%q,"extra":%q}`,
		cmp.Or(givergyCodes[status], "internal_error"), message, guid(uint64(g.o.Seed), saltProblem, g.errors))
}

// login answers POST /checkin/v1/auth/login with a session cookie, and with a token that requests other than GET need [doc].
func (g *Givergy) login(c *call) reply {
	c.hit = g.hit(ask{name: "auth/login"})
	if answer, refused := g.refused(c, c.hit); refused {
		return answer
	}
	var who struct {
		Username, Password string
		Version            *int
	}
	switch err := json.Unmarshal(c.form, &who); {
	case err != nil || who.Version == nil || *who.Version != 0:
		return c.reply(http.StatusBadRequest, g.problem(c.dst, http.StatusBadRequest, "username, password and version 0 are required"))
	case who.Username != GivergyUsername || who.Password != GivergyPassword:
		return g.refusal(c, http.StatusUnauthorized)
	}
	g.stats.Refreshes++
	session := fmt.Sprintf("%016x%016x", g.random.Uint64(), g.random.Uint64())
	g.sessions[session] = c.now.Add(g.o.TokenLife)
	c.header.Set("Set-Cookie", (&http.Cookie{Name: "session", Value: session, Path: "/", HttpOnly: true}).String())
	c.header.Set("X-CSRF-Token", fmt.Sprintf("%016x", g.random.Uint64()))
	return c.reply(http.StatusOK, fmt.Appendf(c.dst, `{"username":%q}`, who.Username))
}

// ExpireSessions ends every session now; a new login is all that it takes.
func (g *Givergy) ExpireSessions() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.logout()
}

// begin refuses what every request is refused for: faults, the session, the budget, the namespace.
func (g *Givergy) begin(c *call, a ask) (reply, bool) {
	g.stats.Requests++
	c.hit = g.hit(a)
	if answer, refused := g.refused(c, c.hit); refused {
		return answer, false
	}
	cookie, err := c.Cookie("session")
	var status int
	switch {
	case err != nil || !c.now.Before(g.sessions[cookie.Value]):
		status = http.StatusUnauthorized
	case !g.take(1, c.now):
		status = http.StatusTooManyRequests // never with a Retry-After [doc]
		if g.refusals++; g.refusals > 10 {
			status = http.StatusServiceUnavailable
		}
	case !slices.Contains([]string{GivergyNamespace, "salesforce", "blackbaud"}, c.PathValue("namespace")):
		status = http.StatusNotFound
	default:
		g.refusals = 0
		return reply{}, true
	}
	return g.refusal(c, status), false
}

// listing reads since, offset and limit; the text is what is wrong with them.
func (g *Givergy) listing(c *call) (listing, string) {
	values := c.URL.Query()
	number := func(name string, otherwise int64) (int64, bool) {
		if !values.Has(name) {
			return otherwise, true
		}
		n, err := strconv.ParseInt(values.Get(name), 10, 64)
		return n, err == nil
	}
	since, ok := number("since", defaultSince)
	offset, ok2 := number("offset", 0)
	limit, ok3 := number("limit", int64(g.o.PageCap))
	switch {
	case !ok || since < -1 || since > math.MaxInt64/1_000_000:
		return listing{}, "since must be epoch seconds or -1"
	case !ok2 || offset < 0 || offset > math.MaxInt32:
		return listing{}, "offset must not be negative"
	case !ok3 || limit < 1 || limit > int64(g.o.PageCap):
		return listing{}, fmt.Sprintf("limit must be from 1 to %d", g.o.PageCap)
	}
	l := listing{from: since * 1_000_000, to: math.MaxInt64, first: int(offset), size: int(limit)}
	if since == -1 { // everything
		l.from = null
	}
	l.by = func(w *row) int64 { return w.created }
	return l, ""
}

// asked is a list request as faults see it.
func (c *call) asked(name string) ask {
	offset := c.URL.Query().Get("offset")
	return ask{name: name, list: true, later: offset != "" && offset != "0"}
}

// listEvents answers GET /<ns>/v1/events, which only the Custom Data Export has: a bare array.
func (g *Givergy) listEvents(c *call) reply {
	if answer, ok := g.begin(c, c.asked("events")); !ok {
		return answer
	}
	l, wrong := g.listing(c)
	l.r = g.events
	switch by := c.URL.Query().Get("orderBy"); by {
	case "", "createdAsc", "createdDesc":
		l.descending = by == "createdDesc"
	case "updatedAsc", "updatedDesc":
		l.by, l.descending = nil, by == "updatedDesc"
	default:
		wrong = "orderBy must be one of createdAsc, createdDesc, updatedAsc, updatedDesc"
	}
	switch {
	case c.PathValue("namespace") != GivergyNamespace:
		return g.refusal(c, http.StatusNotFound)
	case wrong != "":
		return c.reply(http.StatusBadRequest, g.problem(c.dst, http.StatusBadRequest, wrong))
	}
	return c.reply(http.StatusOK, append(g.appendAll(append(c.dst, '['), g.list(l, c.hit)), ']'))
}

// oneEvent answers GET /<ns>/v1/events/{event}.
func (g *Givergy) oneEvent(c *call) reply {
	if answer, ok := g.begin(c, ask{name: "events", lookup: true}); !ok {
		return answer
	}
	r, w := g.find(g.events, g.number(g.events, c.PathValue("event")), c.hit)
	if w == nil || c.PathValue("namespace") != GivergyNamespace {
		return g.refusal(c, http.StatusNotFound)
	}
	return c.reply(http.StatusOK, g.render(c.dst, r, w.moment, w.origin))
}

// listChildren answers GET /<ns>/v1/events/{event}/items, purchases and guests. since, offset and limit apply to each
// category of a bundle by itself [doc].
func (g *Givergy) listChildren(c *call) reply {
	kind := c.PathValue("kind")
	if answer, ok := g.begin(c, c.asked(kind)); !ok {
		return answer
	}
	l, wrong := g.listing(c)
	event := g.number(g.events, c.PathValue("event"))
	switch {
	case g.bundles[kind] == nil || event == 0 || event > int64(len(g.events.rows)), g.events.at(event) == nil && !obfuscated(event):
		return g.refusal(c, http.StatusNotFound)
	case wrong != "":
		return c.reply(http.StatusBadRequest, g.problem(c.dst, http.StatusBadRequest, wrong))
	}
	l.match = func(w *row) bool { return w.parent == event }
	if kind == "guests" { // a bare array
		l.r = g.bundles[kind][0]
		return c.reply(http.StatusOK, append(g.appendAll(append(c.dst, '['), g.list(l, c.hit)), ']'))
	}
	dst := fmt.Append(c.dst, "{")
	for i, r := range g.bundles[kind] {
		if i > 0 {
			dst = append(dst, ',')
		}
		l.r = r
		dst = fmt.Appendf(dst, `%q:[`, strings.TrimPrefix(r.name, kind+"/"))
		dst = append(g.appendAll(dst, g.list(l, c.hit.on(r.name))), ']')
	}
	return c.reply(http.StatusOK, append(dst, '}'))
}

// obfuscated says which of the events that are gone are silent about their children, where the others answer 404.
func obfuscated(event int64) bool { return event%2 == 0 }

// oneChild answers the lookups of what belongs to an event.
func (g *Givergy) oneChild(c *call) reply {
	kind := c.PathValue("kind")
	if answer, ok := g.begin(c, ask{name: kind, lookup: true}); !ok {
		return answer
	}
	event := g.number(g.events, c.PathValue("event"))
	for _, r := range g.bundles[kind] {
		n := g.number(r, c.PathValue("id"))
		if old, w := g.find(r, n, c.hit); n > 0 && w != nil && w.parent == event {
			return c.reply(http.StatusOK, g.render(c.dst, old, w.moment, w.origin))
		}
	}
	return g.refusal(c, http.StatusNotFound)
}
