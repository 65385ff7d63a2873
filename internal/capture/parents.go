package capture

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
)

// The partitions of a child request are records of a parent stream (P21). They appear when a parent is sighted, in the batch of
// that sighting, and from then on live in their checkpoints: the fields of the parent that the child uses, who the parents are,
// and whether one of them was seen to change since the last pass began. So a restart finds them in Kafka and reads no parent
// anew, and what is known of a parent never differs from what its own stream has committed.

// kinship is what a connection knows of parents and children beside the checkpoints; all of it can be had from them again.
type kinship struct {
	index    map[relation][]*partition       // the partitions that a parent has, or had until lately
	unborn   map[string]*partition           // state of partitions that are not configured (any more), by request/partition (P24)
	count    map[*source.Request]int         // partitions of requests with a parent
	surveyed map[*partition]bool             // parents' partitions of which this process has seen everything
	sighted  map[sighting]uint64             // the bytes of parents whose children were looked after in this ownership
	given    map[*partition]source.Partition // as the configuration names them
}

// relation names a parent as its children know it.
type relation struct {
	lineage *source.Lineage
	key     string
}

// sighting names a record of a parent stream.
type sighting struct {
	stream *stream
	key    uint64
}

// kin is what is known of a partition because its value is a parent's record.
type kin struct {
	sighted uint64    // counts the sightings of a changed parent
	begun   uint64    // sighted, as the present pass began
	gone    bool      // upstream has nothing under the parent
	planned time.Time // when the last pass was followed by a plan
	wanted  time.Time // when the plan has it due; the schedule looks at the rules of `interval` before that
}

// roots is what a checkpoint keeps under the name of the parents' dimension.
type roots struct {
	// Of are the parents that are the partition's value, by their keys; with when: changed, each with the hash of its bytes.
	// It is empty where all of them are gone.
	Of map[string]string `json:"of"`
	// Fields are those that were looked for in them. A definition that uses others reads the parents anew.
	Fields []string `json:"fields"`
}

const (
	// mostRoots bounds the bytes of the keys in roots.Of (K5, 10). Where parents beyond it share a partition, beyond stands for
	// them: it is read as long as one of them was ever seen.
	mostRoots = 16 << 10
	beyond    = "…"
	// mostSighted bounds what is remembered of parents, most of which may have no children (10).
	mostSighted = 200_000
	// goneEvery is how often a partition under which upstream has nothing is asked again (P21).
	goneEvery = time.Hour
	// rulesEvery is how often the rules of `interval` are evaluated anew.
	rulesEvery = time.Minute
)

// The states of a partition that its parent brings about, as people see them.
const (
	parentGone = "parent gone"
	maybeGone  = "parent gone?" // upstream answers 404 under it
	notSeen    = "parent not seen yet"
)

func newKinship() kinship {
	return kinship{
		index: map[relation][]*partition{}, unborn: map[string]*partition{}, count: map[*source.Request]int{},
		surveyed: map[*partition]bool{}, sighted: map[sighting]uint64{}, given: map[*partition]source.Partition{},
	}
}

// rootsOf reads who the parents of a partition are; false where no parent was ever seen.
func rootsOf(l *source.Lineage, parent map[string]json.RawMessage) (roots, bool) {
	var r roots
	raw, ok := parent[l.Name()]
	if !ok || json.Unmarshal(raw, &r) != nil { // what else would stand there, we did not write; its parent is read anew
		return roots{}, false
	}
	return r, true
}

// with returns what is kept of a parent together with r.
func (r roots) with(l *source.Lineage, fields map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(fields)
	out[l.Name()] = raw
	return out, nil
}

// rests says why a partition is not read although its stream is; "" where it is.
func (c *Connection) rests(p *partition) string {
	l := p.request.Lineage()
	if l == nil {
		return ""
	}
	r, seen := rootsOf(l, p.spec.Parent)
	_, given := c.kin.given[p]
	switch {
	case seen && len(r.Of) == 0 && !given:
		return parentGone
	case seen && len(r.Of) > 0 && !slices.Equal(r.Fields, l.Fields()):
		return notSeen
	}
	return ""
}

