package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/embedded"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
	"tidemark/internal/supervisor"
)

// theatre is the demo's stage: the simulated API, and the deployment.
type theatre struct {
	p   *program
	d   *deployment
	sim *simulator.SalesLoft
	all []declared
	sup *supervisor.Supervisor
}

// demo shows the main job in one process, and judges it at the end.
func demo(ctx context.Context, p *program, args []string) error {
	f := p.flags("demo", "[--for 30s]")
	length := f.Duration("for", demoFor(p), "how long the simulated API keeps changing (DEMO_FOR)")
	seed := f.Int64("seed", 1, "seed of the simulated API")
	events := f.Int("events", 40, "how many events are printed one by one")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	t := &theatre{p: p}
	stop, err := t.raise(*seed)
	if err != nil {
		return err
	}
	defer stop()
	return t.play(ctx, *length, *events)
}

// demoFor is the demo's length.
func demoFor(p *program) time.Duration {
	text, _ := p.env("DEMO_FOR")
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return 30 * time.Second
}

// raise starts broker, registry and the simulated API.
func (t *theatre) raise(seed int64) (stop func(), err error) {
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		return nil, err
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, err
	}
	environment := map[string]string{
		"DEPLOYMENT": "demo", "KAFKA_BROKERS": strings.Join(cluster.Brokers(), ","), "SCHEMA_REGISTRY_URL": cluster.RegistryURL(),
		"SECRET_KEY": base64.StdEncoding.EncodeToString(key[:]), "ADMIN_ADDRESS": "127.0.0.1:0", "LOG_LEVEL": "warn", "LOG_FORMAT": "text",
	}
	s, err := loadSettings(func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
	if err != nil {
		return nil, err
	}
	t.d = &deployment{env: t.p.env, settings: s, log: s.logger(t.p), embedded: cluster}
	if err := t.d.connect(); err != nil {
		return nil, err
	}
	o := simulator.Lively(seed)
	o.Tokens, o.RateBudget, o.Deletes = true, -1, 0.03
	t.sim = simulator.New(o)
	url, closeSim, err := serveSimulator(t.sim.Handler(), "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if t.all, err = t.cast(url); err != nil {
		return nil, err
	}
	return func() { closeSim(); cluster.Close() }, nil
}

// cast binds the connection of the demo: the shipped definition, polled more often than one would poll a vendor.
func (t *theatre) cast(url string) ([]declared, error) {
	definition, err := source.Open("salesloft")
	if err != nil {
		return nil, err
	}
	streams := map[string]source.StreamOverride{}
	for _, name := range definition.StreamNames() {
		streams[name] = source.StreamOverride{Interval: time.Second, ReconcileEvery: 5 * time.Second}
	}
	c := source.Connection{
		Name: "crm", Source: "salesloft", Account: "crm",
		Config: map[string]any{
			"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
			"base_url": url + "/v2", "token_url": url + "/oauth/token",
		},
		Overrides: source.Overrides{Streams: streams, Rate: &source.RateOverride{Budget: 1e6, Per: time.Minute}},
	}
	bound, err := bind(c)
	return []declared{{c, bound}}, err
}

// play runs the connector while the API changes, then lets everything come to rest and judges.
func (t *theatre) play(ctx context.Context, length time.Duration, show int) error {
	fleet, err := t.d.fleet(t.all, t.all, nil)
	if err != nil {
		return err
	}
	defer disband(fleet)
	t.sup = supervisor.New(supervisor.Options{Kafka: t.d.kafka, Connections: fleet, Log: t.d.log})
	closePage, err := t.d.serve(t.sup)
	if err != nil {
		return err
	}
	defer closePage()
	fmt.Fprintf(t.p.out, "status page     http://%s\nkafka           %s\nregistry        %s\nsimulated API   changes for %v\n\n",
		t.d.settings.Admin, strings.Join(t.d.settings.Brokers, ","), t.d.settings.Registry, length)
	running, halt := context.WithCancel(ctx)
	var wait sync.WaitGroup
	var failed error
	wait.Go(func() { failed = t.sup.Run(running); halt() })
	wait.Go(func() { t.announce(running, show) })
	changing, freeze := context.WithTimeout(running, length)
	t.sim.Run(changing)
	freeze()
	if running.Err() == nil {
		t.sim.Freeze()
		failed = t.rest(running)
	}
	counts := t.counts(ctx)
	halt()
	wait.Wait()
	if failed != nil {
		return failed
	}
	return t.verdict(context.WithoutCancel(ctx), counts)
}

