package record

import (
	"fmt"
	"unicode/utf8"
)

// encoded checks that the text between start and end, the inside of a string, is UTF-8 (RFC 8259, 8.1).
func (s *Scanner) encoded(start, end int) bool {
	if utf8.Valid(s.buf[start:end]) {
		return true
	}
	for i := start; i < end; {
		r, n := utf8.DecodeRune(s.buf[i:end])
		if r == utf8.RuneError && n == 1 {
			s.fail(i, ErrEncoding, fmt.Sprintf("found byte 0x%02X", s.buf[i]))
			break
		}
		i += n
	}
	return false
}

// escape checks the escape at i and returns its end. A surrogate without its other half is no character: as a key or in
// Avro it could not be written, so it is refused here (7).
func (s *Scanner) escape(i int) int {
	b := s.buf
	if i+1 >= len(b) {
		end, _ := s.unexpected(i+1, "an escape")
		return end
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
	default:
		end, _ := s.unexpected(i+1, "an escape")
		return end
	}
	r := s.digits(i + 2)
	if r < 0xD800 || r >= 0xE000 {
		if r < 0 {
			return -1
		}
		return i + 6
	}
	if r < 0xDC00 {
		if i+6 >= len(b) || i+7 >= len(b) && b[i+6] == '\\' {
			end, _ := s.unexpected(len(b), "the second half of a surrogate")
			return end
		}
		if b[i+6] == '\\' && b[i+7] == 'u' {
			second := s.digits(i + 8)
			if second < 0 {
				return -1
			}
			if second >= 0xDC00 && second < 0xE000 {
				return i + 12
			}
		}
	}
	end, _ := s.fail(i, ErrEncoding, fmt.Sprintf("a surrogate without its other half: %s", b[i:i+6]))
	return end
}

// digits returns the value of the four hexadecimal digits at i, or -1.
func (s *Scanner) digits(i int) rune {
	if i+4 <= len(s.buf) {
		if r := hex4(s.buf[i:]); r >= 0 {
			return r
		}
	}
	for ; i < len(s.buf); i++ {
		if c := s.buf[i]; c-'0' > 9 && (c|0x20 < 'a' || c|0x20 > 'f') {
			break
		}
	}
	s.unexpected(i, "a hexadecimal digit")
	return -1
}

// number checks the number at i (RFC 8259, 6) and returns its end and hash.
func (s *Scanner) number(i int, seed uint64) (int, uint64) {
	b := s.buf
	start := i
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
		if i < len(b) && b[i]-'0' <= 9 {
			return s.fail(i, ErrMalformed, "a number with a leading zero")
		}
	default:
		if i = s.run(i); i < 0 {
			return -1, 0
		}
	}
	fraction, exponent := false, false
	if i < len(b) && b[i] == '.' {
		if i = s.run(i + 1); i < 0 {
			return -1, 0
		}
		fraction = true
	}
	plain := fraction && b[i-1] != '0' && i-start <= plainDigits
	if i < len(b) && b[i]|0x20 == 'e' {
		exponent = true
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i = s.run(i); i < 0 {
			return -1, 0
		}
	}
	lit := b[start:i]
	if plain && !exponent {
		return i, hashDecimal(lit, seed) // canonical as it stands
	}
	s.text = appendNumber(s.text[:0], lit)
	if v, ok := smallInteger(s.text); ok {
		return i, hashInteger(v, seed)
	}
	return i, hashDecimal(s.text, seed)
}

// run returns the end of the digits at i, at least one, or -1.
func (s *Scanner) run(i int) int {
	b := s.buf
	start := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == start {
		i, _ = s.unexpected(i, "a digit")
	}
	return i
}
