package state

// memory is what a table has mapped. It only grows, by whole chunks that never move, and goes all at once.
type memory struct {
	maps [][]byte
	heap bool // the system refused a mapping and is not asked again
}

const hugeFrom = 4 // chunks; a table that has as many is worth large pages

// probe reports whether the system maps memory for us at all.
func (m *memory) probe() error {
	b, err := mapMemory(1)
	if err == nil {
		unmapMemory(b)
	}
	return err
}

// alloc returns n zero bytes at an address that is a multiple of 8. Where the system has no mapping left they come from the
// Go heap, in which the collector has nothing to look for: they hold no pointers.
func (m *memory) alloc(n int) []byte {
	if !m.heap {
		b, err := mapMemory(n)
		if err == nil {
			if len(m.maps) >= hugeFrom { // a small table would waste most of a large page
				adviseHuge(b)
			}
			m.maps = append(m.maps, b)
			return b
		}
		m.heap = true
	}
	return make([]byte, n)
}

// unmap gives everything back.
func (m *memory) unmap() {
	for _, b := range m.maps {
		unmapMemory(b)
	}
	m.maps = nil
}
