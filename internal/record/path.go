package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A step leads from a value to one inside it.
type step struct {
	name  string // member of an object, when index is member
	index int    // element of an array, member, or every
}

const (
	member = -1 // the step is a name
	every  = -2 // the step is [*]
)

// Path is a place inside a JSON value: a.b, a[0], a[*].b, ["@odata.nextLink"]; "." and "" are the value itself. The zero
// Path is the value itself.
type Path struct {
	steps []step
}

// ParsePath compiles text. Names that hold anything but letters, digits and _ - $ @ : / # ~ % stand in brackets and
// double quotes, as JSON strings.
func ParsePath(text string) (Path, error) {
	if text == "" || text == "." {
		return Path{}, nil
	}
	var p Path
	for i := 0; i < len(text); {
		var (
			s   step
			end int
			err error
		)
		switch {
		case text[i] == '[':
			s, end, err = parseBracket(text, i)
		case text[i] == '.' && i > 0:
			s, end, err = parseName(text, i+1)
		case i == 0:
			s, end, err = parseName(text, i)
		default:
			err = fmt.Errorf("expected . or [ at %d", i+1)
		}
		if err != nil {
			return Path{}, fmt.Errorf("path %q: %w", text, err)
		}
		p.steps = append(p.steps, s)
		i = end
	}
	return p, nil
}

// Member returns the path to a member of an object.
func Member(name string) Path { return Path{[]step{{name: name, index: member}}} }

func parseName(text string, i int) (step, int, error) {
	end := i
	for end < len(text) {
		r, n := utf8.DecodeRuneInString(text[end:])
		if !bare(r) {
			break
		}
		end += n
	}
	if end == i {
		return step{}, 0, fmt.Errorf("expected a name at %d (others than plain names are written as [\"name\"])", i+1)
	}
	return step{name: text[i:end], index: member}, end, nil
}

func bare(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-$@:/#~%", r))
}

func parseBracket(text string, i int) (step, int, error) {
	rest := text[i+1:]
	if strings.HasPrefix(rest, "*]") {
		return step{index: every}, i + 3, nil
	}
	if strings.HasPrefix(rest, `"`) {
		end, ok := skipString([]byte(rest), 0)
		if !ok || end >= len(rest) || rest[end] != ']' {
			return step{}, 0, fmt.Errorf("no \"] for the [\" at %d", i+1)
		}
		var name string
		if err := json.Unmarshal([]byte(rest[:end]), &name); err != nil {
			return step{}, 0, fmt.Errorf("the name at %d is not a JSON string: %w", i+2, err)
		}
		return step{name: name, index: member}, i + 1 + end + 1, nil
	}
	digits, _, found := strings.Cut(rest, "]")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !found || err != nil {
		return step{}, 0, fmt.Errorf("expected an index, * or a name in double quotes, then ], at %d", i+2)
	}
	return step{index: int(n)}, i + 1 + len(digits) + 1, nil
}

// String returns the path in its one spelling; "." for the value itself.
func (p Path) String() string {
	if len(p.steps) == 0 {
		return "."
	}
	var b strings.Builder
	for i, s := range p.steps {
		switch {
		case s.index == every:
			b.WriteString("[*]")
		case s.index >= 0:
			fmt.Fprintf(&b, "[%d]", s.index)
		case s.name == "" || strings.ContainsFunc(s.name, func(r rune) bool { return !bare(r) }):
			b.WriteByte('[')
			b.Write(appendQuoted(nil, []byte(s.name)))
			b.WriteByte(']')
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.name)
		}
	}
	return b.String()
}

// Wild reports whether the path has a [*] and so can be many places.
func (p Path) Wild() bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.index == every })
}

// Stem returns the way to the first [*], which is one place; the path itself where it has none.
func (p Path) Stem() Path {
	i := slices.IndexFunc(p.steps, func(s step) bool { return s.index == every })
	if i < 0 {
		return p
	}
	return Path{p.steps[:i]}
}

