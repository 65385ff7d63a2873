package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/offsets"
)

// Item is one record of the shard that belongs to the connection, other than its owner records. Key and Value are valid only
// during the call.
type Item struct {
	Key    []byte
	Value  []byte // nil: a tombstone
	Hashes bool   // from the hashes topic, else from the offsets topic
	Offset int64
	At     time.Time // produce time
}

// Restore reads both topics of the shard from the mark up to this session's own owner record and gives everything of the
// connection to apply, in order within each topic: last write wins (K8 f). A zero mark reads from the start and needs empty
// tables. apply runs on another goroutine, never after Restore has returned, and should only take CPU; its error ends the
// Restore.
//
// It returns the mark to restore from next time. With an error that is the old mark, or the zero mark where the shard has to be
// read from its start (ErrReread); what was applied until then may be applied again. ErrFenced: a newer owner's record stands
// where ours should.
func (s *Session) Restore(ctx context.Context, from Mark, apply func(Item) error) (Mark, error) {
	if !from.IsZero() && time.Since(from.At) > Retention/2 { // K9: tombstones that we have not seen may be gone soon
		return Mark{}, s.restoreError(fmt.Errorf("%w: the mark is of %s", ErrReread, from.At.UTC().Format(time.RFC3339)))
	}
	restores := s.o.Restores
	if restores == nil {
		restores = NewRestorer(1)
	}
	w := newWaiter(s, from, apply)
	if err := restores.read(ctx, s.o, s.claim.Shard, w); err != nil {
		if errors.Is(err, ErrReread) {
			from = Mark{}
		}
		return from, s.restoreError(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.previous = w.previous
	s.applied = Mark{Offsets: s.announced.Offsets + 1, Hashes: s.announced.Hashes + 1, At: s.announced.At}
	return s.applied, nil
}

// restoreError closes nothing: the session has not written; but without the shard's content it is of no use (K14).
func (s *Session) restoreError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return classify("restore", fmt.Sprintf("%s from shard %d", s.claim.Connection, s.claim.Shard), "", false, err)
}

// The two topics of a shard, as indexes.
const (
	inOffsets = iota
	inHashes
)

// waiter is one Restore that waits for a read of its shard.
type waiter struct {
	connection string
	nonce      string
	from       [2]int64 // what to apply
	until      [2]int64 // where the owner record stands
	apply      func(Item) error
	done       chan struct{}

	// turn is a lock that waits, and so a channel of one: the read holds it while it works through a fetch.
	turn     chan struct{}
	over     bool
	met      [2]bool // the owner record has been read
	err      error
	previous *offsets.Owner
}

func newWaiter(s *Session, from Mark, apply func(Item) error) *waiter {
	w := &waiter{
		connection: s.claim.Connection,
		nonce:      s.owner.Nonce,
		from:       [2]int64{from.Offsets, from.Hashes},
		until:      [2]int64{s.announced.Offsets, s.announced.Hashes},
		apply:      apply,
		done:       make(chan struct{}),
		turn:       make(chan struct{}, 1),
	}
	return w
}

// full reports whether the waiter needs the shard from its start.
func (w *waiter) full() bool { return w.from == [2]int64{} }

// take gives a record of the connection to the waiter. The caller holds the turn.
func (w *waiter) take(topic int, r *kgo.Record, isOwner bool) {
	if w.over || r.Offset < w.from[topic] || w.met[topic] {
		return
	}
	if err := w.accept(topic, r, isOwner); err != nil {
		w.finish(err)
	} else if w.met[inOffsets] && w.met[inHashes] {
		w.finish(nil)
	}
}

// accept is K8 (f): everything of the connection up to the owner record, which is found by its nonce.
func (w *waiter) accept(topic int, r *kgo.Record, isOwner bool) error {
	switch {
	case !isOwner:
		return w.apply(Item{Key: r.Key, Value: r.Value, Hashes: topic == inHashes, Offset: r.Offset, At: r.Timestamp})
	case r.Value == nil:
		return nil // an operator has removed the connection once
	}
	owner, err := offsets.Decode[offsets.Owner](r.Value) // K12: refuses what a newer version wrote
	switch {
	case err != nil:
		return err
	case owner.Nonce == w.nonce:
		w.met[topic] = true
	case topic == inOffsets:
		w.previous = &owner
	}
	return nil
}

// passed tells the waiter how far a topic has been read. The caller holds the turn. Where the owner record stands is known from
// its promise; to be beyond that place without having met it means that it was compacted away, and only a newer owner's record
// can have done that: we are fenced. End offsets are not asked for: behind the last record stand markers and aborted records
// that no reader sees, and another connection's open transaction would hide what stands before the end.
func (w *waiter) passed(topic int, at int64) {
	if !w.met[topic] && at > w.until[topic] {
		w.finish(fmt.Errorf("%w: the owner record at offset %d of the shard's %s is gone", ErrFenced, w.until[topic],
			[...]string{"offsets", "hashes"}[topic]))
	}
}

// finish ends the wait. The caller holds the turn.
func (w *waiter) finish(err error) {
	if !w.over {
		w.over, w.err = true, err
		close(w.done)
	}
}

// end is finish for callers that do not hold the turn. After it, apply is not called any more.
func (w *waiter) end(err error) {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	w.finish(err)
}

// live reports whether the waiter needs more.
func (w *waiter) live() bool {
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

var ownerPrefix = []byte(string(offsets.KindOwner) + "/")

// connectionOf returns whose key of the shard it is, and whether it is that of an owner record (K5). It looks at the bytes
// only: the shard holds the keys of all connections of its accounts, and this is asked for each of them. nil: nobody's.
func connectionOf(key []byte, hashes bool) (connection []byte, owner bool) {
	first, rest, ok := bytes.Cut(key, []byte{'/'})
	switch {
	case !ok:
		return nil, false
	case bytes.HasPrefix(key, ownerPrefix) && (!hashes || bytes.IndexByte(rest, '/') < 0):
		return rest, true
	case hashes:
		return first, false
	}
	second, _, _ := bytes.Cut(rest, []byte{'/'})
	return second, false
}

// rereadable turns an error of a fetch into what it means for the read: what Kafka no longer has at an offset has to be read
// from the start (K9); what we may not read, or is not there at all, somebody has to mend.
func rereadable(topic string, err error) error {
	if unusable(err) || forbidden(err) {
		return classify("restore", topic, topic, false, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrReread, topic, err)
}
