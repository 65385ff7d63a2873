package source

import (
	"slices"
	"time"

	"tidemark/internal/cdc"
)

// tie is the walk through a run of equal cursors that is longer than a page (P8).
type tie struct {
	page  int64
	now   sightings // of this walk
	prior sightings // of the walk before; nil: this is the first, whose first page was an ordinary one
	found bool      // this walk showed a key that the one before did not
	least time.Time // the smallest cursor seen behind the run
}

// sightings are keys with the number of the page that showed them first. The number makes them safe against a page that
// is asked for again from an older position: what that page or a later one noted does not count as seen before it.
type sightings map[uint64]int

func (m sightings) before(key uint64, page int) bool {
	n, ok := m[key]
	return ok && n < page
}

func (m sightings) note(key uint64, page int) {
	if n, ok := m[key]; !ok || n > page {
		m[key] = page
	}
}

// keyset decides where a keyset pass goes on after an ordinary page (P6): from its last record's cursor, inclusively, so
// that the border shows that record again; the pass ends when nothing but known records of the anchor come.
func (s *splitter) keyset(next *Position) error {
	last, fresh, err := s.verified(next)
	if err != nil {
		return err
	}
	if len(s.rows) == 0 {
		return s.nothing(next)
	}
	next.suspect = false
	if err := s.lift(next); err != nil {
		return err
	}
	switch {
	case s.short():
		s.finish(next) // P10: the answer says itself that this was the last page
		return nil
	case fresh == 0 && !s.full():
		s.finish(next) // P10: nothing new at the anchor, and there was room for more
		return nil
	case !s.progress(next, last) && s.full():
		return s.enterTie(next, last, fresh)
	case last < 0:
		next.keys = s.union(next.keys, time.Time{}) // P8: null cursors move nothing
		return nil
	}
	return s.move(next, last)
}

// verified checks the page's order and that its filter was honoured (P7), and counts the rows that are no known records of
// the anchor. It returns the index of the last row with a cursor, -1 where there is none. What is out of order must never
// end as "the last page": the rest of the feed would be lost without a word.
func (s *splitter) verified(next *Position) (last, fresh int, err error) {
	inc := s.request.incremental
	last = -1
	bottom := next.from
	if s.pos.stage == earlier {
		bottom = s.pos.before(bottom)
	}
	var low, prev, anchor time.Time
	switch {
	case !bottom.isZero():
		low = inc.floor(bottom.at)
	case next.fresh && !inc.startTime.IsZero() && s.request.uses.start:
		low = inc.floor(inc.startTime)
	}
	if !next.anchor.isZero() {
		anchor = inc.floor(next.anchor.at)
	}
	for i := range s.rows {
		w := &s.rows[i]
		_, seen := slices.BinarySearch(next.keys, w.key)
		if w.at.IsZero() {
			if !seen {
				fresh++
			}
			continue
		}
		at := inc.floor(w.at)
		if at.Before(low) {
			return 0, 0, s.pos.fail(cdc.Halt, cdc.Stream,
				"The filter was ignored, or `granularity` is finer than the server's: check the filter's name and the time format",
				"asked for records from %s on, and got one of %s", low.Format(time.RFC3339Nano), w.at.Format(time.RFC3339Nano))
		}
		if at.Before(prev) {
			return 0, 0, s.pos.fail(cdc.Halt, cdc.Stream,
				"The order is not ascending: check the sort parameters, or use another paginator than keyset",
				"a record of %s follows one of %s", w.at.Format(time.RFC3339Nano), prev.Format(time.RFC3339Nano))
		}
		prev, last = at, i
		if !seen || at.After(anchor) {
			fresh++
		}
	}
	return last, fresh, nil
}

// progress reports whether the page ends behind the anchor.
func (s *splitter) progress(next *Position, last int) bool {
	if last < 0 {
		return false
	}
	inc := s.request.incremental
	return next.anchor.isZero() || inc.floor(s.rows[last].at).After(inc.floor(next.anchor.at))
}

// move sets the anchor to a row and notes which keys the next page will show again.
func (s *splitter) move(next *Position, last int) error {
	m, err := s.placed(&s.rows[last])
	if err != nil {
		return err
	}
	inc := s.request.incremental
	stayed := !next.anchor.isZero() && inc.floor(m.at).Equal(inc.floor(next.anchor.at))
	known := next.keys
	if !stayed {
		known = nil
	}
	next.anchor, next.from, next.owes = m, inc.rejoin(m), true
	next.keys = s.union(known, inc.floor(next.from.at))
	s.checkpointAt(next, m.text)
	return nil
}

