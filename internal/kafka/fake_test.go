//go:build !kafka

package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"tidemark/internal/cdc"
)

// What needs a broker that misbehaves on command.

// TestK2NoRightToCreate: the error holds the commands.
func TestK2NoRightToCreate(t *testing.T) {
	b, c := fakeBed(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	topic := Topic{Name: "x.c.s", Partitions: 6, Role: Events}
	_, err := EnsureTopics(b.ctx(), b.Options, append(b.SystemTopics(), topic))
	verdict(t, err, cdc.Halt, cdc.Stream)
	want := "kafka-topics.sh --bootstrap-server " + b.Brokers[0] + " --create --topic x.c.s --partitions 6 --replication-factor 1 " +
		"--config cleanup.policy=compact --config delete.retention.ms=604800000 --config min.compaction.lag.ms=604800000 --config retention.ms=-1"
	if hint := cdc.Hint(err); !strings.Contains(hint, want) {
		t.Errorf("the hint\n%s\nlacks\n%s", hint, want)
	}
}

// TestK8bLeadersComeFirst: nobody is fenced while a target has no leader.
func TestK8bLeadersComeFirst(t *testing.T) {
	b, c := fakeBed(t)
	topic := b.topic(2)
	var leaderless atomic.Bool
	leaderless.Store(true)
	looked := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic.Topic, Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: -1,
		When: func(kmsg.Request) bool { return leaderless.Load() }})
	var early atomic.Int64
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Observe: true, Count: -1, When: func(kmsg.Request) bool {
		if leaderless.Load() {
			early.Add(1)
		}
		return false
	}})
	owned := make(chan error, 1)
	go func() {
		_, err := b.tryOwn("c", topic)
		owned <- err
	}()
	if err := looked.Wait(b.ctx(), 3); err != nil {
		t.Fatal(err)
	}
	leaderless.Store(false)
	if err := <-owned; err != nil {
		t.Fatal(err)
	}
	if n := early.Load(); n > 0 {
		t.Errorf("fenced %d times without a leader", n)
	}
}

