//go:build synctests

package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/internal/capture"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// harbour is a world in a bubble: a broker and one simulated system on a virtual network, the connection that the catalog has for
// it, and whoever starts that again.
type harbour struct {
	t       testing.TB
	system  *playedSystem
	up      *simulator.Upstream
	network *kfake.VirtualNetwork
	cluster *kfake.Cluster
	server  *http.Server
	served  chan struct{}
	plan    *plan
	log     *logbook
	result  *voyage

	end, ended chan struct{}
	again      chan struct{} // the process is started again, in order
	mu         sync.Mutex
	now        *capture.Connection // nil: down
	every      time.Duration       // reconciliation; 0: as the definition has it
	calm       bool
	walks      map[string]*walks // by request/partition
}

// walks is what was seen of one partition's passes.
type walks struct {
	passes   int64
	since    time.Time // when the pass under way began, or before
	complete time.Time // end of the last complete listing
	listed   int       // complete listings since it was last set to 0
	polls    []passed
	listings []passed
}

type passed struct{ began, ended time.Time }

func embark(t testing.TB, system *playedSystem, seed int64) *harbour {
	o := system.live
	o.Seed, o.Skew = seed, time.Duration(seed%7-3)*time.Second
	h := &harbour{
		t: t, system: system, up: system.build(o), network: &kfake.VirtualNetwork{}, log: &logbook{}, served: make(chan struct{}),
		plan: &plan{counts: map[string]int{}}, end: make(chan struct{}), ended: make(chan struct{}), again: make(chan struct{}, 1),
		every: system.every, walks: map[string]*walks{}, result: &voyage{System: system.name, Seed: seed},
	}
	var err error
	h.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(h.network.Listen),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "315360000000"}))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := h.network.Listen("tcp", "127.0.0.1:8081")
	if err != nil {
		t.Fatal(err)
	}
	h.server = &http.Server{Handler: h.up.Handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() {
		defer close(h.served)
		_ = h.server.Serve(listener) // it ends with the server
	}()
	k := h.kafka(h.network.DialContext)
	if _, err := kafka.EnsureTopics(context.Background(), k, k.SystemTopics()); err != nil {
		t.Fatal(err)
	}
	go h.keep()
	return h
}

func (h *harbour) kafka(dial func(context.Context, string, string) (net.Conn, error)) kafka.Options {
	return kafka.Options{
		Brokers: h.cluster.ListenAddrs(), Name: "sim", Instance: "one", Shards: 1, Dial: dial, Log: h.log.logger("kafka"), Restores: kafka.NewRestorer(0),
	}
}

// bind is the shipped definition, read and reconciled more often than one would ask a vendor.
func (h *harbour) bind() (*source.Source, error) {
	definition, err := source.Open(h.system.name)
	if err != nil {
		return nil, err
	}
	config := h.system.config("http://127.0.0.1:8081")
	whole, err := definition.Bind("c", config, source.Overrides{})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	every := h.every
	h.mu.Unlock()
	chosen := map[string]source.StreamOverride{}
	for _, r := range whole.Requests {
		for _, st := range r.Streams {
			if h.system.streams[st.Name] == "" {
				continue
			}
			o := source.StreamOverride{}
			if st.Reconcile.Every > 0 {
				o.ReconcileEvery = every
			}
			chosen[st.Name] = o
			request := chosen[r.Name]
			request.Interval = h.system.poll
			chosen[r.Name] = request
		}
	}
	return definition.Bind("c", config, source.Overrides{Streams: chosen})
}

// keep runs the process, and starts it again when it crashes, is told to end or halts: a crash is cut, cancel, wait.
func (h *harbour) keep() {
	defer close(h.ended)
	for life := 1; ; life++ {
		down, over := h.live(life)
		if over {
			return
		}
		select {
		case <-time.After(down):
		case <-h.end:
			return
		}
	}
}

