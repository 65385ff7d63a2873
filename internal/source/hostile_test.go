package source

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// attack is one hostile case: what is done to the answers of an API that is honest otherwise, and what must hold all the same.
// Whatever it says of itself, for every attack these hold, too:
//   - nothing is published that the API never said (7);
//   - the cursor is never further than that of an honest pass, and an honest pass that follows publishes all that is left (4);
//   - nobody but the API is asked, and nobody else sees the credential (DESIGN §9);
//   - requests and memory stay bounded (10);
//   - an error has a remedy, a reach and a hint, and its message is short, printable, and without the credential.
type attack struct {
	name  string
	shape shape
	at    int // the request whose answer is spoiled; 0: every one
	spoil tamper

	fails    string            // "retry partition", "halt stream", …; "": the pass ends well; anyhow: either
	says     string            // in the message
	parks    int               // records in the dead-letter topic; -1: any number
	also     map[string]string // good records that the attack adds: key and content
	behind   bool              // the pass ends well, and its cursor may lag behind an honest one's
	beyond   int               // records beyond server time, which do not move the cursor (P3); -1: any number
	requests int               // at most; 0: 40
	heap     uint64            // bytes at most, while it runs; 0: 64 MiB

	limits Limits
	client func(*fetch.Options)
	bubble bool          // it runs by the clock of a bubble
	waits  time.Duration // at least so long, in a bubble
	halts  bool          // the pass halts, wherever
	foul   bool          // it may give cursors that no honest answer has, so that the two cannot be compared
	rounds []attack      // a campaign: one pass under each of them, the next one from where it left off
}

const anyhow = "anyhow"

// course is what honest passes over a shape do.
type course struct {
	known   cdc.Checkpoint // after the pass before the attack
	recent  []string
	cursors []string // committed after so many requests of the pass that is attacked
	lengths []int    // of the answers to them
}

var courses sync.Map // by the shape's name

func courseOf(t *testing.T, s shape) *course {
	if c, ok := courses.Load(s.name); ok {
		return c.(*course)
	}
	h := serveHostile(t, s, hostileKnown)
	client := hostileClient(t, h, nil)
	src := hostileSource(t, s)
	idle := func() {}
	first := hostileTrip(t.Context(), src, client, cdc.Checkpoint{}, nil, 0, idle)
	if first.err != nil || !first.done || len(first.published) != hostileKnown {
		t.Fatalf("the honest first pass over %s: %+v", s.name, first)
	}
	c := &course{known: first.committed, recent: first.recent}
	h.grow(hostileRows)
	h.tampers(func(a *reply, _ *http.Request) {
		if c.lengths = append(c.lengths, len(a.body)); a.n == 1 {
			c.lengths = c.lengths[len(c.lengths)-1:]
		}
	})
	for n := 0; ; n++ {
		h.tampers(h.spoil)
		got := hostileTrip(t.Context(), src, client, c.known, c.recent, n, idle)
		if n == 0 {
			got = trip{committed: c.known}
		}
		if got.err != nil {
			t.Fatalf("the honest pass over %s: %v", s.name, got.err)
		}
		if c.cursors = append(c.cursors, got.committed.Cursor); got.done {
			break
		}
	}
	courses.Store(s.name, c)
	return c
}

// meter samples how much memory is in use, from wherever it may be at its most.
type meter struct{ base, most atomic.Uint64 }

var gauge meter

func inUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func (m *meter) reset() {
	if inUse() > 48<<20 { // of the attack before
		runtime.GC()
	}
	m.base.Store(inUse())
	m.most.Store(0)
}

func (m *meter) sample() {
	if now := inUse(); now > m.most.Load() {
		m.most.Store(now)
	}
}

func (m *meter) peak() uint64 { return m.most.Load() - min(m.base.Load(), m.most.Load()) }

// run carries the attack out: one pass of which answers are spoiled, and then an honest one from what was committed.
func (a *attack) run(t *testing.T) {
	c := courseOf(t, a.shape)
	switch {
	case a.rounds != nil:
		a.campaign(t, c)
		return
	case a.bubble:
		synctest.Test(t, func(t *testing.T) { a.carry(t, c) })
		return
	}
	a.carry(t, c)
}

// spoils has h treat its answers as the attack says.
func (a *attack) spoils(h *hostileServer) {
	h.tampers(func(r *reply, q *http.Request) {
		if a.at == 0 || r.n == a.at {
			a.spoil(r, q)
		}
	})
}

