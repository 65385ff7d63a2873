package capture

import (
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/record"
)

// inquest asks upstream for the candidates of a partition, one by one (D4). It takes its turns with the passes (P1), several
// lookups at a time within the rate budget. What it does not finish, because its ownership ends, the candidates in the state
// bring up again.
type inquest struct {
	partition *partition
	stream    *stream
	keys      []string
	batch     []string // of this turn
	gone      []string // of batch, by their lookups
	control   []byte   // the key of this turn that must be found, before the batch and behind it
	step      step     // of this turn
	proven    bool     // it was found when it was last asked for
	failed    error    // of a lookup of this turn
	left      int      // lookups under way
	again     int      // turns in a row that proved nothing
	unlisted  int64
}

// step is what the lookups that are under way are for. Answers of one moment prove nothing of each other: an endpoint that moves
// while they are made has still found the control key, and does not find the candidates any more.
type step uint8

const (
	opening step = iota // the control key
	asking              // the candidates
	closing             // the control key again
)

const (
	// lookupsAtOnce is how many candidates are asked for in one turn.
	lookupsAtOnce = 8
	// witnesses is how many keys are remembered that were seen lately, and how many turns may prove nothing.
	witnesses = 4
)

// witness remembers a key of s that was just seen: it is what a batch of lookups has to find (D4).
func (p *partition) witness(s *stream, key []byte) {
	if p.seen == nil {
		p.seen = map[*stream][][]byte{}
	}
	list := p.seen[s]
	if len(list) < witnesses {
		p.seen[s] = append(list, slices.Clone(key))
		return
	}
	oldest := list[0]
	copy(list, list[1:])
	list[witnesses-1] = append(oldest[:0], key...)
}

// inquire begins to look up the candidates of p, if there are any and nobody does.
func (o *ownership) inquire(p *partition) error {
	if p.inquest != nil || p.verdict != nil || p.halted != nil || time.Now().Before(p.askAgain) || !p.agrees() {
		return nil
	}
	for s := range o.streamsOf(p) {
		if !s.spec.HasLookup || p.asked[s] || len(p.seen[s]) == 0 { // without a key that must be found nothing is proven
			continue
		}
		p.asked[s] = true
		q := &inquest{partition: p, stream: s}
		for key, c := range s.held.all() {
			if askable(c) && c.Partition == p.spec.Name {
				q.keys = append(q.keys, key)
			}
		}
		if len(q.keys) == 0 {
			continue
		}
		slices.Sort(q.keys)
		p.inquest = q
		return o.want(p.space, q)
	}
	return nil
}

// agrees reports whether two complete listings agree under the request, filter and credential of today. Before they do, those who
// ask may see less than those who found the candidates (P23).
func (p *partition) agrees() bool {
	m := p.checkpoint().Reconciled
	return m != nil && m.Listing == p.request.Listing() && m.Agreed >= reconcile.Agreement
}

// askable reports whether a candidate may be deleted on the word of its lookup: a verdict has said so (D4, P23).
func askable(c offsets.Candidate) bool { return c.Kind == offsets.Missing && c.Passes > 0 }

func (q *inquest) over() bool { return q.partition.inquest != q }

// send begins a turn: the next candidates, and the key that must be found.
func (q *inquest) send(o *ownership) error {
	p, s := q.partition, q.stream
	q.batch, q.gone, q.failed = q.batch[:0], q.gone[:0], nil
	for len(q.keys) > 0 && len(q.batch) < lookupsAtOnce {
		key := q.keys[0]
		q.keys = q.keys[1:]
		if c, ok := s.held.get(key); ok && askable(c) {
			q.batch = append(q.batch, key)
		}
	}
	if len(q.batch) == 0 {
		return o.adjourn(q, 0)
	}
	seen := p.seen[s]
	q.control = slices.Clone(seen[max(0, len(seen)-1-q.again)]) // the last one first
	return q.ask(o, opening)
}

// ask sends the lookups of a step; the turn ends with the last step (P1).
func (q *inquest) ask(o *ownership, next step) error {
	keys := q.batch
	if next != asking {
		keys = []string{string(q.control)}
	}
	q.step, q.proven, q.left = next, false, 0
	for _, key := range keys {
		request, err := q.partition.request.Lookup(q.stream.spec.Index, []byte(key))
		if err != nil {
			return err
		}
		request.Background = true
		q.left++
		o.fetch(q.partition.space, fetched{lookup: &lookup{q.stream, []byte(key), q}}, request)
	}
	return nil
}

func (q *inquest) fail(o *ownership, err error) error {
	o.log.Error("candidates cannot be looked up", "stream", q.stream.spec.Name, "error", err)
	return o.adjourn(q, askAfter)
}

