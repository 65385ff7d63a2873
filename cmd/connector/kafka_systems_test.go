//go:build kafka

package main_test

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/judge"
	"tidemark/internal/offsets"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// served is one of the four systems, simulated in the test's process, with its connection.
type served struct {
	*simulator.Upstream
	name   string // of the source, and of the connection
	url    string
	config map[string]any
	// resources by stream; polled are the requests with their intervals.
	resources map[string]string
	polled    map[string]string
	lies      string   // the resource that lies are told about; "": all
	drifts    string   // the resource whose rows leave their places
	deleted   []string // resources of which records vanish
	login     string   // the resource that a token is got from
	passes    int64
}

// TestSystems runs the connector on a real Kafka against all four systems at once, by the shipped definitions, with the
// simulators' faults, kills it with SIGKILL and restarts it when something halts, as an operator does, until each system has been
// walked so many times (PASSES, 500). Then the topics equal the truth: nothing is missing, twice, out of order or wrong, and what
// is deleted upstream has a tombstone or is listed as waiting for its proof. SEED repeats what happens when.
//
// Two things take longer than this test and are the embedded one's (internal/supervisor, TestSystems): a server that hangs, and a
// second listing that confirms the first, ten minutes later.
func TestSystems(t *testing.T) {
	passes, seed := int64(number(t, "PASSES", 500)), uint64(number(t, "SEED", int(time.Now().UnixNano()&0xffffff)))
	fmt.Printf("systems: SEED=%d PASSES=%d\n", seed, passes)
	w := newSeaway(t, seed)
	w.process = w.run()
	w.rest(2)
	w.trouble(passes)
	for _, s := range w.systems {
		s.Heal()
	}
	w.rest(2)
	for _, s := range w.systems {
		s.Freeze()
	}
	w.rest(3)
	w.process.terminate()
	w.books()
}

// seaway is the four systems and the connector between them and Kafka.
type seaway struct {
	*bed
	random  *rand.Rand
	systems []*served
	process *process
	seen    map[string]int64 // passes by partition, of the process that runs
	kills   int
	halts   int
	mended  time.Time // when the operator last came
}

func newSeaway(t *testing.T, seed uint64) *seaway {
	w := &seaway{bed: newBed(t), random: rand.New(rand.NewPCG(seed, 4)), systems: fourSystems(int64(seed)), seen: map[string]int64{}}
	var file strings.Builder
	for _, s := range w.systems {
		server := httptest.NewServer(s.Handler())
		t.Cleanup(server.Close)
		s.url = server.URL
		fmt.Fprintf(&file, "- name: %s\n  source: %s\n  rate_limit: {budget: 1000000, per: 1m}\n  config:\n", s.name, s.name)
		for name, value := range s.config {
			if text, ok := value.(string); ok {
				s.config[name] = strings.ReplaceAll(text, "URL", s.url)
			}
			fmt.Fprintf(&file, "    %s: %v\n", name, s.config[name])
		}
		fmt.Fprintln(&file, "  streams:")
		for stream, how := range s.polled {
			fmt.Fprintf(&file, "    %s: %s\n", stream, how)
		}
	}
	w.write("connections.yaml", file.String())
	return w
}