// follows reports whether p is read when its parent changes, and not by its interval.
func (p *partition) follows() bool {
	l := p.request.Lineage()
	if l == nil || !l.Changed {
		return false
	}
	r, _ := rootsOf(l, p.spec.Parent)
	return len(r.Of) > 0 // what only the configuration names has nobody to follow
}

// unbornOf keeps the state of a partition that is not known, until all of the shard was read.
func (c *Connection) unbornOf(k offsets.Key) *partition {
	name := k.Stream + "/" + k.Name
	p := c.kin.unborn[name]
	if p != nil {
		return p
	}
	i := slices.IndexFunc(c.source.Requests, func(r *source.Request) bool { return r.Name == k.Stream })
	if i < 0 || c.source.Requests[i].Lineage() == nil {
		return nil
	}
	p = &partition{
		request: c.source.Requests[i], spec: source.Partition{Name: k.Name}, key: cursorKey(c.name, k.Stream, k.Name),
		poll: entry{slot: -1}, list: entry{slot: -1},
	}
	c.kin.unborn[name] = p
	return p
}

// raise makes the children that a restore found: those whose lists still have them and whose parent stream is read (P21). The
// others are retired: their state stays where it is (P24).
func (c *Connection) raise() {
	for name, p := range c.kin.unborn {
		l := p.request.Lineage()
		spec, ok := p.request.Revive(p.spec.Name, p.committed.Parent)
		if _, seen := rootsOf(l, p.committed.Parent); !ok || !seen || l.Parent == nil {
			continue
		}
		born := c.addPartition(p.request, spec)
		born.committed, born.recent, born.window, born.halted = p.committed, p.recent, p.window, c.haltedBy(p.request)
		delete(c.kin.unborn, name)
	}
	c.settleKin()
	clear(c.kin.index)
	clear(c.kin.count)
	for _, p := range c.partitions {
		l := p.request.Lineage()
		if l == nil {
			continue
		}
		c.kin.count[p.request]++
		r, _ := rootsOf(l, p.spec.Parent)
		for key := range r.Of {
			c.relate(relation{l, key}, p)
		}
	}
}

func (c *Connection) relate(r relation, p *partition) {
	if !slices.Contains(c.kin.index[r], p) {
		c.kin.index[r] = append(c.kin.index[r], p)
	}
}

// settleKin makes the children those that Kafka holds: one that only a dead ownership had seen is seen again with its parent,
// since that was not committed either (2).
func (c *Connection) settleKin() {
	c.partitions = slices.DeleteFunc(c.partitions, func(p *partition) bool {
		l := p.request.Lineage()
		if l == nil {
			return false
		}
		_, seen := rootsOf(l, p.checkpoint().Parent)
		if _, given := c.kin.given[p]; seen || given {
			c.dress(p)
			return false
		}
		p.stop(&c.schedule)
		delete(c.byName, p.request.Name+"/"+p.spec.Name)
		p.request.Forget(p.spec.Name)
		return true
	})
	for _, p := range c.kin.unborn {
		p.staged = nil
	}
	clear(c.kin.sighted)
}

// dress gives a partition what its checkpoint knows of its parent; one that only the configuration names, what that says.
func (c *Connection) dress(p *partition) {
	l, parent := p.request.Lineage(), p.checkpoint().Parent
	r, _ := rootsOf(l, parent)
	if spec, given := c.kin.given[p]; given && len(r.Of) == 0 {
		parent = l.Keep(spec.Parent, parent)
	}
	if spec, ok := p.request.Revive(p.spec.Name, parent); ok {
		p.spec = spec
		p.request.Know(spec)
	}
}

