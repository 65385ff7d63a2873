//go:build kafka

package kafka

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"tidemark/internal/cdc"
)

// What kfake cannot show.

// TestK15NullKeyIsParked: a compacted topic takes no record without a key: INVALID_RECORD, which kfake does not know.
func TestK15NullKeyIsParked(t *testing.T) {
	b := newBed(t)
	topic := b.topic(1)
	s := b.ready("c", topic)
	batch := NewBatch()
	b.change(batch, "c", topic, "k", "1")
	at := batch.Event(topic.Topic, 1, nil, []byte("no key"), nil)
	err := s.Commit(b.ctx(), batch)
	verdict(t, err, cdc.Park, cdc.Record)
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !slices.Equal(rejected.Indexes, []int{at}) || !errors.Is(err, kerr.InvalidRecord) {
		t.Fatalf("%v", err)
	}
}

// TestK6StaticMemberComesBackAtOnce: a crashed instance that starts again has its shards back before the session timeout.
func TestK6StaticMemberComesBackAtOnce(t *testing.T) {
	b := newBed(t)
	b.SessionTimeout = 40 * time.Second
	one, two := b.join("one"), b.join("two")
	b.until("both to have shards", func() bool { return shared(one, two) })
	before := one.shards()
	b.wire.cut() // one and two share the wire: the machine is gone
	b.wire.set(func(w *wire) { w.down = false; w.conns = nil })
	start := time.Now()
	again := b.join("one")
	b.until("the restarted instance to have its shards back", func() bool { return slices.Equal(again.shards(), before) })
	if d := time.Since(start); d > b.SessionTimeout/2 {
		t.Errorf("it took %v", d)
	}
	b.until("the old process to learn that it is fenced", func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return slices.ContainsFunc(one.trouble, func(err error) bool {
			remedy, _ := cdc.Verdict(err)
			return errors.Is(err, kerr.FencedInstanceID) && remedy == cdc.Halt
		})
	})
}