// announce prints events as they arrive.
func (t *theatre) announce(ctx context.Context, show int) {
	r := t.d.reading()
	n := 0
	err := kafka.Read(ctx, t.d.kafka, kafka.Query{Topics: t.topics(), Follow: true}, func(k kafka.Record) error {
		e, err := r.event(ctx, k)
		if err != nil {
			return err
		}
		switch n++; {
		case n <= show:
			fmt.Fprintf(t.p.out, "%s %-24s %8s  %.90s\n", e.Op, strings.TrimPrefix(e.Topic, "demo.crm."), e.Key, e.Value)
		case n == show+1:
			fmt.Fprintln(t.p.out, "… and so on")
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.d.log.Warn("events are not printed any more", "error", err)
	}
}

func (t *theatre) topics() []string {
	var all []string
	for _, st := range t.all[0].bound.Streams {
		all = append(all, t.d.kafka.EventsTopic(t.all[0].Name, st.Name))
	}
	return all
}

// restFor bounds how long the connector may take to see the last change.
const restFor = 2 * time.Minute

// rest waits until every partition has ended two passes that began after the API came to rest, and a complete listing, with
// nothing left to commit or to look up.
func (t *theatre) rest(ctx context.Context) error {
	frozen := time.Now()
	deadline := frozen.Add(restFor)
	first := t.passes(ctx)
	for time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		now, done := t.passes(ctx), len(first) > 0 && t.listed(ctx, frozen)
		for name, n := range now {
			done = done && n >= first[name]+3
		}
		if done {
			return nil
		}
	}
	return cdc.Errorf(cdc.Retry, cdc.Process, "demo", "Is the machine very busy? Try a smaller --for", "the connector did not come to rest in %v", restFor)
}

// listed reports whether every partition was listed since then, and everything that was missing is settled, where it can be looked
// up: what needs a second listing takes ten minutes longer.
func (t *theatre) listed(ctx context.Context, since time.Time) bool {
	for _, c := range t.sup.Status(ctx).Connections {
		for i, s := range c.Streams {
			if t.all[0].bound.Streams[i].HasLookup && s.Candidates > 0 {
				return false
			}
		}
		for _, p := range c.Partitions {
			if !p.Listing.Due.IsZero() && p.Listing.Complete.Before(since.Add(restAfter)) || p.Listing.Asking > 0 || !p.Listing.Began.IsZero() {
				return false
			}
		}
	}
	return true
}

// restAfter is how long after the last change a listing has to end to have begun behind it.
const restAfter = 5 * time.Second

// passes counts the passes of each partition.
func (t *theatre) passes(ctx context.Context) map[string]int64 {
	counts := map[string]int64{}
	for _, c := range t.sup.Status(ctx).Connections {
		for _, p := range c.Partitions {
			counts[p.Stream+"/"+p.Name] = p.Passes
		}
	}
	return counts
}

// tally is what the connector says of itself.
type tally struct{ suppressed, deleted int64 }

func (t *theatre) counts(ctx context.Context) tally {
	var n tally
	for _, c := range t.sup.Status(ctx).Connections {
		for _, s := range c.Streams {
			n.suppressed += s.Counts.Suppressed
			n.deleted += s.Counts.Deleted
		}
	}
	return n
}

// verdict compares the topics with the API's history.
func (t *theatre) verdict(ctx context.Context, n tally) error {
	var sum judge.Verdict
	for _, st := range t.all[0].bound.Streams {
		v, err := t.judge(ctx, st)
		if err != nil {
			return err
		}
		sum.Events += v.Events
		sum.Missing += v.Missing
		sum.Duplicate += v.Duplicate
		sum.Wrong += v.Wrong + v.OutOfOrder
		for _, x := range v.Examples {
			fmt.Fprintf(t.p.out, "  %s: %s\n", st.Name, x)
		}
	}
	fmt.Fprintf(t.p.out, "\nThe judge compared the topics with everything that the API ever said:\n"+
		"events %d (%d of them tombstones of what vanished without a sign), suppressed %d, missing %d, duplicate %d, wrong %d\n",
		sum.Events, n.deleted, n.suppressed, sum.Missing, sum.Duplicate, sum.Wrong)
	if sum.Missing+sum.Duplicate+sum.Wrong > 0 {
		return errVerdict
	}
	return nil
}

// judge judges one stream.
func (t *theatre) judge(ctx context.Context, st *source.Stream) (judge.Verdict, error) {
	resource := map[string]string{"calls": "activities/calls", "emails": "activities/emails"}[st.Name]
	if resource == "" {
		resource = st.Name
	}
	var history []judge.State
	for s := range t.sim.History(resource) {
		history = append(history, judge.State{Key: s.Key, At: s.At, Value: s.Value, Optional: s.Spoil != simulator.Sound})
	}
	r := t.d.reading()
	var events []judge.Event
	q := kafka.Query{Topics: []string{t.d.kafka.EventsTopic(t.all[0].Name, st.Name)}}
	err := kafka.Read(ctx, t.d.kafka, q, func(k kafka.Record) error {
		e, err := r.event(ctx, k)
		if err != nil {
			return err
		}
		je := judge.Event{Key: e.Key, Op: e.Op, Partition: e.Partition, Offset: e.Offset, Cursor: e.Headers["ce_cursor"], ID: e.Headers["ce_id"], Reason: e.Headers["ce_reason"]}
		if k.Value != nil {
			je.Value = append([]byte(nil), e.Value...)
		}
		events = append(events, je)
		return nil
	})
	if err != nil {
		return judge.Verdict{}, err
	}
	return judge.Judge(st.Rules, history, events,
		judge.Options{AtRest: true, NullsAreAbsent: true, Ops: true, Cursors: true, Deletions: st.HasLookup})
}
