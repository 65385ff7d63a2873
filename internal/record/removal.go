package record

import "fmt"

// Removal copies values without some of their members. It is immutable and may be shared.
type Removal struct{ root cut }

// A cut is what is removed below a value.
type cut struct {
	members  map[string]*cut
	elements *cut // of every element
	gone     bool // the value itself
}

// NewRemoval compiles paths of members, such as a.b and a[*].b. Elements are not removed, since those behind them would move up.
func NewRemoval(paths []Path) (*Removal, error) {
	r := &Removal{}
	for _, p := range paths {
		if len(p.steps) == 0 || p.steps[len(p.steps)-1].index != member {
			return nil, fmt.Errorf("%s is no member of a map, which alone can be removed", p)
		}
		at := &r.root
		for _, s := range p.steps {
			switch s.index {
			case member:
				if at.members == nil {
					at.members = map[string]*cut{}
				}
				if at.members[s.name] == nil {
					at.members[s.name] = &cut{}
				}
				at = at.members[s.name]
			case every:
				if at.elements == nil {
					at.elements = &cut{}
				}
				at = at.elements
			default:
				return nil, fmt.Errorf("%s removes from one element: write [*] for all of them", p)
			}
		}
		at.gone = true
	}
	return r, nil
}

// Append appends the value at at without what is removed. What stays keeps its bytes; around members that are looked into,
// white space goes. The text must have been checked.
func (r *Removal) Append(dst, buf []byte, at Span) []byte { return r.root.append(dst, buf, at) }

func (c *cut) append(dst, buf []byte, at Span) []byte {
	kind := KindAt(buf, at)
	switch {
	case c == nil, kind == Object && c.members == nil, kind == Array && c.elements == nil, kind != Object && kind != Array:
		return append(dst, at.Of(buf)...)
	case kind == Array:
		dst = append(dst, '[')
		first := true
		for e := range Elements(buf, at) {
			if !first {
				dst = append(dst, ',')
			}
			dst, first = c.elements.append(dst, buf, e), false
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	first := true
	for name, value := range Members(buf, at) {
		below := c.member(buf, name)
		if below != nil && below.gone {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		dst, first = below.append(append(append(dst, name.Of(buf)...), ':'), buf, value), false
	}
	return append(dst, '}')
}

func (c *cut) member(buf []byte, name Span) *cut {
	for _, b := range name.Of(buf) {
		if b == '\\' {
			content, _ := Text(nil, buf, name)
			return c.members[string(content)]
		}
	}
	return c.members[string(buf[name.Off+1:name.End-1])]
}
