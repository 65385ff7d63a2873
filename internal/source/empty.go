package source

import (
	"unicode/utf8"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// maxWitness is how many bytes of key and cursor a checkpoint keeps of its witness (10). A longer key is nobody's (K5).
const maxWitness = 4 << 10

// witness keeps the record with the largest cursor beside the cursor, where the stream can look it up: an inclusive filter must
// show it again, to whoever reads the partition next (P11). It is called after highest.
func (s *splitter) witness(next *Position) {
	if s.top < 0 || !s.rows[s.top].at.Equal(next.high.at) {
		return
	}
	raw := s.rows[s.top].raw
	for i := range s.page.Records {
		rec := &s.page.Records[i]
		if rec.Raw != raw {
			continue
		}
		st, old := s.request.source.Streams[rec.Stream], next.checkpoint.Witness
		switch {
		case st.lookup == nil, rec.Key == nil, rec.Kind != Live:
		case len(rec.Key)+len(next.high.text) > maxWitness, !utf8.Valid(rec.Key):
		case old != nil && old.Cursor == next.high.text && old.Key == string(rec.Key) && s.request.witnessed(old) == st:
		default:
			w := &cdc.Witness{Key: string(rec.Key), Cursor: next.high.text}
			if len(s.request.Streams) > 1 {
				w.Stream = st.Name
			}
			next.checkpoint.Witness = w
		}
		return
	}
}

// witnessed returns the stream of w; nil where no lookup can ask for it, or not any more.
func (r *Request) witnessed(w *cdc.Witness) *Stream {
	if w == nil {
		return nil
	}
	for _, st := range r.Streams {
		if (st.Name == w.Stream || w.Stream == "" && len(r.Streams) == 1) && st.lookup != nil {
			return st
		}
	}
	return nil
}

// nothing decides on an empty answer. Where the filter owes us the record that it was anchored on, silence may be a filter
// that no longer means what it meant, a lost permission, another database (P11): the same is asked from one granule
// earlier. "Nothing new" is believed only when that does not contradict it.
func (s *splitter) nothing(next *Position) error {
	switch {
	case !next.owes:
		s.conclude(next)
		return nil
	case next.suspect:
		return s.pos.fail(cdc.Halt, cdc.Stream,
			"The filter does not find what it is anchored on: check the time format, `inclusive`, `granularity` and the credential's rights; a state that the list leaves out is named by `reconcile.lookup.gone`",
			"asked for records from %s on and got none, twice, although there is one", next.anchor.text)
	}
	next.stage, next.pane = earlier, next.opening
	next.restart()
	return nil
}

// restart goes back to the first page.
func (p *Position) restart() {
	p.token, p.link, p.page, p.last, p.behind, p.reach = "", "", p.request.paginator.firstPage, nil, 0, reach{}
	p.turns, p.reached, p.shown = circle{}, "", 0
}

// conclude ends a timestamp pass, by P4 or, with page checkpoints, as its cursor stands.
func (s *splitter) conclude(next *Position) {
	next.stage = reading
	if s.request.paginator.kind != keysetPaginator {
		s.settle(next)
	}
	s.finish(next)
}

// compareEarlier compares an empty answer with that from one granule earlier: a record that the first should have shown
// contradicts it, unless it came in between; so the first is asked again before anything halts (P11).
func (s *splitter) compareEarlier(next *Position) error {
	inc := s.request.incremental
	if s.request.paginator.kind == keysetPaginator {
		if _, _, err := s.verified(next); err != nil {
			return err
		}
	}
	if s.request.spooled() {
		// Its order is the wrong one: what there is comes again when the first answer is asked for again.
		s.page.Records, s.page.Parked, s.pending = s.page.Records[:0], 0, s.pending[:0]
	}
	from := inc.floor(next.from.at)
	for i := range s.rows {
		at := inc.floor(s.rows[i].at)
		if !s.rows[i].at.IsZero() && (at.After(from) || inc.inclusive && at.Equal(from)) {
			next.suspect, next.stage = true, reading
			return nil
		}
	}
	if w := next.checkpoint.Witness; s.request.witnessed(w) != nil {
		m, err := next.parse(w.Cursor)
		if err != nil {
			return err
		}
		if !inc.floor(m.at).Before(from) {
			next.stage = vouching
			return nil
		}
	}
	s.conclude(next)
	return nil
}

// vouched compares an empty answer with the lookup of the record that it should have shown (P11).
func (s *splitter) vouched() error {
	next, w := &s.page.Next, s.pos.checkpoint.Witness
	gone := missing(s.resp) || parks(s.request.judge(s.resp, &s.vars, true))
	contradicted := false
	if !gone {
		var err error
		if gone, err = s.found(s.request.witnessed(w).Index, []byte(w.Key)); err != nil {
			return err
		}
		if !gone && len(s.rows) > 0 && s.page.Records[0].Kind == Live {
			// Unchanged and yet not listed. Had it changed, it might have left the listing for a reason of its own.
			m, err := next.parse(w.Cursor)
			if err != nil {
				return err
			}
			contradicted = s.rows[0].at.Equal(m.at)
		}
	}
	s.page.Records, s.page.Parked = s.page.Records[:0], 0 // a lookup bears witness here, it publishes nothing
	if contradicted {
		next.suspect, next.stage = true, reading
		return nil
	}
	next.checkpoint.Witness = nil
	s.conclude(next)
	return nil
}

// headed compares our cursor with how far the sequence has got: a head below it belongs to another sequence, the old one
// was dropped and made anew (P11). Only integers can be compared.
func (s *splitter) headed() error {
	next, h := &s.page.Next, s.request.incremental.head
	if err := s.proven(); err != nil {
		return err
	}
	if err := record.Valid(s.body, s.request.source.limits.Record); err != nil {
		return s.broken(err)
	}
	span, ok := h.place.Find(s.body, record.All(s.body))
	if !ok {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.head.place` in the definition",
			"the answer has no %q: %s", h.place, s.excerpt())
	}
	top, err := number(string(s.text(span)))
	ours, err2 := number(s.pos.checkpoint.Cursor)
	if err == nil && err2 == nil && top < ours {
		return s.pos.fail(cdc.Expired, cdc.Partition, expiredHint, "the sequence has got to %d and our cursor is %d: it was made anew", top, ours)
	}
	next.stage = reading
	s.store(next)
	s.finish(next)
	return nil
}
