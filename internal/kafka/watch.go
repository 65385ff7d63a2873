package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Hanging is an open transaction that stops read-committed readers of a partition (K20).
type Hanging struct {
	Topic      string
	Partition  int32
	Offset     int64 // the last stable offset: where readers stop
	Behind     int64 // high watermark less Offset
	Since      time.Time
	ProducerID int64 // -1 where the brokers do not tell
	Epoch      int16
}

// String says what hangs and what to do.
func (h Hanging) String() string {
	return fmt.Sprintf("readers of %s/%d have stood at offset %d since %s, %d behind: producer %d (epoch %d) has left a transaction "+
		"open. kafka-transactions.sh find-hanging and abort end it", h.Topic, h.Partition, h.Offset,
		h.Since.UTC().Format(time.RFC3339), h.Behind, h.ProducerID, h.Epoch)
}

// Watcher watches HWM − LSO of events partitions (K20). It is not safe for concurrent use.
type Watcher struct {
	o     Options
	admin *kadm.Client
	stood map[place]standing
}

type place struct {
	topic     string
	partition int32
}

type standing struct {
	at    int64
	since time.Time
}

// NewWatcher returns a Watcher with its own client.
func NewWatcher(o Options) (*Watcher, error) {
	o = o.filled()
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	return &Watcher{o: o, admin: kadm.NewClient(client), stood: map[place]standing{}}, nil
}

// Check looks at the partitions of topics. It returns those whose last stable offset has stood still below the high watermark
// since an earlier Check, longer ago than the transaction timeout: a living producer's transaction would have ended by then.
func (w *Watcher) Check(ctx context.Context, topics []string) ([]Hanging, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.o.Deadlines.Admin)
	defer cancel()
	stable, err1 := w.admin.ListCommittedOffsets(ctx, topics...)
	high, err2 := w.admin.ListEndOffsets(ctx, topics...)
	if err := errors.Join(err1, err2); err != nil {
		return nil, classify("watch transactions", w.o.Name, "", false, err)
	}
	now := time.Now()
	seen := map[place]standing{}
	var hanging []Hanging
	stable.Each(func(l kadm.ListedOffset) {
		h, ok := high.Lookup(l.Topic, l.Partition)
		if l.Err != nil || !ok || h.Err != nil || h.Offset <= l.Offset {
			return
		}
		at := place{l.Topic, l.Partition}
		s, ok := w.stood[at]
		if !ok || s.at != l.Offset {
			s = standing{at: l.Offset, since: now}
		}
		seen[at] = s
		if now.Sub(s.since) > w.o.Deadlines.Transaction {
			hanging = append(hanging, Hanging{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset,
				Behind: h.Offset - l.Offset, Since: s.since, ProducerID: -1})
		}
	})
	w.stood = seen
	w.name(ctx, hanging)
	return hanging, nil
}

// name finds the producers of hanging transactions. Where brokers do not tell, the alarm goes without.
func (w *Watcher) name(ctx context.Context, hanging []Hanging) {
	var on kadm.TopicsSet
	for _, h := range hanging {
		on.Add(h.Topic, h.Partition)
	}
	if len(on) == 0 {
		return
	}
	described, err := w.admin.DescribeProducers(ctx, on)
	if err != nil {
		return
	}
	for i := range hanging {
		h := &hanging[i]
		for _, p := range described[h.Topic].Partitions[h.Partition].ActiveProducers {
			if p.CurrentTxnStartOffset == h.Offset {
				h.ProducerID, h.Epoch = p.ProducerID, p.ProducerEpoch
			}
		}
	}
}

// Close closes the client.
func (w *Watcher) Close() { w.admin.Close() }
