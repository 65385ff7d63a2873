package record

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// space returns the first position at or after i that is not JSON white space.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// Eight bytes at a time: the masks below have the top bit of a byte set where that byte is one looked for. A borrow can
// mark a byte behind the first true one as well, never one before it, so the lowest mark is right.
const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

// stops marks quotes, backslashes and control characters.
func stops(x uint64) uint64 {
	q := x ^ '"'*low
	e := x ^ '\\'*low
	return ((q-low)&^q | (e-low)&^e | (x-' '*low)&^x) & high
}

// skipString returns the end of the string whose quote is at i.
func skipString(b []byte, i int) (int, bool) {
	i++
	for i < len(b) {
		if i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			q := x ^ '"'*low
			e := x ^ '\\'*low
			m := ((q-low)&^q | (e-low)&^e) & high
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch b[i] {
		case '"':
			return i + 1, true
		case '\\':
			i += 2
		default:
			i++
		}
	}
	return i, false
}

// skip returns the end of the value at i by brackets and quotes alone. Of a number or a name it takes what could belong to it.
func skip(b []byte, i int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipContainer(b, i)
	}
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] != ':' && b[i] != '"' {
		i++
	}
	return i, true
}

func skipContainer(b []byte, i int) (int, bool) {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end, ok := skipString(b, i)
			if !ok {
				return end, false
			}
			i = end - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return i, false
}

// nameIs reports whether the raw content of a string, between its quotes, is name.
func nameIs(raw []byte, name string) bool {
	if string(raw) == name {
		return bytes.IndexByte(raw, '\\') < 0
	}
	if len(raw) <= len(name) || bytes.IndexByte(raw, '\\') < 0 {
		return false
	}
	var scratch [64]byte
	return string(unescape(scratch[:0], raw)) == name
}

// hex4 returns the value of four hexadecimal digits, or -1.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// unescape appends the content of a string without its escapes. Text that was not checked comes out somehow.
func unescape(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 || i+1 >= len(raw) {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			var r rune
			r, raw = codePoint(raw)
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
}

// codePoint decodes what follows \u: four digits, or a pair of surrogates with the second \u between.
func codePoint(raw []byte) (rune, []byte) {
	r := hex4(raw)
	if r < 0 {
		return utf8.RuneError, raw
	}
	raw = raw[4:]
	if r >= 0xD800 && r < 0xDC00 && len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
		if second := hex4(raw[2:]); second >= 0xDC00 && second < 0xE000 {
			return (r-0xD800)<<10 | (second - 0xDC00) + 0x10000, raw[6:]
		}
	}
	return r, raw
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends content as a JSON string with the fewest escapes.
func appendQuoted(dst, content []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range content {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, content[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, content[start:]...), '"')
}