func fourSystems(seed int64) []*served {
	o := simulator.Options{
		Seed: seed, ChangesPerSecond: 3, Creates: 0.05, CountsOnly: 0.1, Touches: 0.05, Reverts: 0.08, Ties: 0.03, LateCommits: 0.05, Lateness: 3 * time.Second,
		Gzip: true, RateBudget: -1, Tokens: true, TokenGrace: true, TokenLife: 30 * time.Second,
		People: 120, Notes: 40, Users: 30, PageCap: 40,
		Records: map[string]int{"tasks": 30, "loans": 60, "client/recording": 150, "events": 3, "items": 8, "purchases": 8, "guests": 60},
	}
	all := []*served{
		{
			Upstream: simulator.New(o).Upstream, name: "salesloft", drifts: "people", deleted: []string{"people", "notes"}, login: "oauth/token",
			config: map[string]any{
				"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
				"base_url": "URL/v2", "token_url": "URL/oauth/token",
			},
			resources: map[string]string{"people": "people", "notes": "notes", "users": "users", "tasks": "tasks"},
			polled: map[string]string{
				"people": "{interval: 500ms, reconcile: {every: 5s}}", "notes": "{interval: 500ms, reconcile: {every: 5s}}",
				"users": "{interval: 1s}", "tasks": "{interval: 1s}",
			},
		},
		{
			Upstream: simulator.NewCRF(o).Upstream, name: "crf-exchange", lies: "loans", drifts: "loans", deleted: []string{"loans"},
			config:    map[string]any{"base_url": "URL/api", "api_key": simulator.APIKey, "partner_id": simulator.PartnerID},
			resources: map[string]string{"loans": "loans", "loan_events": "loan/events"},
			polled:    map[string]string{"loans": "{interval: 500ms, reconcile: {every: 5s}}", "loan_events": "{interval: 500ms}"},
		},
		{
			Upstream: simulator.NewFocus(o).Upstream, name: "focus", deleted: []string{"client/recording"}, drifts: "client/recording", login: "authWithApiKey",
			config: map[string]any{
				"base_url": "URL/api", "client_id": simulator.FocusClientID, "api_key": simulator.APIKey, "username": simulator.FocusUsername,
			},
			resources: map[string]string{"recordings": "client/recording"},
			polled:    map[string]string{"recordings": "{interval: 100ms, reconcile: {every: 5s}}"},
		},
	}
	o.PageCap = 0
	guests := &served{
		Upstream: simulator.NewGivergy(o).Upstream, name: "givergy", drifts: "guests", deleted: []string{"guests", "items/tickets"}, login: "auth/login",
		config: map[string]any{
			"base_url": "URL", "namespace": simulator.GivergyNamespace, "username": simulator.GivergyUsername, "password": simulator.GivergyPassword,
		},
		resources: map[string]string{"events": "events", "guests": "guests", "tickets": "items/tickets", "donations": "purchases/donations"},
		polled:    map[string]string{"items": "{interval: 500ms}", "purchases": "{interval: 500ms}", "events": "{interval: 500ms, reconcile: {every: 5s}}"},
	}
	for _, stream := range []string{"tickets", "donations"} {
		guests.polled[stream] = "{reconcile: {every: 5s}}"
	}
	guests.polled["guests"] = "{interval: 500ms, reconcile: {every: 5s}}"
	return append(all, guests)
}

// truthful faults may strike at any time.
var truthful = []simulator.Fault{
	{Kind: simulator.Status, Status: 500}, {Kind: simulator.Status, Status: 502, Times: 2}, {Kind: simulator.Status, Status: 503, Times: 2},
	{Kind: simulator.Status, Status: 429, RetryAfter: "1"}, {Kind: simulator.Status, Status: 401}, {Kind: simulator.Logout}, {Kind: simulator.Truncated},
	{Kind: simulator.Cut}, {Kind: simulator.Reset}, {Kind: simulator.Slow, N: 1}, {Kind: simulator.Gzip, Times: 3}, {Kind: simulator.Duplicate},
	{Kind: simulator.Expired}, {Kind: simulator.LateCommits, N: 3}, {Kind: simulator.Ties, N: 60}, {Kind: simulator.Drift}, {Kind: simulator.Capped, N: 7, Times: 4},
}

// untrue faults are lies, told together in turns: those of lookups beside true listings (D9).
var untrue = [][]simulator.Fault{
	{{Kind: simulator.DropPage, Times: 2}, {Kind: simulator.HTML}, {Kind: simulator.Stale, Times: 3}},
	{{Kind: simulator.CutListing, N: 15, Times: 4}, {Kind: simulator.Status, Status: 404}, {Kind: simulator.Shuffle}},
	{{Kind: simulator.Moved, Times: 5}, {Kind: simulator.FalseGone, Times: 5}, {Kind: simulator.Status, Status: 403}},
	{{Kind: simulator.Tenant}, {Kind: simulator.IgnoreFilter, Times: 2}, {Kind: simulator.RepeatPage, Times: 2}},
	{{Kind: simulator.Hidden, Times: 4}, {Kind: simulator.IgnoreSort}, {Kind: simulator.Empty, Times: 3}},
}

