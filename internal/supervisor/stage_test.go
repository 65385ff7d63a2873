//go:build synctests

package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// stage is a world in a bubble: brokers and APIs on a virtual network, and the instances of one deployment.
type stage struct {
	*world
	scenario  scenario
	teams     []*simulator.SalesLoft
	instances []*instance
	faults    []*kfake.FaultHandle
	result    *history
}

// logbook keeps what is logged.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logbook) logger(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.Level(*simLevel)})).With("who", who)
}

const accounts = "crm ops sales"

// connectionNames are those of the two teams; their accounts fall into one shard or two, as the scenario says.
func (s *stage) connectionNames() []string { return strings.Fields(accounts)[:2] }

func (s *stage) account(team int) string {
	if s.scenario.OneShard {
		return "one"
	}
	return s.connectionNames()[team]
}

func raise(t testing.TB, sc scenario) *stage {
	s := &stage{world: newWorld(t, sc.Brokers, sc.Wire, kfake.GroupMinSessionTimeout(time.Second)), scenario: sc, result: &history{Scenario: sc}}
	for i, o := range sc.Teams {
		s.teams = append(s.teams, simulator.New(o))
		s.serve(s.witness(i, s.teams[i].Handler()), 8081+i)
	}
	for _, f := range sc.HTTP {
		s.teams[f.Team].Fail(f.Fault)
	}
	for _, f := range sc.Brokered {
		s.breakBroker(f)
	}
	for i := range sc.Instances {
		in := &instance{stage: s, id: i, ended: make(chan struct{}), end: make(chan struct{})}
		s.instances = append(s.instances, in)
		go in.live()
	}
	return s
}

// witness logs what the token endpoint was asked and answered.
func (s *stage) witness(team int, h http.Handler) http.Handler {
	log := s.log.logger(fmt.Sprint("api-", team))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			h.ServeHTTP(w, r)
			return
		}
		seen := &status{ResponseWriter: w}
		defer func() { log.Info("token request", "token", r.PostForm.Get("refresh_token"), "status", seen.code) }()
		h.ServeHTTP(seen, r)
	})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

func (s *stage) breakBroker(f brokerFault) {
	var keys []kmsg.Key
	for k := range kmsg.Key(100) {
		if k.Name() == f.API || f.API == "Heartbeat" && k == kmsg.ConsumerGroupHeartbeat {
			keys = append(keys, k)
		}
	}
	var code *kerr.Error
	for c := range int16(150) {
		var e *kerr.Error
		if errors.As(kerr.ErrorForCode(c), &e) && e.Message == f.Error {
			code = e
		}
	}
	if len(keys) == 0 || code == nil {
		s.t.Fatalf("no such fault: %+v", f)
	}
	seen := 0
	s.faults = append(s.faults, s.cluster.Fault(kfake.Fault{Keys: keys, Err: code, Count: f.Count, When: func(kmsg.Request) bool {
		seen++
		return seen > f.Skip
	}}))
}

// instance is one process of the deployment, with whoever starts it again.
type instance struct {
	stage      *stage
	id         int
	end, ended chan struct{}

	mu     sync.Mutex
	now    *Supervisor // nil: down
	starts int
}

// life is an instance between a start and its end.
type life struct {
	link   *link
	sup    *Supervisor
	fleet  []*capture.Connection
	cancel context.CancelFunc
	done   chan error
}

// live runs the instance until the end of the play, and starts it again when it crashes, is terminated or halts.
func (in *instance) live() {
	defer close(in.ended)
	for {
		l, err := in.start()
		if err != nil {
			in.stage.result.note("start of instance %d: %v", in.id, err)
			return
		}
		down, over := in.watch(l)
		in.stop(l)
		if over {
			return
		}
		select {
		case <-time.After(down):
		case <-in.end:
			return
		}
	}
}

