package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Limits bound what is accepted (10).
type Limits struct {
	Depth       int // of nesting, at most 10,000; 0 means 256
	RecordBytes int // size of one record; 0 means no limit
}

const (
	defaultDepth = 256
	maxDepth     = 10_000
)

// Scanner reads records, one after the other. It learns the names that records of a stream have, and allocates nothing
// once it has seen the like of a record. It belongs to one goroutine.
type Scanner struct {
	Spans     []Span // of the plan's places, by index; zero where the record has none
	Hash      uint64 // of the published value under the plan's rules; a constant of its own where there is none
	ValueSpan Span   // the published value; zero where the record has none
	Record    Span   // the record without the white space before it

	plan   *Plan
	limits Limits
	buf    []byte // while Scan runs
	err    error  // why a step returned a negative end
	names  names
	text   []byte // scratch: content without escapes, canonical numbers

	// What makes a scanner an Envelope's.
	element func(list, pos int) (end int, err error)
	lists   []Span
}

// NewScanner returns a scanner for plan.
func NewScanner(plan *Plan, limits Limits) *Scanner {
	if limits.Depth <= 0 {
		limits.Depth = defaultDepth
	}
	limits.Depth = min(limits.Depth, maxDepth)
	return &Scanner{
		Spans:  make([]Span, plan.places),
		plan:   plan,
		limits: limits,
		names:  newNames(),
		lists:  make([]Span, plan.lists),
	}
}

// Scan reads the value at pos in one walk: it checks it strictly (RFC 8259, UTF-8, no lone surrogate, no name twice,
// depth), and sets Spans, Hash, ValueSpan and Record. It returns where the value ends; what follows is the caller's.
// Errors are *SyntaxError. After ErrSize everything is set, and end is right; after others end is 0 and nothing that was
// set may be used.
func (s *Scanner) Scan(buf []byte, pos int) (end int, err error) {
	if len(buf) > math.MaxInt32 {
		return 0, &SyntaxError{pos, "a buffer of more than 2 GiB", ErrSize}
	}
	clear(s.Spans)
	clear(s.lists)
	s.Hash, s.ValueSpan, s.Record = s.plan.absent, Span{}, Span{}
	s.buf, s.err = buf, nil
	s.names.repeated = s.names.repeated[:0]
	start := space(buf, pos)
	end, h := s.value(start, s.plan.valueSeed, 0, root, root)
	s.buf = nil
	if end < 0 {
		return 0, s.err
	}
	s.note(root, start, end, h)
	s.Record = Span{int32(start), int32(end)}
	if limit := s.limits.RecordBytes; limit > 0 && end-start > limit {
		return end, &SyntaxError{start, fmt.Sprintf("a record of %d bytes, the limit is %d", end-start, limit), ErrSize}
	}
	return end, nil
}

// root is the plan's node and the predictor's name of the record itself.
const root = 1

// fail ends the walk: every step hands the negative end up.
func (s *Scanner) fail(at int, kind error, what string) (int, uint64) {
	s.err = &SyntaxError{at, what, kind}
	return -1, 0
}

// unexpected is fail for a byte that cannot stand here, or for the end of the text.
func (s *Scanner) unexpected(at int, wanted string) (int, uint64) {
	if at >= len(s.buf) {
		return s.fail(at, ErrTruncated, "expected "+wanted)
	}
	return s.fail(at, ErrMalformed, fmt.Sprintf("expected %s, found %q", wanted, s.buf[at:at+1]))
}

// note records what the plan wants of a value that was read.
func (s *Scanner) note(n int32, start, end int, h uint64) {
	at := Span{int32(start), int32(end)}
	node := &s.plan.nodes[n]
	for _, p := range node.places {
		s.Spans[p] = at
	}
	if node.list >= 0 {
		s.lists[node.list] = at
	}
	if node.value {
		s.Hash, s.ValueSpan = h, at
	}
}

