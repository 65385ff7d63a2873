package source

// After a 401 in the middle of a pass that lists everything somebody was logged in anew, and another login may see other
// records (D2). So the page before is asked for once more: where it shows what it showed, the pass goes on as it was; where it
// does not, the pass goes on too, and proves nothing missing.

// lastPage is a page that a pass has read: where it was asked for, and which keys it showed.
type lastPage struct {
	at  Position
	sum uint64
}

// show notes the page that was just split, as long as the pass may still turn out complete.
func (s *splitter) show(next *Position) {
	next.doubts = 0
	if !next.full || s.page.Done {
		next.previous = nil
		return
	}
	at := *s.pos
	at.previous, at.checkpoint.Validator = nil, ""
	next.previous = &lastPage{at, s.sum()}
}

// sum is one number for the keys of a page, in any order.
func (s *splitter) sum() uint64 {
	n := uint64(len(s.rows))
	for i := range s.rows {
		n += s.rows[i].key
	}
	return n
}

// doubtful reports whether the answer follows a new login that the pass has to look into. The first answer of a process does not: what
// logs in by a session has no other (D3).
func (s *splitter) doubtful() bool {
	return s.resp != nil && s.pos.full && s.pos.pages > 0 && !s.pos.began.IsZero() && (s.resp.Relogin || s.resp.Logins != s.pos.logins)
}

// doubt puts the answer aside, to ask for the page before once more.
func (s *splitter) doubt(next *Position) {
	if next.doubts++; next.previous == nil || next.doubts > rewalks { // (10)
		next.spoil("it was logged in anew while it was read")
		return
	}
	next.logins = s.resp.Logins
	next.resume, next.stage = next.stage, repeating
}

// repeated compares the page before with what it showed under the old login; then the page that was put aside is asked for. The
// answer may have come with another new login, if the session ended again meanwhile: it is that one's word then.
func (s *splitter) repeated(next *Position) error {
	if err := s.scan(); err != nil {
		return err
	}
	if next.logins = s.resp.Logins; s.sum() != s.pos.previous.sum {
		next.spoil("it was logged in anew while it was read, and the page before shows other records now")
	}
	s.page.Records, s.page.Parked, s.pending = s.page.Records[:0], 0, s.pending[:0]
	next.stage = next.resume
	return nil
}