// childrenOf returns the partitions whose value the record of that key is.
func (c *Connection) childrenOf(s *stream, key []byte) []*partition {
	var all []*partition
	for _, l := range s.spec.Children {
		for _, p := range c.kin.index[relation{l, string(key)}] {
			if r, _ := rootsOf(l, p.spec.Parent); has(r.Of, string(key)) {
				all = append(all, p)
			}
		}
	}
	return all
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// sight looks after the children of a record of a parent stream, in the batch of its sighting: it is created, updated or
// suppressed, and parked too (P21). What is older than the known state says nothing (P14). An error that parks says that the
// record cannot be the value of its children's partitions.
func (o *ownership) sight(s *stream, rec *source.Record, body []byte) error {
	mark := sighting{s, rec.KeyHash}
	if rec.Key == nil {
		mark.key = rec.RawHash
	}
	if seen, ok := o.kin.sighted[mark]; rec.Kind != source.Live || ok && seen == rec.RawHash {
		return nil
	}
	if known, ok := s.table.Get(rec.Key, rec.KeyHash); ok && older(rec, known) {
		return nil
	}
	key := string(rec.Key)
	if rec.Key == nil {
		key = offsets.NoKey(rec.RawHash)
	}
	for _, l := range s.spec.Children {
		fields, err := l.Sight(rec, body)
		if remedy, _ := cdc.Verdict(err); err != nil && remedy == cdc.Park && rec.Err != nil {
			continue // it is parked anyway, for what it says itself
		}
		if err != nil {
			return err
		}
		if err := o.raiseOf(l, key, fields, rec.RawHash); err != nil {
			return err
		}
	}
	if len(o.kin.sighted) >= mostSighted {
		clear(o.kin.sighted) // they are looked after once more
	}
	o.kin.sighted[mark] = rec.RawHash
	return nil
}

// raiseOf brings the children of one parent up to what was sighted of it.
func (o *ownership) raiseOf(l *source.Lineage, key string, fields map[string]json.RawMessage, hash uint64) error {
	var parts []source.Partition
	if fields != nil { // else it has no children
		var err error
		if parts, err = l.Partitions(fields); err != nil {
			return err
		}
	}
	for _, p := range slices.Clone(o.kin.index[relation{l, key}]) { // of another value than before
		if !slices.ContainsFunc(parts, func(spec source.Partition) bool { return spec.Name == p.spec.Name }) {
			if err := o.lose(l, p, key); err != nil {
				return err
			}
		}
	}
	for _, spec := range parts {
		if err := o.rear(l, spec, key, hash); err != nil {
			return err
		}
	}
	return nil
}

// rear makes the partition spec where it is not there, and stages what changed of its parent (P21).
func (o *ownership) rear(l *source.Lineage, spec source.Partition, key string, hash uint64) error {
	p, err := o.child(l, spec)
	if err != nil {
		return err
	}
	r, _ := rootsOf(l, p.spec.Parent)
	was, known := r.Of[key]
	seen := ""
	if l.Changed {
		seen = hex(offsets.Hex(hash))
	}
	changed := !known || was != seen
	if !known && size(r.Of)+len(key) > mostRoots {
		key, seen = beyond, ""
	}
	if r.Of = maps.Clone(r.Of); r.Of == nil {
		r.Of = map[string]string{}
	}
	r.Of[key], r.Fields = seen, l.Fields()
	parent, err := r.with(l, l.Keep(spec.Parent, p.spec.Parent))
	if err != nil {
		return err
	}
	o.relate(relation{l, key}, p)
	if !changed && maps.EqualFunc(parent, p.checkpoint().Parent, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		return nil
	}
	return o.raised(p, parent, changed && l.Changed)
}

// child returns the partition spec, and makes it where it is not there.
func (o *ownership) child(l *source.Lineage, spec source.Partition) (*partition, error) {
	if p := o.byName[l.Child.Name+"/"+spec.Name]; p != nil {
		return p, nil
	}
	if o.kin.count[l.Child] >= source.MaxPartitions { // (10), (4): the parent's cursor does not pass what would be forgotten
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "find children", "Narrow the `filter` of the parent stream, or name the parents under `or` "+
			"and leave their stream out", "stream %s has more than %d partitions", l.Child.Name, source.MaxPartitions)
	}
	p := o.addPartition(l.Child, source.Partition{Name: spec.Name})
	o.kin.count[l.Child]++
	p.halted = o.haltedBy(l.Child)
	return p, nil
}