// value reads the value at i: n is its node in the plan, seed what its hash is bound to, name where the names of its
// members are predicted. It returns its end and its hash.
func (s *Scanner) value(i int, seed uint64, depth int, n, name int32) (int, uint64) {
	b := s.buf
	if i >= len(b) {
		return s.unexpected(i, "a value")
	}
	switch c := b[i]; c {
	case '"':
		return s.string(i, seed)
	case '{':
		return s.object(i, seed, depth, n, name)
	case '[':
		return s.array(i, seed, depth, n, name)
	case 'n':
		if i+4 <= len(b) && string(b[i:i+4]) == "null" {
			return i + 4, hashLiteral(Null, seed)
		}
		return s.badLiteral(i, "null")
	case 't':
		if i+4 <= len(b) && string(b[i:i+4]) == "true" {
			return i + 4, hashLiteral(True, seed)
		}
		return s.badLiteral(i, "true")
	case 'f':
		if i+5 <= len(b) && string(b[i:i+5]) == "false" {
			return i + 5, hashLiteral(False, seed)
		}
		return s.badLiteral(i, "false")
	default:
		if c-'0' <= 9 {
			// Most numbers are short integers. What is longer, or goes on, or has a leading zero, is left to number.
			v := int64(c - '0')
			j := i + 1
			for j < len(b) && b[j]-'0' <= 9 {
				v = v*10 + int64(b[j]-'0')
				j++
			}
			if j-i <= integerDigits && (c != '0' || j == i+1) && (j == len(b) || b[j] != '.' && b[j]|0x20 != 'e') {
				return j, hashInteger(v, seed)
			}
		} else if c != '-' {
			return s.unexpected(i, "a value")
		}
		return s.number(i, seed)
	}
}

// badLiteral is the fault of what begins like want.
func (s *Scanner) badLiteral(i int, want string) (int, uint64) {
	for j := range len(want) {
		if i+j >= len(s.buf) || s.buf[i+j] != want[j] {
			return s.unexpected(i+j, want)
		}
	}
	return s.unexpected(i, "a value")
}

// string reads the string at i. One without escapes, the usual one, is walked here; others go on in quoted.
func (s *Scanner) string(i int, seed uint64) (int, uint64) {
	b := s.buf
	start := i + 1
	var seen uint64 // top bits: some byte is not ASCII
	for i = start; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		m := stops(x)
		if m == 0 {
			seen |= x
			continue
		}
		end := i + bits.TrailingZeros64(m)>>3
		if b[end] != '"' {
			break
		}
		// What is behind the quote is looked at too: that costs a check in vain, never one too few.
		if (seen|x)&high != 0 && !s.encoded(start, end) {
			return -1, 0
		}
		return end + 1, hashString(b[start:end], seed)
	}
	end, escaped := s.quoted(start, i)
	if end < 0 {
		return end, 0
	}
	content := b[start : end-1]
	if escaped {
		s.text = unescape(s.text[:0], content)
		content = s.text
	}
	return end, hashString(content, seed)
}

