package state

import (
	"iter"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

var _ record.Known = (*Table)(nil)

// Flags are marks of an Entry. Their bits are those of offsets.HashFlags.
type Flags uint8

const (
	// Parked marks a key whose newer content stands in the dead-letter topic (P19); the offsets topic says which. Hash stays
	// that of the last committed event (5).
	Parked Flags = 1 << iota
	// Grave marks a key whose last committed event is a tombstone: version and time of the burial are kept, so that a stale
	// replica does not bring the key back. It is outside count and digest (D7).
	Grave
)

// AnyPartition stands for all partitions in Unseen. It is no partition's ordinal.
const AnyPartition = 1<<32 - 1

// Entry is what is known of a key.
type Entry struct {
	Hash      uint64      // of the content of the last event; a grave's Unix second
	Raw       uint64      // record.RawHash of the bytes last seen with that content; a hint
	RawLen    uint32      // length of those bytes; 0: no hint
	Seen      uint32      // generation of the last sighting (D3)
	Version   cdc.Version // newest version seen with that content (P14)
	Partition uint32      // ordinal of the partition, the caller's
	Rules     uint16      // number of the rule set under which Hash was made (P23)
	Flags     Flags
}

// Live reports whether the key's last event is not a tombstone.
func (e Entry) Live() bool { return e.Flags&Grave == 0 }

// Buried returns when a grave was dug; the zero time for a live entry.
func (e Entry) Buried() time.Time {
	if e.Live() {
		return time.Time{}
	}
	return time.Unix(int64(e.Hash), 0).UTC()
}

// Table holds the entries of one stream. Get it from New.
//
// h is always record.KeyHash(key). Keys were checked against K5's limit of 4 KiB; the table keeps copies. A key longer
// than 64 KiB panics.
type Table struct {
	memory
	index
	cells   []*[cellChunk]cell
	n       uint32 // cells ever used
	free    uint32 // first free cell + 1
	arena   arena
	classes classes

	committed Set
	all       Set // committed and everything staged

	staged  []*batch // oldest first, few
	spare   []*batch
	sighted *batch // sightings of keys that were staged, dropped, and not committed before; see Drop
}

// New returns an empty table. It fails where the system gives no memory; later, when it has no more mappings to give, the
// table grows in the Go heap.
func New() (*Table, error) {
	t := &Table{}
	if err := t.memory.probe(); err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "map memory", "Give the process more memory or more mappings (vm.max_map_count, ulimit -v)", "%w", err)
	}
	t.index.open(&t.memory)
	return t, nil
}

// Close gives the memory back. The table must not be used again, nor a key that one of its iterators gave.
func (t *Table) Close() {
	t.memory.unmap()
	*t = Table{}
}

// Presize makes room for n keys, so that a restore does not grow step by step. It costs 8 to 16 bytes a key at once.
func (t *Table) Presize(n int) { t.index.presize(&t.memory, n) }

// Len counts the committed entries, graves too.
func (t *Table) Len() int { return t.entries }

// Bytes is the memory that the table uses, mapped and staged, without what is reserved and untouched.
func (t *Table) Bytes() int64 {
	n := t.index.bytes() + int64(t.n)*cellBytes + t.arena.bytes()
	for _, b := range t.staged {
		n += b.bytes()
	}
	for _, b := range t.spare {
		n += b.bytes()
	}
	return n
}

// Get returns what is known of key, staged over committed (P2): what the newest batch that holds the key says, or else
// what is committed. A grave is returned like any entry; a staged deletion is false.
func (t *Table) Get(key []byte, h uint64) (Entry, bool) {
	if it := t.top(key, h); it != nil {
		return it.entry, !it.gone
	}
	if c := t.lookup(key, h); c != nil {
		return t.entry(c), true
	}
	return Entry{}, false
}

// Raw returns how the bytes of key looked when they were last seen. It is false for a key that is unknown or has no hint,
// for one that is staged, since what was committed is not what the next sighting compares with (P2), and for one with a
// flag, which the caller has to look at.
func (t *Table) Raw(key []byte, h uint64) (record.RawHint, bool) {
	if t.top(key, h) != nil {
		return record.RawHint{}, false
	}
	c := t.lookup(key, h)
	if c == nil || c.rawLen == 0 || t.classes.of(c).flags != 0 {
		return record.RawHint{}, false
	}
	return record.RawHint{Len: c.rawLen, Hash: c.raw, Version: c.version()}, true
}

// Touch notes a sighting of key whose content equals what Get says, and which is therefore suppressed (5): the bytes as they
// came, where hint has a length; the version, where it is newer than the known one (P14); and the generation. What it
// writes are observations of upstream, so they need no commit (2); but bytes and version are those of one content, and a
// key that is staged with it gets them on the staged entry only. An unknown or deleted key is left alone.
func (t *Table) Touch(key []byte, h uint64, hint record.RawHint, seen uint32) {
	it := t.top(key, h)
	if it == nil {
		if c := t.lookup(key, h); c != nil {
			c.touch(hint, seen, t.classes.of(c).flags)
		}
		return
	}
	if it.gone {
		return
	}
	it.entry.touch(hint)
	t.sight(key, h, seen)
}

// sight raises the generation of key wherever it stands. A sighting is a fact about upstream whichever of the entries
// turns out to be committed: Drop may take the staged one and leave the committed one, Settle of an older batch may show
// an entry that a newer one replaces, and neither may look unseen in between (D3).
func (t *Table) sight(key []byte, h uint64, seen uint32) {
	for _, b := range t.staged {
		if it := b.find(key, h); it != nil && !it.gone {
			it.entry.Seen = max(it.entry.Seen, seen)
		}
	}
	if c := t.lookup(key, h); c != nil {
		c.seen = max(c.seen, seen)
	}
}

