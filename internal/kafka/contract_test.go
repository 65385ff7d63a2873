package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// The contract suite: it holds on kfake and, with -tags kafka, on Apache Kafka.

// TestK1TopicsHaveTheirSettings: K1. what loses state when it is missing is set on creation.
func TestK1TopicsHaveTheirSettings(t *testing.T) {
	b := newBed(t)
	events := b.topic(2)
	admin := kadm.NewClient(b.client())
	want := map[string]map[string]string{
		b.OffsetsTopic(): {"cleanup.policy": "compact", "retention.ms": "-1", "delete.retention.ms": "604800000", "segment.bytes": "67108864",
			"min.cleanable.dirty.ratio": "0.1", "max.compaction.lag.ms": "86400000"},
		b.HashesTopic():      {"cleanup.policy": "compact", "retention.ms": "-1", "delete.retention.ms": "604800000"},
		b.ControlsTopic():    {"cleanup.policy": "compact"},
		b.DeadLettersTopic(): {"cleanup.policy": "delete", "retention.ms": "-1"},
		events.Topic:         {"cleanup.policy": "compact", "min.compaction.lag.ms": "604800000", "delete.retention.ms": "604800000"},
	}
	for topic, settings := range want {
		configs, err := admin.DescribeTopicConfigs(b.ctx(), topic)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, c := range configs[0].Configs {
			got[c.Key] = c.MaybeValue()
		}
		for k, v := range settings {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q", topic, k, got[k], v)
			}
		}
	}
	again, err := EnsureTopics(b.ctx(), b.Options, b.SystemTopics())
	if err != nil || again[0].Created || again[0].Partitions != 3 || again[0].ID == "" {
		t.Fatalf("the second time: %+v, %v", again, err)
	}
}

// TestK2RecreatedTopicIsRefused: a topic that was deleted and created again has lost what was published, at an owning as well
// as while running; nothing is published to it until somebody says so.
func TestK2RecreatedTopicIsRefused(t *testing.T) {
	b := newBed(t)
	good, bad := b.topic(1), b.topic(1)
	s := b.ready("c", good, bad)
	if err := s.Verify(b.ctx()); err != nil {
		t.Fatalf("all is well and Verify says: %v", err)
	}
	admin := kadm.NewClient(b.client())
	if _, err := admin.DeleteTopic(b.ctx(), bad.Topic); err != nil {
		t.Fatal(err)
	}
	b.until("the topic to be created again", func() bool {
		_, err := admin.CreateTopic(b.ctx(), 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, bad.Topic)
		return err == nil
	})
	check := func(err error) {
		t.Helper()
		verdict(t, err, cdc.Halt, cdc.Stream)
		if topics := BadTopics(err); len(topics) != 1 || topics[0].Topic != bad.Topic {
			t.Fatalf("accused are %v, not %s: %v", topics, bad.Topic, err)
		}
	}
	check(s.Verify(b.ctx()))
	check(s.CheckTopic(StreamTopic{Topic: bad.Topic, ID: "another"}))
	_, err := b.tryOwn("c", good, bad)
	check(err)
	if _, err := b.tryOwn("c", good); err != nil {
		t.Fatalf("the other stream goes on: %v", err)
	}
}

// TestK2ChangedTopicIsRefused: another partition count or cleanup policy.
func TestK2ChangedTopicIsRefused(t *testing.T) {
	b := newBed(t)
	wide, deleting, gone := b.topic(1), b.topic(1), b.topic(1)
	admin := kadm.NewClient(b.client())
	if _, err := admin.UpdatePartitions(b.ctx(), 3, wide.Topic); err != nil {
		t.Fatal(err)
	}
	_, err := admin.AlterTopicConfigs(b.ctx(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: kadm.StringPtr("delete")}}, deleting.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.DeleteTopic(b.ctx(), gone.Topic); err != nil {
		t.Fatal(err)
	}
	for want, topic := range map[string]StreamTopic{"recorded are 1": wide, `should be "compact"`: deleting, "UNKNOWN_TOPIC": gone} {
		b.until(want, func() bool {
			_, err = b.tryOwn("c", topic) // sees it when the broker has heard of it
			return err != nil
		})
		verdict(t, err, cdc.Halt, cdc.Stream)
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), topic.Topic) {
			t.Errorf("want %q and the topic in: %v", want, err)
		}
	}
	deleting.Cleanup = "delete"
	if _, err := b.tryOwn("c", deleting); err != nil {
		t.Errorf("the policy is the configured one: %v", err)
	}
}