// live is one life of the process.
func (h *harbour) live(life int) (down time.Duration, over bool) {
	link := newLink(h.network, h.plan, 0)
	bound, err := h.bind()
	if err != nil {
		h.t.Error(err)
		return 0, true
	}
	o := h.kafka(link.dial)
	o.Log = h.log.logger(fmt.Sprint("life ", life))
	folder, err := fetch.OpenFolder(h.t.TempDir())
	if err != nil {
		h.t.Error(err)
		return 0, true
	}
	c, err := capture.New(capture.Options{
		Source: bound, Kafka: o, Config: "one", Folder: folder, Confirm: sysConfirm, Log: o.Log, SealKey: &[32]byte{1},
		Fetch: fetch.Options{Dial: link.dial, Budget: fetch.NewBudget(fetch.BudgetOptions{
			Budget: bound.Rate.Budget, Per: bound.Rate.Per, RemainingHeader: bound.Rate.RemainingHeader, MaxConcurrent: bound.Rate.MaxConcurrent,
		})},
	})
	if err != nil {
		h.t.Error(err)
		return 0, true
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, nil) }()
	h.running(c)
	down, over = h.watch(c, link, done)
	h.running(nil)
	cancel()
	if err := <-done; err != nil {
		h.result.halted(err.Error())
	}
	link.sever()
	c.Close()
	return down, over
}

func (h *harbour) running(c *capture.Connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = c
	for _, w := range h.walks {
		w.passes, w.since = -1, time.Time{}
	}
}

// watch waits for the end of a life, and looks at what the connection does meanwhile. It is the operator, too.
func (h *harbour) watch(c *capture.Connection, link *link, done chan error) (down time.Duration, over bool) {
	ticker := time.NewTicker(4 * time.Second)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case f := <-link.trouble:
			if f.Do != terminate {
				link.sever()
			}
			h.result.Crashes++
			return f.For, false
		case err := <-done:
			done <- err
			return 10 * time.Second, false
		case <-ticker.C:
			st := h.look(c)
			if h.observe(st); n%10 == 9 && h.halts(st) {
				return time.Second, false
			}
		case <-h.again:
			return time.Second, false
		case <-h.end:
			return 0, true
		}
	}
}

// reconcile starts the process again with another interval of reconciliation.
func (h *harbour) reconcile(every time.Duration) {
	h.mu.Lock()
	h.every = every
	h.mu.Unlock()
	h.again <- struct{}{}
}

func (h *harbour) look(c *capture.Connection) capture.Status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.Status(ctx)
}

// halts reports whether something stands still until a person comes: here that is to start it again.
func (h *harbour) halts(st capture.Status) bool {
	halted := ""
	for _, s := range st.Streams {
		if s.Halted != "" {
			halted = s.Halted
		}
	}
	for _, p := range st.Partitions {
		if p.Halted != "" {
			halted = p.Halted
		}
	}
	if halted != "" {
		h.result.halted(halted)
	}
	return halted != ""
}

// observe notes the passes that ended. One is taken to have lasted from the look before the one before it was seen to have ended,
// and a listing from the end of the one before it: longer than it did, so less is demanded than could be.
func (h *harbour) observe(st capture.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	seen := map[string]bool{}
	for _, p := range st.Partitions {
		name := p.Stream + "/" + p.Name
		seen[name] = true
		w := h.walks[name]
		if w == nil {
			w = &walks{passes: -1}
			h.walks[name] = w
		}
		switch {
		case w.passes < 0:
			w.passes, w.since = p.Passes, now
		case p.Passes > w.passes:
			h.result.Passes += p.Passes - w.passes
			if h.calm {
				w.polls = append(w.polls, passed{w.since, now})
			}
			w.passes, w.since = p.Passes, now.Add(-8*time.Second)
		}
		if p.Listing.Complete.After(w.complete) {
			if w.listed++; h.calm && !w.complete.IsZero() {
				w.listings = append(w.listings, passed{w.complete, p.Listing.Complete})
			}
			w.complete = p.Listing.Complete
			h.result.Listings++
		}
	}
	if len(st.Partitions) == 0 {
		return
	}
	for name := range h.walks { // the partition of a parent that is gone
		if !seen[name] {
			delete(h.walks, name)
		}
	}
}

