package kafka

import (
	"context"
	"fmt"

	"tidemark/internal/cdc"
)

// Fenced asks the coordinator whether somebody has fenced this session meanwhile (3). A commit finds that out by itself; an idle
// owner, which commits nothing, would go on reading from positions that a newer owner or an operator's command has changed.
// It is asked between transactions only, since the epoch moves within one. The error is ErrFenced with remedy Reopen; one that only says that the coordinator did not answer is a Retry.
func (s *Session) Fenced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.Admin)
	defer cancel()
	id := s.o.TransactionalID(s.claim.Connection)
	described, err := s.admin.DescribeTransactions(ctx, id)
	if err == nil {
		err = described[id].Err
	}
	if err != nil {
		return &cdc.Error{Op: "look for a newer owner", Where: id, Err: err, Remedy: cdc.Retry, Scope: cdc.Connection}
	}
	// As it is now: with transaction.version 2 the epoch grows with every transaction.
	producer, epoch, err := s.client.ProducerID(ctx)
	if err != nil {
		return &cdc.Error{Op: "look for a newer owner", Where: id, Err: err, Remedy: cdc.Reopen, Scope: cdc.Connection}
	}
	if t := described[id]; t.ProducerID != producer || t.ProducerEpoch > epoch {
		return &cdc.Error{
			Op: "look for a newer owner", Where: id, Remedy: cdc.Reopen, Scope: cdc.Connection,
			Err: fmt.Errorf("%w: producer %d epoch %d, ours is %d epoch %d", ErrFenced, t.ProducerID, t.ProducerEpoch, producer, epoch),
		}
	}
	return nil
}
