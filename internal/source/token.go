package source

import (
	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// maxToken is the longest page token or link in bytes (10).
const maxToken = 16 << 10

// turnToken takes the token of the next page. A token that does not move would ask for the same page for ever.
func (s *splitter) turnToken(next *Position, a answer) (bool, error) {
	token := s.placeText(s.next)
	switch {
	case a == ended:
		return true, nil
	case token == "" && a == goesOn:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` or `paginator.more` in the definition",
			"the answer says that there is more, and has no token at %q", s.request.paginator.next)
	case token == "":
		return true, nil
	case len(token) > maxToken:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` in the definition", "the page token has %d bytes", len(token))
	case token == next.token && len(s.rows) == 0 && a == unsaid:
		return true, nil
	case token == next.token:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` in the definition, or say by `done` when the pass has ended",
			"the page token %.64q leads to itself", token)
	}
	next.token = token
	return false, nil
}

// placeText returns the text at one of the envelope's places; "" where there is none or null.
func (s *splitter) placeText(slot int) string {
	if slot < 0 {
		return ""
	}
	span := s.envelope.Spans[slot]
	if k := record.KindAt(s.body, span); k == record.Absent || k == record.Null {
		return ""
	}
	return string(s.text(span))
}
