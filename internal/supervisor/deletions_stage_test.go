//go:build synctests

package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// bazaar is a world in a bubble: a broker and the adversary on a virtual network, one connection, and whoever starts it again.
type bazaar struct {
	*process
	plot   *plot
	api    *adversary
	result *trial
	seen   map[string]*listings // with mu
	orders int
}

// listings is what was seen of one partition's listings.
type listings struct {
	passes   int64
	complete time.Time // end of the last complete one
	failed   int
	ends     []time.Time // of the complete ones since forget
}

func open(t testing.TB, p *plot) *bazaar {
	b := &bazaar{
		process: newProcess(newWorld(t, 1, p.Wire)), plot: p, api: newAdversary(p),
		result: &trial{Plot: *p, Incomplete: map[string]int{}}, seen: map[string]*listings{},
	}
	b.serve(b.api, 8081)
	b.topics()
	go b.keep(b.live)
	return b
}

func (b *bazaar) bind() (*source.Source, error) {
	definition, err := source.Parse("bazaar.yaml", []byte(b.plot.definition()))
	if err != nil {
		return nil, err
	}
	return definition.Bind("c", map[string]any{"url": "http://127.0.0.1:8081", "password": cdc.NewSecret("sesame")}, source.Overrides{})
}

// live is one life of the process.
func (b *bazaar) live(life int) (down time.Duration, over bool) {
	link := newLink(b.network, b.plan, 0)
	bound, err := b.bind()
	if err != nil {
		b.t.Error(err)
		return 0, true
	}
	o := b.kafka(link.dial)
	o.Log = b.log.logger(fmt.Sprint("life ", life))
	c, err := capture.New(capture.Options{
		Source: bound, Kafka: o, Config: "one", Records: b.plot.Bound, Confirm: b.plot.Confirm, Window: 500 * time.Millisecond, Log: o.Log,
		Fetch: fetch.Options{Dial: link.dial, Attempts: 3},
	})
	if err != nil {
		b.t.Error(err)
		return 0, true
	}
	down, over, err = b.run(c, link, watching{every: 5 * time.Second, reset: b.reset, look: b.observe})
	if err != nil {
		b.result.halted(err.Error())
	}
	return down, over
}

func (b *bazaar) reset() {
	for _, l := range b.seen {
		l.passes, l.complete, l.failed = -1, time.Time{}, 0
	}
}

var digits = regexp.MustCompile(`[0-9]+|"[^"]*"`)

// observe counts listings, complete ones and others by what they lack. Now and then a person looks whether something stands still,
// and starts the process again.
func (b *bazaar) observe(n int, st capture.Status) bool {
	b.count(st)
	if halted := standstill(st); n%12 == 0 && halted != "" {
		b.result.halted(halted)
		return true
	}
	return false
}

func (b *bazaar) count(st capture.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range st.Partitions {
		l := b.seen[p.Name]
		if l == nil {
			l = &listings{}
			b.seen[p.Name] = l
		}
		if l.passes >= 0 { // else this is the first look at a new life
			b.result.Passes += max(0, p.Passes-l.passes)
		}
		l.passes = p.Passes
		if n := p.Listing.Failed - l.failed; n > 0 {
			why := []rune(digits.ReplaceAllString(p.Listing.Why, "…"))
			b.result.Incomplete[string(why[:min(len(why), 70)])] += n
		}
		l.failed = p.Listing.Failed
		if p.Listing.Complete.After(l.complete) {
			if !l.complete.IsZero() { // else it is of the life before
				b.result.Complete++
			}
			l.complete = p.Listing.Complete
			l.ends = append(l.ends, l.complete)
		}
	}
}

// play runs the plot: lies, changes and crashes; then calm, and the listings after which everything has to be as it is.
func (b *bazaar) play() {
	began := time.Now()
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() { b.api.run(stop) })
	for time.Since(began) < b.plot.Chaos {
		<-time.After(10 * time.Minute)
		b.operate()
	}
	b.plan.end()
	b.api.heal()
	<-time.After(b.plot.Every + b.plot.Interval)
	b.await("a moment without a listing", b.api.freeze)
	close(stop)
	busy.Wait()
	b.result.Calm = time.Now()
	b.forget()
	b.rest()
	close(b.end)
	<-b.ended
	b.result.Virtual = time.Since(began)
	b.collect()
}

