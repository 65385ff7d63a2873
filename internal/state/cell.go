package state

import (
	"unsafe"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// A cell is a committed entry in mapped memory. It holds no pointer: its key is a number or an address in the arena, and
// what few entries differ in is a class.
type cell struct {
	hash   uint64
	raw    uint64
	key    uint64 // see arena; of a vacant cell the next free cell + 1
	sec    int64  // of the version
	nano   uint32 // of the version in 30 bits, its kind in the two above
	rawLen uint32
	seen   uint32
	class  uint32
}

const (
	cellBytes = int64(unsafe.Sizeof(cell{}))
	cellChunk = 1 << 16 // cells, 3 MiB

	vacant = 1<<32 - 1 // class of a cell that is free
	none   = 1<<32 - 1 // id of no cell

	kindShift = 30
)

var _ [48]byte = [cellBytes]byte{} // the figure in doc.go

func (c *cell) version() cdc.Version {
	return cdc.Version{Sec: c.sec, Nano: c.nano & (1<<kindShift - 1), Kind: cdc.VersionKind(c.nano >> kindShift)}
}

func (c *cell) setVersion(v cdc.Version) {
	c.sec, c.nano = v.Sec, v.Nano|uint32(v.Kind)<<kindShift
}

// touch notes a sighting of the entry's own content. A grave has neither bytes nor a version that a sighting could raise:
// whoever sees the key again decides what that means (P14, D7).
func (c *cell) touch(hint record.RawHint, seen uint32, flags Flags) {
	c.seen = max(c.seen, seen)
	if flags&Grave != 0 {
		return
	}
	if hint.Len != 0 {
		c.rawLen, c.raw = hint.Len, hint.Hash
	}
	if raises(hint.Version, c.version()) {
		c.setVersion(hint.Version)
	}
}

// touch is that of cell, without the sighting.
func (e *Entry) touch(hint record.RawHint) {
	if !e.Live() {
		return
	}
	if hint.Len != 0 {
		e.RawLen, e.Raw = hint.Len, hint.Hash
	}
	if raises(hint.Version, e.Version) {
		e.Version = hint.Version
	}
}

// raises reports whether v takes the place of known: it is newer, or the stream's versions have changed their kind. (8)
func raises(v, known cdc.Version) bool {
	if v.Kind != known.Kind {
		return v.Kind != cdc.NoVersion
	}
	return v.Compare(known) > 0
}

func (t *Table) cell(id uint32) *cell { return &t.cells[id/cellChunk][id%cellChunk] }

func (t *Table) entry(c *cell) Entry {
	k := t.classes.of(c)
	return Entry{
		Hash: c.hash, Raw: c.raw, RawLen: c.rawLen, Seen: c.seen, Version: c.version(),
		Partition: k.partition, Rules: k.rules, Flags: k.flags,
	}
}

// lookup returns the cell of key, nil where it is not committed.
func (t *Table) lookup(key []byte, h uint64) *cell {
	_, _, id := t.locate(key, h)
	if id == none {
		return nil
	}
	return t.cell(id)
}

// locate finds the committed entry of key: its cell and the slot that leads there; s is nil where it stands in the crowd.
func (t *Table) locate(key []byte, h uint64) (s *segment, i, id uint32) {
	number := inline(key)
	s, tag := t.at(h), h>>32
	for i = uint32(tag) % segmentSlots; ; i = (i + 1) % segmentSlots {
		w := s.slots[i]
		if w == 0 {
			break
		}
		if w>>32 == tag {
			id = uint32(w) - 1
			if t.arena.equal(t.cell(id).key, key, number) {
				return s, i, id
			}
		}
	}
	if len(t.crowd) != 0 {
		if id, ok := t.crowd[string(key)]; ok {
			return nil, 0, id
		}
	}
	return nil, 0, none
}

// insert adds key, which must not be there, and returns its zero cell.
func (t *Table) insert(key []byte, h uint64) *cell {
	id := t.free - 1
	if t.free != 0 {
		t.free = uint32(t.cell(id).key)
	} else {
		id = t.n
		t.n++
		if id%cellChunk == 0 {
			m := t.memory.alloc(cellChunk * int(cellBytes))
			t.cells = append(t.cells, (*[cellChunk]cell)(unsafe.Pointer(&m[0])))
		}
	}
	c := t.cell(id)
	*c = cell{key: t.arena.store(&t.memory, key)}
	if !t.index.place(&t.memory, h, id) {
		if t.crowd == nil {
			t.crowd = map[string]uint32{}
		}
		t.crowd[string(key)] = id
	}
	t.entries++
	return c
}

// class is what many entries have in common; a cell holds its number.
type class struct {
	partition uint32
	rules     uint16
	flags     Flags
}

// classes numbers the classes of a table: partitions × rule sets × flags, so few that none is ever forgotten.
type classes struct {
	list   []class
	held   []int64 // committed entries of each
	number map[class]uint32
	last   uint32
}

func (s *classes) of(c *cell) class { return s.list[c.class] }

func (s *classes) id(k class) uint32 {
	if int(s.last) < len(s.list) && s.list[s.last] == k {
		return s.last
	}
	n, ok := s.number[k]
	if !ok {
		if s.number == nil {
			s.number = map[class]uint32{}
		}
		n = uint32(len(s.list))
		s.number[k] = n
		s.list, s.held = append(s.list, k), append(s.held, 0)
	}
	s.last = n
	return n
}
