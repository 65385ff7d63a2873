package record

import (
	"fmt"
	"slices"
)

// Plan is what to find in a record and what to hash: compiled once per stream and rule set, immutable. Places, value and
// hash rules are one tree, which the scanner walks along with the text, so that nested places cost nothing extra.
type Plan struct {
	nodes     []node // 0: a value of which nothing is wanted; 1: the root
	places    int
	lists     int
	valueNode int32  // of the published value
	seed      uint64 // of names
	indexSeed uint64 // of elements
	valueSeed uint64 // of the published value
	absent    uint64 // the hash where there is no published value
}

// A node is a value of the record that the plan knows, by its way from the root.
type node struct {
	members  map[string]int32
	elements []element // by index
	rest     int32     // node of the elements that are not in elements; 0: none
	places   []int32   // places that are this value
	list     int32     // the list that is this value, or -1
	value    bool      // this is the published value: the hash is taken here
	counts   bool      // it counts in the hash of the container it is in
	others   bool      // its members and elements without a node count in its hash
}

type element struct {
	index int
	node  int32
}

// NewPlan compiles places, which are relative to the record and hold no [*], and the content rules, whose hash is drawn
// from seed. A place may occur more than once and inside another. The same places, rules and seed give the same hashes.
func NewPlan(places []Path, rules Rules, seed uint64) (*Plan, error) {
	if rules.Algorithm < 0 || rules.Algorithm > Algorithm {
		return nil, fmt.Errorf("hash algorithm %d is not known to this version, which knows %d", rules.Algorithm, Algorithm)
	}
	value, err := ParsePath(rules.Value)
	if err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	if value.Wild() {
		return nil, fmt.Errorf("value %s can be several places; it must be one", value)
	}
	if len(rules.Include) > 0 && len(rules.Exclude) > 0 {
		return nil, fmt.Errorf("hash: include or exclude, not both")
	}
	goals := []goal{{value.steps, isValue, 0}}
	if goals, err = hashGoals(goals, value, rules.Include, isIncluded); err != nil {
		return nil, fmt.Errorf("hash: include: %w", err)
	}
	if goals, err = hashGoals(goals, value, rules.Exclude, isExcluded); err != nil {
		return nil, fmt.Errorf("hash: exclude: %w", err)
	}
	return newPlan(goals, places, nil, seed)
}

// hashGoals adds paths of the published value to goals, by their way from the record's root.
func hashGoals(goals []goal, value Path, texts []string, u use) ([]goal, error) {
	for _, text := range texts {
		p, err := ParsePath(text)
		if err != nil {
			return nil, err
		}
		if p.IsRoot() && u == isExcluded {
			return nil, fmt.Errorf("%q is the whole value: nothing would be left to compare", text)
		}
		goals = append(goals, goal{value.Join(p).steps, u, 0})
	}
	return goals, nil
}

func newPlan(goals []goal, places, lists []Path, seed uint64) (*Plan, error) {
	for i, p := range places {
		if p.Wild() {
			return nil, fmt.Errorf("%s can be several places; it must be one", p)
		}
		goals = append(goals, goal{p.steps, isPlace, int32(i)})
	}
	for i, l := range lists {
		goals = append(goals, goal{l.steps, isList, int32(i)})
	}
	p := &Plan{
		nodes:     []node{{list: -1, counts: true, others: true}},
		places:    len(places),
		lists:     len(lists),
		seed:      seed,
		indexSeed: mix(tagIndex, seed),
		valueSeed: mix(tagValue, seed),
		absent:    mix(tagAbsent, seed),
	}
	b := builder{p, slices.ContainsFunc(goals, func(g goal) bool { return g.use == isIncluded })}
	if _, err := b.node(goals, outside); err != nil {
		return nil, err
	}
	return p, nil
}

// A goal is where the plan wants to go, and what it wants there.
type goal struct {
	steps []step
	use   use
	index int32 // of the place or list
}

type use uint8

const (
	isPlace use = iota
	isList
	isValue
	isIncluded
	isExcluded
)