// union returns, sorted, the known keys and those of the page's rows from low on, with those that have no cursor.
func (s *splitter) union(known []uint64, low time.Time) []uint64 {
	inc := s.request.incremental
	keys := make([]uint64, len(known), len(known)+8)
	copy(keys, known)
	for i := range s.rows {
		if at := s.rows[i].at; at.IsZero() || !inc.floor(at).Before(low) {
			keys = append(keys, s.rows[i].key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// lift moves the partition's cursor to the page's largest (P3), and the checkpoint with it: page checkpoints are right for
// keyset, since every record up to the cursor was read (P5).
func (s *splitter) lift(next *Position) error {
	m, err := s.highest()
	if err != nil {
		return err
	}
	next.raise(m)
	next.advance(next.high.text)
	s.witness(next)
	return nil
}

// enterTie begins to walk a run of equal cursors that fills a page (P8).
func (s *splitter) enterTie(next *Position, last, fresh int) error {
	if !s.request.paginator.tiePage {
		switch {
		case fresh > 0 && last >= 0:
			return s.move(next, last) // the same again from the last row's own text; a page without anything new decides
		case s.size() == 0 && !next.measured:
			next.stage = measuring
			return nil
		case s.size() == 0 && s.page.Rows == 1:
			s.finish(next) // one record, and no page was ever longer: a page size of one is nobody's
			return nil
		}
		hint := "Give the request a page parameter with {{ tie_page }}"
		if s.size() == 0 {
			hint += "; if pages are longer than this, say where the answer echoes their size: paginator.size_echo"
		}
		return s.pos.fail(cdc.Halt, cdc.Stream, hint, "%d records or more share the cursor %s, and the request cannot page among them",
			s.page.Rows, cmpOr(next.anchor.text, "null"))
	}
	t := tie{page: 2, now: sightings{}}
	for i := range s.rows {
		t.now.note(s.rows[i].key, next.pages)
	}
	next.stage, next.tie = tied, t
	return nil
}

// measured goes on after a look at the feed's beginning: how long its page is, is how long pages get (P10). Without that a
// quiet feed, whose last record is all that its page holds, would look like one that is cut off in the middle of a run.
func (s *splitter) measured(next *Position) error {
	next.measured, next.stage = true, reading
	return nil
}

// walkTie decides after a page of the run. Rows leave a run while one walks it, and what stands behind them moves up onto
// pages that were read already. So the run is walked until a whole walk shows what the one before it showed, no key new and
// none missing (P8): had that one missed a row, then because another, which it had read, left before its eyes, and that
// one would be missing now.
func (s *splitter) walkTie(next *Position) error {
	if _, _, err := s.verified(next); err != nil {
		return err
	}
	inc, t := s.request.incremental, &next.tie
	if !next.anchor.isZero() {
		// The records that a page shows behind the run may not be the first ones there, so the cursor waits (4).
		if top := inc.above(next.anchor.at).Add(-1); top.Before(s.limit) {
			s.limit = top
		}
		if err := s.lift(next); err != nil {
			return err
		}
	}
	end := len(s.rows) == 0 || s.short()
	moved := false
	var anchor time.Time
	if !next.anchor.isZero() {
		anchor = inc.floor(next.anchor.at)
	}
	for i := range s.rows {
		w := &s.rows[i]
		if at := w.at; !at.IsZero() && inc.floor(at).After(anchor) {
			end = true
			if t.least.IsZero() || at.Before(t.least) {
				t.least = at
			}
			continue
		}
		t.found = t.found || !t.prior.before(w.key, next.pages)
		moved = moved || !t.now.before(w.key, next.pages)
		t.now.note(w.key, next.pages)
	}
	switch {
	case !end && !moved:
		return s.pos.fail(cdc.Halt, cdc.Stream, "Give the request a page parameter that works, with {{ tie_page }}",
			"%d records or more share the cursor %s, and page %d among them is an earlier one again", len(t.now), cmpOr(next.anchor.text, "null"), t.page)
	case !end && s.request.paginator.reanchorAfter > 0 && len(t.now) >= s.request.paginator.reanchorAfter:
		return s.pos.fail(cdc.Halt, cdc.Stream, "No request can page further among them: change the cursor of some upstream, or use another listing",
			"%d records or more share the cursor %s, and the server pages among %d at most", len(t.now), cmpOr(next.anchor.text, "null"),
			s.request.paginator.reanchorAfter)
	case len(t.now) > s.request.source.limits.withDefaults().Sightings:
		return s.pos.fail(cdc.Halt, cdc.Stream, "Raise the limit of sightings", "more than %d records share the cursor %s",
			len(t.now), cmpOr(next.anchor.text, "null"))
	case !end:
		t.page++
	case t.found || len(t.now) != len(t.prior):
		*t = tie{page: 1, now: sightings{}, prior: t.now, least: t.least}
	default:
		s.leaveTie(next)
	}
	return nil
}

// leaveTie goes on behind the run, one granule later: the records that a page of the run showed behind it were shown while
// rows moved, so they are asked for again.
func (s *splitter) leaveTie(next *Position) {
	inc := s.request.incremental
	least := next.tie.least
	next.tie, next.stage, next.keys, next.owes = tie{}, reading, nil, false
	after := time.Unix(0, 0).UTC() // behind the null cursors: all that have one
	switch {
	case !next.anchor.isZero():
		after = inc.above(next.anchor.at)
		if !least.IsZero() && least.Before(after) {
			after = least // a fold, and texts with offsets in it
		}
	case least.IsZero():
		s.finish(next) // nothing but null cursors
		return
	case least.Before(after):
		after = least
	}
	if !next.anchor.isZero() && !inc.inclusive {
		after = after.Add(-inc.granularity) // an exclusive filter begins behind what it is given
	}
	next.anchor = inc.mark(after)
	next.from = next.anchor
	s.checkpointAt(next, next.anchor.text)
}