// TestK3RecordedCountDecides: K3. an operator adds partitions while a session runs. Keys stay where they are.
func TestK3RecordedCountDecides(t *testing.T) {
	b := newBed(t)
	// kfake has been seen to answer OUT_OF_ORDER_SEQUENCE_NUMBER to a healthy producer after partitions were added. The product
	// owns anew then (K14), which here would refuse the changed count (K2); so the whole is done again, with another topic.
	var err error
	for range 3 {
		topic := b.topic(2)
		if err = b.writeAroundNewPartitions(topic); err == nil {
			b.keysStand(topic.Topic)
			return
		}
		t.Log("again: ", err)
	}
	t.Fatal(err)
}

// writeAroundNewPartitions writes every key before and after partitions are added, on one session.
func (b *bed) writeAroundNewPartitions(topic StreamTopic) error {
	s := b.ready("c", topic)
	for n := range 2 {
		batch := NewBatch()
		for i := range 40 {
			b.change(batch, "c", topic, fmt.Sprint("key", i), fmt.Sprint(n))
		}
		if err := s.Commit(b.ctx(), batch); err != nil {
			return err
		}
		if n == 1 {
			break
		}
		if _, err := kadm.NewClient(b.client()).UpdatePartitions(b.ctx(), 5, topic.Topic); err != nil {
			return err
		}
		b.until("the session's client to know of the new partitions", func() bool {
			s.client.ForceMetadataRefresh()
			leader, _, err := s.client.PartitionLeader(topic.Topic, 4)
			return err == nil && leader >= 0
		})
	}
	return nil
}

// keysStand checks that both events of every key stand in the partition of the count that the topic had first.
func (b *bed) keysStand(topic string) {
	events := map[string]int{}
	for _, r := range b.events(topic) {
		events[string(r.Key)]++
		if want := Partition(r.Key, 2); r.Partition != want {
			b.Errorf("%s is in partition %d, not in %d, which is murmur2 mod 2", r.Key, r.Partition, want)
		}
	}
	for key, n := range events {
		if n != 2 {
			b.Errorf("%s has %d events", key, n)
		}
	}
	if len(events) != 40 {
		b.Errorf("%d keys", len(events))
	}
}

// TestK7ConnectionsDoNotShareAProducer: K7. two connections of one shard have transactional ids of their own; owning one does not
// touch the other.
func TestK7ConnectionsDoNotShareAProducer(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	one := b.ready("one", topic)
	two := b.ready("two", topic)
	for _, c := range []struct {
		s    *Session
		name string
	}{{one, "one"}, {two, "two"}} {
		batch := NewBatch()
		b.change(batch, c.name, topic, c.name, "1")
		b.commit(c.s, batch)
	}
	if a, c := one.client.OptValue(kgo.TransactionalID), two.client.OptValue(kgo.TransactionalID); a == c {
		t.Errorf("both write as %v", a)
	}
	if _, err := b.tryOwn("a/b", topic); err == nil {
		t.Error("a connection may be called a/b")
	}
}

// TestK8aMovedAssignmentStops: who has lost the shard does not fence its new owner.
func TestK8aMovedAssignmentStops(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	owner := b.ready("c", topic)
	_, err := Own(b.ctx(), b.Options, Claim{Connection: "c", Shard: 1, Streams: []StreamTopic{topic}, Assigned: func() bool { return false }})
	verdict(t, err, cdc.Reopen, cdc.Connection)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	b.commit(owner, batch) // it was not fenced
}