// TestK8dLostMarkerHalts: an open transaction of our own producer id after the fence.
func TestK8dLostMarkerHalts(t *testing.T) {
	b, c := fakeBed(t)
	topic := b.topic(3)
	id, _ := b.own("c", topic).Producer()
	c.ControlKey(int16(kmsg.DescribeProducers), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.DescribeProducersRequest)
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewDescribeProducersResponseTopic()
			st.Topic = rt.Topic
			for _, p := range rt.Partitions {
				sp := kmsg.NewDescribeProducersResponseTopicPartition()
				sp.Partition = p
				for _, producer := range []int64{id + 1000, id} { // somebody else's open transaction is nobody's business
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.CurrentTxnStartOffset = producer, -1
					if producer != id || rt.Topic == topic.Topic && p == 2 {
						a.CurrentTxnStartOffset = 17
					}
					sp.ActiveProducers = append(sp.ActiveProducers, a)
				}
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	_, err := b.tryOwn("c", topic)
	verdict(t, err, cdc.Halt, cdc.Connection)
	var lost *LostMarkerError
	if !errors.As(err, &lost) || lost.Topic != topic.Topic || lost.Partition != 2 || lost.Offset != 17 || lost.ProducerID != id {
		t.Fatalf("%+v: %v", lost, err)
	}
	if n := len(b.events(b.OffsetsTopic())); n != 1 {
		t.Errorf("%d owner records: something was written before a person looked", n)
	}
}

// TestK8gOneReadServesAll: five connections of a shard restore at the same time with less than five reads, and each gets its
// own.
func TestK8gOneReadServesAll(t *testing.T) {
	b, c := fakeBed(t)
	topic := b.topic(1)
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		s := b.ready(name, topic)
		batch := NewBatch()
		b.change(batch, name, topic, "k", name)
		b.commit(s, batch)
		s.Close()
	}
	b.Restores = NewRestorer(0)
	var sessions []*Session
	for _, name := range names {
		sessions = append(sessions, b.own(name, topic))
	}
	reads := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
	var all sync.WaitGroup
	results := make([]restored, len(names))
	for i, s := range sessions {
		all.Go(func() {
			var err error
			if results[i], err = b.tryRestore(s, Mark{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, name := range names {
		if got := results[i].state["#"+name+"/s/k"]; got != "h-"+name || len(results[i].state) != 3 {
			t.Errorf("%s: %v", name, results[i].state)
		}
	}
	if n := reads.Hits(); n == 0 || n >= len(names) {
		t.Errorf("%d reads for %d connections", n, len(names))
	}
}

// TestK9RestoresAreLimited: one slot, two shards, and never two reads at a time.
func TestK9RestoresAreLimited(t *testing.T) {
	b, _ := fakeBed(t)
	b.Restores = NewRestorer(1)
	var active, most, first atomic.Int64
	var all sync.WaitGroup
	for shard := range int32(2) {
		s, err := Own(b.ctx(), b.Options, Claim{Connection: fmt.Sprint("c", shard), Shard: shard})
		if err != nil {
			t.Fatal(err)
		}
		batch := NewBatch()
		b.restore(s, Mark{})
		b.checkpoint(batch, fmt.Sprint("c", shard), "1")
		b.commit(s, batch)
		s.Close()
		if s, err = Own(b.ctx(), b.Options, Claim{Connection: fmt.Sprint("c", shard), Shard: shard}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		all.Go(func() {
			_, err := s.Restore(b.ctx(), Mark{}, func(Item) error {
				most.Store(max(most.Load(), active.Add(1)))
				defer active.Add(-1)
				// The first one waits for the other, which would come if it could.
				for end := time.Now().Add(time.Second); first.Add(1) < 100 && time.Now().Before(end) && most.Load() < 2; {
					<-time.After(10 * time.Millisecond)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d reads at a time", most.Load())
	}
}

// TestK8fApplyEndsWithRestore: a caller that goes away is not called any more, and the read that it shared goes on for others.
func TestK8fApplyEndsWithRestore(t *testing.T) {
	b, _ := fakeBed(t)
	b.Restores = NewRestorer(0)
	topic := b.topic(1)
	s := b.ready("c", topic)
	batch := NewBatch()
	for i := range 50 {
		b.change(batch, "c", topic, fmt.Sprint(i), "1")
	}
	b.commit(s, batch)
	s = b.own("c", topic)
	ctx, cancel := context.WithCancel(b.ctx())
	var returned atomic.Bool
	_, err := s.Restore(ctx, Mark{}, func(Item) error {
		if returned.Load() {
			t.Error("applied after Restore returned")
		}
		cancel()
		return nil
	})
	returned.Store(true)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	broken := errors.New("broken table")
	if _, err := b.own("c", topic).Restore(b.ctx(), Mark{}, func(Item) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("apply's error is lost: %v", err)
	}
	if r := b.restore(b.own("c", topic), Mark{}); len(r.state) != 52 {
		t.Errorf("%d records", len(r.state))
	}
}

// TestK11CloseEndsACommit: the broker does not answer; Close does not wait for it, and Commit comes back.
func TestK11CloseEndsACommit(t *testing.T) {
	b, c := fakeBed(t)
	topic := b.topic(1)
	s := b.ready("c", topic)
	arrived, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() {
			close(arrived)
			<-release
		})
		return nil, nil, false
	})
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	done := make(chan error, 1)
	go func() { done <- s.Commit(b.ctx(), batch) }()
	<-arrived
	s.Close()
	verdict(t, <-done, cdc.Reopen, cdc.Connection)
	if !batch.flight.landed() {
		t.Error("a promise has not run: the batch's memory is still in use")
	}
}

// TestK11CloseWaitsForPromises: until the last one has run, the client may read the batch's memory.
func TestK11CloseWaitsForPromises(t *testing.T) {
	b, _ := fakeBed(t)
	s := b.own("c")
	s.flight = newFlight(1)
	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Fatal("closed with a promise outstanding")
	case <-time.After(300 * time.Millisecond):
	}
	s.flight.promise(&kgo.Record{}, errors.New("closed"))
	<-closed
}

// TestK13PromisesAreCounted: kgo says nothing of a record that it forgot; the count does.
func TestK13PromisesAreCounted(t *testing.T) {
	b, _ := fakeBed(t)
	s := b.own("c")
	batch := NewBatch()
	batch.Offset([]byte("a"), nil)
	batch.Offset([]byte("b"), nil)
	f := newFlight(2)
	f.promise(batch.records[0], nil)
	verdict(t, s.counted(f, batch), cdc.Reopen, cdc.Connection)
	f.promise(batch.records[1], nil)
	if err := s.counted(f, batch); err != nil {
		t.Error(err)
	}
}

// TestK13DeadlineNamesThePartition: the broker takes no records of a partition; the flush gives up and says which.
func TestK13DeadlineNamesThePartition(t *testing.T) {
	b, c := fakeBed(t)
	b.Deadlines.Flush = 10 * time.Second
	topic := b.topic(2)
	s := b.ready("c", topic)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Topic, Err: kerr.NotEnoughReplicas, Count: -1})
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Reopen, cdc.Connection)
	if want := fmt.Sprintf("not acknowledged: %s/%d", topic.Topic, Partition([]byte("k"), 2)); !strings.Contains(err.Error(), want) {
		t.Errorf("%v lacks %q", err, want)
	}
	bound := NewBound(1000, 0, 0)
	bound.Observe(time.Second, err)
	if n, _ := bound.Now(); n != 500 { // K17
		t.Errorf("the bound after a missed deadline: %d", n)
	}
}

// TestK15AuthorizationHalts: what is not about a record parks nothing.
func TestK15AuthorizationHalts(t *testing.T) {
	for name, of := range map[string]func(b *bed, t StreamTopic) (string, cdc.Scope){
		"events":  func(_ *bed, t StreamTopic) (string, cdc.Scope) { return t.Topic, cdc.Stream },
		"offsets": func(b *bed, _ StreamTopic) (string, cdc.Scope) { return b.OffsetsTopic(), cdc.Connection },
	} {
		t.Run(name, func(t *testing.T) {
			b, c := fakeBed(t)
			topic := b.topic(1)
			s := b.ready("c", topic)
			denied, scope := of(b, topic)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: denied, Err: kerr.TopicAuthorizationFailed, Count: -1})
			batch := NewBatch()
			b.change(batch, "c", topic, "k", "1")
			err := s.Commit(b.ctx(), batch)
			verdict(t, err, cdc.Halt, scope)
			if bad := BadTopics(err); len(bad) != 1 || bad[0].Topic != denied {
				t.Errorf("accused: %v", bad)
			}
		})
	}
	b, c := fakeBed(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
	_, err := b.tryOwn("c")
	verdict(t, err, cdc.Halt, cdc.Connection)
}

// TestK14EveryErrorOfTheEndReopens: whatever the coordinator says, the transaction's outcome is asked of Kafka.
func TestK14EveryErrorOfTheEndReopens(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.UnknownServerError, kerr.InvalidTxnState, kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.TransactionAbortable} {
		b, c := fakeBed(t)
		topic := b.topic(1)
		s := b.ready("c", topic)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: refusal, Count: -1})
		batch := NewBatch()
		b.change(batch, "c", topic, "k", "1")
		err := s.Commit(b.ctx(), batch)
		verdict(t, err, cdc.Reopen, cdc.Connection)
		if got, want := errors.Is(err, ErrFenced), fenced(refusal); got != want {
			t.Errorf("%v: fenced %v, want %v", refusal.Message, got, want)
		}
		if !s.closing.Load() {
			t.Errorf("%v: the session can still be used", refusal.Message)
		}
	}
}