// quoted checks the string whose content begins at start, of which the bytes before i stop nothing. It returns the end,
// behind the closing quote, and whether there are escapes.
func (s *Scanner) quoted(start, i int) (end int, escaped bool) {
	b := s.buf
	for i < len(b) {
		if i+8 <= len(b) {
			m := stops(binary.LittleEndian.Uint64(b[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch c := b[i]; {
		case c == '"':
			if !s.encoded(start, i) {
				return -1, false
			}
			return i + 1, escaped
		case c == '\\':
			if i = s.escape(i); i < 0 {
				return -1, false
			}
			escaped = true
		case c < ' ':
			s.fail(i, ErrMalformed, fmt.Sprintf("control character %q in a string", c))
			return -1, false
		default:
			i++
		}
	}
	end, _ = s.unexpected(i, "a closing quote")
	return end, false
}

// object reads the object at i. Names that are where they were in the record before cost one comparison.
func (s *Scanner) object(i int, seed uint64, depth int, n, parent int32) (int, uint64) {
	b := s.buf
	if depth >= s.limits.Depth {
		return s.tooDeep(i)
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, container(0, 0, tagObject, seed)
	}
	o := s.names.open(parent)
	var sum, count uint64
	for {
		name := &s.names.known[o.guess]
		id := o.guess
		k := i + len(name.text)
		if name.node == n && k <= len(b) && name.mark != o.number && string(b[i:k]) == name.text {
			name.mark = o.number
			i = k
		} else {
			if i, id = s.name(i, n, &o); i < 0 {
				return -1, 0
			}
			name = &s.names.known[id]
		}
		child, counts := name.child, name.counts
		start := space(b, i)
		end, h := s.value(start, name.seed, depth+1, child, id)
		if end < 0 {
			return -1, 0
		}
		if child != 0 {
			s.note(child, start, end, h)
		}
		if counts {
			sum += h
			count++
		}
		i = space(b, end)
		if i >= len(b) || b[i] != ',' {
			break
		}
		i = space(b, i+1)
		o.last, o.guess = id, s.names.known[id].next
	}
	if i >= len(b) || b[i] != '}' {
		return s.unexpected(i, ", or }")
	}
	if !s.names.close(&o) {
		return s.fail(i, ErrDuplicate, "in the object that ends")
	}
	return i + 1, container(sum, count, tagObject, seed)
}

// name reads the name at i, which was not the predicted one, and the colon behind it.
func (s *Scanner) name(i int, n int32, o *opened) (end int, id int32) {
	b := s.buf
	if id = s.names.behind(b[min(i, len(b)):], n, o); id != 0 {
		return i + len(s.names.known[id].text), id
	}
	if i >= len(b) || b[i] != '"' {
		s.unexpected(i, "a name")
		return -1, 0
	}
	end, escaped := s.quoted(i+1, i+1)
	if end < 0 {
		return -1, 0
	}
	content := b[i+1 : end-1]
	if escaped {
		s.text = unescape(s.text[:0], content)
		content = s.text
	}
	id, ok := s.names.learn(s.plan, n, content, o)
	if !ok {
		s.fail(i, ErrDuplicate, fmt.Sprintf("%.64q", content))
		return -1, 0
	}
	end = space(b, end)
	if end >= len(b) || b[end] != ':' {
		s.unexpected(end, "a colon")
		return -1, 0
	}
	return end + 1, id
}

func (s *Scanner) array(i int, seed uint64, depth int, n, parent int32) (int, uint64) {
	b := s.buf
	if depth >= s.limits.Depth {
		return s.tooDeep(i)
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, container(0, 0, tagArray, seed)
	}
	list := int32(-1)
	if n != 0 && s.element != nil {
		list = s.plan.nodes[n].list
	}
	var sum, count uint64
	for index := 0; ; index++ {
		var h uint64
		counts := true
		start := space(b, i)
		if list >= 0 {
			i = s.delegate(int(list), start)
		} else {
			child, at := int32(0), mix(uint64(index), s.plan.indexSeed)
			if n != 0 {
				if child, counts = s.plan.element(n, index); s.plan.nodes[child].value {
					at = s.plan.valueSeed
				}
			}
			if i, h = s.value(start, at, depth+1, child, parent); child != 0 && i >= 0 {
				s.note(child, start, i, h)
			}
		}
		if i < 0 {
			return -1, 0
		}
		if counts {
			sum += h
			count++
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' {
			break
		}
		i++
	}
	if i >= len(b) || b[i] != ']' {
		return s.unexpected(i, ", or ]")
	}
	return i + 1, container(sum, count, tagArray, seed)
}

func (s *Scanner) tooDeep(i int) (int, uint64) {
	return s.fail(i, ErrDepth, fmt.Sprintf("more than %d levels", s.limits.Depth))
}
