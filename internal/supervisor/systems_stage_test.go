//go:build synctests

package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/fetch"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// harbour is a world in a bubble: a broker and one simulated system on a virtual network, the connection that the catalog has for
// it, and whoever starts that again.
type harbour struct {
	*process
	system *playedSystem
	up     *simulator.Upstream
	folder *fetch.Folder
	result *voyage

	// With mu.
	every time.Duration // reconciliation; 0: as the definition has it
	calm  bool
	walks map[string]*walks // by request/partition
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
	folder, err := fetch.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := &harbour{
		process: newProcess(newWorld(t, 1, nil)), system: system, up: system.build(o), folder: folder, every: system.every,
		walks: map[string]*walks{}, result: &voyage{System: system.name, Seed: seed},
	}
	h.serve(h.up.Handler(), 8081)
	h.topics()
	go h.keep(h.live)
	return h
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
	c, err := capture.New(capture.Options{
		Source: bound, Kafka: o, Config: "one", Folder: h.folder, Confirm: sysConfirm, Log: o.Log, SealKey: &[32]byte{1},
		Fetch: fetch.Options{Dial: link.dial, Budget: fetch.NewBudget(fetch.BudgetOptions{
			Budget: bound.Rate.Budget, Per: bound.Rate.Per, RemainingHeader: bound.Rate.RemainingHeader, MaxConcurrent: bound.Rate.MaxConcurrent,
		})},
	})
	if err != nil {
		h.t.Error(err)
		return 0, true
	}
	down, over, err = h.run(c, link, watching{every: 4 * time.Second, reset: h.reset, look: h.observe})
	if err != nil {
		h.result.halted(err.Error())
	}
	return down, over
}

func (h *harbour) reset() {
	for _, w := range h.walks {
		w.passes, w.since = -1, time.Time{}
	}
}

// reconcile starts the process again with another interval of reconciliation.
func (h *harbour) reconcile(every time.Duration) {
	h.mu.Lock()
	h.every = every
	h.mu.Unlock()
	h.again <- struct{}{}
}

// observe notes the passes that ended. It is the operator, too, who starts again what stands still.
func (h *harbour) observe(n int, st capture.Status) bool {
	h.follow(st)
	if halted := standstill(st); n%10 == 9 && halted != "" {
		h.result.halted(halted)
		return true
	}
	return false
}

// follow notes the passes that ended. One is taken to have lasted from the look before the one before it was seen to have ended,
// and a listing from the end of the one before it: longer than it did, so less is demanded than could be.
func (h *harbour) follow(st capture.Status) {
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
	st := h.status()
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
	if !within(4*time.Hour, 2*time.Second, is) {
		h.result.note("waited for %s: %+v", what, h.status())
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
		st := h.status()
		return st.Phase.Name == "running" && !slices.ContainsFunc(st.Partitions, func(p capture.PartitionStatus) bool { return p.Listing.Asking > 0 })
	})
	<-time.After(h.system.poll)
}

// partitionOf is the partition of a key: the first value of a list.
func partitionOf(key string) string {
	if rest, ok := strings.CutPrefix(key, `["`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	return ""
}
