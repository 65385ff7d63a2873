//go:build kafka

package main_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/simulator"
)

// TestReconcileKill: of 50,000 people 1,000 vanish without a sign, and while reconciliation finds and confirms that, the
// connector is killed ten times with SIGKILL: in listings, at the commit of the candidates, in lookups, and in commits that hold
// tombstones, held at their end in each of three ways. In the end there are exactly 1,000 tombstones, each once, and nothing
// else is missing, twice, out of order or wrong (1, 2, 6, D3, D4, D7).
func TestReconcileKill(t *testing.T) {
	const people, gone = 50_000, 1000
	c := newChaos(t, rand.New(rand.NewPCG(1, 2)))
	team := c.serve(people)
	connector := c.run()
	// The first pass and another listing: from then on they agree on what there is (P23).
	c.until("a third listing", connector, func() bool { return team.begun() >= 3 })
	deleted := map[string]bool{}
	for len(deleted) < gone { // at ten places of the listing
		for _, key := range team.Delete("people", gone/10) {
			deleted[key] = true
		}
	}
	connector.kill()
	kills := []func(){
		func() { c.killHeld(team, ofListing, 400, requestLost) }, // what a listing commits is candidates
		func() { c.killAt(team, ofListing, 1) },
		func() { c.killAt(team, ofListing, 250) },
		func() { c.killAt(team, ofListing, 490) },
		func() { c.killAt(team, ofLookup, 1) },
		func() { c.killAt(team, ofLookup, 100) },
		func() { c.killHeld(team, ofLookup, 100, requestLost) },
		func() { c.killHeld(team, ofLookup, 100, answerLost) },
		func() { c.killHeld(team, ofLookup, 100, brokerFrozen) },
		func() { c.killAt(team, ofLookup, 100) },
	}
	for n, kill := range kills {
		kill()
		t.Logf("kill %d of %d, %d offsets in the topic", n+1, len(kills), c.ends(c.admin, c.topic))
	}
	team.Change("people", 50)
	connector = c.run()
	seen := 0
	c.read(c.topic, fmt.Sprintf("%d tombstones", gone), func(r *kgo.Record) bool {
		if r.Value == nil {
			seen++
		}
		return seen == gone
	})
	listings := team.begun()
	c.until("two more listings", connector, func() bool { return team.begun() >= listings+3 })
	connector.rest(2)
	connector.terminate()
	c.brokers = c.direct
	tombstones := c.tombstones(c.topic, "reconciled")
	for key, n := range tombstones {
		if n != 1 || !deleted[key] {
			t.Errorf("key %s has %d tombstones; deleted: %v", key, n, deleted[key])
		}
	}
	for key := range deleted {
		if tombstones[key] == 0 {
			t.Errorf("key %s was deleted and has no tombstone", key)
		}
	}
	c.noCandidates()
	line := c.judge(c.url, "people", c.topic, "--deletions")
	fmt.Printf("kills=%d broker_kills=0 deleted=%d tombstones=%d %s\n", len(kills), len(deleted), len(tombstones), line)
	if events, ok := clean(line); !ok || events < people+gone {
		t.Errorf("the judge found: %s", line)
	}
}

// serve simulates so many people in the test's process, behind a gate, and has the connection list them every few seconds.
func (c *chaos) serve(people int) *gate {
	c.Helper()
	g := &gate{SalesLoft: simulator.New(simulator.Options{Seed: 4, People: people, Ties: 0.02, Tokens: true, RateBudget: -1}), since: time.Now()}
	g.handler = g.Handler()
	server := httptest.NewServer(g)
	c.Cleanup(server.Close)
	c.url = server.URL
	c.connections(c.url, "{people: {interval: 1s, reconcile: {every: 3s}}}")
	return g
}

// killAt starts the connector, with some changes for it to find, and kills it when it waits for the answer to the n-th request
// of a kind.
func (c *chaos) killAt(g *gate, kind asked, n int) {
	c.Helper()
	g.Change("people", 50)
	stopped, _ := g.close(kind, n)
	connector := c.run()
	c.reach(connector, fmt.Sprintf("request %d for %s", n, kind), stopped)
	connector.kill()
}

