package record

import "slices"

// names predicts the names of members: each knows the one that came after it last time, so that a record like the one
// before costs one comparison a name instead of a scan, a hash and a look-up. A name is known by its way from the record's
// root, so one that is met again while its object is open stands there twice.
type names struct {
	known    []name
	index    map[nameKey]int32
	objects  uint64   // opened so far
	repeated []uint64 // stack: hashes of the names that are not known, of every open object
}

// What is learnt is bounded (10): an object with more names, as a map from ids has, goes the slow way for the rest of them.
const (
	maxNames    = 4096
	maxChildren = 512
	// So many members that a record leaves out are stepped over before its name is looked up.
	skippedNames = 2
	// From so many names on that are not known an object is checked for duplicates when it ends, by sorting.
	fewNames = 16
)

type name struct {
	text     string // as it stands in compact JSON, with quotes and colon
	seed     uint64 // of the value's hash
	mark     uint64 // number of the object that it was last seen in
	node     int32  // the plan's node of the object that it is in; -1: never to be predicted
	child    int32  // the plan's node of its value
	next     int32  // the name that came after it
	first    int32  // the first name in the object that is its value
	children int32  // names known in objects that are its value
	counts   bool   // its value counts in the hash of the object
}

type nameKey struct {
	parent, node int32
	hash         uint64
}

// opened is an object being read.
type opened struct {
	number uint64
	base   int   // where its part of names.repeated starts
	parent int32 // the name whose value it is
	last   int32 // the name before, 0: none or not known
	guess  int32 // the name that probably comes
}

func newNames() names {
	// 0 stands for every name that is not known, 1 for the record itself.
	return names{known: []name{{node: -1}, {node: -1}}, index: map[nameKey]int32{}}
}

func (ns *names) open(parent int32) opened {
	ns.objects++
	return opened{ns.objects, len(ns.repeated), parent, 0, ns.known[parent].first}
}

// behind returns the name behind the predicted one if text begins with it: many records leave members out. 0 if not. What
// was learnt stays, so that both are predicted next time.
func (ns *names) behind(text []byte, n int32, o *opened) int32 {
	for id, tries := ns.known[o.guess].next, 0; id != 0 && tries < skippedNames; tries++ {
		name := &ns.known[id]
		if k := len(name.text); name.node == n && k <= len(text) && name.mark != o.number && string(text[:k]) == name.text {
			name.mark = o.number
			return id
		}
		id = name.next
	}
	return 0
}

// learn returns the number of the name with this content in object o, whose node is n; 0, with the entry of that number
// filled in for the moment, where there is no room. It is false where the object has the name already.
func (ns *names) learn(p *Plan, n int32, content []byte, o *opened) (id int32, ok bool) {
	seed := nameSeed(p, content)
	key := nameKey{o.parent, n, seed}
	id, found := ns.index[key]
	switch {
	case found && ns.known[id].mark == o.number:
		return id, false // two names with one hash would be taken for one too: a chance of 1 in 2^64
	case !found && (o.parent == 0 || len(ns.known) >= maxNames || ns.known[o.parent].children >= maxChildren):
		return 0, ns.unknown(p, n, content, seed, o)
	case !found:
		id = int32(len(ns.known))
		ns.known = append(ns.known, newName(p, n, content, seed))
		ns.known[o.parent].children++
		ns.index[key] = id
	}
	ns.known[id].mark = o.number
	switch {
	case o.last != 0:
		ns.known[o.last].next = id
	case len(ns.repeated) == o.base: // the first of its object
		ns.known[o.parent].first = id
	}
	return id, true
}

// nameSeed returns the hash of a name: what the hash of its value is bound to.
func nameSeed(p *Plan, content []byte) uint64 { return hashString(content, p.seed) }

func newName(p *Plan, n int32, content []byte, seed uint64) name {
	child, counts := p.member(n, content)
	if p.nodes[child].value {
		seed = p.valueSeed
	}
	text, node := `"`+string(content)+`":`, n
	if slices.ContainsFunc(content, func(c byte) bool { return c < ' ' || c == '"' || c == '\\' }) {
		// In JSON this name has escapes: text that equals it byte by byte would not be JSON.
		text, node = "", -1
	}
	return name{text: text, seed: seed, node: node, child: child, counts: counts}
}

// unknown takes a name for which there is no room. It is false where the object is seen to have it already; where it has
// many, close looks.
func (ns *names) unknown(p *Plan, n int32, content []byte, seed uint64, o *opened) bool {
	if len(ns.repeated)-o.base < fewNames && slices.Contains(ns.repeated[o.base:], seed) {
		return false
	}
	ns.repeated = append(ns.repeated, seed)
	child, counts := p.member(n, content)
	if p.nodes[child].value {
		seed = p.valueSeed
	}
	e := &ns.known[0]
	e.seed, e.child, e.counts = seed, child, counts
	return true
}

// close ends an object; false where it has a name twice.
func (ns *names) close(o *opened) bool {
	own := ns.repeated[o.base:]
	ns.repeated = ns.repeated[:o.base]
	if len(own) <= fewNames {
		return true
	}
	slices.Sort(own)
	for i := 1; i < len(own); i++ {
		if own[i] == own[i-1] {
			return false
		}
	}
	return true
}
