package source

import (
	"strconv"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// maxCursor is the longest cursor in bytes (K5).
const maxCursor = 16 << 10

// beginOpaque begins at the cursor that the last answer gave; a sequence may go back some numbers (P12).
func (p *Position) beginOpaque(resumed bool) error {
	inc, cp := p.request.incremental, &p.checkpoint
	p.cursor = cp.Cursor
	if inc.kind != sequenceCursor || cp.Cursor == "" {
		return nil
	}
	ours, err := number(cp.Cursor)
	if err != nil {
		return p.fail(cdc.Halt, cdc.Partition, "Start again with `connector offsets rewind`", "the stored cursor cannot be read: %w", err)
	}
	if resumed {
		p.cursor = cp.Anchor
		return nil
	}
	if inc.back > 0 {
		low := int64(0)
		if n, ok := inc.start.(int64); ok {
			low = n
		}
		p.cursor = strconv.FormatInt(min(ours, max(low, ours-inc.back)), 10)
	}
	return nil
}

// opaque decides where a pass goes on whose cursor is what the last answer gave.
func (s *splitter) opaque(next *Position) error {
	cursor, err := s.answered()
	if err != nil {
		return err
	}
	inner := s.request.paginator.kind != noPaginator
	if inner {
		// P4: the pages are asked for by the paginator, and the cursor is where all of them begin. The first page's loses nothing;
		// a later one's is behind what changed meanwhile on pages that were read already. Some give it on the last page only.
		next.given = cmpOr(next.given, cursor)
		end, err := s.turn(next)
		if err != nil || !end {
			return err
		}
		if next.given == s.pos.cursor && cursor != "" && cursor != next.given {
			s.page.Notices = append(s.page.Notices, s.pos.where()+
				": the cursor stays where it is: the first page gave the one that it was asked with, and what the last page gave may be beyond changes (P4)")
		}
		cursor = next.given
	}
	yet, err := s.notYet(cursor)
	switch {
	case err != nil:
		return err
	case yet:
		next.spoil("the API has no cursor to give yet") // D2: nor all of its records, it may be
		s.finish(next)
		return nil
	case cursor == "":
		// P18: an answer without its cursor is not the end of anything.
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.next` in the definition", "the answer has no cursor at %q: %s",
			s.request.incremental.next, s.excerpt())
	}
	end, err := s.opaqueEnd(next, cursor, inner)
	if err != nil {
		return err
	}
	next.cursor, next.given = cursor, ""
	if !end && next.rounds.closes(cursor) {
		return next.round("the cursor", cursor, "Correct `incremental.next` or `incremental.more` in the definition")
	}
	if !end {
		if inner {
			next.restart()
		}
		if s.request.checkpointed() {
			s.store(next)
			anchor := ""
			if s.request.incremental.back > 0 {
				anchor = cursor // P3: the partition's cursor may be ahead of where this pass reads
			}
			s.checkpointAt(next, anchor)
		}
		return nil
	}
	if next.rows == 0 && s.request.incremental.head != nil && s.pos.checkpoint.Cursor != "" {
		next.stage = heading // P11: is it the sequence that gave our cursor?
		return nil
	}
	s.store(next) // P10: an empty answer's cursor too
	s.finish(next)
	return nil
}

// notYet reports whether an API says that it has nothing to show so far, and hence no cursor either: its place is there, and
// empty, in the answer to a request that had none. Nothing was passed (4), so the next pass begins where this one did.
func (s *splitter) notYet(cursor string) (bool, error) {
	if cursor != "" || s.pos.cursor != "" || s.page.Next.rows > 0 || s.request.incremental.more == nil ||
		record.KindAt(s.body, s.envelope.Spans[s.cursor]) == record.Absent {
		return false, nil
	}
	more, _, err := s.given(s.request.incremental.more, s.goesOn)
	return err == nil && !more, err
}

// opaqueEnd reports whether the pass ends here (P10): as the answer says, else at an empty page or an unchanged cursor. `more` that
// is not there is left out because it is false, where an answer of this pass had it; else it says nothing.
func (s *splitter) opaqueEnd(next *Position, cursor string, inner bool) (bool, error) {
	sign, moved := s.request.incremental.more, cursor != s.pos.cursor
	if sign == nil {
		return inner || len(s.rows) == 0 || !moved, nil
	}
	more, there, err := s.given(sign, s.goesOn)
	next.told = next.told || there
	switch {
	case err != nil:
		return false, err
	case more && !moved:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.next` or `incremental.more` in the definition",
			"the answer says that there is more, and its cursor %.64q did not move", cursor)
	case !more && !next.told:
		return len(s.rows) == 0 || !moved, nil
	}
	return !more, nil
}

// answered returns the answer's cursor, "" where it has none.
func (s *splitter) answered() (string, error) {
	cursor, err := s.placeText(s.cursor, "incremental.next")
	if err != nil {
		return "", err
	}
	if len(cursor) > maxCursor {
		return "", s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.next` in the definition", "the cursor has %d bytes, and %d are allowed",
			len(cursor), maxCursor)
	}
	if cursor == "" || s.request.incremental.kind != sequenceCursor {
		return cursor, nil
	}
	n, err := number(cursor)
	if err != nil {
		return "", s.pos.fail(cdc.Halt, cdc.Stream, "Declare `incremental.type: opaque`", "the sequence's cursor: %w", err)
	}
	if asked, err := number(s.pos.cursor); err == nil && n < asked {
		// P11: a sequence that goes backwards is another one.
		return "", s.pos.fail(cdc.Expired, cdc.Partition, expiredHint, "asked from %d on, the sequence answered with %d: it was made anew", asked, n)
	}
	return cursor, nil
}

// store makes the cursor in hand the partition's; that of a sequence only forward (P3), a lookback re-reads below it.
func (s *splitter) store(next *Position) {
	if s.request.incremental.kind == sequenceCursor {
		n, err := number(next.cursor)
		old, err2 := number(next.checkpoint.Cursor)
		if err == nil && err2 == nil && n <= old {
			return
		}
	}
	next.advance(next.cursor)
}
