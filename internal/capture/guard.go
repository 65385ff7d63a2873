package capture

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// census is how many keys were live when a pass began (D5).
type census struct {
	partition int64
	streams   []int64 // by index
	total     int64
}

func (c *Connection) census(p *partition) *census {
	n := &census{streams: make([]int64, len(c.streams))}
	for i, s := range c.streams {
		n.streams[i] = s.table.Set().Count
		n.total += n.streams[i]
	}
	for s := range c.streamsOf(p) {
		n.partition += s.table.Live(s.ordinal(p.spec.Name))
	}
	return n
}

// levels are the sets that the guard counts over, for a deletion of s in p (D5). then is the census of the pass that asks; nil:
// now.
func (c *Connection) levels(p *partition, s *stream, then *census) []reconcile.Level {
	if then == nil {
		then = c.census(p)
	}
	now := time.Now()
	of := reconcile.Level{Name: "stream", Live: then.streams[s.spec.Index], Deleted: dayOf(s.deletions(), now)}
	whole := reconcile.Level{Name: "connection", Live: then.total}
	for _, other := range c.streams {
		whole.Deleted += dayOf(other.deletions(), now)
	}
	all := []reconcile.Level{of, whole}
	if !p.request.SharesKeys() {
		all = append(all, reconcile.Level{Name: "partition", Live: then.partition, Deleted: dayOf(p.checkpoint().Deleted, now)})
	}
	return all
}

func (s *stream) guard() reconcile.Guard {
	return reconcile.Guard{Keys: s.spec.Reconcile.GuardKeys, Share: s.spec.Reconcile.GuardShare}
}

// dayOf sums the deletions of the rolling day (D5).
func dayOf(hours map[string]int64, now time.Time) int64 {
	oldest := offsets.Hour(now.Add(-24 * time.Hour))
	var n int64
	for h, of := range hours {
		if h >= oldest {
			n += of
		}
	}
	return n
}

// counted returns hours with one more deletion, and without those that are no part of the day any more.
func counted(before map[string]int64, now time.Time) map[string]int64 {
	hours := map[string]int64{offsets.Hour(now): 1}
	oldest := offsets.Hour(now.Add(-24 * time.Hour))
	for h, n := range before {
		if h >= oldest {
			hours[h] += n
		}
	}
	return hours
}

// remove deletes a live key that upstream declares gone, or that left the filter, inside the guard (6, P20, D5).
func (o *ownership) remove(w *walk, s *stream, rec *source.Record, body []byte, known state.Entry, live bool, reason cdc.Reason) error {
	if !live {
		o.unexcept(s, rec.Key, cdc.Version{})
		return o.bereave(s, rec.Key, rec.KeyHash) // a parked parent has children all the same (P21)
	}
	if rec.Version.Compare(known.Version) < 0 { // P14: an old sighting deletes nothing
		if agreed, err := o.hold(w, s, rec); err != nil || !agreed {
			return err
		}
	}
	return o.declare(w, s, rec, body, known, reason)
}

// declare deletes a live key on upstream's word, or keeps that where the guard holds it back (D5).
func (o *ownership) declare(w *walk, s *stream, rec *source.Record, body []byte, known state.Entry, reason cdc.Reason) error {
	p := w.partition
	if c, ok := s.held.get(string(rec.Key)); ok && c.Kind == offsets.Withheld && c.Reason == reason {
		return nil // it waits already
	}
	before := int64(0)
	if s.guarded != "" { // what waits goes first, as a whole or not at all
		before = int64(s.held.len() + len(s.held.staged))
	}
	leave, why := reconcile.Declared(reason, s.guard(), before, o.levels(p, s, nil))
	if !leave.Holds() {
		return o.withhold(p, s, string(rec.Key), known, offsets.Candidate{Reason: reason, Version: offsets.Version{Version: rec.Version}}, why)
	}
	return o.bury(p, s, burial{key: rec.Key, hash: rec.KeyHash, known: known, version: rec.Version, cursor: o.cursorOf(rec, body)}, leave)
}