// IsRoot reports whether the path is the value itself.
func (p Path) IsRoot() bool { return len(p.steps) == 0 }

// Depth returns the number of steps: 0 for the value itself, 1 for one of its members or elements.
func (p Path) Depth() int { return len(p.steps) }

// Up returns the path to what holds the place, and the place's name in it; "" where it is an element of an array.
func (p Path) Up() (Path, string) {
	if len(p.steps) == 0 {
		return p, ""
	}
	last := len(p.steps) - 1
	return Path{p.steps[:last]}, p.steps[last].name
}

// Join returns the path that goes on with sub from where p leads.
func (p Path) Join(sub Path) Path { return Path{slices.Concat(p.steps, sub.steps)} }

// Equal reports whether two paths are the same place.
func (p Path) Equal(q Path) bool { return slices.Equal(p.steps, q.steps) }

// Find returns the first place in buf that p leads to from the value that begins at at.Off, and whether there is one. It
// steps over what is not on the way without checking it, so the text must have been checked, or what was found must be
// proven otherwise, as the raw hash does; on other text the answer is arbitrary, but it comes without a panic and inside
// at. at.End may lie behind the value's end.
func (p Path) Find(buf []byte, at Span) (Span, bool) {
	if p.Wild() {
		var found Span
		p.Each(buf, at, func(s Span) bool {
			found = s
			return false
		})
		return found, !found.IsZero()
	}
	b := buf[:at.End]
	i := space(b, int(at.Off))
	for _, s := range p.steps {
		if s.index == member {
			i = findMember(b, i, s.name)
		} else {
			i = findElement(b, i, s.index)
		}
		if i < 0 {
			return Span{}, false
		}
	}
	end, ok := skip(b, i)
	if !ok || end == i {
		return Span{}, false
	}
	return Span{int32(i), int32(end)}, true
}

// Each calls f with every place that p leads to, in the order of the text, until f returns false. What Find says of the
// text holds here too.
func (p Path) Each(buf []byte, at Span, f func(Span) bool) { each(p.steps, buf, at, f) }

func each(steps []step, buf []byte, at Span, f func(Span) bool) bool {
	for i, s := range steps {
		if s.index != every {
			continue
		}
		list, ok := Path{steps[:i]}.Find(buf, at)
		if !ok {
			return true
		}
		for e := range Elements(buf, list) {
			if !each(steps[i+1:], buf, e, f) {
				return false
			}
		}
		return true
	}
	if found, ok := (Path{steps}).Find(buf, at); ok {
		return f(found)
	}
	return true
}

// findMember returns where the value of the named member of the object at i starts, or -1.
func findMember(b []byte, i int, name string) int {
	if i >= len(b) || b[i] != '{' {
		return -1
	}
	i = space(b, i+1)
	for i < len(b) && b[i] == '"' {
		end, ok := skipString(b, i)
		if !ok {
			return -1
		}
		hit := nameIs(b[i+1:end-1], name)
		if i = space(b, end); i >= len(b) || b[i] != ':' {
			return -1
		}
		i = space(b, i+1)
		if hit {
			return i
		}
		if i, ok = skip(b, i); !ok {
			return -1
		}
		if i = space(b, i); i >= len(b) || b[i] != ',' {
			return -1
		}
		i = space(b, i+1)
	}
	return -1
}

// findElement returns where the n-th element of the array at i starts, or -1.
func findElement(b []byte, i, n int) int {
	if i >= len(b) || b[i] != '[' {
		return -1
	}
	i = space(b, i+1)
	for i < len(b) && b[i] != ']' {
		if n == 0 {
			return i
		}
		n--
		end, ok := skip(b, i)
		if !ok {
			return -1
		}
		if i = space(b, end); i >= len(b) || b[i] != ',' {
			return -1
		}
		i = space(b, i+1)
	}
	return -1
}
