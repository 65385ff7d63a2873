package source

import (
	"time"

	"tidemark/internal/cdc"
)

// pane is the stretch of time that a pass with windows reads now (P15): from inclusively, until as the server has it. A zero
// from is the beginning of the pass; a zero until is open, and the last pane is.
type pane struct{ from, until mark }

// ahead returns the pane that begins at from: its end lies at or before limit, or else is open (P15).
func (inc *incremental) ahead(from mark, limit time.Time) mark {
	if end := from.at.Add(inc.window); inc.window > 0 && !from.isZero() && !end.After(limit) {
		return inc.mark(end)
	}
	return mark{}
}

// openWindows sets the first pane of a pass.
func (p *Position) openWindows() {
	inc := p.request.incremental
	from := p.lower
	if from.isZero() && !inc.startTime.IsZero() {
		from = inc.mark(inc.startTime)
	}
	p.opening = pane{until: inc.ahead(from, p.now.Add(-inc.settle))}
	p.pane = p.opening
}

// slide goes on with the next window, or reports that the last one was read. An empty window is like any other (P15). Rows
// that moved were looked for within each window; the record on its border is in both.
func (s *splitter) slide(next *Position) (end bool, err error) {
	inc := s.request.incremental
	if inc == nil || inc.window == 0 {
		return true, nil
	}
	w := walk{before: next.walk.before || next.walk.drift, lost: next.walk.lost}
	if next.pane.until.isZero() {
		if w.before { // one of them never held still
			next.walk.drift, next.walk.again = true, rewalks
		}
		return true, nil
	}
	began := next.pane.from
	if began.isZero() {
		if began = next.lower; began.isZero() {
			began = inc.mark(inc.startTime)
		}
	}
	from := inc.reach(next.pane.until, 0)
	if !from.at.After(began.at) || inc.request.print(from.at) == inc.request.print(began.at) {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Make `incremental.window` longer than the time format and `granularity` can tell apart",
			"the window from %s on ends where it begins", began.text)
	}
	next.restart()
	next.pane, next.walk = pane{from: from, until: inc.ahead(from, s.limit)}, w
	return false, nil
}
