package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/cdc"
)

// rejection turns refused records into the error of a commit; nil if there are none. Events and dead letters can be parked. A
// refused record of our own state cannot be, and the connection halts (7).
func (s *Session) rejection(b *Batch, r RejectedError) error {
	if len(r.Indexes) == 0 {
		return nil
	}
	for n, i := range r.Indexes {
		if k := b.kinds[i]; k != event && k != deadLetter {
			return &cdc.Error{Op: "commit", Where: s.claim.Connection, Remedy: cdc.Halt, Scope: cdc.Connection,
				Err:  &TopicError{Topic: b.records[i].Topic, Err: r.Reasons[n]},
				Hint: "Raise max.message.bytes of the topic: our own state does not fit. Then resume"}
		}
	}
	return &cdc.Error{Op: "commit", Where: s.claim.Connection, Err: &r, Remedy: cdc.Park, Scope: cdc.Record,
		Hint: "The records go to the dead-letter topic; raise max.message.bytes of the topic, or publish less of the record: they come by themselves when they are read again"}
}

// bisected looks for the records that the broker refuses whatever surrounds them (K15). One bad record fails the promises of
// everything that waits for its partition, so the promises alone accuse too many. It returns cause where nobody is to blame:
// then the whole batch was too large for a limit that has been lowered, and the next owning finds the new one.
func (s *Session) bisected(ctx context.Context, f *flight, b *Batch, cause error) error {
	f.mu.Lock()
	suspects := slices.Clone(f.suspect)
	accused := f.first != nil && recordLevel(f.first)
	f.mu.Unlock()
	if !accused {
		return cause
	}
	s.Close() // K14; also, its records are ours again from here on
	trial := &trial{s: s, left: maxTrials, guilty: map[*kgo.Record]error{}}
	if err := trial.bisect(ctx, suspects); err != nil {
		return errors.Join(cause, err)
	}
	var rejected RejectedError
	for i, r := range b.records {
		if err := trial.guilty[r]; err != nil {
			rejected.Indexes, rejected.Reasons = append(rejected.Indexes, i), append(rejected.Reasons, err)
		}
	}
	if err := s.rejection(b, rejected); err != nil {
		return err
	}
	return cause
}

// maxTrials bounds the transactions of one search. Finding one record among 10,000 takes about 30; what is not found now is
// found after the next commit fails.
const maxTrials = 300

// trial is one search for refused records.
type trial struct {
	s      *Session
	left   int
	guilty map[*kgo.Record]error
}

// bisect halves the suspects until those are left that fail alone. Each half is tried in a transaction that is never
// committed; a half that passes is innocent.
func (t *trial) bisect(ctx context.Context, suspects []*kgo.Record) error {
	if len(suspects) == 0 || t.left == 0 {
		return nil
	}
	t.left--
	if err := t.s.assigned(); err != nil {
		return err // the try below would fence the new owner
	}
	refused, err := t.s.try(ctx, suspects)
	if err != nil {
		return err
	}
	if len(suspects) == 1 {
		if err := refused[suspects[0]]; err != nil {
			t.guilty[suspects[0]] = err
		}
		return nil
	}
	var left []*kgo.Record
	for _, r := range suspects {
		if refused[r] != nil {
			left = append(left, r)
		}
	}
	half := (len(left) + 1) / 2
	if err := t.bisect(ctx, left[:half]); err != nil {
		return err
	}
	return t.bisect(ctx, left[half:])
}

// try produces copies of records under the connection's own transactional id and returns those that are refused, with the
// reasons. Nothing of it is ever committed: the client is closed with the transaction open, and the next one, at the latest
// that of the next owning, aborts it.
func (s *Session) try(ctx context.Context, records []*kgo.Record) (map[*kgo.Record]error, error) {
	other, err := newSession(s.o, s.claim)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	other.topics = s.topics
	other.transactionVersion.Store(s.transactionVersion.Load())
	if err := other.fence(ctx); err != nil {
		return nil, err
	}
	if err := other.begin(); err != nil {
		return nil, err
	}
	f := newFlight(len(records))
	other.flight = f
	copies := make(map[*kgo.Record]*kgo.Record, len(records))
	for _, r := range records {
		c := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
		copies[c] = r
		other.client.Produce(ctx, c, f.promise)
	}
	if err := other.flush(ctx); err != nil {
		return nil, classify("flush", s.claim.Connection, "", false, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first != nil && !recordLevel(f.first) {
		return nil, s.produceError(f.failed.Topic, f.first)
	}
	refused := map[*kgo.Record]error{}
	for _, c := range f.suspect {
		refused[copies[c]] = f.first
	}
	return refused, nil
}