// watch waits for the end of a life. It is the operator, too, who starts an instance again when something in it halts.
func (in *instance) watch(l *life) (down time.Duration, over bool) {
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case f := <-l.link.trouble:
			if f.Do != terminate {
				l.link.sever() // a crash: cut, cancel, wait
			}
			return f.For, false
		case err := <-l.done:
			l.done <- err
			if remedy, _ := cdc.Verdict(err); err == nil || remedy == cdc.Halt {
				in.stage.result.halted(fmt.Sprintf("instance %d ended: %v", in.id, err))
			}
			return 10 * time.Second, false // whoever runs processes starts them again
		case <-ticker.C:
			if halts := in.halts(l); len(halts) > 0 {
				for _, h := range halts {
					in.stage.result.halted(h)
				}
				return time.Second, false
			}
		case <-in.end:
			return 0, true
		}
	}
}

// halts asks what stands still until a person mends it.
func (in *instance) halts(l *life) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var all []string
	for _, c := range l.sup.Status(ctx).Connections {
		if c.Phase.Name == "halted" {
			all = append(all, c.Connection+": "+c.Phase.Error)
		}
		for _, st := range c.Streams {
			if st.Halted != "" {
				all = append(all, c.Connection+"/"+st.Name+": "+st.Halted)
			}
		}
		for _, p := range c.Partitions {
			if p.Halted != "" {
				all = append(all, c.Connection+"/"+p.Stream+": "+p.Halted)
			}
		}
	}
	return all
}

func (in *instance) start() (*life, error) {
	s := in.stage
	in.starts++
	who := fmt.Sprintf("i%d.%d", in.id, in.starts)
	l := &life{link: newLink(s.network, s.plan, in.id), done: make(chan error, 1)}
	o := s.kafka(l.link.dial, fmt.Sprint("instance-", in.id), s.log.logger(who))
	o.Alarm = func(where, what string) { s.result.alarm(who + ": " + where + ": " + what) }
	budgets := map[string]*fetch.Budget{}
	for team, name := range s.connectionNames() {
		bound, err := s.bind(team, name)
		if err != nil {
			return nil, err
		}
		account := s.account(team)
		if budgets[account] == nil {
			budgets[account] = fetch.NewBudget(fetch.BudgetOptions{Budget: bound.Rate.Budget, Per: bound.Rate.Per, RemainingHeader: bound.Rate.RemainingHeader})
		}
		key := [32]byte{1}
		c, err := capture.New(capture.Options{
			Source: bound, Account: account, Kafka: o, SealKey: &key, Config: "one", Records: s.scenario.Bound,
			Fetch: fetch.Options{Budget: budgets[account], Dial: l.link.dial}, Log: o.Log,
		})
		if err != nil {
			return nil, err
		}
		l.fleet = append(l.fleet, c)
	}
	l.sup = New(Options{Kafka: o, Connections: l.fleet, Log: o.Log})
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() { l.done <- l.sup.Run(ctx) }()
	in.mu.Lock()
	in.now = l.sup
	in.mu.Unlock()
	return l, nil
}

// stop ends a life: after a crash with the cable cut, else in order.
func (in *instance) stop(l *life) {
	in.mu.Lock()
	in.now = nil
	in.mu.Unlock()
	began := time.Now()
	l.cancel()
	<-l.done //nolint:errcheck // watch has judged how it ended, or it was told to end
	if took := time.Since(began); took > 10*time.Second && !l.link.wasFrozen() {
		in.stage.result.slow(fmt.Sprintf("%s: instance %d took %v to stop", time.Now().Format(time.TimeOnly), in.id, took))
	}
	// A process would be gone now. Here what was abandoned to the fence, because a refresh of its token was under way (K19),
	// still ends by itself, and its bubble has to wait for it.
	for _, m := range l.sup.fleet { // what was abandoned to the fence still ends by itself
		l.sup.mu.Lock()
		done := m.done
		l.sup.mu.Unlock()
		if done != nil {
			<-done
		}
	}
	l.link.sever()
	for _, c := range l.fleet {
		c.Close()
	}
}

func (s *stage) kafka(dial func(context.Context, string, string) (net.Conn, error), instance string, log *slog.Logger) kafka.Options {
	return kafka.Options{
		Brokers: s.cluster.ListenAddrs(), Name: "sim", Instance: instance, Shards: 3, Dial: dial, Log: log, KIP848: s.scenario.KIP848,
		Restores: kafka.NewRestorer(0),
	}
}