// plant lets faults strike a system, one of so many requests.
func (w *seaway) plant(s *served) {
	if stats := s.Stats(); stats.Failed*15 > stats.Requests {
		return
	}
	f := truthful[w.random.IntN(len(truthful))]
	switch f.Kind {
	case simulator.Drift:
		f.Resource = s.drifts
	case simulator.Duplicate, simulator.Capped: // what a log left out for once stays out
		f.Resource = s.lies
	}
	f.Skip = w.random.IntN(10)
	s.Fail(f)
	if s.login != "" && w.random.IntN(8) == 0 {
		lost := []simulator.Kind{simulator.Reset, simulator.Cut, simulator.Truncated}
		s.Fail(simulator.Fault{Kind: lost[w.random.IntN(len(lost))], Resource: s.login})
	}
}

// trouble goes on until every system has been walked often enough.
func (w *seaway) trouble(passes int64) {
	w.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.change(stop)
	}()
	turn, next := w.random.IntN(len(untrue)), time.Now()
	for quarter := range int64(4) {
		want := passes * (quarter + 1) / 4
		w.until(fmt.Sprintf("%d passes of each system", want), nil, func() bool {
			w.operate()
			least := want
			for _, s := range w.systems {
				w.plant(s)
				least = min(least, s.passes)
			}
			if time.Now().After(next) {
				turn, next = turn+1, time.Now().Add(20*time.Second)
				w.lie(untrue[turn%len(untrue)])
			}
			return least >= want
		})
		if quarter < 3 {
			w.kills++
			w.process.kill()
			w.process, w.seen = w.run(), map[string]int64{}
		}
	}
	close(stop)
	<-done
}

// lie plants the next lies, instead of everything that was planted before.
func (w *seaway) lie(lies []simulator.Fault) {
	for _, s := range w.systems {
		s.Heal()
		for _, f := range lies {
			f.Resource, f.Skip = s.lies, w.random.IntN(4)
			s.Fail(f)
		}
	}
}

// change lets the systems live, and records vanish from them.
func (w *seaway) change(stop <-chan struct{}) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, s := range w.systems {
			if s.Step(1); n%20 == 0 {
				s.Delete(s.deleted[n/20%len(s.deleted)], 1)
			}
		}
	}
}

func (w *seaway) run() *process { return w.connector("one", "VALUE_FORMAT=json", "LOG_LEVEL=warn") }

// operate counts passes, and starts the connector again when something in it stands still until somebody comes.
func (w *seaway) operate() {
	w.Helper()
	st, ok := w.process.status()
	if !ok {
		if w.process.ended() {
			w.Fatalf("the connector ended: %v", w.process.cmd.ProcessState)
		}
		return
	}
	halted := ""
	for _, c := range st.Connections {
		if c.Phase.Name == "halted" {
			halted = c.Phase.Error
		}
		for _, s := range c.Streams {
			halted += s.Halted
		}
		for _, p := range c.Partitions {
			name := c.Connection + "/" + p.Stream + "/" + p.Name
			before, known := w.seen[name]
			halted += p.Halted
			if w.seen[name] = p.Passes; known && p.Passes > before {
				i := slices.IndexFunc(w.systems, func(s *served) bool { return s.name == c.Connection })
				w.systems[i].passes += p.Passes - before
			}
		}
	}
	if halted != "" && time.Since(w.mended) > 8*time.Second { // he comes when he can
		w.halts, w.mended = w.halts+1, time.Now()
		w.process.terminate()
		w.process, w.seen = w.run(), map[string]int64{}
	}
}

// rest waits until every partition has been listed n times more, or walked where it has no listings, with nothing left to look up.
func (w *seaway) rest(n int) {
	w.Helper()
	type turn struct {
		complete time.Time
		passes   int64
		turns    int
	}
	var turns map[string]*turn
	process := w.process
	w.until(fmt.Sprintf("%d more listings of everything", n), nil, func() bool {
		if w.operate(); process != w.process || turns == nil { // it was started again
			process, turns = w.process, map[string]*turn{}
		}
		st, ok := w.process.status()
		done := ok && len(st.Connections) == len(w.systems)
		for _, c := range st.Connections {
			done = done && c.Phase.Name == "running" && len(c.Partitions) > 0
			for _, p := range c.Partitions {
				name := c.Connection + "/" + p.Stream + "/" + p.Name
				t := turns[name]
				if t == nil {
					t = &turn{complete: p.Listing.Complete, passes: p.Passes}
					turns[name] = t
				}
				if p.Listing.Complete.After(t.complete) {
					t.turns++
					t.complete = p.Listing.Complete
				}
				listed := p.Stream != "loan_events" // a log is read when its loan was seen to change
				done = done && (p.State != "" || p.Listing.Asking == 0 && (!listed || t.turns > n && p.Passes > t.passes))
			}
		}
		return done
	})
}

