package codec

import "strconv"

// patch collects what goes into _extra: the members that no type names, as the text of an object that follows the
// record's structure. The walk tells it where it is with push and pop; it opens an object only when there is something to
// put in, so that a record without surprises costs a few stores.
type patch struct {
	text   []byte // the object so far; "" while nothing was added
	path   []step // from the record that owns _extra to where the walk is
	opened int    // how many steps of path have an object open in text
	// A record with an _extra of its own inside another one begins a patch of its own on the same memory: its text starts
	// at base of text, its path at root of path.
	base, root int
}

// step is one step of a path: the name of a member with its quotes, or a position.
type step struct {
	quoted string
	name   []byte // of a map's member: with its quotes, from the record's text
	index  int
}

func (p *patch) push(s step) { p.path = append(p.path, s) }

func (p *patch) pop() {
	p.path = p.path[:len(p.path)-1]
	if p.opened > len(p.path)-p.root {
		p.opened--
		p.text = append(p.text, '}')
	}
}

// add puts the value at the present path; it must not be the root.
func (p *patch) add(value []byte) {
	steps := p.path[p.root:]
	if len(p.text) == p.base {
		p.text = append(p.text, '{')
	}
	for ; p.opened < len(steps)-1; p.opened++ {
		p.member(steps[p.opened])
		p.text = append(p.text, '{')
	}
	p.member(steps[len(steps)-1])
	p.text = appendLine(p.text, value)
}

// unknown puts a member that the record at the present path has and its type does not name.
func (p *patch) unknown(name, value []byte) {
	p.path = append(p.path, step{name: name})
	p.add(value)
	p.path = p.path[:len(p.path)-1] // nothing was opened for it
}

func (p *patch) member(s step) {
	if p.text[len(p.text)-1] != '{' {
		p.text = append(p.text, ',')
	}
	switch {
	case s.quoted != "":
		p.text = append(p.text, s.quoted...)
	case s.name != nil:
		p.text = append(p.text, s.name...)
	default:
		p.text = append(strconv.AppendInt(append(p.text, '"'), int64(s.index), 10), '"')
	}
	p.text = append(p.text, ':')
}

// scope is what begin put aside.
type scope struct{ base, root, opened int }

// begin starts the patch of a record that has an _extra.
func (p *patch) begin() scope {
	outer := scope{p.base, p.root, p.opened}
	p.base, p.root, p.opened = len(p.text), len(p.path), 0
	return outer
}

// end ends it and returns its text, which is empty where there was nothing, and good until the next call.
func (p *patch) end(outer scope) []byte {
	if len(p.text) > p.base {
		p.text = append(p.text, '}')
	}
	text := p.text[p.base:]
	p.text = p.text[:p.base]
	p.base, p.root, p.opened = outer.base, outer.root, outer.opened
	return text
}
