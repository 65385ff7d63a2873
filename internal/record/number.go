package record

import (
	"encoding/json"
	"math"
	"strconv"
)

const (
	// plainDigits is the length up to which canonical numbers are written without an exponent.
	plainDigits = 40
	// exponentDigits bounds what is calculated with: a number with a longer exponent is its own text.
	exponentDigits = 17
	// integerDigits is what fits into an int64 whatever the digits are.
	integerDigits = 18
)

// appendNumber appends the canonical text of the number literal lit, which must be valid: the same text for the same exact
// decimal value, and another for another. It is valid JSON itself.
func appendNumber(dst, lit []byte) []byte {
	start := len(dst)
	rest := lit
	if rest[0] == '-' {
		dst = append(dst, '-')
		rest = rest[1:]
	}
	first := len(dst)
	dst, rest, exp := appendDigits(dst, rest)
	if len(dst) == first {
		return append(dst[:start], '0') // zero has no sign and no exponent
	}
	e, ok := parseExponent(rest)
	if !ok {
		return append(dst[:start], lit...)
	}
	exp += e
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
		exp++
	}
	return appendPoint(dst, first, exp)
}

// appendDigits appends the digits before the exponent without leading zeros; exp is what the fraction adds to it.
func appendDigits(dst, lit []byte) (digits, rest []byte, exp int64) {
	first := len(dst)
	fraction := false
	for i, c := range lit {
		switch {
		case c == '.':
			fraction = true
			continue
		case c == 'e' || c == 'E':
			return dst, lit[i:], exp
		case fraction:
			exp--
		}
		if c != '0' || len(dst) > first {
			dst = append(dst, c)
		}
	}
	return dst, nil, exp
}

// parseExponent reads "e+12"; false where it is too long to calculate with.
func parseExponent(rest []byte) (e int64, ok bool) {
	if len(rest) == 0 {
		return 0, true
	}
	rest = rest[1:]
	negative := rest[0] == '-'
	if negative || rest[0] == '+' {
		rest = rest[1:]
	}
	for len(rest) > 0 && rest[0] == '0' {
		rest = rest[1:]
	}
	if len(rest) > exponentDigits {
		return 0, false
	}
	for _, c := range rest {
		e = e*10 + int64(c-'0')
	}
	if negative {
		e = -e
	}
	return e, true
}

// appendPoint gives the digits from first on, which neither begin nor end with a zero, their power of ten.
func appendPoint(dst []byte, first int, exp int64) []byte {
	n := int64(len(dst) - first)
	before := n + exp // digits before the point
	switch {
	case exp == 0:
		return dst
	case exp > 0 && before <= plainDigits:
		for ; exp > 0; exp-- {
			dst = append(dst, '0')
		}
		return dst
	case exp < 0 && before > 0 && n <= plainDigits:
		at := first + int(before)
		dst = append(dst, 0)
		copy(dst[at+1:], dst[at:])
		dst[at] = '.'
		return dst
	case exp < 0 && before <= 0 && -exp <= plainDigits:
		lead := 2 - int(before) // "0." and the zeros behind it
		for range lead {
			dst = append(dst, '0')
		}
		copy(dst[first+lead:], dst[first:first+int(n)])
		for i := range lead {
			dst[first+i] = '0'
		}
		dst[first+1] = '.'
		return dst
	}
	return strconv.AppendInt(append(dst, 'e'), exp, 10)
}

// smallInteger returns the value of a canonical number that is an integer of at most 18 digits.
func smallInteger(canonical []byte) (n int64, ok bool) {
	digits := canonical
	if digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) > integerDigits {
		return 0, false
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(canonical) {
		n = -n
	}
	return n, true
}

// numberValue decodes a valid literal as Value says.
func numberValue(lit []byte) any {
	if n, err := strconv.ParseInt(string(lit), 10, 64); err == nil {
		return n
	}
	var scratch, other [64]byte
	canonical := appendNumber(scratch[:0], lit)
	if n, err := strconv.ParseInt(string(canonical), 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil || f == math.Trunc(f) {
		return json.Number(lit) // out of range, or an integer too large for an int64
	}
	shortest := strconv.AppendFloat(other[:0], f, 'e', -1, 64)
	if string(appendNumber(nil, shortest)) != string(canonical) {
		return json.Number(lit)
	}
	return f
}