// heard takes the answer to one lookup of an inquest. A record that is there goes the way of any sighting; with the last
// answer of a step the next one begins, and with that of the turn the batch is judged.
func (o *ownership) heard(f fetched) error {
	q := f.lookup.inquest
	sp := q.partition.space
	sp.flight--
	q.left--
	if q.over() {
		f.release()
		return o.serve(sp)
	}
	if err := f.err; err != nil {
		q.failed = err
	} else if err := o.hear(q, f); err != nil {
		q.failed = err
	}
	if remedy, scope := cdc.Verdict(q.failed); q.failed != nil && (remedy == cdc.Reopen || remedy == cdc.Halt && scope >= cdc.Connection) {
		return q.failed
	}
	if q.left == 0 {
		if err := o.further(q); err != nil {
			return err
		}
	}
	return o.serve(sp)
}

// further goes on after a step.
func (o *ownership) further(q *inquest) error {
	next := closing
	switch {
	case q.failed != nil, q.step == closing, q.step == opening && !q.proven:
		return o.confirm(q)
	case q.step == opening:
		next = asking
	}
	if err := q.ask(o, next); err != nil {
		return q.fail(o, err)
	}
	return nil
}

// hear reads one answer.
func (o *ownership) hear(q *inquest, f fetched) error {
	defer f.release()
	p, s, key := q.partition, q.stream, f.lookup.key
	w := &walk{partition: p, older: map[keyed]uint64{}}
	gone, err := p.request.Found(s.spec.Index, key, f.response, &w.answer)
	if err != nil {
		return err
	}
	if q.step != asking {
		q.proven = !gone
	} else if gone {
		q.gone = append(q.gone, string(key))
	}
	if gone {
		return nil
	}
	for i := range w.answer.Records {
		if rec := &w.answer.Records[i]; string(rec.Key) == string(key) {
			if err := o.compare(w, rec, w.answer.Body); err != nil { // D4: through filter, delete and compare
				return err
			}
		}
	}
	if now, ok := s.table.Get(key, record.KeyHash(key)); ok && now.Live() && q.step == asking {
		q.unlisted++ // D4: alive, but unlisted
	}
	return nil
}

// confirm judges a batch of lookups (D4).
func (o *ownership) confirm(q *inquest) error {
	p, s := q.partition, q.stream
	if q.failed != nil || !q.proven {
		if q.again++; q.failed == nil && q.again < witnesses { // that key may have gone meanwhile: another one
			q.keys = append(q.keys, q.batch...)
			return o.want(p.space, q)
		}
		if q.failed == nil {
			o.log.Error("lookups find nothing, not even a record that was just listed: no deletion is confirmed", "stream", s.spec.Name, "key", string(q.control))
		} else {
			o.log.Warn("the candidates are looked up later", "stream", s.spec.Name, "error", q.failed)
		}
		return o.adjourn(q, askAfter)
	}
	q.again = 0
	for _, key := range q.gone {
		c, ok := s.held.get(key)
		if !ok || !askable(c) {
			continue // seen meanwhile
		}
		e := reconcile.Evidence{Generation: uint32(c.Generation), Control: q.proven}
		approved := s.namedNow(key, time.Now())
		leave, guarded := reconcile.Confirm(e, reconcile.Answer{Gone: true}, approved, s.guard(), o.levels(p, s, nil))
		var err error
		if leave.Holds() {
			err = o.carryOut(p, s, key, cdc.Version{}, leave, approved)
		} else if known, ok := s.table.Get([]byte(key), record.KeyHash([]byte(key))); ok {
			err = o.withhold(p, s, key, known, offsets.Candidate{Reason: cdc.Reconciled, Generation: c.Generation, Passes: 1}, guarded)
		}
		if err != nil {
			return err
		}
	}
	return o.want(p.space, q)
}

// askAfter is when candidates are asked for again whose lookups failed.
const askAfter = 10 * time.Minute

// adjourn ends an inquest. after is when what it could not settle is asked for again; 0: all is settled.
func (o *ownership) adjourn(q *inquest, after time.Duration) error {
	p, s, now := q.partition, q.stream, time.Now()
	p.inquest = nil
	if after > 0 {
		p.asked[s], p.askAgain = false, now.Add(after)
	}
	if m := p.checkpoint().Reconciled; m != nil && q.unlisted != m.Unlisted {
		cp, moved := p.checkpoint(), *m
		moved.Unlisted, cp.Reconciled = q.unlisted, &moved
		if err := o.filling.checkpoint(p, cp, now); err != nil {
			return err
		}
	}
	if err := o.inquire(p); err != nil { // another stream of the same request
		return err
	}
	o.planListing(p, now)
	return nil
}

// approve notes that an approval names a key whose lookup is still to come (D6).
func (o *ownership) approve(s *stream, key []byte) {
	if s.named == nil {
		s.named = map[string]string{}
	}
	s.named[string(key)] = s.approval().ID
}

// namedNow reports whether the approval that holds now names a key: what its lookup found alive then is no part of a later one.
func (s *stream) namedNow(key string, now time.Time) bool {
	id, ok := s.named[key]
	return ok && s.approved(now) > 0 && s.approval().ID == id
}