// TestK18OldBrokersGetOneEnd: before transaction.version 2 an EndTxn is not repeated when its answer is lost, since a late
// copy could end the next transaction half-way. With it, repeating is safe and saves an owning.
func TestK18OldBrokersGetOneEnd(t *testing.T) {
	for name, old := range map[string]bool{"3.5": true, "4": false} {
		t.Run(name, func(t *testing.T) {
			var opts []kfake.Opt
			if old {
				opts = append(opts, kfake.MaxVersions(kversion.V3_5_0()))
			}
			b, _ := fakeBed(t, opts...)
			topic := b.topic(1)
			s := b.ready("c", topic)
			cluster, err := Inspect(b.ctx(), b.Options)
			if err != nil || old != (cluster.TransactionVersion < 2) || old != (len(cluster.Warnings) > 0) {
				t.Fatalf("%+v %v", cluster, err)
			}
			before := b.wire.sent()
			b.wire.set(func(w *wire) { w.loseAnswer = 1 })
			batch := NewBatch()
			b.change(batch, "c", topic, "k", "1")
			err = s.Commit(b.ctx(), batch)
			sent := b.wire.sent() - before
			if old && (err == nil || sent != 1) {
				t.Errorf("sent %d times, then: %v", sent, err)
			}
			if !old && (err != nil || sent < 2) {
				t.Errorf("sent %d times, then: %v", sent, err)
			}
		})
	}
}

// TestK8StallIsClassified: a restore that waits for somebody's open transaction says so.
func TestK8StallIsClassified(t *testing.T) {
	b, _ := fakeBed(t)
	s := b.own("c")
	b.Deadlines.Stall = 300 * time.Millisecond
	said := make(chan string, 10)
	o := b.Options.filled()
	o.Alarm = func(_, what string) { said <- what }
	w := newWaiter(s, Mark{}, nil)
	w.until = [2]int64{1 << 40, 1 << 40} // never met
	w.nonce = "nobody's"
	ctx, cancel := context.WithCancel(b.ctx())
	go func() {
		if what := <-said; !strings.Contains(what, "no progress") || !strings.Contains(what, "no transaction is open") {
			t.Error(what)
		}
		cancel()
	}()
	if err := NewRestorer(1).read(ctx, o, 1, w); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