// TestK8dOwnHangingTransaction: an open transaction of our producer id that no coordinator knows of, as KAFKA-20734 leaves
// one, made by hand: with partition verification off, a broker appends transactional records that nobody announced.
func TestK8dOwnHangingTransaction(t *testing.T) {
	b := newBed(t)
	topic := b.topic(2)
	s := b.ready("c", topic)
	id, epoch := s.Producer()
	s.Close()
	admin := kadm.NewClient(b.client())
	verification := func(on string) {
		t.Helper()
		_, err := admin.AlterBrokerConfigs(b.ctx(), []kadm.AlterConfig{{Name: "transaction.partition.verification.enable", Value: kadm.StringPtr(on)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	verification("false")
	defer verification("true")
	var code int16
	b.until("the hanging record to be taken", func() bool {
		code = b.hang(topic.Topic, 1, id, epoch+100)
		return code == 0
	})
	_, err := b.tryOwn("c", topic)
	verdict(t, err, cdc.Halt, cdc.Connection)
	var lost *LostMarkerError
	if !errors.As(err, &lost) || lost.Topic != topic.Topic || lost.Partition != 1 || lost.ProducerID != id || lost.Offset != 0 {
		t.Fatalf("%+v: %v", lost, err)
	}
	// The hint's command, through the API that it uses.
	_, err = admin.WriteTxnMarkers(b.ctx(), kadm.TxnMarkers{ProducerID: id, ProducerEpoch: epoch + 100, Commit: false,
		Topics: kadm.TopicsSet{topic.Topic: {1: {}}}})
	if err != nil {
		t.Fatal(err)
	}
	s = b.ready("c", topic)
	if n, _ := s.Producer(); n != id {
		t.Logf("the producer id changed from %d to %d", id, n)
	}
}

// hang appends one transactional record of a producer, outside of any transaction that the coordinator knows.
func (b *bed) hang(topic string, partition int32, id int64, epoch int16) int16 {
	b.Helper()
	record := kmsg.Record{Key: []byte("k"), Value: []byte("v")}
	record.Length = int32(len(record.AppendTo(nil)) - 1) // less the length itself, which is one byte as zero
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: id, ProducerEpoch: epoch, NumRecords: 1, Records: record.AppendTo(nil),
	}
	raw := batch.AppendTo(nil)
	batch.Length = int32(len(raw) - 12)
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	req := kmsg.NewPtrProduceRequest()
	req.Version = 8
	txn := "nobody"
	req.TransactionID, req.Acks, req.TimeoutMillis = &txn, -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch.AppendTo(nil)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(b.ctx(), b.client(kgo.MaxVersions(produceV8())))
	if err != nil {
		b.Fatal(err)
	}
	return resp.Topics[0].Partitions[0].ErrorCode
}

// TestBrokerKilled: commits go on while the broker is killed and started again, answers and requests are lost, and zombies
// come back. Afterwards the events are 1, 2, 3, … for each key, each once, and the cursor stands at the last (1, 2, 3, K13, K14).
func TestBrokerKilled(t *testing.T) {
	dir := os.Getenv("KAFKA_DIR")
	if dir == "" {
		t.Log("KAFKA_BROKERS are not ours to kill")
		return
	}
	b := newBed(t)
	b.Deadlines = Deadlines{EndTxn: 10 * time.Second, Flush: 15 * time.Second, Delivery: 15 * time.Second, Admin: 10 * time.Second}
	topic := b.topic(3)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := chaos{bed: b, topic: topic, rand: r}
	run := func(commits int) {
		for end := c.commits + commits; c.commits < end; {
			c.step()
		}
	}
	for kill := range 3 {
		run(20)
		killed := make(chan error, 1)
		go func() {
			_, err := kafkaScript("kill", dir, "1")
			if err == nil {
				_, err = kafkaScript("restart", dir, "1")
			}
			killed <- err
		}()
		run(20)
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		t.Logf("kill %d: %d commits, %d failed, %d of them had committed", kill+1, c.commits, c.failed, c.found)
	}
	run(20)
	c.calm()
	c.check()
}

// chaos is a connector of one counter: its cursor is the last number published.
type chaos struct {
	*bed
	topic                  StreamTopic
	rand                   *rand.Rand
	session                *Session
	cursor                 int
	mark                   Mark
	commits, failed, found int
	pending                int
}

func (c *chaos) calm() {
	c.wire.set(func(w *wire) { w.loseAnswer, w.loseRequest = 0, 0 })
	c.session = nil
	c.until("the last state to be restored", func() bool { return c.reopen() == nil })
}

// reopen is K9: own, replay the tail, and take what Kafka says for the truth.
func (c *chaos) reopen() error {
	s, err := c.tryOwn("c", c.topic)
	if err != nil {
		return err
	}
	r, err := c.tryRestore(s, c.mark)
	c.mark = r.mark
	if err != nil {
		return err
	}
	if at, ok := r.state["cursor/c/s/-"]; ok {
		if c.cursor, err = strconv.Atoi(at); err != nil {
			c.Fatal(err)
		}
	}
	if c.pending != 0 && c.cursor == c.pending {
		c.found++
	}
	c.pending = 0
	c.session = s
	return nil
}

func (c *chaos) step() {
	c.wire.set(func(w *wire) {
		w.loseAnswer, w.loseRequest = 0, 0
		switch c.rand.IntN(20) {
		case 0:
			w.loseAnswer = 100
		case 1:
			w.loseRequest = 100
		}
	})
	if c.rand.IntN(15) == 0 && c.session != nil {
		zombie := c.session
		if c.reopen() != nil {
			c.session = nil
			return
		}
		batch := NewBatch()
		c.change(batch, "c", c.topic, "zombie", "-1")
		if zombie.Commit(c.ctx(), batch) == nil {
			c.Error("a zombie committed")
		}
	}
	if c.session == nil && c.reopen() != nil {
		<-time.After(100 * time.Millisecond)
		return
	}
	batch := NewBatch()
	next := c.cursor
	for range 1 + c.rand.IntN(20) {
		next++
		c.change(batch, "c", c.topic, fmt.Sprint("k", next%7), fmt.Sprint(next))
	}
	if err := c.session.Commit(c.ctx(), batch); err != nil {
		c.failed++
		c.pending = next
		c.wire.set(func(w *wire) { w.loseAnswer, w.loseRequest = 0, 0 })
		c.session = nil
		return
	}
	c.commits++
	c.cursor, c.mark = next, c.session.Applied()
}

func (c *chaos) check() {
	c.Helper()
	last := map[string]int{}
	seen := map[int]bool{}
	for _, r := range c.events(c.topic.Topic) {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil {
			c.Fatal(err)
		}
		if seen[n] {
			c.Errorf("%d twice", n)
		}
		if n <= last[string(r.Key)] {
			c.Errorf("%s: %d after %d", r.Key, n, last[string(r.Key)])
		}
		seen[n], last[string(r.Key)] = true, n
	}
	for n := 1; n <= c.cursor; n++ {
		if !seen[n] {
			c.Errorf("%d is missing", n)
		}
	}
	if len(seen) != c.cursor {
		c.Errorf("%d events, the cursor stands at %d", len(seen), c.cursor)
	}
	if c.commits < 50 {
		c.Errorf("only %d commits", c.commits)
	}
}

// produceV8 keeps a client on the produce request that neither names topics by id nor adds partitions to transactions.
func produceV8() *kversion.Versions {
	v := kversion.V2_4_0()
	return v
}