// rest waits until two complete listings of every partition have confirmed what is gone, lets what is withheld go, and waits
// until contents have come to rest too.
func (b *bazaar) rest() {
	switch {
	case !b.plot.listed(): // what upstream declares deleted is read by the next passes
		<-time.After(10*b.plot.Interval + 10*time.Minute)
	case !b.await("two complete listings after the calm", b.confirmed), !b.await("the lookups", b.asked):
		return
	}
	b.result.Settled = time.Now()
	// More than two listings: what a backup brought back is published when two passes agree and a third one shows it (P14).
	if st := b.status(); b.plot.Approve && len(st.Streams) == 1 && st.Streams[0].Withheld > 0 {
		b.order(int64(st.Streams[0].Withheld))
		b.result.LetGo = true
	}
	if b.plot.listed() {
		b.forget()
		b.await("four more listings", func() bool { return b.lately(4) })
	}
	b.await("the lookups", b.asked)
	<-time.After(2 * b.plot.Interval)
}

// forget begins to count complete listings anew.
func (b *bazaar) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.seen {
		l.ends = nil
	}
}

func (p *plot) listed() bool { return p.Reads == "" || p.List }

func (b *bazaar) await(what string, is func() bool) bool {
	if within(12*time.Hour, time.Second, is) {
		return true
	}
	b.result.note("waited for %s: %+v", what, b.status())
	return false
}

// lately reports whether every partition has had n complete listings since that was last asked for.
func (b *bazaar) lately(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.seen {
		if len(l.ends) < n {
			return false
		}
	}
	return len(b.seen) > 0
}

// confirmed reports whether every partition has had two complete listings since the calm, of which the second began as much
// later as a confirmation wants. The first that ended may have begun before the calm; when a listing began is known no better
// than that the one before it had ended.
func (b *bazaar) confirmed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.seen {
		done := false
		for i, end := range l.ends {
			done = done || i >= 3 && !l.ends[i-1].Before(l.ends[1].Add(b.plot.Confirm)) && end.After(l.ends[1])
		}
		if !done {
			return false
		}
	}
	return len(b.seen) > 0
}

// asked reports whether no candidate is being looked up.
func (b *bazaar) asked() bool {
	st := b.status()
	for _, p := range st.Partitions {
		if p.Listing.Asking > 0 {
			return false
		}
	}
	return st.Phase.Name == "running"
}

// order lets n withheld deletions go (D6).
func (b *bazaar) order(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil {
		return
	}
	b.orders++
	now := time.Now().UTC()
	b.now.Order(fmt.Sprint("order-", b.orders), offsets.Command{
		Do: offsets.Approve, Connection: "c", Stream: "things", N: n, Author: "operator", At: now, Expires: now.Add(time.Hour),
	})
}

// operate is a careful operator: he lets go what is withheld when he has seen that all of it is gone.
func (b *bazaar) operate() {
	st := b.status()
	if len(st.Streams) != 1 || st.Streams[0].Withheld == 0 {
		return
	}
	withheld := map[string]bool{}
	b.read(b.kafka(b.network.DialContext).OffsetsTopic(), func(r kafka.Record) error {
		k, err := offsets.ParseKey(r.Key)
		if err != nil || k.Kind != offsets.KindCandidate {
			return err
		}
		delete(withheld, k.Name)
		if r.Value != nil {
			c, err := offsets.Decode[offsets.Candidate](r.Value)
			if err != nil {
				return err
			}
			if c.Kind == offsets.Withheld {
				withheld[k.Name] = true
			}
		}
		return nil
	})
	b.api.mu.Lock()
	sure := true
	for key := range withheld {
		sure = sure && b.api.state(key).Value == ""
	}
	few := b.api.random.IntN(4) == 0
	b.api.mu.Unlock()
	switch {
	case few:
		b.order(int64(len(withheld)) - 1) // a mistake: it is refused
	case sure:
		b.order(int64(len(withheld)))
	}
}

func (b *bazaar) read(topic string, yield func(kafka.Record) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	o := b.kafka(b.network.DialContext)
	if err := kafka.Read(ctx, o, kafka.Query{Topics: []string{topic}}, yield); err != nil {
		b.result.note("read %s: %v", topic, err)
	}
}

// collect reads the topics, and what was true.
func (b *bazaar) collect() {
	h := b.result
	h.Truths, h.Told, h.Listings, h.Fired, h.Log, h.Crashes = b.api.truths, b.api.told, b.api.begun, b.plan.fired, b.log.String(), b.crashes
	bound, err := b.bind()
	if err != nil {
		b.t.Fatal(err)
	}
	h.Rules = bound.Streams[0].Rules
	o := b.kafka(b.network.DialContext)
	b.read(o.EventsTopic("c", "things"), h.event)
	b.read(o.OffsetsTopic(), h.offset)
	b.read(o.HashesTopic(), h.hash)
	b.read(o.ControlsTopic(), func(r kafka.Record) error {
		c, err := offsets.Decode[offsets.Command](bytes.Clone(r.Value))
		if c.Outcome != nil {
			h.Commands = append(h.Commands, c)
		}
		return err
	})
	slices.SortStableFunc(h.Events, func(x, y happening) int { return x.At.Compare(y.At) })
}
