package source

import "tidemark/internal/cdc"

// reach is where a walk by offsets stands: the next request begins at `at`, counted in rows of the longest list, since
// several lists of one answer share the offset (P10).
type reach struct {
	at     int64
	before int64    // where the page before begins: a joint row that differs leads back there
	again  int64    // from this offset on another step back may be taken: a page further, so that a walk ends
	joint  []uint64 // by list: the last row of the page before, which the next one shows again (overlap); 0: that list has ended
	ended  []bool   // by list: it was shorter than the longest one, so it shows no more rows
	apart  bool     // the joint row of this page differs
}

// join compares the page with the one before it where both show one row (P9), and looks at the lists that had ended: rows
// that one shows all the same were added, or its pages are shorter than those of the others, and it was left with a gap.
func (s *splitter) join(next *Position) {
	if s.request.paginator.kind != offsetPaginator || s.pos.stage != reading {
		return
	}
	r := &next.reach
	r.apart = false
	for list, key := range r.joint {
		first := s.first(list)
		switch {
		case key == 0:
		case first >= 0 && s.rows[first].key == key:
			s.rows[first].joint = true
		default: // a row before it left or came, and what moved across the border was missed or is seen twice
			r.apart = true
		}
	}
	for list, ended := range r.ended {
		if ended && s.counts[list] > 0 {
			next.walk.drift = true
		}
	}
	next.walk.drift = next.walk.drift || r.apart
}

// first returns the first row of a list, -1 where the page has none.
func (s *splitter) first(list int) int {
	for i := range s.rows {
		if s.rows[i].list == list {
			return i
		}
	}
	return -1
}

// tail reports whether the page can be the last of a walk by offsets into which rows are inserted as fast as it goes on: what
// it showed is pushed before it again and again. An offset that is ignored shows pages that are as long as any.
func (s *splitter) tail(next *Position) bool {
	return s.request.paginator.kind == offsetPaginator && s.page.Rows < next.longest
}

// turnOffset advances by the rows that were received, less the joint one (P10).
func (s *splitter) turnOffset(next *Position, a answer) (bool, error) {
	r, overlap := &next.reach, s.request.paginator.overlap
	fresh := 0
	for i := range s.rows {
		if !s.rows[i].joint {
			fresh++
		}
	}
	switch {
	case r.apart && r.at >= r.again:
		// P9: one page back, from where the rows moved. This walk is taken again from its start besides.
		*r = reach{at: r.before, again: r.at + int64(next.longest)}
		next.walk.stale = 0
		return false, nil
	case s.request.paginator.size > 0 && s.page.Rows > s.request.paginator.size: // P18
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.size` in the definition, and see whether the request sends it",
			"asked for %d rows and got %d", s.request.paginator.size, s.page.Rows)
	case next.walk.stale >= stalePages: // it drifts
		return true, nil
	case a == ended, a == unsaid && (fresh == 0 || s.short()):
		return true, nil
	case fresh == 0:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.more` or `paginator.done` in the definition",
			"the answer shows no row to go on from behind offset %d%s", r.at, s.undone(next))
	}
	rows := int64(s.page.Rows)
	went := reach{at: r.at + rows, before: r.at, again: r.again, ended: make([]bool, len(s.counts))}
	if overlap {
		went.at--
		went.joint = make([]uint64, len(s.counts))
	}
	for list, n := range s.counts {
		went.ended[list] = int64(n) < rows
	}
	for i := range s.rows {
		if list := s.rows[i].list; overlap && !went.ended[list] {
			went.joint[list] = s.rows[i].key // the last one stays
		}
	}
	*r = went
	return false, nil
}
