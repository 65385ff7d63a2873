package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// gather is how long a full read waits for more connections of the shard before it starts. At start all of them come within
// moments of each other, and a read that started without them would have to be done again.
const gather = 200 * time.Millisecond

// tick is how often a read looks whether anybody still waits for it.
const tick = time.Second

// Restorer lets connections of one shard share a read of it (K8: one read serves all connections of a shard at start), and
// limits how many reads run at a time (K9). One for a process, in Options.Restores.
//
// Whoever waits when a read begins is served by it; who comes later waits for the next one. So at start a shard is read once,
// or twice for the stragglers, however many connections it has.
type Restorer struct {
	slots chan struct{}

	mu      sync.Mutex // never held while waiting
	waiting map[lane][]*waiter
	running map[lane]bool
}

// lane keeps full reads and tails apart: nobody with a tail of seconds should wait for a read of minutes.
type lane struct {
	topic string // of the offsets, which names the deployment
	shard int32
	full  bool
}

// NewRestorer returns a Restorer that runs at most limit reads at a time; 0: 4.
func NewRestorer(limit int) *Restorer {
	if limit <= 0 {
		limit = 4
	}
	return &Restorer{slots: make(chan struct{}, limit), waiting: map[lane][]*waiter{}, running: map[lane]bool{}}
}

// read has w served by a read of its shard.
func (r *Restorer) read(ctx context.Context, o Options, shard int32, w *waiter) error {
	l := lane{topic: o.OffsetsTopic(), shard: shard, full: w.full()}
	r.mu.Lock()
	r.waiting[l] = append(r.waiting[l], w)
	if !r.running[l] {
		r.running[l] = true
		go r.run(o, l)
	}
	r.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		w.end(ctx.Err())
	}
	return w.err
}