// listed reports whether every partition that has listings has ended n complete ones more since it was last asked to begin anew.
func (h *harbour) listed(n int) bool {
	h.mu.Lock()
	c := h.now
	h.mu.Unlock()
	if c == nil {
		return false
	}
	st := h.look(c)
	if st.Phase.Name != "running" || len(st.Partitions) == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range st.Partitions {
		w := h.walks[p.Stream+"/"+p.Name]
		if p.State != "" || p.Stream == "loan_events" { // its parent is gone; a log is not listed
			continue
		}
		if w == nil || w.listed < n {
			return false
		}
	}
	return true
}

// anew begins to count listings.
func (h *harbour) anew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.walks {
		w.listed = 0
	}
}

func (h *harbour) await(what string, is func() bool) {
	for deadline := time.Now().Add(4 * time.Hour); time.Now().Before(deadline); <-time.After(2 * time.Second) {
		if is() {
			return
		}
	}
	h.mu.Lock()
	c := h.now
	h.mu.Unlock()
	if c != nil {
		h.result.note("waited for %s: %+v", what, h.look(c))
	} else {
		h.result.note("waited for %s, and nothing runs", what)
	}
}

// sail lets the system live under faults for so long, and then for a while without; then everything rests.
func (h *harbour) sail(trouble, calm time.Duration) {
	began := time.Now()
	ctx, stop := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	h.await("two listings", func() bool { return h.listed(2) })
	busy.Go(func() { h.up.Run(ctx) })
	h.trouble(trouble)
	h.plan.end()
	h.up.Heal()
	h.anew()
	h.await("two listings after the faults", func() bool { return h.listed(2) })
	if !h.system.opaque {
		h.reconcile(0) // what a lookback has to find, no listing finds for it
	}
	h.mu.Lock()
	h.calm, h.result.Calm = true, time.Now()
	h.mu.Unlock()
	<-time.After(calm)
	h.up.Freeze()
	stop()
	busy.Wait()
	<-time.After(3*h.system.poll + time.Minute)
	h.mu.Lock()
	h.calm, h.result.Polled = false, time.Now()
	h.mu.Unlock()
	if !h.system.opaque {
		h.reconcile(h.system.every)
	}
	h.rest()
	close(h.end)
	<-h.ended
	h.result.Virtual = time.Since(began)
	h.collect()
}

// trouble plants honest faults by the minute, and lies whenever every partition has been listed in full and in truth since the
// last ones: what two listings in a row deny is gone for whoever asks (D9).
func (h *harbour) trouble(d time.Duration) {
	m := &mischief{playedSystem: h.system, random: rand.New(rand.NewPCG(uint64(h.result.Seed), uint64(len(h.system.name))))}
	m.turn = m.random.IntN(len(tellTales))
	for end := time.Now().Add(d); time.Now().Before(end); {
		m.minute(h.up, h.plan)
		if m.random.IntN(8) == 0 {
			resources := m.resources()
			slices.Sort(resources)
			h.up.Tie(resources[m.random.IntN(len(resources))], 2+m.random.IntN(60))
		}
		if !h.listed(2) {
			<-time.After(30 * time.Second)
			continue
		}
		h.result.Windows++
		m.lie(h.up)
		<-time.After(sysWindow)
		h.up.Heal()
		h.anew()
	}
}

// rest waits until everything must be as it is: two listings that began as far apart as a confirmation wants, and their lookups.
func (h *harbour) rest() {
	<-time.After(2 * time.Minute) // a listing that began before the end of all changes
	h.anew()
	h.await("three listings at rest", func() bool { return h.listed(3) })
	<-time.After(sysConfirm)
	h.anew()
	h.await("two more listings at rest", func() bool { return h.listed(3) })
	h.await("the lookups", func() bool {
		h.mu.Lock()
		c := h.now
		h.mu.Unlock()
		if c == nil {
			return false
		}
		st := h.look(c)
		return st.Phase.Name == "running" && !slices.ContainsFunc(st.Partitions, func(p capture.PartitionStatus) bool { return p.Listing.Asking > 0 })
	})
	<-time.After(h.system.poll)
}

// close ends the world.
func (h *harbour) close() {
	h.server.Close()
	<-h.served
	h.cluster.Close()
	<-time.After(5 * time.Minute) // what is still under way meets its deadline
}

// partitionOf is the partition of a key: the first value of a list.
func partitionOf(key string) string {
	if rest, ok := strings.CutPrefix(key, `["`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	return ""
}
