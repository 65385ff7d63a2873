package kafka

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// Claim is what a connection brings to be owned.
type Claim struct {
	Connection string
	Account    string // recorded with the owner (P23); decides the shard
	Shard      int32
	Streams    []StreamTopic
	Config     string // the configuration's fingerprint, for the owner record (K10)
	// Assigned reports whether the group still gives this shard to this process (K8 a). nil: always.
	Assigned func() bool
}

// StreamTopic is one target of a connection's events, with what state has recorded of it (K2, K3).
type StreamTopic struct {
	Topic      string
	ID         string // as recorded; "" where nothing is recorded
	Partitions int32  // as recorded; 0 where nothing is recorded: the topic's present count is taken
	Cleanup    string // the configured cleanup.policy; default compact
}

// Mark is where a replay of the shard goes on: the next offset of both topics after the last applied commit (K9). The zero
// mark means from the start; whoever restores from it starts with empty tables.
type Mark struct {
	Offsets, Hashes int64
	At              time.Time // when it was known that nobody else owned the connection; a mark older than half of Retention is void
}

// IsZero reports whether everything has to be read.
func (m Mark) IsZero() bool { return m.Offsets == 0 && m.Hashes == 0 }

// Session is one ownership of a connection: its fenced transactional producer (K7). Own makes one; after its first error it
// is of no more use than to be closed (K14). Restore, Commit and Heartbeat are called one at a time; everything else any time.
type Session struct {
	o      Options
	claim  Claim
	client *kgo.Client // K7: one session, one client, one transactional id
	admin  *kadm.Client

	cluster            string
	transactionVersion atomic.Int32 // K18
	topics             map[string]TopicInfo
	targets            kadm.TopicsSet // every partition that a transaction may touch

	id        int64
	epoch     int16
	owner     offsets.Owner
	announced Mark // offsets of the owner record itself

	mu       sync.Mutex // never held while waiting
	applied  Mark
	previous *offsets.Owner
	flight   *flight // of the transaction in progress

	closing atomic.Bool
	closed  chan struct{}
}

// newSession makes the client and everything else that needs no broker.
func newSession(o Options, c Claim) (*Session, error) {
	s := &Session{o: o.filled(), claim: c, closed: make(chan struct{})}
	if !cdc.ValidName(c.Connection) { // K7
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "own "+c.Connection, "Rename the connection and start again",
			"the name does not match [A-Za-z0-9_-]{1,64}")
	}
	if c.Shard < 0 || c.Shard >= s.o.Shards {
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "own "+c.Connection, "Report this: it is a defect of the connector",
			"shard %d of %d", c.Shard, s.o.Shards)
	}
	codec, err := codecs(s.o.Compression)
	if err != nil {
		return nil, s.o.Validate()
	}
	s.client, err = s.o.client(
		kgo.TransactionalID(s.o.TransactionalID(c.Connection)), // K7: one for each connection
		kgo.TransactionTimeout(s.o.Deadlines.Transaction),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // K3: the partition is ours, from the recorded count
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codec...),
		kgo.ProducerBatchMaxBytesFn(s.maxBytes),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.RecordDeliveryTimeout(s.o.Deadlines.Delivery),
		kgo.RetryTimeoutFn(s.retryTimeout),
	)
	if err != nil {
		return nil, err
	}
	s.admin = kadm.NewClient(s.client)
	return s, nil
}

// retryTimeout is how long kgo may repeat a request. K18: before transaction.version 2 an EndTxn is never sent twice. The
// epoch stays the same from one transaction to the next there; a copy of the request that was delayed in the network, while
// its repetition was answered and we went on, would end the next transaction half-way and commit the half.
func (s *Session) retryTimeout(key int16) time.Duration {
	if key == int16(kmsg.EndTxn) && s.transactionVersion.Load() < 2 {
		return time.Nanosecond
	}
	return s.o.Deadlines.Admin
}

// maxBytes is the largest batch for a topic: its max.message.bytes (K15), as Own found it.
func (s *Session) maxBytes(topic string) int32 {
	const smallest, largest = 512, 1 << 30 // what kgo takes
	return int32(min(max(s.limit(topic), smallest), largest))
}

