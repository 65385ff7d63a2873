package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/cdc"
)

// Commit writes a batch as one transaction: begin, produce all, flush, every promise nil and as many as produced, end (K13).
// nil means committed: the batch may be settled (2). Any error means that the outcome is unknown or that nothing was
// committed; the session is over and the connection is owned anew (K14). Nothing is retried here. RejectedError (remedy Park)
// names records to park next time (K15). An empty batch commits nothing and is no error.
//
// A cancelled ctx abandons the transaction; the deadlines of Options hold in any case.
func (s *Session) Commit(ctx context.Context, b *Batch) error {
	if b.Len() == 0 {
		return nil
	}
	if err := s.admit(b); err != nil {
		s.Close() // K14, although nothing was sent: one rule for every error
		return err
	}
	return s.commit(ctx, b)
}

// admit refuses what must not reach a transaction.
func (s *Session) admit(b *Batch) error {
	if b.hashes > 0 && !b.stream {
		// K16: who restores compares the set of hashes with the stream record; a hash without it would look like damage.
		return cdc.Errorf(cdc.Halt, cdc.Connection, "commit "+s.claim.Connection, "Report this: it is a defect of the connector",
			"%d hashes without a stream record", b.hashes)
	}
	b.address(s.o, s.claim.Shard, s.limit(s.o.DeadLettersTopic()))
	var rejected RejectedError
	for i, r := range b.records {
		// K15: sizes are checked before the transaction.
		if err := fits(encodedSize(payload(r), len(r.Headers)), r.Topic, s.limit(r.Topic)); err != nil {
			rejected.Indexes, rejected.Reasons = append(rejected.Indexes, i), append(rejected.Reasons, err)
		}
	}
	return s.rejection(b, rejected)
}

// commit is K13. There is one way in and one way out: whatever fails, the session is closed (K14). In particular nothing is
// aborted and used again: after an EndTxn whose answer was lost, kgo's TryAbort returns nil although the transaction may have
// committed.
func (s *Session) commit(ctx context.Context, b *Batch) (err error) {
	b.address(s.o, s.claim.Shard, s.limit(s.o.DeadLettersTopic()))
	f := newFlight(b.Len())
	b.flight = f
	s.mu.Lock()
	s.flight = f
	s.mu.Unlock()
	if err := s.begin(); err != nil {
		close(f.done) // nothing was handed over
		return s.give(ctx, err)
	}
	for _, r := range b.records {
		s.client.Produce(ctx, r, f.promise)
	}
	if err := s.flush(ctx); err != nil {
		s.Close() // fails what is still waiting, so that it can be named
		return s.give(ctx, classify("flush", s.claim.Connection, "", false, fmt.Errorf("%w; not acknowledged: %s", err, f.missed())))
	}
	if err := s.counted(f, b); err != nil {
		return s.give(ctx, s.bisected(ctx, f, b, err))
	}
	if err := s.end(ctx); err != nil {
		// The outcome is unknown: the request or its answer was lost, or we are fenced. Only Kafka knows (2).
		return s.give(ctx, classify("end transaction", s.claim.Connection, "", false, err))
	}
	s.apply(b)
	return nil
}

func (s *Session) begin() error {
	if s.closing.Load() {
		return cdc.Errorf(cdc.Reopen, cdc.Connection, "begin "+s.claim.Connection, "", "the session is over")
	}
	return classify("begin", s.claim.Connection, "", false, s.client.BeginTransaction())
}

// give closes the session and hands the error on (K14).
func (s *Session) give(ctx context.Context, err error) error {
	s.Close()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return err
}

func (s *Session) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.Flush)
	defer cancel()
	return s.client.Flush(ctx)
}

func (s *Session) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.EndTxn)
	defer cancel()
	return s.client.EndTransaction(ctx, kgo.TryCommit)
}

// counted is the heart of K13: every promise is nil and there are as many as records. kgo itself commits whatever has
// succeeded, so without this a rejected event would be lost while the cursor that passed it commits (4).
func (s *Session) counted(f *flight, b *Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first != nil {
		return s.produceError(f.failed.Topic, f.first)
	}
	if f.acked != b.Len() {
		return cdc.Errorf(cdc.Reopen, cdc.Connection, "flush "+s.claim.Connection, "", "%d of %d records were acknowledged", f.acked, b.Len())
	}
	return nil
}

// produceError classifies the failure of a record of a topic (K15).
func (s *Session) produceError(topic string, err error) error {
	return classify("produce", s.claim.Connection, topic, s.isEvents(topic), err)
}

func (s *Session) isEvents(topic string) bool {
	switch topic {
	case s.o.OffsetsTopic(), s.o.HashesTopic(), s.o.DeadLettersTopic(), s.o.ControlsTopic():
		return false
	}
	return true
}

// apply moves the mark behind the batch, which is now known to be committed (K9). Offsets come from the promises.
func (s *Session) apply(b *Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.applied.IsZero() {
		return // before the first restore: what stands before the owner record has not been read yet
	}
	for i, r := range b.records {
		switch b.kinds[i] {
		case offset:
			s.applied.Offsets = max(s.applied.Offsets, r.Offset+1)
		case hash:
			s.applied.Hashes = max(s.applied.Hashes, r.Offset+1)
		}
	}
	s.applied.At = time.Now()
}