// bind is the shipped definition, polled more often than one would poll a vendor.
func (s *stage) bind(team int, name string) (*source.Source, error) {
	definition, err := source.Open("salesloft")
	if err != nil {
		return nil, err
	}
	url := fmt.Sprint("http://127.0.0.1:", 8081+team)
	override := source.StreamOverride{Interval: s.scenario.Interval}
	return definition.Bind(name, map[string]any{
		"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
		"base_url": url + "/v2", "token_url": url + "/oauth/token",
	}, source.Overrides{
		Streams: map[string]source.StreamOverride{"people": override, "users": override, "notes": override},
		Rate:    &source.RateOverride{Budget: 550, Per: time.Minute},
	})
}

// play runs the scenario and collects what is judged.
func (s *stage) play() {
	ctx, stop := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	for _, team := range s.teams {
		busy.Go(func() { team.Run(ctx) })
	}
	began := time.Now()
	s.chaos(began)
	s.plan.end()
	for _, team := range s.teams {
		team.Heal()
	}
	for _, f := range s.faults {
		f.Remove()
	}
	watching, enough := context.WithCancel(ctx)
	busy.Go(func() { s.observe(watching) })
	<-time.After(s.scenario.Calm)
	for _, team := range s.teams {
		team.Freeze()
	}
	s.rest()
	enough()
	stop()
	busy.Wait()
	for _, in := range s.instances {
		close(in.end)
	}
	for _, in := range s.instances {
		<-in.ended
	}
	s.result.Virtual = time.Since(began)
	s.collect()
}

// chaos lets the timed operations happen, until its time is over.
func (s *stage) chaos(began time.Time) {
	for _, op := range s.scenario.Ops {
		timer := time.AfterFunc(op.At, func() { s.operate(op) })
		defer timer.Stop()
	}
	<-time.After(time.Until(began.Add(s.scenario.Chaos)))
}

func (s *stage) operate(op timedOp) {
	team := s.teams[op.Team]
	switch op.Do {
	case "expire tokens":
		team.ExpireTokens()
	case "tie":
		team.Tie("people", op.N)
	case "late":
		team.Late("people", op.N, time.Duration(op.N)*time.Second)
	case "spend":
		team.Spend(op.N * 10)
	}
}

// passes returns how many passes of each partition have ended, by connection/stream.
func (s *stage) passes() map[string]int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts := map[string]int64{}
	for _, in := range s.instances {
		in.mu.Lock()
		sup := in.now
		in.mu.Unlock()
		if sup == nil {
			continue
		}
		for _, c := range sup.Status(ctx).Connections {
			if c.Phase.Name != "running" {
				continue
			}
			for _, p := range c.Partitions {
				name := c.Connection + "/" + p.Stream
				counts[name] = max(counts[name], p.Passes)
			}
		}
	}
	return counts
}

// observe notes the passes that end after the faults have stopped. A pass is taken to have lasted from the look before the
// pass before it ended until the look that saw it ended: longer than it did, so less is demanded than could be.
func (s *stage) observe(ctx context.Context) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	type seen struct {
		n     int64
		since time.Time
	}
	last := map[string]seen{}
	before := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		for name, n := range s.passes() {
			l, known := last[name]
			switch {
			case !known, n < l.n:
				last[name] = seen{n, now} // the pass under way began before
			case n > l.n:
				s.result.pass(name, l.since, now)
				last[name] = seen{n, before}
			}
		}
		before = now
	}
}

// rest waits until every stream has ended three passes that began after the end of all changes.
func (s *stage) rest() {
	first := s.passes()
	want := len(s.teams) * 3
	deadline := time.Now().Add(90 * time.Minute)
	for time.Now().Before(deadline) {
		<-time.After(5 * time.Second)
		now := s.passes()
		done := len(now) == want
		for name, n := range now {
			if _, known := first[name]; !known || n < first[name] {
				first[name] = n
			}
			done = done && n >= first[name]+4
		}
		if done {
			return
		}
	}
	s.result.note("the connector did not come to rest in 90 minutes: passes %v, then %v", first, s.passes())
}