// TestK8cZombieIsFenced: what an old owner does after a new one has begun is not seen by anybody (3).
func TestK8cZombieIsFenced(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	old := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "old")
	b.commit(old, batch)
	young := b.ready("c", topic)
	batch.Reset()
	b.change(batch, "c", topic, "k", "zombie")
	err := old.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Reopen, cdc.Connection)
	if !errors.Is(err, ErrFenced) {
		t.Errorf("not fenced: %v", err)
	}
	batch = NewBatch()
	b.change(batch, "c", topic, "k", "young")
	b.commit(young, batch)
	if diff := cmp.Diff([]string{"old", "young"}, b.values(topic.Topic)); diff != "" {
		t.Error(diff)
	}
	if young.Sequence() == old.Sequence() {
		t.Error("two ownerships with one sequence: event ids would repeat")
	}
}

// TestK8cOpenTransactionOfTheDeadIsAborted: a crashed owner's transaction ends with the fence, without any timeout (K11), and

// TestIdleOwnerSeesItsFence: an owner that commits nothing learns all the same that another has taken over (3), and a commit of
// its own, which moves the epoch, is not taken for one.
func TestIdleOwnerSeesItsFence(t *testing.T) {
	b := newBed(t)
	topic := b.topic(2)
	first := b.own("c", topic)
	b.restore(first, Mark{})
	if err := first.Fenced(b.ctx()); err != nil {
		t.Fatalf("the only owner: %v", err)
	}
	if err := first.Heartbeat(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := first.Fenced(b.ctx()); err != nil {
		t.Fatalf("after a commit of its own: %v", err)
	}
	b.own("c", topic)
	if err := first.Fenced(b.ctx()); !errors.Is(err, ErrFenced) {
		t.Fatalf("after another has owned: %v, want ErrFenced", err)
	}
}

// readers get on.
func TestK8cOpenTransactionOfTheDeadIsAborted(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	dead := b.ready("c", topic)
	if err := dead.client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := dead.client.ProduceSync(b.ctx(), &kgo.Record{Topic: topic.Topic, Key: []byte("k"), Value: []byte("half")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dead.Close() // neither commits nor aborts
	s := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "whole")
	b.commit(s, batch)
	if diff := cmp.Diff([]string{"whole"}, b.values(topic.Topic)); diff != "" {
		t.Error(diff)
	}
}

// TestK8eOwnerRecordSaysWho: it stands in both topics of the shard, with what K8 lists.
func TestK8eOwnerRecordSaysWho(t *testing.T) {
	b := newBed(t)
	topic := b.topic(2)
	s := b.own("c", topic)
	for _, name := range []string{b.OffsetsTopic(), b.HashesTopic()} {
		all := b.events(name)
		if len(all) != 1 || string(all[0].Key) != "owner/c" || all[0].Partition != 1 {
			t.Fatalf("%s: %v", name, all)
		}
		o, err := offsets.Decode[offsets.Owner](all[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		if o.Nonce != s.Nonce() || o.Instance != "one" || o.Cluster == "" || o.Config != "cfg" || o.Account != "c" || o.Sequence == 0 {
			t.Errorf("%+v", o)
		}
		if got := o.Topics[topic.Topic]; got != (offsets.Topic{ID: topic.ID, Partitions: 2}) {
			t.Errorf("%+v", o.Topics)
		}
	}
}

// TestK8fRestoreIsComplete: everything that was committed before the owner record, in order, of this connection only, past
// aborted transactions and with another connection's transaction open behind it.
func TestK8fRestoreIsComplete(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	s := b.ready("c", topic)
	batch := NewBatch()
	for i := range 3 {
		batch.Reset()
		b.change(batch, "c", topic, fmt.Sprint("k/", i), fmt.Sprint(i)) // a key with a slash
		b.commit(s, batch)
	}
	batch.Reset()
	batch.Hash(offsets.AppendHashKey(nil, "c", "s", []byte("k/1")), nil)
	b.checkpoint(batch, "c", "3")
	b.commit(s, batch)
	other := b.ready("cc", topic) // begins like c
	batch = NewBatch()
	b.change(batch, "cc", topic, "k/0", "other")
	b.commit(other, batch)
	foreign := b.client(kgo.TransactionalID(b.Options.Name + ".somebody"))
	write := func() {
		t.Helper()
		if err := foreign.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Topic: b.OffsetsTopic(), Partition: 1, Key: []byte("cursor/c/s/-"), Value: []byte("false")}
		if err := foreign.ProduceSync(b.ctx(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if err := foreign.EndTransaction(b.ctx(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	s = b.own("c", topic)
	write() // and stays open
	r := b.restore(s, Mark{})
	want := map[string]string{"#c/s/k/0": "h-0", "#c/s/k/2": "h-2", "stream/c/s": "set-3", "cursor/c/s/-": "3"}
	if diff := cmp.Diff(want, r.state); diff != "" {
		t.Error(diff)
	}
	if p, ok := s.Previous(); !ok || p.Instance != "one" || p.Nonce == s.Nonce() {
		t.Errorf("previous: %v %+v", ok, p)
	}
}

// TestK8fFencedBeforeRestoreNotices: a newer owner's record beyond the place where ours should be, with ours gone.
func TestK8fFencedBeforeRestoreNotices(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	old := b.own("c", topic)
	old.owner.Nonce = "compacted away" // what it reads has another nonce, as if its own record were gone
	b.own("c", topic)
	_, err := b.tryRestore(old, Mark{})
	verdict(t, err, cdc.Reopen, cdc.Connection)
	if !errors.Is(err, ErrFenced) {
		t.Errorf("not fenced: %v", err)
	}
}

// TestK9TailBeginsAtTheMark: after trouble only what came after the last applied commit is read, and it is everything.
func TestK9TailBeginsAtTheMark(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	s := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "a", "1")
	b.commit(s, batch)
	mark := s.Applied()
	b.wire.set(func(w *wire) { w.loseAnswer = 1000 })
	batch.Reset()
	b.change(batch, "c", topic, "b", "2")
	if err := s.Commit(b.ctx(), batch); err == nil {
		t.Fatal("the answer was lost and Commit knows the outcome")
	}
	if diff := cmp.Diff(mark, s.Applied()); diff != "" {
		t.Errorf("the mark moved over a commit of unknown outcome: %s", diff)
	}
	b.wire.set(func(w *wire) { w.loseAnswer = 0 })
	s = b.own("c", topic)
	r := b.restore(s, mark)
	want := []string{"#c/s/b", "cursor/c/s/-", "stream/c/s"}
	slices.Sort(r.order)
	if diff := cmp.Diff(want, r.order); diff != "" {
		t.Error(diff)
	}
	if _, ok := s.Previous(); ok {
		t.Error("somebody owned in between")
	}
	if next := b.restore(b.own("c", topic), r.mark); len(next.order) != 0 {
		t.Errorf("read again: %v", next.order)
	}
}

// TestK9OldMarkIsVoid: after half of delete.retention.ms a deletion may be gone from the log unseen.
func TestK9OldMarkIsVoid(t *testing.T) {
	b := newBed(t)
	s := b.ready("c")
	old := s.Applied()
	old.At = time.Now().Add(-Retention/2 - time.Hour)
	r, err := b.tryRestore(b.own("c"), old)
	verdict(t, err, cdc.Reopen, cdc.Connection)
	if !errors.Is(err, ErrReread) || !r.mark.IsZero() {
		t.Errorf("mark %+v: %v", r.mark, err)
	}
}

// TestK9LostOffsetsAreReadAnew: what stood at the mark is not there any more.
func TestK9LostOffsetsAreReadAnew(t *testing.T) {
	b := newBed(t)
	s := b.own("c")
	r, err := b.tryRestore(s, Mark{Offsets: 1 << 40, Hashes: 1 << 40, At: time.Now()})
	if !errors.Is(err, ErrReread) || !r.mark.IsZero() {
		t.Errorf("mark %+v: %v", r.mark, err)
	}
}

// TestK12NewerStateIsRefused: K12. an owner record of a later version.
func TestK12NewerStateIsRefused(t *testing.T) {
	b := newBed(t)
	c := b.client()
	err := c.ProduceSync(b.ctx(), &kgo.Record{Topic: b.OffsetsTopic(), Partition: 1, Key: []byte("owner/c"), Value: []byte(`{"v":4,"who":"x"}`)}).FirstErr()
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.tryRestore(b.own("c"), Mark{})
	verdict(t, err, cdc.Halt, cdc.Connection)
}

// TestK12HeartbeatIsATransaction: and the mark follows it.
func TestK12HeartbeatIsATransaction(t *testing.T) {
	b := newBed(t)
	s := b.ready("c")
	before := s.Applied()
	if err := s.Heartbeat(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if after := s.Applied(); after.Offsets <= before.Offsets || after.Hashes <= before.Hashes || !after.At.After(before.At) {
		t.Errorf("%+v, then %+v", before, after)
	}
}

// TestK14LostAnswer: the transaction commits, its answer is lost. The session is over, and Kafka says what happened.
func TestK14LostAnswer(t *testing.T) { lostEnd(t, func(w *wire) { w.loseAnswer = 1000 }, true) }

// TestK14LostRequest: the transaction never ends. The same remedy, the other outcome: the next owner's fence aborts it.
func TestK14LostRequest(t *testing.T) { lostEnd(t, func(w *wire) { w.loseRequest = 1000 }, false) }

func lostEnd(t *testing.T, fault func(*wire), committed bool) {
	b := newBed(t)
	topic := b.topic(1)
	s := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	b.wire.set(fault)
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Reopen, cdc.Connection)
	b.wire.set(func(w *wire) { w.loseAnswer, w.loseRequest = 0, 0 })
	batch.Reset()
	b.change(batch, "c", topic, "k", "2")
	if err := s.Commit(b.ctx(), batch); err == nil {
		t.Fatal("a session was used again after an error")
	}
	s = b.own("c", topic)
	r := b.restore(s, Mark{})
	var want []string
	if committed {
		want = []string{"1"}
	}
	if got := b.values(topic.Topic); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if _, ok := r.state["cursor/c/s/-"]; ok != committed {
		t.Errorf("state %v, committed %v: event and cursor are torn apart (1)", r.state, committed)
	}
}

// TestK15SizesAreCheckedBefore: no transaction is begun for a record that cannot fit, and it is named.
func TestK15SizesAreCheckedBefore(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	b.limit(topic.Topic, 20_000)
	s := b.ready("c", topic)
	large := []byte(strings.Repeat("x", 30_000))
	verdict(t, s.Fits(topic.Topic, []byte("k"), large, nil), cdc.Park, cdc.Record)
	if err := s.Fits(topic.Topic, []byte("k"), large[:10_000], nil); err != nil {
		t.Error(err)
	}
	sent, fences := b.wire.sent(), b.wire.fenced()
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "small")
	at := batch.Event(topic.Topic, 1, []byte("large"), large, nil)
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Park, cdc.Record)
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !slices.Equal(rejected.Indexes, []int{at}) {
		t.Errorf("rejected %v, want %d: %v", rejected, at, err)
	}
	if b.wire.sent() != sent || b.wire.fenced() != fences {
		t.Error("the broker was asked")
	}
}

// TestK15BrokersRefusalsAreBisected: the limit was lowered behind our back, so only the broker knows. Three records of 300
// are found, nothing is committed, and the rest commits next time.
func TestK15BrokersRefusalsAreBisected(t *testing.T) {
	b := newBed(t)
	b.Compression = "none"
	topic := b.topic(2)
	s := b.ready("c", topic)
	b.limit(topic.Topic, 20_000)
	build := func(park map[int]bool) (*Batch, []int) {
		batch := NewBatch()
		var large []int
		for i := range 300 {
			value := strings.Repeat("s", 100)
			if i == 7 || i == 150 || i == 299 {
				value = strings.Repeat("x", 30_000)
			}
			if park[i] {
				continue
			}
			n := batch.Event(topic.Topic, 2, []byte(fmt.Sprint(i)), []byte(value), nil)
			if len(value) > 100 {
				large = append(large, n)
			}
		}
		b.checkpoint(batch, "c", "300")
		return batch, large
	}
	batch, large := build(nil)
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Park, cdc.Record)
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !slices.Equal(rejected.Indexes, large) {
		t.Fatalf("rejected %v, want %v: %v", rejected, large, err)
	}
	s = b.own("c", topic)
	if r := b.restore(s, Mark{}); len(r.state) != 0 {
		t.Errorf("committed all the same: %v", r.state)
	}
	batch, _ = build(map[int]bool{7: true, 150: true, 299: true})
	b.commit(s, batch)
	if n := len(b.events(topic.Topic)); n != 297 {
		t.Errorf("%d events, want 297", n)
	}
}

// TestK15NobodyIsParkedForABatch: each record fits the lowered limit, together they do not. The next owning knows the limit.
func TestK15NobodyIsParkedForABatch(t *testing.T) {
	b := newBed(t)
	b.Compression = "none"
	topic := b.topic(1)
	s := b.ready("c", topic)
	b.limit(topic.Topic, 5_000)
	batch := NewBatch()
	for i := range 50 {
		batch.Event(topic.Topic, 1, []byte(fmt.Sprint(i)), []byte(strings.Repeat("x", 500)), nil)
	}
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Reopen, cdc.Connection)
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Error(err)
	}
	s = b.ready("c", topic)
	b.commit(s, batch)
	if n := len(b.events(topic.Topic)); n != 50 {
		t.Errorf("%d events", n)
	}
}

// TestK15UnknownTopicHalts: nothing is parked for a topic that is gone.
func TestK15UnknownTopicHalts(t *testing.T) {
	b := newBed(t)
	topic, other := b.topic(1), b.topic(1)
	s := b.ready("c", topic, other)
	if _, err := kadm.NewClient(b.client()).DeleteTopic(b.ctx(), topic.Topic); err != nil {
		t.Fatal(err)
	}
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Halt, cdc.Stream)
	if bad := BadTopics(err); len(bad) != 1 || bad[0].Topic != topic.Topic {
		t.Errorf("accused: %v", bad)
	}
}

// TestK15DeadLettersAreCut: the value is shortened to what the topic takes; headers stay.
func TestK15DeadLettersAreCut(t *testing.T) {
	b := newBed(t)
	b.limit(b.DeadLettersTopic(), 10_000)
	s := b.ready("c")
	batch := NewBatch()
	batch.DeadLetter([]byte("c/s/k"), []byte(strings.Repeat("x", 50_000)), []cdc.Header{{Key: "hash", Value: []byte("h")}})
	b.checkpoint(batch, "c", "1")
	b.commit(s, batch)
	all := b.events(b.DeadLettersTopic())
	if len(all) != 1 || len(all[0].Value) < 9_000 || len(all[0].Value) > 10_000 {
		t.Fatalf("%d dead letters, not one of less than 10,000 bytes", len(all))
	}
	want := []cdc.Header{{Key: "hash", Value: []byte("h")}, {Key: "cut", Value: []byte("50000")}}
	if diff := cmp.Diff(want, all[0].Headers); diff != "" {
		t.Error(diff)
	}
}

// TestK13NothingCommitsAfterARefusal: a transaction with one refused event commits nothing, above all not the cursor (4).
func TestK13NothingCommitsAfterARefusal(t *testing.T) {
	b := newBed(t)
	b.Compression = "none"
	topic, fine := b.topic(1), b.topic(1)
	s := b.ready("c", topic, fine)
	b.limit(topic.Topic, 2_000)
	batch := NewBatch()
	b.change(batch, "c", fine, "fine", "1")
	batch.Event(topic.Topic, 1, []byte("k"), []byte(strings.Repeat("x", 5_000)), nil)
	if err := s.Commit(b.ctx(), batch); err == nil {
		t.Fatal("a refused event committed")
	}
	r := b.restore(b.own("c", topic, fine), Mark{})
	if len(r.state) != 0 || len(b.events(fine.Topic)) != 0 {
		t.Errorf("the cursor passed a refused event: %v", r.state)
	}
}

// TestK16HashesNeedTheirStreamRecord: without it a restore would take the set for damaged.
func TestK16HashesNeedTheirStreamRecord(t *testing.T) {
	b := newBed(t)
	s := b.ready("c")
	batch := NewBatch()
	batch.Hash([]byte("c/s/k"), []byte("h"))
	verdict(t, s.Commit(b.ctx(), batch), cdc.Halt, cdc.Connection)
}

// TestK19TokenTravelsAlone: a transaction of one token record, between others.
func TestK19TokenTravelsAlone(t *testing.T) {
	b := newBed(t)
	s := b.ready("c")
	batch := NewBatch()
	batch.Offset([]byte("token/c"), []byte("sealed"))
	b.commit(s, batch)
	r := b.restore(b.own("c"), Mark{})
	if diff := cmp.Diff(map[string]string{"token/c": "sealed"}, r.state); diff != "" {
		t.Error(diff)
	}
}

// TestK20HangingTransactionIsSeen: somebody else's open transaction stops our readers while we commit.
func TestK20HangingTransactionIsSeen(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	foreign := b.client(kgo.TransactionalID(b.Options.Name+"-foreign"), kgo.TransactionTimeout(10*time.Minute))
	if err := foreign.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := foreign.ProduceSync(b.ctx(), &kgo.Record{Topic: topic.Topic, Value: []byte("x"), Key: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, _, err := foreign.ProducerID(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	s := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	b.commit(s, batch)
	o := b.Options
	o.Deadlines = Deadlines{Transaction: time.Second, Flush: 400 * time.Millisecond, EndTxn: 400 * time.Millisecond}
	w, err := NewWatcher(o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var hanging []Hanging
	b.until("the hanging transaction to be noticed", func() bool {
		hanging, err = w.Check(b.ctx(), []string{topic.Topic})
		return err != nil || len(hanging) > 0
	})
	if err != nil || len(hanging) != 1 || hanging[0].ProducerID != id || hanging[0].Offset != 0 || hanging[0].Behind < 2 {
		t.Fatalf("%v %v, want producer %d", hanging, err, id)
	}
	if err := foreign.EndTransaction(b.ctx(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	b.until("the alarm to go", func() bool {
		hanging, err = w.Check(b.ctx(), []string{topic.Topic})
		return err == nil && len(hanging) == 0
	})
}

// TestReadEndsAtMarkersAndAborted: reading to the end ends, wherever the last visible record stands.
func TestReadEndsAtMarkersAndAborted(t *testing.T) {
	b := newBed(t)
	topic := b.topic(2)
	if empty, err := IsEmpty(b.ctx(), b.Options, topic.Topic); err != nil || !empty {
		t.Fatalf("a new topic: %v %v", empty, err)
	}
	c := b.client(kgo.TransactionalID(b.Options.Name + "-x"))
	write := func(value string, how kgo.TransactionEndTry) {
		t.Helper()
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(b.ctx(), &kgo.Record{Topic: topic.Topic, Key: []byte("k"), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(b.ctx(), how); err != nil {
			t.Fatal(err)
		}
	}
	write("aborted", kgo.TryAbort)
	if empty, err := IsEmpty(b.ctx(), b.Options, topic.Topic); err != nil || !empty {
		t.Fatalf("only an aborted record: %v %v", empty, err)
	}
	write("one", kgo.TryCommit)
	write("aborted", kgo.TryAbort)
	if diff := cmp.Diff([]string{"one"}, b.values(topic.Topic)); diff != "" {
		t.Error(diff)
	}
	if empty, err := IsEmpty(b.ctx(), b.Options, topic.Topic); err != nil || empty {
		t.Fatalf("%v %v", empty, err)
	}
	ctx, cancel := context.WithCancel(b.ctx())
	var followed []string
	if err := Read(ctx, b.Options, Query{Topics: []string{topic.Topic}, Follow: true}, func(r Record) error {
		followed = append(followed, string(r.Value))
		cancel()
		return nil
	}); err != nil || len(followed) != 1 {
		t.Errorf("%v %v", followed, err)
	}
	if err := Command(b.ctx(), b.Options, []byte("id"), []byte("pause")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pause"}, b.values(b.ControlsTopic())); diff != "" {
		t.Error(diff)
	}
}

// limit lowers max.message.bytes of a topic.
func (b *bed) limit(topic string, bytes int) {
	b.Helper()
	admin := kadm.NewClient(b.client())
	want := fmt.Sprint(bytes)
	if _, err := admin.AlterTopicConfigs(b.ctx(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &want}}, topic); err != nil {
		b.Fatal(err)
	}
	b.until("the new limit", func() bool { // the controller has answered, the broker hears of it a little later
		configs, err := admin.DescribeTopicConfigs(b.ctx(), topic)
		return err == nil && slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool {
			return c.Key == "max.message.bytes" && c.MaybeValue() == want
		})
	})
}