// defaultMaxBytes is Kafka's max.message.bytes, where we may not read the topic's.
const defaultMaxBytes = 1048588

func (s *Session) limit(topic string) int {
	if n := s.topics[topic].MaxMessageBytes; n > 0 {
		return n
	}
	return defaultMaxBytes
}

// Nonce returns what names this ownership in the owner record (K8 e).
func (s *Session) Nonce() string { return s.owner.Nonce }

// Sequence returns the number of this ownership, for event ids: no two ownerships of a connection have the same. It is the
// producer id and epoch that Kafka gave with the fence, and so grows from ownership to ownership as long as the producer id
// stays; it is unique, but not an order of time.
func (s *Session) Sequence() int64 { return s.owner.Sequence }

// Producer returns the producer id and the epoch of this session as the fence gave them, for comparison with
// DescribeProducers. With transaction.version 2 the epoch grows with every transaction.
func (s *Session) Producer() (id int64, epoch int16) { return s.id, s.epoch }

// Owner returns the owner record that this session committed.
func (s *Session) Owner() offsets.Owner { return s.owner }

// Previous returns the last owner record of the connection before this session's that Restore met, for K10; false where there
// was none. A Restore from a mark that meets none says that nobody else has owned the connection since that mark.
func (s *Session) Previous() (offsets.Owner, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.previous == nil {
		return offsets.Owner{}, false
	}
	return *s.previous, true
}

// Topics returns what Own found of the claim's events topics, by name. Partitions is the recorded count, to be given to
// Batch.Event (K3).
func (s *Session) Topics() map[string]TopicInfo {
	m := maps.Clone(s.topics)
	for _, t := range []string{s.o.OffsetsTopic(), s.o.HashesTopic(), s.o.DeadLettersTopic(), s.o.ControlsTopic()} {
		delete(m, t)
	}
	return m
}

// CheckTopic compares a topic with what state has recorded of it, for a first owning, where the record is known only after
// Restore (K2). The error is like EnsureTopics'.
func (s *Session) CheckTopic(recorded StreamTopic) error {
	info, ok := s.topics[recorded.Topic]
	if !ok {
		return nil
	}
	if err := compareRecorded(recorded.ID, recorded.Partitions, info.ID, info.present); err != nil {
		return refuse([]*TopicError{{Topic: recorded.Topic, Err: err}}, cdc.Stream)
	}
	return nil
}

// Verify looks at the claim's topics again, while running (K2): cleanup.policy, partition count, id, and whether they are
// there. The error is that of EnsureTopics.
func (s *Session) Verify(ctx context.Context) error {
	_, err := s.look(ctx, s.topics)
	return err
}

// Fits reports whether a record of this size can be produced to an events topic, before any transaction (K15). The error has
// remedy Park and scope Record.
func (s *Session) Fits(topic string, key, value []byte, headers []cdc.Header) error {
	bytes := len(key) + len(value)
	for _, h := range headers {
		bytes += len(h.Key) + len(h.Value)
	}
	return fits(encodedSize(bytes, len(headers)), topic, s.limit(topic))
}

// fits compares the size of a record alone in its batch with what the topic takes.
func fits(n int, topic string, limit int) error {
	if n > limit {
		return cdc.Errorf(cdc.Park, cdc.Record, "produce to "+topic,
			fmt.Sprintf("Raise max.message.bytes of the topic to %d or more, or publish less of the record: it comes by itself when it is read again", n),
			"the record takes up to %d bytes, the topic's max.message.bytes is %d", n, limit)
	}
	return nil
}

// Applied returns the mark after the last commit or restore of this session: where the replay after trouble begins (K9). It is
// the zero mark before the first Restore.
func (s *Session) Applied() Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// Close closes the producer and waits until every promise ran. It neither aborts nor commits: an open transaction is ended by
// the next owner's fence (K11). It may be called more than once, also while Commit runs, which then fails.
func (s *Session) Close() {
	if !s.closing.CompareAndSwap(false, true) {
		<-s.closed
		return
	}
	defer close(s.closed)
	s.client.Close()
	s.mu.Lock()
	f := s.flight
	s.mu.Unlock()
	if f != nil {
		// Commit may still be handing records to the closed client, which fails each of them; so this ends.
		<-f.done
	}
}
