package source

import (
	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// maxToken is the longest page token or link in bytes (10).
const maxToken = 16 << 10

// turnLast goes on behind the last record of the page, where there are no tokens: the request names it by `last`. A page that
// ends with the record that it should have begun behind would ask for itself for ever.
func (s *splitter) turnLast(next *Position, a answer) (bool, error) {
	n := len(s.rows)
	switch {
	case a == ended:
		return true, nil
	case n == 0 && a == goesOn:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.more` or `paginator.done` in the definition",
			"the answer shows no record to go on from%s", s.undone(next))
	case n == 0:
		return true, nil
	case next.behind != 0 && s.rows[n-1].key == next.behind:
		return false, s.pos.fail(cdc.Halt, cdc.Stream,
			"Check the parameter with {{ last }}: it was ignored, or the page shows that record again; then skip one, or say by `more` when the pass has ended",
			"the page ends with the record %.200q, and so does the page before", s.rows[n-1].raw.Of(s.body))
	}
	next.behind = s.rows[n-1].key
	return false, nil
}

// turnToken takes the token of the next page. A token that does not move would ask for the same page for ever.
func (s *splitter) turnToken(next *Position, a answer) (bool, error) {
	if s.request.paginator.next == nil {
		return s.turnLast(next, a)
	}
	token, err := s.placeText(s.next, "paginator.next")
	switch {
	case a == ended:
		return true, nil
	case err != nil:
		return false, err
	case token == "" && a == goesOn:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next`, `paginator.more` or `paginator.done` in the definition",
			"the answer has no token at %q%s", s.request.paginator.next, s.undone(next))
	case token == "":
		return true, nil
	case len(token) > maxToken:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` in the definition", "the page token has %d bytes", len(token))
	case token == next.token && len(s.rows) == 0 && a == unsaid:
		return true, nil
	case token == next.token:
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next` in the definition, or say by `done` when the pass has ended",
			"the page token %.64q leads to itself", token)
	case next.turns.closes(token):
		return false, next.round("the page token", token, "Correct `paginator.next` in the definition, or say by `done` when the pass has ended")
	}
	next.token = token
	return false, nil
}

// placeText returns the text or the number at one of the envelope's places; "" where there is none or null. Anything else is no
// place to go on from, and would be sent as if it were one (7).
func (s *splitter) placeText(slot int, key string) (string, error) {
	if slot < 0 {
		return "", nil
	}
	span := s.envelope.Spans[slot]
	switch k := record.KindAt(s.body, span); k {
	case record.Absent, record.Null:
		return "", nil
	case record.String, record.Number:
		return string(s.text(span)), nil
	default:
		return "", s.pos.fail(cdc.Halt, cdc.Stream, "Correct `"+key+"` in the definition", "what should be a text or a number is %s: %.64q", k, span.Of(s.body))
	}
}
