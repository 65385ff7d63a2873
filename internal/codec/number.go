package codec

import (
	"bytes"
	"math"
	"strconv"
)

// parseLong returns the integer that a JSON number is, by its exact decimal value (1, 1.0 and 10e-1 are the same, as they
// are for the hash); false where it has a fraction or does not fit 64 bits.
func parseLong(text []byte) (int64, bool) {
	digits, negative := text, false
	if len(digits) > 0 && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	if len(digits) > 18 {
		return longFrom(text)
	}
	var v int64
	for _, c := range digits {
		if c-'0' > 9 {
			return longFrom(text)
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return v, true
}

// longFrom is parseLong for every spelling.
func longFrom(text []byte) (int64, bool) {
	var scratch [32]byte
	d, ok := parseDecimal(scratch[:0], text)
	if !ok || d.exponent < 0 || int64(len(d.digits))+d.exponent > 19 {
		return 0, false
	}
	for range d.exponent {
		d.digits = append(d.digits, '0')
	}
	v, err := strconv.ParseUint(string(d.digits), 10, 64)
	switch {
	case err != nil || len(d.digits) == 0:
		return 0, err != nil && len(d.digits) == 0
	case d.negative && v <= -math.MinInt64:
		return -int64(v), true
	case !d.negative && v <= math.MaxInt64:
		return int64(v), true
	}
	return 0, false
}

// decimal is a number as digits × 10^exponent, without zeros at either end; no digits: zero.
type decimal struct {
	digits   []byte
	exponent int64
	negative bool
}

// parseDecimal reads a JSON number exactly, with its digits appended to scratch; false where the exponent is beyond all
// measure (or the text is no number).
func parseDecimal(scratch, text []byte) (decimal, bool) {
	d := decimal{}
	if len(text) > 0 && text[0] == '-' {
		text, d.negative = text[1:], true
	}
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		e, err := strconv.ParseInt(string(text[i+1:]), 10, 32)
		if err != nil {
			return d, false
		}
		text, d.exponent = text[:i], e
	}
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	d.exponent -= int64(len(fraction))
	scratch = append(append(scratch, whole...), fraction...)
	d.digits = bytes.TrimLeft(scratch, "0")
	trimmed := bytes.TrimRight(d.digits, "0")
	d.exponent += int64(len(d.digits) - len(trimmed))
	if d.digits = trimmed; len(trimmed) == 0 {
		d.exponent = 0
	}
	return d, true
}

// exact reports whether the shortest decimal of f, a float of this many bits, is the number that text says. Numbers of up
// to 15 (float: 6) significant digits always are.
func exact(text []byte, f float64, bits int) bool {
	if len(text) <= 6 || bits == 64 && len(text) <= 15 {
		return !bytes.ContainsAny(text, "eE") || exactly(text, f, bits)
	}
	return exactly(text, f, bits)
}

func exactly(text []byte, f float64, bits int) bool {
	var a, b [64]byte
	said, ok := parseDecimal(a[:0], text)
	if !ok {
		return false
	}
	var shortest [32]byte
	kept, _ := parseDecimal(b[:0], strconv.AppendFloat(shortest[:0], f, 'e', -1, bits))
	return bytes.Equal(said.digits, kept.digits) && said.exponent == kept.exponent && (said.negative == kept.negative || len(kept.digits) == 0)
}

// appendFloat appends f as JSON has numbers, with the fewest digits that say it; false for what JSON has no number for.
func appendFloat(dst []byte, f float64, bits int) ([]byte, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, false
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits), true
}
