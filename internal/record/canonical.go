package record

import (
	"bytes"
	"slices"
)

// AppendCanonical appends the canonical JSON text of the published value at value: members sorted by name, numbers by the
// number rule, the fewest escapes, no white space, and only what counts under rules (whose Value is not looked at: value
// is the published value already). Two values have the same hash if and only if their canonical texts are equal. The text
// must have been checked, and rules must pass Check, else it panics. Nothing is appended where there is no value.
func AppendCanonical(dst, buf []byte, value Span, rules Rules) []byte {
	rules.Value = ""
	p, err := NewPlan(nil, rules, 0)
	if err != nil {
		panic(err)
	}
	return p.AppendCanonical(dst, buf, value)
}

// AppendCanonical is the function of that name with the plan's rules, compiled once; value is a ValueSpan.
func (p *Plan) AppendCanonical(dst, buf []byte, value Span) []byte {
	if value.IsZero() {
		return dst
	}
	return p.appendValue(dst, buf, value, p.valueNode)
}

func (p *Plan) appendValue(dst, buf []byte, at Span, n int32) []byte {
	switch KindAt(buf, at) {
	case Object:
		return p.appendObject(dst, buf, at, n)
	case Array:
		dst = append(dst, '[')
		i, written := 0, 0
		for e := range Elements(buf, at) {
			child, counts := p.element(n, i)
			if i++; !counts {
				continue
			}
			if written++; written > 1 {
				dst = append(dst, ',')
			}
			dst = p.appendValue(dst, buf, e, child)
		}
		return append(dst, ']')
	case String:
		content, _ := Text(nil, buf, at)
		return appendQuoted(dst, content)
	case Number:
		return appendNumber(dst, at.Of(buf))
	default:
		return append(dst, at.Of(buf)...)
	}
}

func (p *Plan) appendObject(dst, buf []byte, at Span, n int32) []byte {
	type entry struct {
		name  []byte
		value Span
		child int32
	}
	var entries []entry
	for name, value := range Members(buf, at) {
		content, _ := Text(nil, buf, name)
		if child, counts := p.member(n, content); counts {
			entries = append(entries, entry{content, value, child})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for i, e := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, e.name), ':')
		dst = p.appendValue(dst, buf, e.value, e.child)
	}
	return append(dst, '}')
}
