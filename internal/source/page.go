package source

import (
	"fmt"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// rewalks is how often a pass that drifted is walked again (P9).
const rewalks = 3

// stalePages is how many pages may show nothing new one after the other: rows that move can make one, not many.
const stalePages = 3

// walk is what a pass over numbered pages notices about rows that move while it reads them (P9).
type walk struct {
	seen  sightings
	again int  // walks after the first
	drift bool // this walk showed a sign of drift
	stale int  // pages in a row that showed nothing but what pages before them showed
	// before says that a window before this one drifted (P15).
	before bool
	lost   bool // too many keys to notice a second sighting: the pass proves nothing missing
}

// note remembers a key, as long as there is room.
func (w *walk) note(key uint64, page, most int) {
	if len(w.seen) >= most {
		w.lost = true
		return
	}
	if w.seen == nil {
		w.seen = sightings{}
	}
	w.seen.note(key, page)
}

// listed decides where a pass goes on that has no order to rely on: pages by number, token or link, or a single answer.
func (s *splitter) listed(next *Position) error {
	timed := s.request.incremental != nil // else a snapshot
	if len(s.rows) > 0 {
		next.owes, next.suspect = false, false
	}
	if timed {
		m, err := s.highest()
		if err != nil {
			return err
		}
		next.raise(m)
		s.witness(next)
	}
	if err := s.watch(next); err != nil {
		return err
	}
	end, err := s.turn(next)
	switch {
	case err != nil:
		return err
	case !end:
		if s.request.checkpointed() {
			s.checkpointAt(next, next.token) // P5: a stable token; the cursor waits for the end (P4)
		}
		return nil
	case timed && next.owes:
		return s.nothing(next)
	case next.walk.drift && next.walk.again < rewalks:
		// P9: rows that moved from a page not yet read to one read already were missed.
		next.walk = walk{again: next.walk.again + 1}
		next.restart()
		s.page.Again = next.pane == next.opening
		return nil
	}
	if next.walk.drift {
		s.page.Notices = append(s.page.Notices, fmt.Sprintf("%s: drifting, rows moved between its pages in %d walks", s.pos.where(), rewalks+1))
	}
	if timed {
		s.settle(next)
	}
	s.finish(next)
	return nil
}

// settle moves the cursor of a pass without page checkpoints: not beyond the server time of its first answer, since what
// changed while it walked may have moved behind its back, and will be asked for again (P4).
func (s *splitter) settle(next *Position) {
	inc := s.request.incremental
	m := next.high
	if bound := next.began.Add(-inc.settle); !m.isZero() && m.at.After(bound) {
		m = inc.mark(inc.floor(bound))
	}
	if m.isZero() {
		return
	}
	if old := next.checkpoint.Cursor; old != "" {
		if at, err := inc.record.parse([]byte(old)); err == nil && !m.at.After(at) {
			return // P3
		}
	}
	next.advance(m.text)
}

// watch looks for signs of drift (P9): a key that an earlier page showed, or a record that changed after the pass began.
// Tokens are the server's own idea of where a page ends, so only numbers, and links that may hold one, are watched.
func (s *splitter) watch(next *Position) error {
	if !s.request.watched() {
		return nil
	}
	kind := s.request.paginator.kind
	numbered := kind == pagePaginator || kind == offsetPaginator
	w := &next.walk
	most := s.request.source.limits.withDefaults().Sightings
	present := s.resp.ServerTime.Add(s.resp.Received.Sub(s.resp.Sent) + time.Second)
	fresh := len(s.rows) == 0
	for i := range s.rows {
		r := &s.rows[i]
		if r.joint {
			continue // P9: it was meant to be shown twice
		}
		if w.seen.before(r.key, next.pages) {
			w.drift = true // also of tokens, where a total makes them be watched
		} else {
			fresh = true
		}
		if numbered && r.at.After(next.late) && !r.at.After(present) {
			w.drift = true
		}
		w.note(r.key, next.pages, most)
	}
	if w.stale++; fresh {
		w.stale = 0
	}
	if w.stale == stalePages && !s.tail(next) {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Check the name of the page parameter", "%d pages in a row show only what was shown before: the page was ignored", stalePages)
	}
	return nil
}

// turn turns to the next page, or to the next window's first (P15), or reports that there is none.
func (s *splitter) turn(next *Position) (end bool, err error) {
	end, err = s.turnPage(next)
	if err != nil || !end || next.walk.drift && next.walk.again < rewalks { // P9: this window is walked again
		return end, err
	}
	return s.slide(next)
}

// turnPage turns to the next page, or reports that there is none (P10).
func (s *splitter) turnPage(next *Position) (end bool, err error) {
	a, err := s.said(next)
	if a == silent {
		a, err = s.silence(next)
	}
	if err != nil {
		return false, err
	}
	switch s.request.paginator.kind {
	case tokenPaginator:
		return s.turnToken(next, a)
	case linkPaginator:
		return s.turnLink(next, a)
	case pagePaginator:
		return s.turnNumber(next, a)
	case offsetPaginator:
		return s.turnOffset(next, a)
	}
	return true, nil
}

func (s *splitter) turnNumber(next *Position, a answer) (bool, error) {
	if a == ended {
		return true, nil
	}
	if s.next >= 0 {
		span := s.envelope.Spans[s.next]
		if k := record.KindAt(s.body, span); k == record.Absent || k == record.Null {
			return true, nil
		}
		n, err := number(string(s.text(span)))
		if err != nil || n <= next.page {
			return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` in the definition",
				"the page after %d is %.64q", next.page, s.text(span))
		}
		next.page = n
		return false, nil
	}
	switch {
	case a == unsaid && (len(s.rows) == 0 || s.short()):
		return true, nil // a short page proves nothing where its size is not echoed: pages are capped in silence
	case a == goesOn && len(s.rows) == 0 && !next.heard:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.done` in the definition",
			"page %d shows nothing%s", next.page, s.undone(next))
	}
	next.page++
	return false, nil
}