// run reads a lane until nobody waits for it. It is the goroutine that doc.go names.
func (r *Restorer) run(o Options, l lane) {
	r.slots <- struct{}{} // K9: concurrent restores are limited
	defer func() { <-r.slots }()
	for {
		if l.full {
			<-time.After(gather) // no caller's context ends it: it waits on behalf of all, and not for long
		}
		r.mu.Lock()
		served := slices.DeleteFunc(r.waiting[l], func(w *waiter) bool { return !w.live() })
		delete(r.waiting, l)
		if len(served) == 0 {
			delete(r.running, l)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if err := newReading(o, l, served).run(); err != nil {
			for _, w := range served {
				w.end(err)
			}
		}
	}
}

// reading is one read of a shard.
type reading struct {
	o        Options
	lane     lane
	waiters  []*waiter
	by       map[string][]*waiter // by connection
	topics   [2]string
	throttle throttle
	last     time.Time // of the last record
}

func newReading(o Options, l lane, served []*waiter) *reading {
	r := &reading{o: o, lane: l, waiters: served, topics: [2]string{o.OffsetsTopic(), o.HashesTopic()}, last: time.Now()}
	r.by = map[string][]*waiter{}
	for _, w := range served {
		r.by[w.connection] = append(r.by[w.connection], w)
	}
	return r
}

// run reads until everybody has met his owner record or has gone.
func (r *reading) run() error {
	parts := map[string]map[int32]kgo.Offset{}
	for i, topic := range r.topics {
		start := kgo.NewOffset().AtStart()
		if !r.lane.full {
			first := slices.MinFunc(r.waiters, func(a, b *waiter) int { return int(a.from[i] - b.from[i]) })
			start = kgo.NewOffset().At(first.from[i])
		}
		parts[topic] = map[int32]kgo.Offset{r.lane.shard: start}
	}
	client, err := r.o.client(
		kgo.ConsumePartitions(parts),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // any other policy skips silently what is lost (7)
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxPartitionBytes(8<<20),
		kgo.FetchMaxBytes(16<<20),
		kgo.WithHooks(&r.throttle),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	alarm := r.last.Add(r.o.Deadlines.Stall)
	for r.live() {
		ctx, cancel := context.WithTimeout(context.Background(), tick)
		fetches := client.PollFetches(ctx)
		err := fetchError(ctx, fetches)
		cancel()
		if err != nil {
			return err
		}
		fetches.EachPartition(r.give)
		if fetches.NumRecords() > 0 {
			r.last, alarm = time.Now(), time.Now().Add(r.o.Deadlines.Stall)
		} else if time.Now().After(alarm) {
			r.o.Alarm(fmt.Sprintf("shard %d", r.lane.shard), r.classify(client))
			alarm = time.Now().Add(r.o.Deadlines.Stall)
		}
	}
	return nil
}

func (r *reading) live() bool { return slices.ContainsFunc(r.waiters, (*waiter).live) }

// give hands the records of one fetch to those who wait for them.
func (r *reading) give(p kgo.FetchTopicPartition) {
	if len(p.Records) == 0 {
		return
	}
	topic := inOffsets
	if p.Topic == r.topics[inHashes] {
		topic = inHashes
	}
	for _, w := range r.waiters {
		w.turn <- struct{}{}
	}
	for _, record := range p.Records {
		connection, owner := connectionOf(record.Key, topic == inHashes)
		for _, w := range r.by[string(connection)] {
			w.take(topic, record, owner)
		}
	}
	for _, w := range r.waiters {
		w.passed(topic, p.Records[len(p.Records)-1].Offset)
		<-w.turn
	}
}

// fetchError returns what a poll failed with, other than that nothing came in time.
func fetchError(ctx context.Context, fetches kgo.Fetches) error {
	var first error
	fetches.EachError(func(topic string, _ int32, err error) {
		if first == nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
			first = rereadable(topic, err)
		}
	})
	return first
}

// classify says why a read does not get on: somebody's open transaction, throttling, or none of them.
func (r *reading) classify(client *kgo.Client) string {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Deadlines.Admin)
	defer cancel()
	what := fmt.Sprintf("restore has made no progress for %v", time.Since(r.last).Round(time.Second))
	if t := r.throttle.recent(); t > 0 {
		what += fmt.Sprintf("; the brokers throttle us (%v): look at the client's quota", t)
	}
	open, err := openTransactions(ctx, kadm.NewClient(client), func() kadm.TopicsSet {
		var s kadm.TopicsSet
		s.Add(r.topics[inOffsets], r.lane.shard)
		s.Add(r.topics[inHashes], r.lane.shard)
		return s
	}())
	switch {
	case err != nil:
		return what + fmt.Sprintf("; the brokers do not answer (%v): check them and the network", err)
	case len(open) == 0:
		return what + "; no transaction is open on the shard: look at the brokers' load and logs"
	}
	return what + "; it waits for open transactions: " + strings.Join(open, "; ")
}

// openTransactions describes who has a transaction open on some partitions.
func openTransactions(ctx context.Context, admin *kadm.Client, on kadm.TopicsSet) ([]string, error) {
	described, err := admin.DescribeProducers(ctx, on)
	if err != nil {
		return nil, err
	}
	var open []kadm.DescribedProducer
	var ids []int64
	for _, p := range described.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			open, ids = append(open, p), append(ids, p.ProducerID)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	names := map[int64]string{}
	if listed, err := admin.ListTransactions(ctx, ids, nil); err == nil {
		for _, t := range listed {
			names[t.ProducerID] = t.TxnID + " in state " + t.State
		}
	}
	var all []string
	for _, p := range open {
		name := names[p.ProducerID]
		if name == "" {
			name = "a transaction that no coordinator knows"
		}
		all = append(all, fmt.Sprintf("%s/%d from offset %d on: producer %d, %s", p.Topic, p.Partition, p.CurrentTxnStartOffset, p.ProducerID, name))
	}
	return all, nil
}

// throttle keeps the last throttling that brokers told the client of.
type throttle struct {
	mu sync.Mutex
	at time.Time
	d  time.Duration
}

// OnBrokerThrottle implements kgo.HookBrokerThrottle.
func (t *throttle) OnBrokerThrottle(_ kgo.BrokerMetadata, d time.Duration, _ bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at, t.d = time.Now(), d
}

// recent returns the throttling of the last minute.
func (t *throttle) recent() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > time.Minute {
		return 0
	}
	return t.d
}
