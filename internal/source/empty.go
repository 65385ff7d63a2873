package source

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// witness is the record that an inclusive filter must show again: the one with the largest cursor of its partition. It is
// an observation of upstream and lives as long as the process.
type witness struct {
	stream int
	key    string
	at     time.Time
}

// witness remembers the record with the largest cursor, where the stream can look it up (P11). It is called after highest.
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
		old := s.witnesses[next.partition.Name]
		if s.request.source.Streams[rec.Stream].lookup == nil || rec.Key == nil || rec.Kind != Live ||
			old.at.Equal(next.high.at) && old.key == string(rec.Key) {
			return
		}
		s.witnesses[next.partition.Name] = witness{rec.Stream, string(rec.Key), next.high.at}
		return
	}
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
	p.turns = circle{}
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
	if w, ok := s.witnesses[next.partition.Name]; ok && !inc.floor(w.at).Before(from) {
		next.stage = vouching
		return nil
	}
	s.conclude(next)
	return nil
}

// vouched compares an empty answer with the lookup of the record that it should have shown (P11).
func (s *splitter) vouched() error {
	next, w := &s.page.Next, s.witnesses[s.pos.partition.Name]
	gone := missing(s.resp) || parks(s.request.judge(s.resp, &s.vars, true))
	contradicted := false
	if !gone {
		var err error
		if gone, err = s.found(w.stream, []byte(w.key)); err != nil {
			return err
		}
		if !gone && len(s.rows) > 0 && s.page.Records[0].Kind == Live {
			// Unchanged and yet not listed. Had it changed, it might have left the listing for a reason of its own.
			contradicted = s.rows[0].at.Equal(w.at)
		}
	}
	s.page.Records, s.page.Parked = s.page.Records[:0], 0 // a lookup bears witness here, it publishes nothing
	if contradicted {
		next.suspect, next.stage = true, reading
		return nil
	}
	delete(s.witnesses, s.pos.partition.Name)
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