// books compares every topic with the truth.
func (w *seaway) books() {
	w.Helper()
	waiting := map[string]bool{} // connection/stream/key
	for _, r := range w.all(w.name + ".offsets") {
		if k, err := offsets.ParseKey(r.Key); err == nil && k.Kind == offsets.KindCandidate {
			waiting[k.Connection+"/"+k.Stream+"/"+k.Name] = r.Value != nil
		}
	}
	for _, s := range w.systems {
		definition, err := source.Open(s.name)
		if err != nil {
			w.Fatal(err)
		}
		bound, err := definition.Bind(s.name, s.config, source.Overrides{})
		if err != nil {
			w.Fatal(err)
		}
		events, tombstones, waits := 0, 0, 0
		for _, st := range bound.Streams {
			if s.resources[st.Name] == "" {
				continue
			}
			v, dead, held := w.verdict(s, st, waiting)
			if events, tombstones, waits = events+v.Events, tombstones+dead, waits+held; !v.Clean() || v.Events == 0 {
				w.Errorf("%s/%s: %v\n%s", s.name, st.Name, v, strings.Join(v.Examples, "\n"))
			}
		}
		fmt.Printf("system=%s passes=%d kills=%d halts=%d events=%d tombstones=%d waiting=%d requests=%d struck=%v\n",
			s.name, s.passes, w.kills, w.halts, events, tombstones, waits, s.Stats().Requests, s.Stats().Struck)
	}
}

// verdict judges one stream. What is gone has a tombstone, or waits for its proof: then it is listed in the state (D4, D5).
func (w *seaway) verdict(s *served, st *source.Stream, waiting map[string]bool) (v judge.Verdict, tombstones, waits int) {
	w.Helper()
	var events []judge.Event
	for _, r := range w.all(w.name + "." + s.name + "." + st.Name) {
		events = append(events, judge.Event{
			Key: string(r.Key), Op: header(r, "ce_op"), Value: bytes.Clone(r.Value), Partition: r.Partition, Offset: r.Offset, ID: header(r, "ce_id"),
		})
		if r.Value == nil {
			tombstones++
		}
	}
	all := func(seq iter.Seq[simulator.State]) (out []judge.State) {
		for x := range seq {
			key := x.Key
			if st.LogFeed {
				key = x.Partition
			}
			out = append(out, judge.State{Key: key, At: x.At, Value: x.Value})
		}
		return out
	}
	history := judge.Weave(all(s.History(s.resources[st.Name])), all(s.Shown(s.resources[st.Name])))
	last := map[string]int{}
	for i, x := range history {
		last[x.Key] = i
	}
	for key, i := range last {
		if history[i].Value == nil && waiting[s.name+"/"+st.Name+"/"+key] {
			history[i].Optional = true
			waits++
		}
	}
	var err error
	if st.LogFeed {
		there := map[string]bool{}
		for x := range s.History("loans") {
			there[x.Key] = x.Value != nil
		}
		for i, x := range history { // what came just before its loan went is not asked for any more
			history[i].Optional = !slices.ContainsFunc([]string{"Listings", "BuyerOwned", "SellerOwned", "BuyerPending"}, func(view string) bool {
				return there[fmt.Sprintf("[%q,%q]", view, x.Key)]
			})
		}
		v, err = judge.Log(st.Rules, history, events, judge.Options{AtRest: true})
	} else {
		v, err = judge.Judge(st.Rules, history, events, judge.Options{AtRest: true, Deletions: true, Ops: true})
	}
	if err != nil {
		w.Fatal(err)
	}
	return v, tombstones, waits
}