func size(m map[string]string) int {
	n := 0
	for key := range m {
		n += len(key)
	}
	return n
}

// raised stages what is known of p's parent, and that p is to be read where it follows its parent: with the parent's own event,
// if there is one, and before the parent's cursor passes it (4).
func (o *ownership) raised(p *partition, parent map[string]json.RawMessage, pending bool) error {
	cp, rests := p.checkpoint(), o.rests(p)
	fresh := cp.Passes == 0 || rests != "" || p.kin.gone
	if rests == parentGone && cp.Cursor != "" && !p.logs() { // what comes back with it may lie behind the cursor
		cp = source.Expire(cp)
		p.abandon()
	}
	if err := o.stageKin(p, cp, parent, pending); err != nil {
		return err
	}
	p.kin.sighted++
	if p.halted != nil && o.haltedBy(p.request) == nil { // what the parent said may have been why
		p.halted, fresh = nil, true
	}
	now := time.Now()
	switch {
	case !o.idle(p): // it is planned when its pass has ended
	case fresh:
		p.kin.wanted = time.Time{}
		o.schedule.at(&p.poll, now)
	default:
		o.plan(p, now)
	}
	return nil
}

// logs reports whether p is a log: its entries are known by their ids for as long as the lookback is (P13), so one that was read may
// not be read again.
func (p *partition) logs() bool {
	return slices.ContainsFunc(p.request.Streams, func(st *source.Stream) bool { return st.LogFeed })
}

// idle reports whether p could be read and is not.
func (o *ownership) idle(p *partition) bool {
	return p.halted == nil && p.walk == nil
}

// stageKin stages a checkpoint of p with what is known of its parent.
func (o *ownership) stageKin(p *partition, cp cdc.Checkpoint, parent map[string]json.RawMessage, pending bool) error {
	cp.Parent, cp.Pending = parent, cp.Pending || pending
	if err := o.filling.checkpoint(p, cp, time.Now()); err != nil {
		return err
	}
	o.filling.events++ // it should not wait
	o.dress(p)
	return nil
}

// bereave takes a parent that is being buried from its children, in the same batch. A partition without parents is not read any
// more; its keys stay: what becomes of them is for reconciliation to decide (D8).
func (o *ownership) bereave(s *stream, key []byte, hash uint64) error {
	delete(o.kin.sighted, sighting{s, hash})
	for _, p := range o.childrenOf(s, key) {
		if err := o.lose(p.request.Lineage(), p, string(key)); err != nil {
			return err
		}
	}
	return nil
}

// lose takes the parent of that key from p.
func (o *ownership) lose(l *source.Lineage, p *partition, key string) error {
	r, _ := rootsOf(l, p.spec.Parent)
	if !has(r.Of, key) {
		return nil
	}
	r.Of = maps.Clone(r.Of)
	delete(r.Of, key)
	parent, err := r.with(l, p.spec.Parent)
	if err != nil {
		return err
	}
	if err := o.stageKin(p, p.checkpoint(), parent, false); err != nil {
		return err
	}
	switch {
	case o.rests(p) != "":
		o.schedule.remove(&p.poll)
		o.orphan(p) // D8
	case p.poll.slot < 0 && o.idle(p):
		o.plan(p, time.Now()) // the configuration names it too, and has it read by its interval
	}
	return nil
}

