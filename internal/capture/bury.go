package capture

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/record"
	"tidemark/internal/state"
)

// burial is a key that is to be deleted, with what its tombstone says.
type burial struct {
	key     []byte
	hash    uint64
	known   state.Entry
	version cdc.Version // as upstream said it of the end; none: the last known one
	cursor  []byte      // of the record that declared it; empty where nothing did
}

// bury publishes the tombstone of a live key and removes its state or leaves a grave, in one transaction (D7). Without leave
// nothing is ever deleted (6).
func (o *ownership) bury(p *partition, s *stream, d burial, leave reconcile.Deletion) error {
	if !leave.Holds() {
		return cdc.Errorf(cdc.Halt, cdc.Connection, "delete", "Report this: it is a defect of the connector", "no leave to delete key %q", d.key)
	}
	b, now := o.filling, time.Now()
	if d.version.Kind == cdc.NoVersion {
		d.version = d.known.Version
	}
	o.number++
	ev := &o.said
	*ev = codec.Event{
		Origin: s.origin, Owner: o.session.Nonce(), Number: o.number, Key: d.key, Op: cdc.Deleted, Reason: leave.Reason(),
		Cursor: d.cursor, Generation: leave.Generation(), LastSeen: o.lastSeen(p, d.known),
	}
	if len(d.cursor) > 0 {
		ev.Time = d.version.Time() // upstream said so itself; of a silent deletion nobody knows the time
	}
	o.headers, o.slab = codec.AppendHeaders(o.headers[:0], o.slab[:0], ev)
	b.records.Event(s.topic.Name, s.topic.Partitions, d.key, nil, o.headers)
	b.of(s).event(cdc.Deleted)
	if leave.Reason() != cdc.Orphan { // D5: its parent was counted
		s.deleted = counted(s.deletions(), now)
	}
	if d.version.Kind == cdc.NoVersion {
		o.forget(s, d)
	} else { // D7: version and time stay, so that a stale replica does not resurrect the key
		o.store(s, d.key, d.hash, state.Entry{
			Hash: uint64(now.Unix()), Version: d.version, Flags: state.Grave, Partition: d.known.Partition, Rules: s.rules,
		})
	}
	o.unexcept(s, d.key, cdc.Version{})
	if err := o.shelve(s, d.key, &shelf{}); err != nil {
		return err
	}
	if leave.Reason() != cdc.Orphan {
		cp := p.checkpoint()
		cp.Deleted = counted(cp.Deleted, now)
		if err := b.checkpoint(p, cp, now); err != nil {
			return err
		}
	}
	return o.bereave(s, d.key, d.hash) // P21
}

// exhume removes the graves of s that are older than consumers can see a tombstone: nothing stale is expected any more (D7). It
// stages what the batch has room for; the rest follows.
func (o *ownership) exhume(s *stream, now time.Time) {
	if s.table.Graves() == 0 {
		return
	}
	for key, e := range s.table.All() {
		if o.bound.Full(o.filling.records) {
			return
		}
		h := record.KeyHash(key)
		if e, ok := s.table.Get(key, h); !ok || e.Live() { // it returned, in a batch that is not settled
			continue
		}
		if !e.Live() && now.Sub(e.Buried()) > o.graveLife(s) {
			o.forget(s, burial{key: key, hash: h})
		}
	}
}

// graveLife is as long as a tombstone stays in the topic: delete.retention.ms (K1, D7).
func (c *Connection) graveLife(s *stream) time.Duration {
	if s.spec.Topic.Retention > 0 && s.spec.Topic.Cleanup == "" {
		return s.spec.Topic.Retention
	}
	return kafka.Retention
}

// forget removes the state of a key, in the transaction of its tombstone (D7).
func (o *ownership) forget(s *stream, d burial) {
	b := o.filling
	s.table.StageDelete(b.id, d.key, d.hash)
	o.scratch = offsets.AppendHashKey(o.scratch[:0], o.name, s.spec.Name, d.key)
	b.records.Hash(o.scratch, nil)
	b.press(s)
}
