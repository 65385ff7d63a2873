package codec

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// The functions of this file step through JSON text that the scanner accepted; they check nothing again.

// space returns the first position at or after i that is not white space.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

// skipString returns where the string whose quote is at i ends, and whether it holds an escape. It looks at eight bytes
// at a time: the lowest mark of m is the first quote or backslash (a borrow can only mark bytes above a true one).
func skipString(b []byte, i int) (end int, escaped bool) {
	i++
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		q, e := x^'"'*low, x^'\\'*low
		m := ((q-low)&^q | (e-low)&^e) & high
		if m == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(m) >> 3
		if b[i] == '"' {
			return i + 1, escaped
		}
		i, escaped = i+2, true
	}
	for i < len(b) && b[i] != '"' {
		if b[i] == '\\' {
			i, escaped = i+1, true
		}
		i++
	}
	return min(i+1, len(b)), escaped
}

// skip returns where the value at i ends.
func skip(b []byte, i int) (end int) {
	switch b[i] {
	case '"':
		end, _ = skipString(b, i)
		return end
	case '{', '[':
		return skipContainer(b, i)
	case 'n', 't':
		return min(i+4, len(b))
	case 'f':
		return min(i+5, len(b))
	}
	return skipNumber(b, i)
}

func skipNumber(b []byte, i int) int {
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

func skipContainer(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end, _ := skipString(b, i)
			i = end - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// oneLine reports whether a JSON text stands in one line, without tabs.
func oneLine(text []byte) bool {
	return bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 && bytes.IndexByte(text, '\t') < 0
}

// appendLine appends a JSON text in one line: as it stands, unless it holds line breaks or tabs, which are white space
// there (inside strings they are escaped).
func appendLine(dst, text []byte) []byte {
	if oneLine(text) {
		return append(dst, text...)
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end, _ := skipString(text, i)
			dst = append(dst, text[i:end]...)
			i = end
		case c <= ' ':
			i++
		default:
			dst = append(dst, c)
			i++
		}
	}
	return dst
}

// appendQuoted appends s as a JSON string with the fewest escapes; what is not UTF-8 in it becomes U+FFFD.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// lone reports whether the escapes in the raw content of a string name half a surrogate pair, which UTF-8 cannot hold.
func lone(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // what is escaped
		if i+4 >= len(raw) || raw[i] != 'u' {
			continue
		}
		switch unit := surrogate(raw[i+1:]); {
		case unit == 0:
			i += 4
		case unit >= 0xDC00: // the second half first
			return true
		case i+10 < len(raw) && raw[i+5] == '\\' && raw[i+6] == 'u' && surrogate(raw[i+7:]) >= 0xDC00:
			i += 10
		default:
			return true
		}
	}
	return false
}

// surrogate returns the UTF-16 unit of the four hexadecimal digits at the start of b if it is half a pair, else 0.
func surrogate(b []byte) uint64 {
	unit, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil || unit < 0xD800 || unit > 0xDFFF {
		return 0
	}
	return unit
}