// withhold keeps the deletion c that the guard holds back, for an approval or for a day with room (D5): the feed will not say it
// again.
func (o *ownership) withhold(p *partition, s *stream, key string, known state.Entry, c offsets.Candidate, why string) error {
	if s.guarded == "" {
		o.log.Error("deletions are withheld: see `connector reconcile`", "stream", s.spec.Name, "why", why)
	}
	s.guarded = why
	c.Kind, c.Partition, c.At, c.Seen = offsets.Withheld, p.spec.Name, time.Now().UTC(), o.lastSeen(p, known).UTC()
	return o.holdAs(s, key, c)
}

// unguard publishes the declared deletions that the guard withheld, once the day has room for all that wait or an operator has
// approved as many (D5, D6). It stages what the batch has room for; the rest follows as soon as there is room again (pursue).
func (o *ownership) unguard(now time.Time) error {
	o.letting = false
	for _, s := range o.streams {
		if s.guarded == "" || s.halted != nil {
			continue
		}
		waiting, shown := s.waiting(), s.shown(now)
		if waiting == 0 && !s.holds(offsets.Withheld) {
			s.guarded = ""
			o.log.Info("no deletion is withheld any more", "stream", s.spec.Name)
		}
		for key, c := range s.held.committed {
			p := o.partitionOf(s, c.Partition)
			if c.Kind != offsets.Withheld || c.Reason == cdc.Reconciled || p == nil {
				continue
			}
			if o.bound.Full(o.filling.records) {
				o.letting = true
				return nil
			}
			if now, ok := s.held.get(key); !ok || now != c { // what is staged says otherwise
				continue
			}
			n, approved := waiting, int64(0)
			if s.wasShown(c, now) {
				n, approved = shown, s.approved(now)
			}
			leave := reconcile.Released(c.Reason, s.guard(), n, approved, o.levels(p, s, nil))
			if !leave.Holds() {
				continue
			}
			if err := o.carryOut(p, s, key, c.Version.Version, leave, approved > 0); err != nil {
				return err
			}
			if waiting--; approved > 0 {
				shown--
			}
		}
	}
	return nil
}

// waiting counts the declared deletions that are withheld, but for those whose burial is staged.
func (s *stream) waiting() int64 {
	return s.declared(func(offsets.Candidate) bool { return true })
}

// shown counts those of them that an approval names.
func (s *stream) shown(now time.Time) int64 {
	return s.declared(func(c offsets.Candidate) bool { return s.wasShown(c, now) })
}

func (s *stream) declared(which func(offsets.Candidate) bool) int64 {
	var n int64
	for key, c := range s.held.committed {
		if _, ok := s.held.get(key); ok && c.Kind == offsets.Withheld && c.Reason != cdc.Reconciled && which(c) {
			n++
		}
	}
	return n
}

// wasShown reports whether an operator saw a withheld deletion before he gave the approval that holds now: what is withheld
// since is not in it (D6).
func (s *stream) wasShown(c offsets.Candidate, now time.Time) bool {
	a := s.approval()
	return a != nil && s.approved(now) > 0 && !c.At.After(a.At)
}

// holds reports whether a committed candidate is of a kind.
func (s *stream) holds(kind offsets.CandidateKind) bool {
	for _, c := range s.held.committed {
		if c.Kind == kind {
			return true
		}
	}
	return false
}

// approved is how many withheld deletions an operator lets go (D6).
func (s *stream) approved(now time.Time) int64 {
	if a := s.approval(); a != nil && now.Before(a.Until) {
		return a.N
	}
	return 0
}

// approval reads staged over committed (P2).
func (s *stream) approval() *offsets.Approval {
	if s.letting != nil {
		return s.letting
	}
	return s.meta.Approved
}

// spend counts a deletion against the approval that let it go; it travels with the tombstone (D6).
func (s *stream) spend() {
	if a := s.approval(); a != nil && a.N > 0 {
		left := *a
		left.N--
		s.letting = &left
	}
}

// carryOut buries a key whose deletion waited in the state, unless it is gone already.
func (o *ownership) carryOut(p *partition, s *stream, key string, version cdc.Version, leave reconcile.Deletion, approved bool) error {
	k := []byte(key)
	h := record.KeyHash(k)
	known, ok := s.table.Get(k, h)
	if !ok || !known.Live() {
		o.unexcept(s, k, cdc.Version{})
		return nil
	}
	if approved {
		s.spend()
	}
	return o.bury(p, s, burial{key: k, hash: h, known: known, version: version}, leave)
}
