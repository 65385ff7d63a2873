package state

import (
	"unsafe"
)

const (
	segmentSlots = 1 << 12               // slots of a segment, 32 KiB
	segmentFull  = segmentSlots / 10 * 8 // used slots at which it splits: a miss looks at 13 slots on average by then
	segmentLast  = segmentSlots - 1      // used slots of one that cannot split: the free one ends every search
	maxDepth     = 20                    // bits of h that choose the segment; the 12 below them are a slot's home
	segmentChunk = 127                   // segments that are mapped at once, 4 MiB
	segmentBytes = unsafe.Sizeof(segment{})
)

// A segment is a small open-addressed table: linear probing, no marks for what was removed. A slot holds the upper half of
// the key's hash and the cell's id + 1; 0 is a free slot. Its home is in the hash's bits 32 to 43, which do not depend on
// how deep the segment lies, so a split leaves a slot's home where it is.
type segment struct {
	depth uint32 // leading bits of the hash that all its keys share
	used  uint32
	_     [56]byte // the slots begin with a cache line
	slots [segmentSlots]uint64
}

// index leads from a key's hash to the slots that may be its own.
type index struct {
	dir     []*segment // by the first depth bits of the hash; a segment of less depth stands in several places
	shift   uint       // 64 − depth
	entries int
	rest    []segment // mapped and not yet used
	count   int       // segments in use
	// crowd holds the keys that found no room in a segment that cannot split, by key: over 4095 keys that share 32 bits of
	// their hash, which happens to nobody but to who chooses keys for it (10).
	crowd map[string]uint32
}

// at returns the segment of h.
func (x *index) at(h uint64) *segment { return x.dir[h>>x.shift] }

func (x *index) open(m *memory) {
	x.dir, x.shift = []*segment{x.segment(m)}, 64
}

func (x *index) bytes() int64 { return int64(x.count)*int64(segmentBytes) + int64(len(x.dir))*8 }

// segment returns a segment that nothing points to.
func (x *index) segment(m *memory) *segment {
	if len(x.rest) == 0 {
		b := m.alloc(segmentChunk * int(segmentBytes))
		x.rest = unsafe.Slice((*segment)(unsafe.Pointer(&b[0])), segmentChunk)
	}
	s := &x.rest[0]
	x.rest = x.rest[1:]
	x.count++
	return s
}

// place puts id where a search for h finds it. It is false where there is no room and no split could make some.
func (x *index) place(m *memory, h uint64, id uint32) bool {
	s := x.at(h)
	for s.used >= segmentFull && s.depth < maxDepth {
		x.split(m, h)
		s = x.at(h)
	}
	if s.used >= segmentLast {
		return false
	}
	s.place(h>>32<<32 | uint64(id+1))
	s.used++
	return true
}

func (x *index) presize(m *memory, n int) {
	depth := uint(0)
	for depth < maxDepth && n>>depth > segmentFull*9/10 { // hashes do not spread evenly, so leave a tenth
		depth++
	}
	for prefix := range uint64(1) << depth {
		h := prefix << (64 - depth)
		for uint(x.at(h).depth) < depth {
			x.split(m, h)
		}
	}
}

// split parts the segment of h by the next bit of the hash.
func (x *index) split(m *memory, h uint64) {
	s, t := x.at(h), x.segment(m)
	if uint(s.depth) == 64-x.shift {
		dir := make([]*segment, 2*len(x.dir))
		for i, s := range x.dir {
			dir[2*i], dir[2*i+1] = s, s
		}
		x.dir, x.shift = dir, x.shift-1
	}
	bit := 63 - s.depth
	// The places of s in the directory lie side by side: those whose next bit is set become t's.
	span := uint64(1) << (64 - x.shift - uint(s.depth))
	first := h >> x.shift &^ (span - 1)
	for i := first + span/2; i < first+span; i++ {
		x.dir[i] = t
	}
	s.depth++
	t.depth = s.depth
	s.part(t, bit)
}

// part moves the slots whose bit is set to t, which is empty, and closes the gaps. It walks in the order of probing, from a
// free slot on: a slot that stays finds its place anew between its home and where it was, all of which has been walked.
func (s *segment) part(t *segment, bit uint32) {
	if s.used == 0 {
		return
	}
	i := uint32(0)
	for s.slots[i] != 0 {
		i++
	}
	for range segmentSlots - 1 {
		i = (i + 1) % segmentSlots
		w := s.slots[i]
		if w == 0 {
			continue
		}
		s.slots[i] = 0
		if w>>bit&1 == 0 {
			s.place(w)
			continue
		}
		t.place(w)
		t.used++
		s.used--
	}
}

// place writes w into the first free slot from its home on. The caller counts.
func (s *segment) place(w uint64) {
	i := uint32(w>>32) % segmentSlots
	for s.slots[i] != 0 {
		i = (i + 1) % segmentSlots
	}
	s.slots[i] = w
}

// remove frees slot i and moves up those behind it that a search would otherwise stop short of.
func (s *segment) remove(i uint32) {
	for j := (i + 1) % segmentSlots; s.slots[j] != 0; j = (j + 1) % segmentSlots {
		home := uint32(s.slots[j]>>32) % segmentSlots
		if (j-home)%segmentSlots >= (j-i)%segmentSlots { // its home is not between the gap and here
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
	s.used--
}