// carry gives a checkpoint that a pass moved what is known of the partition's parent: the pass began with a copy of it. The mark
// goes with the finished pass, unless the parent was seen to change after that began (P21). It reports whether that is news.
func (p *partition) carry(cp *cdc.Checkpoint, done bool) bool {
	if p.request.Lineage() == nil {
		return false
	}
	before := p.checkpoint()
	cp.Parent = p.spec.Parent
	cp.Pending = before.Pending && !(done && p.kin.sighted == p.kin.begun)
	return cp.Pending != before.Pending || before.Parent == nil
}

// deserted ends a pass whose partition upstream does not know any more: its records stay as they are, its stream goes on, and it
// is asked again rarely (P21).
func (o *ownership) deserted(p *partition, err error, now time.Time) {
	if !p.kin.gone {
		o.log.Warn("upstream has nothing under a parent: its children's records stay as they are", "partition", p.label, "error", err)
	}
	p.kin.gone, p.paused, p.failures = true, err, 0
	o.plan(p, now)
}

// planKin plans a partition with a parent after a pass, where its interval does not decide. It reports whether it has.
func (o *ownership) planKin(p *partition, now time.Time) bool {
	switch {
	case p.request.Lineage() == nil:
		return false
	case o.rests(p) != "":
		o.schedule.remove(&p.poll)
	case !p.follows():
		return false
	case p.checkpoint().Pending && p.kin.sighted > p.kin.begun:
		o.schedule.at(&p.poll, now)
	case !p.checkpoint().Pending && !p.kin.gone:
		o.schedule.remove(&p.poll) // until its parent changes
	default:
		return false // its pass did not end, or upstream has nothing: by its interval
	}
	return true
}

// planRestored is planKin for a new ownership.
func (o *ownership) planRestored(p *partition, now time.Time) bool {
	cp := p.checkpoint()
	switch {
	case p.request.Lineage() == nil || p.halted != nil:
		return false
	case o.rests(p) != "":
		o.orphan(p) // D8: what an ownership before this one began
	case !p.follows() || cp.Passes == 0 || cp.Anchor != "" || p.interrupted || p.failures > 0:
		return false
	case cp.Pending:
		o.schedule.at(&p.poll, now)
	}
	return true
}

// every is the interval of p at the moment now.
func (o *ownership) every(p *partition, now time.Time) (time.Duration, error) {
	every, err := p.request.Every(p.spec, now.Add(o.skew))
	if p.kin.gone {
		every = max(every, goneEvery)
	}
	return every, err
}

