package capture

import (
	"context"
	"errors"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// restore reads what Kafka holds of the connection, up to our own owner record: all of the shard at first owning, later its
// tail (K8 f, K9). Then it compares (K8 g) and prepares what was never read before.
func (c *Connection) restore(ctx context.Context, session *kafka.Session) error {
	full := c.applied.IsZero()
	if full {
		if err := c.forgetAll(); err != nil { // a full read needs empty tables
			return err
		}
	}
	mark, err := session.Restore(ctx, c.applied, c.apply)
	c.applied = mark
	if err != nil {
		return err
	}
	c.raise()
	c.witness(session)
	if _, before := session.Previous(); full && !before {
		if err := c.elsewhere(ctx); err != nil {
			return err
		}
	}
	for _, s := range c.streams {
		if s.halted != nil {
			continue
		}
		if !full && s.known && !s.agrees() { // K9, K8 g
			c.applied = kafka.Mark{}
			return cdc.Errorf(cdc.Reopen, cdc.Connection, "restore "+c.name, "Nothing to do: the shard is read again from its start",
				"stream %s: the tail does not lead to what the last transaction promised", s.spec.Name)
		}
		if err := c.prepare(ctx, session, s); err != nil {
			if remedy, scope := cdc.Verdict(err); remedy == cdc.Halt && scope <= cdc.Stream {
				c.haltStream(s, err)
				continue
			}
			return err
		}
	}
	for _, p := range c.partitions {
		if m := p.committed.Reconciled; m != nil {
			c.generation = max(c.generation, uint32(m.Generation)) // it only grows, over restarts too (D3)
		}
	}
	c.claimWindows()
	c.lastCommit = time.Now()
	if !c.source.Auth.Rotates() {
		return nil // what it was authorized with before is not needed any more
	}
	return c.vault.open()
}

// prepare makes a restored stream ready to compare.
func (c *Connection) prepare(ctx context.Context, session *kafka.Session, s *stream) error {
	if !s.known {
		if err := c.firstOwning(ctx, session, s); err != nil {
			return err
		}
	}
	if err := s.verify(c.name); err != nil {
		return err
	}
	if s.known && !s.agrees() { // K8 g
		set := s.table.Set()
		c.log.Error("the hashes topic does not hold what the last transaction promised: a full pass begins, deletions wait",
			"stream", s.spec.Name, "keys", set.Count, "promised", s.meta.Count)
		s.mismatch = true
		for _, p := range c.partitions {
			if p.request == s.request {
				p.committed, p.reset = source.Expire(p.committed), true
			}
		}
	}
	if s.holds(offsets.Withheld) {
		s.guarded = c.guardedBefore(s)
	}
	s.adopt()
	if s.spec.KeyType == "" {
		s.spec.KeyType = s.meta.KeyType // K4: a key field has one type for good
	}
	c.source.Seed(s.spec.Index, uint64(s.meta.Seed))
	return nil
}

// guardedBefore is why deletions of s wait that an ownership before this one withheld (D5). Of those that a listing missed the
// mark says it; of declared ones nothing does.
func (c *Connection) guardedBefore(s *stream) string {
	for _, p := range c.partitions {
		if m := p.committed.Reconciled; p.request == s.request && m != nil {
			if why, ok := strings.CutPrefix(m.Held, s.spec.Name+": "); ok {
				return why
			}
		}
	}
	return "the guard held them back before this ownership"
}

// firstOwning decides on a stream that Kafka knows no state of. An events topic that holds events all the same belongs to
// somebody, or its state was lost: publishing into it is refused unless the operator says how (K10).
func (c *Connection) firstOwning(ctx context.Context, session *kafka.Session, s *stream) error {
	if err := s.begin(); err != nil {
		return err
	}
	if c.options.Rebaseline || s.topic.Created {
		return nil
	}
	empty, err := kafka.IsEmpty(ctx, c.kafka, s.topic.Name)
	if err != nil || empty {
		return err
	}
	if c.options.Adopt {
		return c.adoptEvents(ctx, session, s)
	}
	e := cdc.Errorf(cdc.Halt, cdc.Stream, "own stream", "Start with `connector run --adopt` to go on from what the topic holds (records that "+
		"did not change are not published again), with `--rebaseline` to publish everything anew, or give the stream another topic",
		"topic %s holds events and there is no checkpoint for them", s.topic.Name)
	e.Where = c.name + "/" + s.spec.Name
	return e
}

var errEnough = errors.New("enough was read")

// elsewhere looks for state of the connection in other shards: it is there when the account was changed (P23: Place). It
// costs a read of the offsets topic, once in a connection's life.
func (c *Connection) elsewhere(ctx context.Context) error {
	mine := c.kafka.ShardOf(c.account)
	owner := string(offsets.Key{Kind: offsets.KindOwner, Connection: c.name}.Append(nil))
	found := int32(-1)
	err := kafka.Read(ctx, c.kafka, kafka.Query{Topics: []string{c.kafka.OffsetsTopic()}}, func(r kafka.Record) error {
		if r.Partition != mine && string(r.Key) == owner && r.Value != nil {
			found = r.Partition
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if found < 0 {
		return nil
	}
	e := cdc.Errorf(cdc.Halt, cdc.Connection, "own connection", "Put the account back, or give the connection another name: it then begins anew, with topics of its own",
		"its state stands in shard %d, and account %q belongs to shard %d", found, c.account, mine)
	e.Where = c.name
	return e
}

// forgetAll empties what a full read fills.
func (c *Connection) forgetAll() error {
	for _, s := range c.streams {
		table, err := state.New()
		if err != nil {
			return err
		}
		s.table.Close()
		s.table, s.known, s.meta = table, false, offsets.Stream{}
		s.parked, s.held = newOverlay[offsets.Parked](), newOverlay[offsets.Candidate]()
		s.files, s.missed = newOverlay[[]file](), newOverlay[offsets.File]()
	}
	for _, p := range c.partitions {
		p.committed, p.staged, p.recent, p.window = cdc.Checkpoint{}, nil, recents{}, overlay[stretch]{}
		if p.listing != nil {
			c.log.Warn("the listing begins anew: what it sighted is not known any more", "partition", p.label, "records", p.listing.records) // D3
		}
		p.listing, p.complete, p.lists, p.seen = nil, 0, nil, nil
	}
	clear(c.kin.unborn)
	c.settleKin()
	return nil
}

// apply takes one record of the shard: last write wins (K8 f). State of streams and partitions that are not configured (any
// more) is left where it is: a partition is retired, not deleted (P24).
func (c *Connection) apply(i kafka.Item) error {
	if i.Hashes {
		return c.applyHash(i)
	}
	k, err := offsets.ParseKey(i.Key)
	if err != nil {
		return err
	}
	switch k.Kind {
	case offsets.KindOwner:
		return nil // the session's own business
	case offsets.KindToken:
		return c.vault.apply(i.Value)
	case offsets.KindCursor, offsets.KindRecent, offsets.KindWindow:
		p := c.byName[k.Stream+"/"+k.Name]
		if p == nil {
			p = c.unbornOf(k) // P21
		}
		if p == nil {
			return nil
		}
		switch k.Kind {
		case offsets.KindRecent:
			return p.recent.apply(k.Number, i.Value)
		case offsets.KindWindow:
			return p.applyWindow(i.Value)
		}
		return applyTo(&p.committed, i.Value)
	}
	s := c.streamNamed([]byte(k.Stream))
	if s == nil {
		return nil
	}
	switch k.Kind {
	case offsets.KindStream:
		err := applyTo(&s.meta, i.Value)
		s.known = s.meta.Topic != "" // an adoption that was cut has none yet
		return err
	case offsets.KindParked:
		return applyOver(&s.parked, k.Name, i.Value)
	case offsets.KindCandidate:
		return applyOver(&s.held, k.Name, i.Value)
	case offsets.KindFile:
		return s.applyFile(k, i.Value)
	default: // K12: only a newer version writes it, and what we do not understand we would lose
		return cdc.Errorf(cdc.Halt, cdc.Connection, "restore", "A newer version wrote it: upgrade this connector; an older one cannot go on from there",
			"the offsets topic holds %s, which this version has no use for", k)
	}
}

// applyTo decodes value into v; a tombstone empties it.
func applyTo[T offsets.Value](v *T, value []byte) (err error) {
	if value == nil {
		*v = *new(T)
		return nil
	}
	*v, err = offsets.Decode[T](value)
	return err
}

func applyOver[T offsets.Value](o *overlay[T], key string, value []byte) error {
	var v T
	if err := applyTo(&v, value); err != nil {
		return err
	}
	o.apply(strings.Clone(key), v, value == nil)
	return nil
}

// applyHash takes one record of the hashes topic.
func (c *Connection) applyHash(i kafka.Item) error {
	_, name, key, owner, err := offsets.ParseHashKey(i.Key)
	if err != nil || owner {
		return err
	}
	s := c.streamNamed(name)
	if s == nil {
		return nil
	}
	h := record.KeyHash(key)
	if i.Value == nil {
		s.table.Remove(key, h)
		return nil
	}
	v, err := offsets.ParseHash(i.Value)
	if err != nil {
		return err
	}
	s.table.Apply(key, h, state.Entry{
		Hash: v.Hash, Version: v.Version, Rules: v.Rules, Flags: state.Flags(v.Flags), Partition: s.ordinal(v.Partition),
	})
	return nil
}

func (c *Connection) streamNamed(name []byte) *stream {
	for _, s := range c.streams {
		if s.spec.Name == string(name) {
			return s
		}
	}
	return nil
}

func cursorKey(connection, request, partition string) []byte {
	return offsets.Key{Kind: offsets.KindCursor, Connection: connection, Stream: request, Name: partition}.Append(nil)
}