// campaign carries out the rounds, with one source and one client, and then an honest pass.
func (a *attack) campaign(t *testing.T, c *course) {
	h := serveHostile(t, a.shape, hostileRows)
	src, client := hostileSource(t, a.shape), hostileClient(t, h, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var trips []*trip
	cp, recent := c.known, c.recent
	for i := range a.rounds {
		r := &a.rounds[i]
		r.spoils(h)
		got := hostileTrip(ctx, src, client, cp, recent, 1000, func() {})
		if got.err != nil {
			message(t, got.err)
		}
		if !within(a.shape, got.committed.Cursor, c.cursors[len(c.cursors)-1]) || !within(a.shape, cp.Cursor, got.committed.Cursor) {
			t.Errorf("under %q the cursor goes from %q to %q", r.name, cp.Cursor, got.committed.Cursor)
		}
		cp, recent = got.committed, got.recent
		trips = append(trips, &got)
	}
	h.tampers(nil)
	healed := hostileTrip(ctx, src, client, cp, recent, 0, func() {})
	agrees(t, h, nil, append(trips, &healed)...)
}

func (a *attack) carry(t *testing.T, c *course) {
	h := serveHostile(t, a.shape, hostileRows)
	src := hostileSource(t, a.shape)
	src.SetLimits(a.limits)
	a.spoils(h)
	ctx := t.Context()
	if !a.bubble {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
	}
	gauge.reset()
	began := time.Now()
	got := hostileTrip(ctx, src, hostileClient(t, h, a.client), c.known, c.recent, 1000, gauge.sample)
	waited := time.Since(began)
	a.verdict(t, &got)
	a.bounds(t, &got, waited)
	if a.foul {
		return
	}
	if where := a.cursor(c, &got); where != "" {
		t.Error(where)
	}
	h.tampers(nil)
	healed := hostileTrip(t.Context(), hostileSource(t, a.shape), hostileClient(t, h, nil), got.committed, got.recent, 0, func() {})
	agrees(t, h, a.also, &got, &healed)
}

// verdict compares the error with what the attack says of it.
func (a *attack) verdict(t *testing.T, got *trip) {
	t.Helper()
	said := ""
	if got.err != nil {
		remedy, scope := cdc.Verdict(got.err)
		said = remedy.String() + " " + scope.String()
		message(t, got.err)
	}
	switch {
	case a.halts && (!strings.HasPrefix(said, "halt ") || !strings.Contains(got.err.Error(), a.says)):
		t.Errorf("%q, want a halt that says %q: %v", said, a.says, got.err)
	case a.fails == anyhow:
	case said != a.fails:
		t.Errorf("%q, want %q: %v", said, a.fails, got.err)
	case a.says != "" && (got.err == nil || !strings.Contains(got.err.Error(), a.says)):
		t.Errorf("the message does not say %q: %v", a.says, got.err)
	}
	if a.parks >= 0 && a.fails != anyhow && len(got.parked) != a.parks {
		t.Errorf("%d records parked, want %d: %v", len(got.parked), a.parks, got.parked)
	}
	for _, err := range got.parked {
		if remedy, scope := cdc.Verdict(err); remedy != cdc.Park || scope != cdc.Record {
			t.Errorf("parked by %v %v: %v", remedy, scope, err)
		}
		message(t, err)
	}
	if got.beyond != a.beyond && a.beyond >= 0 && a.fails != anyhow {
		t.Errorf("%d records beyond server time, want %d", got.beyond, a.beyond)
	}
}

// message fails where an error is not fit to be shown.
func message(t *testing.T, err error) {
	t.Helper()
	var known *cdc.Error
	text := err.Error()
	switch {
	case !errors.As(err, &known):
		t.Errorf("an error without a remedy: %v", err)
	case cdc.Hint(err) == "":
		t.Errorf("it does not say what to do: %v", err)
	case len(text) > 2000 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		t.Errorf("%d bytes, or not fit to be shown: %.3000q", len(text), text)
	case strings.Contains(text, hostileSecret):
		t.Errorf("it shows the credential: %s", text)
	}
}

// bounds looks at what the attack cost.
func (a *attack) bounds(t *testing.T, got *trip, waited time.Duration) {
	t.Helper()
	requests, heap := a.requests, a.heap
	if requests == 0 {
		requests = 40
	}
	if heap == 0 {
		heap = 64 << 20
	}
	if got.requests > requests {
		t.Errorf("%d requests", got.requests)
	}
	if peak := gauge.peak(); peak > heap {
		t.Errorf("%d MiB of memory, the bound is %d", peak>>20, heap>>20)
	}
	if waited < a.waits {
		t.Errorf("it took %v, the server asked for %v", waited, a.waits)
	}
}

// cursor compares the committed cursor with that of an honest pass that got as far.
func (a *attack) cursor(c *course, got *trip) string {
	end := len(c.cursors) - 1
	if a.fails != anyhow && a.fails != "" {
		end = min(end, got.requests-1) // the last answer was refused
	}
	cursor, honest := got.committed.Cursor, c.cursors[end]
	if a.fails == anyhow {
		honest = c.cursors[len(c.cursors)-1]
	}
	if lags := a.behind || a.fails == anyhow; cursor == honest || lags && within(a.shape, cursor, honest) {
		return ""
	}
	return fmt.Sprintf("after %d requests the cursor is %q, that of an honest pass %q (it began at %q)", got.requests, cursor, honest, c.known.Cursor)
}

// within reports whether a cursor is no further than another one.
func within(s shape, cursor, most string) bool {
	if s.timed {
		x, errX := time.Parse(time.RFC3339Nano, cursor)
		y, errY := time.Parse(time.RFC3339Nano, most)
		return errX == nil && errY == nil && !x.After(y)
	}
	x, errX := strconv.Atoi(cursor)
	y, errY := strconv.Atoi(most)
	return cursor == most || errX == nil && errY == nil && x <= y
}

// agrees compares what was published with what the API said: nothing else, and in the end all of it.
func agrees(t *testing.T, h *hostileServer, also map[string]string, trips ...*trip) {
	t.Helper()
	healed := trips[len(trips)-1]
	if healed.err != nil || !healed.done {
		t.Errorf("the honest pass that follows from %+v: %v", trips[0].committed, healed.err)
		return
	}
	seen := map[string]bool{}
	for _, trip := range trips {
		for key, content := range trip.published {
			seen[key] = true
			id, err := strconv.Atoi(key)
			if extra, ok := also[key]; ok && extra == content || err == nil && id >= 1 && id <= hostileRows && content == hostileRow(id) {
				continue
			}
			t.Errorf("published %.100q, which is not what the API says: %.300q", key, content)
		}
	}
	for id := hostileKnown + 1; id <= hostileRows; id++ {
		if !seen[strconv.Itoa(id)] {
			t.Errorf("record %d is lost: it was passed at %q and never published", id, healed.committed.Cursor)
		}
	}
	for key := range also {
		if !seen[key] {
			t.Errorf("record %.100q is lost", key)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.strange) > 0 || slices.ContainsFunc(h.dialled, func(a string) bool { return a != "api.test:80" }) {
		t.Errorf("somebody else was asked: %q, connected to %q", h.strange, slices.Compact(h.dialled))
	}
}

// hostileSeed fixes which cases are drawn; HOSTILE_SEED sets another one.
func hostileSeed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("HOSTILE_SEED"), 10, 64); err == nil {
		return n
	}
	return 1
}

// allOfThem reports whether all cases are to run: `make hostile` says so.
func allOfThem() bool { return os.Getenv("HOSTILE") == "all" }

// TestHostile runs the hostile cases: all of them under `make hostile`, else some of every kind.
func TestHostile(t *testing.T) {
	for _, g := range hostileGroups() {
		t.Run(g.name, func(t *testing.T) {
			cases := g.cases(t)
			if !allOfThem() {
				cases = drawn(cases, g.few)
			}
			for i := range cases {
				t.Run(cases[i].name, cases[i].run)
			}
		})
	}
}

// group is a kind of attack.
type group struct {
	name  string
	few   int // of its cases run under `make test`
	cases func(t *testing.T) []attack
}

// drawn returns n of the cases, spread over all of them; which ones is by chance.
func drawn(cases []attack, n int) []attack {
	if n >= len(cases) {
		return cases
	}
	rng := rand.New(rand.NewPCG(hostileSeed(), uint64(len(cases))))
	var out []attack
	for i := range n {
		low, high := i*len(cases)/n, (i+1)*len(cases)/n
		out = append(out, cases[low+rng.IntN(high-low)])
	}
	return out
}