// later puts p into the schedule for due; where rules decide, it is looked at again before that.
func (o *ownership) later(p *partition, due, now time.Time) {
	p.kin.wanted = time.Time{}
	if p.request.Interval.Ruled() {
		p.kin.wanted = due
		due = earlier(due, now.Add(rulesEvery))
	}
	o.schedule.at(&p.poll, due)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// early reports whether p, which the schedule has brought up, is not to be read now: its parent is gone, or the schedule only
// looks at its rules (an event that begins is polled from then on, and not a day later).
func (o *ownership) early(p *partition, now time.Time) bool {
	if o.rests(p) != "" {
		return true
	}
	if !p.kin.wanted.After(now) {
		return false
	}
	every, err := o.every(p, now)
	if err != nil {
		o.haltPartition(p, err)
		return true
	}
	due := phase(o.name+"/"+p.label, every, p.kin.planned)
	if !due.After(now) {
		return false
	}
	o.later(p, due, now)
	return true
}

// haltPartition stops one partition: the others of its stream go on.
func (o *ownership) haltPartition(p *partition, err error) {
	p.halted = err
	o.schedule.remove(&p.poll)
	o.log.Error("partition halted", "partition", p.label, "error", err)
}

// takeRoots looks, at the beginning of an ownership, for what the configuration has changed: children of a list's new value are
// made from those that are there; where a request or a field of it is new, the parents are read anew, once (P21). Suppression
// makes that free downstream.
func (o *ownership) takeRoots(now time.Time) error {
	for _, r := range o.source.Requests {
		l := r.Lineage()
		if l == nil {
			continue
		}
		enough, err := o.takeRoot(l)
		if remedy, scope := cdc.Verdict(err); err != nil && remedy == cdc.Halt && scope <= cdc.Stream {
			o.haltRequest(r, err)
			continue
		}
		if err != nil {
			return err
		}
		if l.Parent != nil && !enough {
			if err := o.survey(o.streams[l.Parent.Index], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeRoot makes the missing partitions of l's request. It is false where its parents have to be read anew.
func (o *ownership) takeRoot(l *source.Lineage) (enough bool, err error) {
	known, enough := false, true
	for _, p := range slices.Clone(o.partitions) {
		r, seen := rootsOf(l, p.spec.Parent)
		if p.request != l.Child || !seen {
			continue
		}
		known = true
		for key := range r.Of { // gone while nobody kept the books: the list's value, or the parent's stream, was not chosen then
			if l.Parent == nil || !o.lives(o.streams[l.Parent.Index], key) {
				if err := o.lose(l, p, key); err != nil {
					return false, err
				}
			}
		}
		enough = enough && o.rests(p) != notSeen
		if err := o.twins(l, p.spec.Parent); err != nil {
			return false, err
		}
	}
	for _, p := range o.kin.unborn {
		if p.request != l.Child {
			continue
		}
		if err := o.retire(l, p); err != nil {
			return false, err
		}
	}
	return enough && (known || l.Parent == nil || o.streams[l.Parent.Index].table.Set().Count == 0), nil
}

// lives reports whether the parent stream has a record of that key, published or parked. After a mismatch nobody can tell.
func (o *ownership) lives(s *stream, key string) bool {
	known, ok := s.table.Get([]byte(key), record.KeyHash([]byte(key)))
	_, parked := s.parked.get(key)
	return ok && known.Live() || parked || key == beyond || s.mismatch
}

// twins makes the partitions that a parent has by all values of the lists, where they are new.
func (o *ownership) twins(l *source.Lineage, parent map[string]json.RawMessage) error {
	r, _ := rootsOf(l, parent)
	parts, err := l.Partitions(parent)
	if err != nil || len(r.Of) == 0 || !slices.Equal(r.Fields, l.Fields()) {
		return nil //nolint:nilerr // of other fields than today's: its parent is read anew
	}
	for _, spec := range parts {
		if o.byName[l.Child.Name+"/"+spec.Name] != nil {
			continue
		}
		twin, err := o.child(l, spec)
		if err != nil {
			return err
		}
		for key := range r.Of {
			o.relate(relation{l, key}, twin)
		}
		if err := o.stageKin(twin, twin.checkpoint(), spec.Parent, l.Changed); err != nil {
			return err
		}
		twin.kin.sighted++
	}
	return nil
}

// retire looks after the state of a partition that the configuration has no more (P24): what is known of its parent is used for
// its twins, and then marked as old, since nobody keeps it up. Should the configuration have it again, its parent is read anew.
func (o *ownership) retire(l *source.Lineage, p *partition) error {
	cp := p.checkpoint()
	r, seen := rootsOf(l, cp.Parent)
	if !seen || len(r.Fields) == 0 {
		return nil
	}
	if l.Parent != nil {
		if err := o.twins(l, cp.Parent); err != nil {
			return err
		}
	}
	r.Fields = []string{}
	var err error
	if cp.Parent, err = r.with(l, cp.Parent); err != nil {
		return err
	}
	return o.filling.checkpoint(p, cp, time.Now())
}

// survey reads a parent stream from its beginning, unless this process has: the mark of it commits before the first child.
func (o *ownership) survey(parent *stream, now time.Time) error {
	for _, p := range o.partitions {
		if p.request != parent.request || p.halted != nil || p.committed.Cursor == "" || o.kin.surveyed[p] {
			continue
		}
		o.log.Info("a child stream needs more of its parents than is known: they are read anew", "partition", p.label)
		if err := o.filling.checkpoint(p, source.Expire(p.checkpoint()), now); err != nil {
			return err
		}
		p.interrupted = true // at once
	}
	return nil
}
