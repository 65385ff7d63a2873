package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
)

// Record is one committed record of a topic. Its slices are valid only during the call that gets it.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	At         time.Time
	Key, Value []byte // Value nil: a tombstone
	Headers    []cdc.Header
}

// Query says what Read reads.
type Query struct {
	Topics []string
	From   time.Time // zero: from the beginning
	Latest bool      // only what comes from now on
	Follow bool      // go on until ctx ends; else up to what was committed when Read began
}

// Read gives committed records to yield, in order within a partition: for tail, for the judge, for --adopt (K10). It returns at
// the end, or with yield's error, or when ctx ends (nil then if Follow).
func Read(ctx context.Context, o Options, q Query, yield func(Record) error) error {
	o = o.filled()
	start := kgo.NewOffset().AtStart()
	switch {
	case q.Latest:
		start = kgo.NewOffset().AtEnd()
	case !q.From.IsZero():
		start = kgo.NewOffset().AfterMilli(q.From.UnixMilli())
	}
	var opts []kgo.Opt
	if q.Follow {
		opts = []kgo.Opt{kgo.ConsumeTopics(q.Topics...), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(500 * time.Millisecond)}
	}
	client, err := o.client(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	if q.Follow {
		return follow(ctx, client, yield)
	}
	return toEnd(ctx, o, client, q, yield)
}

// IsEmpty reports whether a topic holds no committed record at all (K10: a non-empty events topic without a checkpoint).
func IsEmpty(ctx context.Context, o Options, topic string) (bool, error) {
	found := errors.New("found")
	err := Read(ctx, o, Query{Topics: []string{topic}}, func(Record) error { return found })
	if errors.Is(err, found) {
		return false, nil
	}
	return err == nil, err
}

func follow(ctx context.Context, client *kgo.Client, yield func(Record) error) error {
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is how a reader who follows is told to stop: see Read
		}
		var failed error
		fetches.EachError(func(topic string, _ int32, err error) {
			if failed == nil {
				failed = classify("read", topic, topic, true, err)
			}
		})
		if failed != nil {
			return failed
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			if err := yield(record(iter.Next())); err != nil {
				return err
			}
		}
	}
}

func record(r *kgo.Record) Record {
	out := Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, At: r.Timestamp, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, cdc.Header(h))
	}
	return out
}

// toEnd reads up to the last stable offset of each partition. It fetches by itself: a consumer does not show how far it has
// read where no records are (markers, aborted and compacted ones), and would wait at such an end for ever.
func toEnd(ctx context.Context, o Options, client *kgo.Client, q Query, yield func(Record) error) error {
	if q.Latest || len(q.Topics) == 0 {
		return nil
	}
	admin := kadm.NewClient(client)
	where := strings.Join(q.Topics, ", ")
	first, err := admin.ListStartOffsets(ctx, q.Topics...)
	if err == nil && !q.From.IsZero() {
		first, err = admin.ListOffsetsAfterMilli(ctx, q.From.UnixMilli(), q.Topics...)
	}
	if err != nil {
		return classify("read", where, where, true, err)
	}
	last, err := admin.ListCommittedOffsets(ctx, q.Topics...)
	if err != nil {
		return classify("read", where, where, true, err)
	}
	var parts []kadm.ListedOffset
	last.Each(func(l kadm.ListedOffset) { parts = append(parts, l) })
	slices.SortFunc(parts, func(a, b kadm.ListedOffset) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.Partition - b.Partition)
	})
	for _, l := range parts {
		f, ok := first.Lookup(l.Topic, l.Partition)
		switch {
		case l.Err != nil:
			return classify("read", l.Topic, l.Topic, true, l.Err)
		case !ok || f.Err != nil || f.Offset < 0: // nothing after that time
			continue
		}
		s := stretch{client: client, admin: admin, topic: l.Topic, partition: l.Partition, at: f.Offset, until: l.Offset}
		if err := s.read(ctx, o, yield); err != nil {
			return err
		}
	}
	return nil
}

// stretch is a piece of a partition that is being read.
type stretch struct {
	client    *kgo.Client
	admin     *kadm.Client
	topic     string
	partition int32
	at, until int64
	leader    int32
	id        kadm.TopicID
}

func (s *stretch) read(ctx context.Context, o Options, yield func(Record) error) error {
	s.leader = -1
	for deadline := time.Now().Add(o.Deadlines.Stall); s.at < s.until; {
		records, next, err := s.fetch(ctx)
		if err != nil {
			if ctx.Err() != nil || !moved(err) || time.Now().After(deadline) {
				return classify("read", fmt.Sprintf("%s/%d", s.topic, s.partition), s.topic, true, err)
			}
			s.leader = -1
			if err := pause(ctx, 250*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		for _, r := range records {
			if r.Offset >= s.until {
				break
			}
			if err := yield(record(r)); err != nil {
				return err
			}
		}
		if next > s.at {
			deadline = time.Now().Add(o.Deadlines.Stall)
		} else if time.Now().After(deadline) {
			return classify("read", fmt.Sprintf("%s/%d", s.topic, s.partition), s.topic, true,
				fmt.Errorf("no progress at offset %d of %d for %v", s.at, s.until, o.Deadlines.Stall))
		}
		s.at = next
	}
	return nil
}

// moved reports whether err may be gone with another leader.
func moved(err error) bool {
	return kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || unreachable(err) || errors.Is(err, kerr.UnknownTopicID)
}

func (s *stretch) fetch(ctx context.Context) ([]*kgo.Record, int64, error) {
	if s.leader < 0 {
		m, err := s.admin.Metadata(ctx, s.topic)
		if err != nil {
			return nil, 0, err
		}
		d := m.Topics[s.topic]
		if d.Err != nil {
			return nil, 0, d.Err
		}
		s.leader, s.id = d.Partitions[s.partition].Leader, d.ID
		if s.leader < 0 {
			return nil, 0, kerr.LeaderNotAvailable
		}
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 500, 1, 16<<20, 1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = s.topic, s.id
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes, part.CurrentLeaderEpoch = s.partition, s.at, 16<<20, -1
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := s.client.Broker(int(s.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, s.at, nil
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return nil, 0, err
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: s.at, IsolationLevel: kgo.ReadCommitted(),
		Topic: s.topic, Partition: s.partition}, p, kgo.DefaultDecompressor(), nil)
	return fetched.Records, next, fetched.Err
}

// Command writes a record to the controls topic, outside of any transaction: for commands to owners that cannot be reached
// otherwise (K1).
func Command(ctx context.Context, o Options, key, value []byte) error {
	o = o.filled()
	client, err := o.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(o.Deadlines.Delivery))
	if err != nil {
		return err
	}
	defer client.Close()
	topic := o.ControlsTopic()
	r := &kgo.Record{Topic: topic, Key: key, Value: value}
	return classify("command", topic, topic, false, client.ProduceSync(ctx, r).FirstErr())
}