// Set is count and digest of the live keys: what a restore compares with the stream record (K8 g).
func (t *Table) Set() Set { return t.committed }

// StagedSet is Set as it will be when everything staged has committed. It goes into the stream record of the transaction
// that takes the newest batch (K16).
func (t *Table) StagedSet() Set { return t.all }

// Apply writes what Kafka holds of key: a restore, where the last write wins (K8 f, K9). Hash, version, partition, rules
// and flags are e's. Observations stay where they are of the same content: the hints and a newer version; the sighting
// stays in any case.
func (t *Table) Apply(key []byte, h uint64, e Entry) {
	c, before := t.lookup(key, h), t.committed
	switch {
	case c != nil:
		old := t.entry(c)
		if old.Hash == e.Hash && old.Rules == e.Rules && old.Flags == e.Flags {
			e.touch(record.RawHint{Len: old.RawLen, Hash: old.Raw, Version: old.Version})
		}
		e.Seen = max(e.Seen, old.Seen)
	case t.sighted != nil:
		// A batch of unknown outcome was dropped and did commit: its keys were seen in the pass that goes on after the
		// reopen, and this is the first time that the table hears of them (D3).
		if it := t.sighted.find(key, h); it != nil {
			e.Seen = max(e.Seen, it.entry.Seen)
		}
	}
	t.write(key, h, c, e)
	t.lift(key, h, before)
}

// Remove forgets the committed entry of key and its sighting: a restore met the tombstone, or a grave is old enough (D7).
func (t *Table) Remove(key []byte, h uint64) {
	before := t.committed
	t.erase(key, h)
	t.lift(key, h, before)
}

// lift brings a change of key's committed entry into StagedSet, unless what is staged above hides it.
func (t *Table) lift(key []byte, h uint64, before Set) {
	if t.top(key, h) == nil {
		t.all.Count += t.committed.Count - before.Count
		t.all.Digest += t.committed.Digest - before.Digest
	}
}

// view returns what Get says of key, as far as the set is concerned.
func (t *Table) view(key []byte, h uint64) (live bool, hash uint64) {
	if it := t.top(key, h); it != nil {
		return !it.gone && it.entry.Live(), it.entry.Hash
	}
	if c := t.lookup(key, h); c != nil {
		return t.classes.of(c).flags&Grave == 0, c.hash
	}
	return false, 0
}

// write makes e the committed entry of key, whose cell is c where it has one.
func (t *Table) write(key []byte, h uint64, c *cell, e Entry) {
	var live bool
	var hash uint64
	if c == nil {
		c = t.insert(key, h)
	} else {
		live, hash = t.classes.of(c).flags&Grave == 0, c.hash
		t.classes.held[c.class]--
	}
	t.committed.change(h, hash, live, e.Hash, e.Live())
	c.hash, c.raw, c.rawLen, c.seen = e.Hash, e.Raw, e.RawLen, e.Seen
	c.setVersion(e.Version)
	c.class = t.classes.id(class{partition: e.Partition, rules: e.Rules, flags: e.Flags})
	t.classes.held[c.class]++
}

// erase removes the committed entry of key, if there is one.
func (t *Table) erase(key []byte, h uint64) {
	s, i, id := t.locate(key, h)
	if id == none {
		return
	}
	c := t.cell(id)
	t.committed.change(h, c.hash, t.classes.of(c).flags&Grave == 0, 0, false)
	t.classes.held[c.class]--
	if s != nil {
		s.remove(i)
	} else {
		delete(t.crowd, string(key))
	}
	t.entries--
	t.arena.release(c.key)
	*c = cell{class: vacant, key: uint64(t.free)}
	t.free = id + 1
}

// Live counts the committed live keys of a partition (D5).
func (t *Table) Live(partition uint32) int64 {
	var n int64
	for i, k := range t.classes.list {
		if k.partition == partition && k.flags&Grave == 0 {
			n += t.classes.held[i]
		}
	}
	return n
}

// Graves counts the committed graves (D7).
func (t *Table) Graves() int64 { return int64(t.entries) - t.committed.Count }

// Unseen goes through the committed live keys of a partition, or of AnyPartition, whose last sighting is older than
// generation gen: after a complete pass of generation gen these are the ones that it did not show (D2). A key is valid
// until the next step. Staging is allowed meanwhile, and does not show; the caller asks Get for what is in flight.
func (t *Table) Unseen(gen, partition uint32) iter.Seq2[[]byte, Entry] {
	return t.walk(func(c *cell) bool {
		if c.seen >= gen {
			return false
		}
		k := t.classes.of(c)
		return k.flags&Grave == 0 && (partition == AnyPartition || k.partition == partition)
	})
}

// All goes through the committed entries, graves too, in no order. A key is valid until the next step. Staging is allowed
// meanwhile, and does not show; so is Remove of the key that was given.
func (t *Table) All() iter.Seq2[[]byte, Entry] {
	return t.walk(func(*cell) bool { return true })
}

func (t *Table) walk(want func(*cell) bool) iter.Seq2[[]byte, Entry] {
	return func(yield func([]byte, Entry) bool) {
		var key []byte
		for id := uint32(0); id < t.n; id++ {
			c := t.cell(id)
			if c.class == vacant || !want(c) {
				continue
			}
			key = t.arena.appendKey(key[:0], c.key)
			if !yield(key, t.entry(c)) {
				return
			}
		}
	}
}