// killHeld starts the connector and holds, from its n-th request of a kind on, its next commit in the given way; then it kills
// it. Nothing changes meanwhile but what reconciliation does: the commit that is held is one of its own.
func (c *chaos) killHeld(g *gate, kind asked, n int, way cut) {
	c.Helper()
	stopped, open := g.close(kind, n)
	connector := c.run()
	c.reach(connector, fmt.Sprintf("request %d for %s", n, kind), stopped)
	topic := c.topic // where tombstones go
	if kind == ofListing {
		topic = c.name + ".offsets" // where candidates go
	}
	// While the request waits, what was found before it is committed: no transaction is open.
	before := int64(0)
	c.until("the commits to end", connector, func() bool {
		before = c.written(topic)
		return before > 0 && before == c.ends(c.admin, topic)
	})
	held := c.hold(way)
	close(open)
	c.reach(connector, "the next commit", held)
	connector.kill()
	if way == brokerFrozen {
		c.kafka(c.kafkaDir, "resume", "1")
	}
	c.until("what was held in "+topic, nil, func() bool { return c.written(topic) > before })
}

func (c *chaos) reach(connector *process, what string, reached <-chan struct{}) {
	c.Helper()
	c.until(what, connector, func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
}

// written adds up the ends of a topic, with what stands in transactions that have not ended.
func (c *chaos) written(topic string) (sum int64) {
	c.Helper()
	ends, err := c.admin.ListEndOffsets(c.Context(), topic)
	if err != nil {
		return 0 // the broker wakes up; the caller asks again
	}
	ends.Each(func(o kadm.ListedOffset) { sum += max(o.Offset, 0) })
	return sum
}

// tombstones counts those of every key of a topic; each must say the reason.
func (b *bed) tombstones(topic, reason string) map[string]int {
	b.Helper()
	counts := map[string]int{}
	for _, r := range b.all(topic) {
		if r.Value != nil {
			continue
		}
		counts[string(r.Key)]++
		if op, why := header(r, "ce_op"), header(r, "ce_reason"); op != "d" || why != reason {
			b.Errorf("the tombstone of %s says %q, because %q", r.Key, op, why)
		}
	}
	return counts
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// noCandidates checks that no key waits for anything any more.
func (c *chaos) noCandidates() {
	c.Helper()
	waiting := map[string]bool{}
	for _, r := range c.all(c.name + ".offsets") {
		if strings.HasPrefix(string(r.Key), "candidate/") {
			waiting[string(r.Key)] = r.Value != nil
		}
	}
	if len(waiting) == 0 {
		c.Error("there never was a candidate")
	}
	maps.DeleteFunc(waiting, func(_ string, waits bool) bool { return !waits })
	for _, key := range slices.Sorted(maps.Keys(waiting)) {
		c.Errorf("%s is still there", key)
	}
}

// asked is what a request is for.
type asked string

const (
	ofListing asked = "a page of a listing"
	ofLookup  asked = "a single record"
	other     asked = "something else"
)

// gate stands before a simulated team: it knows what the connector asks for, and holds the request at which it is to be killed.
type gate struct {
	*simulator.SalesLoft
	handler http.Handler
	since   time.Time // an incremental pass asks for what is not much older

	mu       sync.Mutex
	listings int   // that have begun
	kind     asked // what is counted
	left     int   // until the one that is held
	stopped  chan struct{}
	open     chan struct{}
}

// close holds the n-th request of a kind from now on until its client is dead or open is closed; stopped is closed when it is
// there.
func (g *gate) close(kind asked, n int) (stopped <-chan struct{}, open chan<- struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kind, g.left, g.stopped, g.open = kind, n, make(chan struct{}), make(chan struct{})
	return g.stopped, g.open
}

// begun counts the listings that have begun, the first pass among them.
func (g *gate) begun() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.listings
}

// sort says what a request is for. A listing begins without a place, and goes on at places of long ago.
func (g *gate) sort(r *http.Request) (kind asked, first bool) {
	switch from := r.URL.Query().Get("updated_at[gte]"); {
	case strings.HasPrefix(r.URL.Path, "/v2/people/"):
		return ofLookup, false
	case r.URL.Path != "/v2/people":
		return other, false
	case from == "":
		return ofListing, true
	default:
		if at, err := time.Parse(time.RFC3339Nano, from); err == nil && at.Before(g.since.Add(-10*time.Minute)) {
			return ofListing, false
		}
		return other, false
	}
}

// pass counts a request, and returns what holds it; nil where nothing does.
func (g *gate) pass(r *http.Request) <-chan struct{} {
	kind, first := g.sort(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	if first {
		g.listings++
	}
	if kind != g.kind || g.left == 0 {
		return nil
	}
	if g.left--; g.left > 0 {
		return nil
	}
	close(g.stopped)
	return g.open
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if held := g.pass(r); held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	g.handler.ServeHTTP(w, r)
}
