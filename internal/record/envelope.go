package record

import "fmt"

// Envelope reads a whole response around its records: the document is checked strictly (P18), places are found, and the
// elements of its lists are left to a function, so that each byte of a page is walked once. It belongs to one goroutine.
type Envelope struct {
	Spans []Span // of the places, by index; zero where there is none
	Lists []Span // of the lists, by index; zero where there is none; the last one where a path with [*] leads to several

	scanner *Scanner
}

// NewEnvelope returns an envelope with places, which hold no [*], and lists. A place inside a list is refused, since what
// is inside belongs to the function; Path.Find looks there afterwards.
func NewEnvelope(places, lists []Path, limits Limits) (*Envelope, error) {
	p, err := newPlan(nil, places, lists, 0)
	if err != nil {
		return nil, err
	}
	limits.RecordBytes = 0
	s := NewScanner(p, limits)
	return &Envelope{Spans: s.Spans, Lists: s.lists, scanner: s}, nil
}

// Scan reads the document in buf. For every element of a list that is an array it calls element with the list's index
// and the element's first byte; element checks the element, usually with a Scanner, and returns its end. A list that is
// something else (null, an object) is checked like the rest, and KindAt of its span tells. A failure of element ends the
// scan and is returned as it is. Bytes after the document are refused. With a nil element lists are checked like the rest.
func (e *Envelope) Scan(buf []byte, element func(list, pos int) (end int, err error)) error {
	e.scanner.element = element
	end, err := e.scanner.Scan(buf, 0)
	e.scanner.element = nil
	if err != nil {
		return err
	}
	if end = space(buf, end); end < len(buf) {
		return &SyntaxError{end, fmt.Sprintf("expected the end, found %q", buf[end:end+1]), ErrMalformed}
	}
	return nil
}

// delegate leaves the element at pos to the envelope's function.
func (s *Scanner) delegate(list, pos int) int {
	if pos >= len(s.buf) {
		end, _ := s.unexpected(pos, "an element")
		return end
	}
	end, err := s.element(list, pos)
	switch {
	case err != nil:
		s.err = err
		return -1
	case end <= pos || end > len(s.buf):
		end, _ = s.unexpected(pos, "an element")
	}
	return end
}

// Valid checks a whole document strictly, as Scan does; bytes after it are refused. Errors are *SyntaxError.
func Valid(buf []byte, limits Limits) error {
	e, err := NewEnvelope(nil, nil, limits)
	if err != nil {
		return err
	}
	return e.Scan(buf, nil)
}
