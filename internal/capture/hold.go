package capture

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
)

// hold keeps back a record whose version is lower than the known one: a stale replica, or a restored backup. It becomes a
// candidate; with a lookup upstream is asked at the next page border, otherwise two complete passes have to agree (P14, 8).
// It reports whether they have, and the record may be published.
func (o *ownership) hold(w *walk, s *stream, rec *source.Record) (agreed bool, err error) {
	key := string(rec.Key)
	s.table.Touch(rec.Key, rec.KeyHash, record.RawHint{}, o.generation) // D3: an older version of it is a sighting too
	before, ok := s.held.get(key)
	if seen, again := w.older[keyed{s, key}]; s.spec.HasLookup && !(again && seen == rec.Hash) {
		w.lookups = append(w.lookups, lookup{stream: s, key: []byte(key)}) // once a pass: the answer may have been lost with an ownership
	}
	w.older[keyed{s, key}] = rec.Hash
	if ok && before.Hash == offsets.Hex(rec.Hash) {
		return before.Passes >= 2, nil
	}
	o.filling.of(s).Held++
	if ok && before.Kind == offsets.Withheld && before.Reason != cdc.Reconciled { // D5: what waits there the feed will not say again
		before.Hash, before.Passes = offsets.Hex(rec.Hash), 0
		return false, o.holdAs(s, key, before)
	}
	return false, o.holdAs(s, key, offsets.Candidate{
		Kind: offsets.Older, Version: offsets.Version{Version: rec.Version}, Hash: offsets.Hex(rec.Hash),
		Partition: w.partition.spec.Name, At: time.Now().UTC(),
	})
}

// holdAs stages the candidate c of key.
func (o *ownership) holdAs(s *stream, key string, c offsets.Candidate) error {
	value, err := offsets.Encode(c)
	if err != nil {
		return err
	}
	s.held.put(o.filling.id, key, c)
	o.note(offsets.KindCandidate, s, key, value)
	return nil
}

// agree counts a complete pass for the candidates that it showed as they were held (P14).
func (o *ownership) agree(w *walk) error {
	for r, hash := range w.older {
		c, ok := r.stream.held.get(r.key)
		if !ok || c.Kind == offsets.Missing || uint64(c.Hash) != hash {
			continue
		}
		c.Passes++
		if err := o.holdAs(r.stream, r.key, c); err != nil {
			return err
		}
	}
	for s := range o.streamsOf(w.partition) {
		if err := o.lapse(w, s); err != nil {
			return err
		}
	}
	return nil
}

// lapse forgets what was held before a complete pass began that did not show it: the passes that agree are passes in a row. Of a
// key that is live the verdict on what is missing says more (D4).
func (o *ownership) lapse(w *walk, s *stream) error {
	held := map[string]offsets.Candidate{}
	for key, c := range s.held.all() {
		if w.rejoined != "" && w.position.Passed([]byte(key), []byte(w.rejoined)) {
			continue // D3: it may have been shown before the crash
		}
		if _, shown := w.older[keyed{s, key}]; !shown && c.Hash != 0 && c.Partition == w.partition.spec.Name && c.At.Before(w.began) {
			held[key] = c
		}
	}
	for key, c := range held {
		known, ok := s.table.Get([]byte(key), record.KeyHash([]byte(key)))
		switch {
		case c.Kind == offsets.Withheld: // the deletion itself waits on (D5)
			c.Hash, c.Passes = 0, 0
			if err := o.holdAs(s, key, c); err != nil {
				return err
			}
		case !ok || !known.Live():
			o.forgive(s, []byte(key))
		}
	}
	return nil
}

// lookUp asks upstream for one record.
func (o *ownership) lookUp(w *walk, l lookup) error {
	request, err := w.partition.request.Lookup(l.stream.spec.Index, l.key)
	if err != nil {
		return err
	}
	o.fetch(w.partition.space, fetched{walk: w, lookup: &l}, request)
	return nil
}

// unanswered takes an answer to a lookup that the definition sets aside (`do: park_record`): upstream has no opinion on this one
// record, and the pass goes on. What is held stays so, and shows.
func (o *ownership) unanswered(w *walk, l lookup, err error) error {
	o.log.Warn("the lookup of a record gave no answer", "stream", l.stream.spec.Name, "key", string(l.key), "error", err)
	if c, ok := l.stream.held.get(string(l.key)); ok {
		o.answered[keyed{l.stream, string(l.key)}] = uint64(c.Hash)
	}
	return o.resume(w)
}

// found takes the answer to a lookup: upstream's second opinion on a held version (P14). It agrees when it says the older
// version too; then that is published, with the reason. Anything else is an ordinary sighting.
func (o *ownership) found(w *walk, l lookup, response *fetch.Response) error {
	defer response.Release()
	gone, err := w.partition.request.Found(l.stream.spec.Index, l.key, response, &w.answer)
	if err != nil {
		return o.fail(w, err)
	}
	if c, ok := l.stream.held.get(string(l.key)); ok {
		o.answered[keyed{l.stream, string(l.key)}] = uint64(c.Hash)
	}
	for i := range w.answer.Records {
		rec := &w.answer.Records[i]
		if gone || rec.Err != nil || string(rec.Key) != string(l.key) {
			continue // a 404 deletes nothing here: deletions are reconciliation's to decide (6)
		}
		if err := o.second(w, l.stream, rec); err != nil {
			return o.fail(w, err)
		}
	}
	return o.resume(w)
}

// second publishes a held version that upstream confirmed.
func (o *ownership) second(w *walk, s *stream, rec *source.Record) error {
	body := w.answer.Body
	known, ok := s.table.Get(rec.Key, rec.KeyHash)
	live := ok && known.Live()
	switch {
	case live && rec.Kind == source.Live && known.Hash == rec.Hash:
		o.forgive(s, rec.Key) // a deletion of it that is withheld, too
		return o.compare(w, rec, body)
	case !ok || !older(rec, known):
		return o.compare(w, rec, body)
	case rec.Kind == source.Live:
		return o.publish(w, s, rec, body, o.opOf(w, live), cdc.Rollback)
	case rec.Kind == source.Deleted && live:
		return o.declare(w, s, rec, body, known, cdc.Declared)
	default:
		return o.compare(w, rec, body)
	}
}

// reask queues the lookups of what is held of the walk's partition: an answer may have been lost with a pass or an ownership,
// and the cursor may be past the record, so that no page shows it again (4, P14).
func (o *ownership) reask(w *walk) {
	p := w.partition
	for _, s := range o.streams {
		if s.request != p.request || !s.spec.HasLookup {
			continue
		}
		for key, c := range s.held.committed {
			asked := o.answered[keyed{s, key}] == uint64(c.Hash) // by this process; nothing is asked again and again
			if c.Kind == offsets.Older && c.Partition == p.spec.Name && !asked {
				w.lookups = append(w.lookups, lookup{stream: s, key: []byte(key)})
			}
		}
	}
}
