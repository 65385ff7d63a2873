package offsets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/cdc"
)

// hashFormat is the first byte of every value of the hashes topic.
const hashFormat = 1

// HashFlags are marks of a Hash. Their bits are those of state.Flags.
type HashFlags uint8

// The marks of a hash. The two bits above them hold the version's kind in the stored form.
const (
	// HashParked marks a key whose newer content stands in the dead-letter topic, see Parked; Hash.Hash stays that of the
	// last committed event (5).
	HashParked HashFlags = 1 << iota
	// HashGrave marks a key whose last committed event is a tombstone. Version and time are kept so that a stale replica does
	// not bring the key back; Hash.Hash is the Unix second of the burial (D7).
	HashGrave

	hashFlags = HashParked | HashGrave
	kindShift = 2
	kindMask  = 3 << kindShift
)

// Hash is what the hashes topic holds of a key: all of a state entry but what is observation.
type Hash struct {
	Hash      uint64 // of the content of the last committed event; a grave's Unix second
	Version   cdc.Version
	Rules     uint16 // number of the RuleSet under which Hash was made
	Flags     HashFlags
	Partition string // name; "" and cdc.NoPartition are the same, and ParseHash gives the latter
}

// Grave returns the hash record of a key that was tombstoned at t (D7).
func Grave(t time.Time, v cdc.Version, partition string) Hash {
	return Hash{Hash: uint64(t.Unix()), Version: v, Flags: HashGrave, Partition: partition}
}

// AppendHash appends the stored form of h to dst. h must hold a known version kind and known flags.
//
//	byte     format, 1
//	byte     flags in bits 0–1, version kind in bits 2–3, the rest 0
//	8 bytes  hash
//	uvarint  rule set
//	8 bytes  version's integer or seconds, where there is a version
//	4 bytes  version's nanoseconds, where it is an instant
//	rest     partition's name, nothing for "-"
//
// Fixed numbers are big-endian.
func AppendHash(dst []byte, h Hash) []byte {
	dst = append(dst, hashFormat, byte(h.Flags)|byte(h.Version.Kind)<<kindShift)
	dst = binary.BigEndian.AppendUint64(dst, h.Hash)
	dst = binary.AppendUvarint(dst, uint64(h.Rules))
	if h.Version.Kind != cdc.NoVersion {
		dst = binary.BigEndian.AppendUint64(dst, uint64(h.Version.Sec))
	}
	if h.Version.Kind == cdc.Instant {
		dst = binary.BigEndian.AppendUint32(dst, h.Version.Nano)
	}
	if h.Partition == cdc.NoPartition {
		return dst
	}
	return append(dst, h.Partition...)
}

// ParseHash reads a value of the hashes topic. A newer format is refused (K12), and so is what AppendHash does not write;
// either halts the connection.
func ParseHash(b []byte) (Hash, error) {
	if len(b) == 0 {
		return Hash{}, damaged("hash", errors.New("no bytes"))
	}
	if b[0] > hashFormat { // K12
		return Hash{}, newer("hash", fmt.Errorf("format %d, this version knows up to %d", b[0], hashFormat))
	}
	h, ok := parseHash(b)
	if !ok {
		return Hash{}, damaged("hash", fmt.Errorf("not a hash of format %d: %.60x", hashFormat, b))
	}
	return h, nil
}

func parseHash(b []byte) (h Hash, ok bool) {
	if len(b) < 10 || b[0] != hashFormat {
		return h, false
	}
	h.Flags = HashFlags(b[1]) & hashFlags
	h.Version.Kind = cdc.VersionKind(b[1] & kindMask >> kindShift)
	if b[1]&^(byte(hashFlags)|kindMask) != 0 || h.Version.Kind > cdc.Instant {
		return h, false
	}
	h.Hash = binary.BigEndian.Uint64(b[2:])
	b = b[10:]
	rules, n := binary.Uvarint(b)
	if n <= 0 || rules > 1<<16-1 || n > 1 && b[n-1] == 0 { // a last byte of 0 is a longer spelling of a smaller number
		return h, false
	}
	h.Rules, b = uint16(rules), b[n:]
	if h.Version.Kind != cdc.NoVersion {
		if len(b) < 8 {
			return h, false
		}
		h.Version.Sec, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	}
	if h.Version.Kind == cdc.Instant {
		if len(b) < 4 {
			return h, false
		}
		h.Version.Nano, b = binary.BigEndian.Uint32(b), b[4:]
	}
	h.Partition = cdc.NoPartition
	if len(b) > 0 {
		h.Partition = string(b)
	}
	return h, h.Version.Nano < 1e9 && string(b) != cdc.NoPartition
}
