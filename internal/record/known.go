package record

import (
	"github.com/zeebo/xxh3"

	"tidemark/internal/cdc"
)

// Known is the table of what has been published, as the scanner's caller sees it.
type Known interface {
	// Raw returns how the record of key looked when it was last seen; false when the key is unknown or staged, since a
	// staged record's bytes must be compared with what is staged (P2).
	Raw(key []byte, h uint64) (RawHint, bool)
}

// RawHint is how a record's bytes looked when they were last scanned. It is an observation, not state (2).
type RawHint struct {
	Len     uint32 // bytes
	Hash    uint64 // RawHash of them
	Version cdc.Version
}

// KeyHash returns the hash under which tables keep key.
func KeyHash(key []byte) uint64 { return xxh3.Hash(key) }

// RawHash returns the hash of a record's bytes as they came.
func RawHash(b []byte) uint64 { return xxh3.Hash(b) }