// What of a value counts in the hash.
type extent uint8

const (
	outside extent = iota // nothing: not the published value, or an excluded part of it
	whole                 // everything that is not excluded
	chosen                // only what is included
)

// builder makes nodes of goals. [*] and [0] can both lead to one element, so a node is made for a set of goals.
type builder struct {
	plan    *Plan
	include bool // the rules have an include list
}

// node makes the node that goals lead to, inside a container of which around counts, and all nodes below.
func (b builder) node(goals []goal, around extent) (int32, error) {
	id := int32(len(b.plan.nodes))
	n := node{list: -1}
	inner := b.extent(&n, goals, around)
	for _, g := range goals {
		if len(g.steps) > 0 {
			continue
		}
		switch g.use {
		case isPlace:
			n.places = append(n.places, g.index)
		case isList:
			if n.list >= 0 {
				return 0, fmt.Errorf("two lists of records are one place: %s", Path{g.steps})
			}
			n.list = g.index
		case isValue:
			n.value = true
			b.plan.valueNode = id
		}
	}
	if n.list >= 0 && slices.ContainsFunc(goals, func(g goal) bool { return len(g.steps) > 0 && g.use <= isList }) {
		return 0, fmt.Errorf("a place lies inside a list of records")
	}
	b.plan.nodes = append(b.plan.nodes, n)
	if err := b.children(&n, goals, inner); err != nil {
		return 0, err
	}
	b.plan.nodes[id] = n
	return id, nil
}

// extent says what of the node counts and, in n, whether itself and its other children do.
func (b builder) extent(n *node, goals []goal, around extent) extent {
	here := func(u use) bool {
		return slices.ContainsFunc(goals, func(g goal) bool { return g.use == u && len(g.steps) == 0 })
	}
	inner := around
	switch {
	case here(isValue) && b.include && !here(isIncluded):
		inner = chosen
	case here(isValue) || around == chosen && here(isIncluded):
		inner, n.counts = whole, around == chosen
	case around == whole:
		if n.counts = !here(isExcluded); !n.counts {
			inner = outside
		}
	case around == chosen:
		// It counts where it is on the way to an included place.
		if n.counts = slices.ContainsFunc(goals, func(g goal) bool { return g.use == isIncluded }); !n.counts {
			inner = outside
		}
	}
	n.others = inner == whole
	return inner
}

func (b builder) children(n *node, goals []goal, inner extent) error {
	done := map[step]bool{}
	for _, g := range goals {
		if len(g.steps) == 0 || done[g.steps[0]] {
			continue
		}
		first := g.steps[0]
		done[first] = true
		var below []goal
		for _, o := range goals {
			// [*] leads to the elements that have an index of their own, too.
			if len(o.steps) > 0 && (o.steps[0] == first || o.steps[0].index == every && first.index >= 0) {
				below = append(below, goal{o.steps[1:], o.use, o.index})
			}
		}
		child, err := b.node(below, inner)
		switch {
		case err != nil:
			return err
		case first.index == member:
			if n.members == nil {
				n.members = map[string]int32{}
			}
			n.members[first.name] = child
		case first.index == every:
			n.rest = child
		default:
			n.elements = append(n.elements, element{first.index, child})
		}
	}
	return nil
}

// member returns the node of the named member of n, and whether that member counts in the hash of n.
func (p *Plan) member(n int32, name []byte) (child int32, counts bool) {
	in := &p.nodes[n]
	if child, ok := in.members[string(name)]; ok {
		return child, p.nodes[child].counts
	}
	return 0, in.others
}

// element returns the node of the i-th element of n, and whether that element counts in the hash of n.
func (p *Plan) element(n int32, i int) (child int32, counts bool) {
	in := &p.nodes[n]
	for _, e := range in.elements {
		if e.index == i {
			return e.node, p.nodes[e.node].counts
		}
	}
	if in.rest != 0 {
		return in.rest, p.nodes[in.rest].counts
	}
	return 0, in.others
}
