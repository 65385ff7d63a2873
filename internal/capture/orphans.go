package capture

import (
	"math"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/record"
)

// orphaning carries out what the definition says of the keys of a partition whose parents are all deleted (D8). What is left to
// do can be read off the state at any time: the checkpoint says that the parents are gone, the table which keys there are.
type orphaning struct {
	parts []part
}

// orphan begins it, where p is without parents and somebody is to see to its keys.
func (o *ownership) orphan(p *partition) {
	if p.orphans == nil && o.rests(p) == parentGone && !p.request.SharesKeys() {
		p.orphans = &orphaning{}
		o.undertake(p)
	}
}

// pursueOrphans goes on with the keys of p as far as the batch has room. It ends when a look at the settled table finds nothing
// more to do; a parent that comes back ends it too.
func (o *ownership) pursueOrphans(p *partition) error {
	if p.halted != nil || o.rests(p) != parentGone {
		p.orphans = nil
		return nil //nolint:nilerr // whoever halted it has said why
	}
	if p.walk != nil || p.listing != nil {
		return nil // its last pass still shows records
	}
	q := p.orphans
	done, err := o.each(q.parts, func(pt *part, key []byte) error { return o.bequeath(p, pt.stream, key) })
	if err != nil || !done {
		return err
	}
	if o.committing != nil || !o.filling.empty() {
		return nil // what is on its way may be a key of p
	}
	q.parts = q.parts[:0]
	for s := range o.streamsOf(p) {
		if pt := o.orphansOf(p, s); len(pt.keys) > 0 {
			q.parts = append(q.parts, pt)
		}
	}
	if len(q.parts) == 0 {
		p.orphans = nil
		return nil
	}
	return o.pursueOrphans(p)
}

// orphansOf gathers the keys of s in p that something is still to be done for.
func (o *ownership) orphansOf(p *partition, s *stream) part {
	pt := part{stream: s}
	if s.spec.Reconcile.Orphans == "keep" {
		return pt
	}
	for key := range s.table.Unseen(math.MaxUint32, s.ordinal(p.spec.Name)) {
		c, ok := s.held.get(string(key))
		if len(pt.keys) == mostCandidates {
			return pt
		}
		if s.spec.Reconcile.Orphans == "delete" || !ok || c.Kind != offsets.Withheld {
			pt.keys = append(pt.keys, append([]byte(nil), key...))
		}
	}
	return pt
}

// bequeath deletes an orphan, or withholds that until somebody approves it or the rules say that it is gone too (D8).
func (o *ownership) bequeath(p *partition, s *stream, key []byte) error {
	known, ok := s.table.Get(key, record.KeyHash(key))
	if !ok || !known.Live() {
		return nil
	}
	if leave := reconcile.Orphan(s.spec.Reconcile.Orphans); leave.Holds() {
		return o.carryOut(p, s, string(key), cdc.Version{}, leave, false)
	}
	return o.withhold(p, s, string(key), known, offsets.Candidate{Reason: cdc.Orphan}, "the parent of "+p.label+" is deleted (orphans: withhold)")
}
