package record

import "iter"

// Span is the bytes [Off,End) of a buffer. The zero Span means absent: no value is empty.
type Span struct{ Off, End int32 }

// Of returns the bytes of s in buf.
func (s Span) Of(buf []byte) []byte { return buf[s.Off:s.End] }

// IsZero reports whether there is nothing.
func (s Span) IsZero() bool { return s == Span{} }

// Len returns the number of bytes.
func (s Span) Len() int { return int(s.End - s.Off) }

// All returns the span of the one value in buf: all of it but the white space around.
func All(buf []byte) Span {
	start, end := space(buf, 0), len(buf)
	for end > start && space(buf[end-1:end], 0) == 1 {
		end--
	}
	if start == end {
		return Span{}
	}
	return Span{int32(start), int32(end)}
}

// Kind is the type of a JSON value.
type Kind uint8

// The kinds of value.
const (
	Absent Kind = iota // there is no value
	Null
	False
	True
	Number
	String
	Array
	Object
)

var kinds = [...]string{"absent", "null", "false", "true", "number", "string", "array", "object"}

// String returns the kind's name.
func (k Kind) String() string { return kinds[k] }

// KindAt returns the kind of the value at s, from its first byte: the text must have been checked.
func KindAt(buf []byte, s Span) Kind {
	if s.Off >= s.End {
		return Absent
	}
	switch c := buf[s.Off]; c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 'n':
		return Null
	case 't':
		return True
	case 'f':
		return False
	default:
		if c == '-' || c-'0' <= 9 {
			return Number
		}
		return Absent
	}
}

// Text appends the content of the string at s, without its escapes, or for other kinds the text as it stands; nothing
// where there is no value.
func Text(dst, buf []byte, s Span) ([]byte, Kind) {
	k := KindAt(buf, s)
	switch {
	case k == String && s.Len() >= 2:
		return unescape(dst, buf[s.Off+1:s.End-1]), k
	case k == Absent:
		return dst, k
	default:
		return append(dst, s.Of(buf)...), k
	}
}

// Members yields the members of the object at obj in the order of the text: the name with its quotes, and the value. It
// yields nothing for another kind. The text must have been checked.
func Members(buf []byte, obj Span) iter.Seq2[Span, Span] {
	return func(yield func(name, value Span) bool) {
		b := buf[:obj.End]
		i := space(b, int(obj.Off))
		if i >= len(b) || b[i] != '{' {
			return
		}
		i = space(b, i+1)
		for i < len(b) && b[i] == '"' {
			name, ok := skipString(b, i)
			if !ok {
				return
			}
			colon := space(b, name)
			if colon >= len(b) || b[colon] != ':' {
				return
			}
			start := space(b, colon+1)
			end, ok := skip(b, start)
			if !ok || !yield(Span{int32(i), int32(name)}, Span{int32(start), int32(end)}) {
				return
			}
			if i = space(b, end); i >= len(b) || b[i] != ',' {
				return
			}
			i = space(b, i+1)
		}
	}
}

// Elements yields the elements of the array at arr. It yields nothing for another kind. The text must have been checked.
func Elements(buf []byte, arr Span) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		b := buf[:arr.End]
		i := space(b, int(arr.Off))
		if i >= len(b) || b[i] != '[' {
			return
		}
		i = space(b, i+1)
		for i < len(b) && b[i] != ']' {
			end, ok := skip(b, i)
			if !ok || !yield(Span{int32(i), int32(end)}) {
				return
			}
			if i = space(b, end); i >= len(b) || b[i] != ',' {
				return
			}
			i = space(b, i+1)
		}
	}
}

// Skip returns where the value at pos ends, by its brackets and quotes alone; false where it does not end. It checks
// nothing else: with it a record that Scan refused is stepped over, to be parked (P19).
func Skip(buf []byte, pos int) (end int, ok bool) {
	i := space(buf, pos)
	end, ok = skip(buf, i)
	return end, ok && end > i
}
