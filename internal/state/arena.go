package state

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

const (
	inlined    = 1 << 63 // mark of a key that is a number
	arenaChunk = 1 << 20 // bytes
	maxKey     = 1 << 16 // bytes, far above K5's limit
	grain      = 8       // bytes; a free block holds the address of the next one of its size
)

// arena holds the bytes of keys, each after its length, in blocks of whole grains that are used again for keys of the same
// number of grains. An address is a position counted over all chunks.
//
// A key that is a decimal number as strconv writes it, below 10^18, takes no block: the number with the inlined bit is its
// address.
type arena struct {
	chunks [][]byte
	next   uint64            // address of the first byte never used
	free   map[uint64]uint64 // by the block's size: address + 1 of the first free one
}

// inline returns the address of a key that is a number, 0 for any other.
func inline(key []byte) uint64 {
	if len(key) == 0 || len(key) > 18 || key[0] == '0' && len(key) > 1 {
		return 0
	}
	var n uint64
	for _, c := range key {
		if c -= '0'; c > 9 {
			return 0
		}
		n = n*10 + uint64(c)
	}
	return n | inlined
}

// equal reports whether key, whose inline is number, is the one at address at.
func (a *arena) equal(at uint64, key []byte, number uint64) bool {
	if at&inlined != 0 || number != 0 {
		return at == number
	}
	b := a.chunks[at/arenaChunk][at%arenaChunk:]
	n, w := uint64(b[0]), 1
	if n >= 0x80 {
		n, w = binary.Uvarint(b)
	}
	return n == uint64(len(key)) && string(b[w:w+len(key)]) == string(key)
}

// appendKey appends the key at address at to dst.
func (a *arena) appendKey(dst []byte, at uint64) []byte {
	if at&inlined != 0 {
		return strconv.AppendUint(dst, at&^inlined, 10)
	}
	b := a.chunks[at/arenaChunk][at%arenaChunk:]
	n, w := binary.Uvarint(b)
	return append(dst, b[w:w+int(n)]...)
}

// store returns an address for key.
func (a *arena) store(m *memory, key []byte) uint64 {
	if at := inline(key); at != 0 {
		return at
	}
	if len(key) > maxKey {
		panic(fmt.Sprintf("state: a key of %d bytes: keys are checked against K5's limit before they come here", len(key)))
	}
	size := blockSize(len(key))
	at, ok := a.free[size]
	if ok {
		at--
		b := a.chunks[at/arenaChunk][at%arenaChunk:]
		if next := binary.NativeEndian.Uint64(b); next != 0 {
			a.free[size] = next
		} else {
			delete(a.free, size)
		}
	} else {
		if a.next%arenaChunk+size > arenaChunk || a.next/arenaChunk == uint64(len(a.chunks)) {
			a.next = uint64(len(a.chunks)) * arenaChunk
			a.chunks = append(a.chunks, m.alloc(arenaChunk))
		}
		at = a.next
		a.next += size
	}
	b := a.chunks[at/arenaChunk][at%arenaChunk:]
	copy(b[binary.PutUvarint(b, uint64(len(key))):], key)
	return at
}

// release gives the block at address at back.
func (a *arena) release(at uint64) {
	if at&inlined != 0 {
		return
	}
	b := a.chunks[at/arenaChunk][at%arenaChunk:]
	n, _ := binary.Uvarint(b)
	size := blockSize(int(n))
	if a.free == nil {
		a.free = map[uint64]uint64{}
	}
	binary.NativeEndian.PutUint64(b, a.free[size]) // 0 ends the list: addresses stand in it with 1 added
	a.free[size] = at + 1
}

func (a *arena) bytes() int64 { return int64(a.next) }

// blockSize is the size of the block of a key of n bytes.
func blockSize(n int) uint64 {
	w := 1
	for x := n; x >= 0x80; x >>= 7 {
		w++
	}
	return uint64(n+w+grain-1) / grain * grain
}
