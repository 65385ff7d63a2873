package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"time"
)

// cursor is what an opaque cursor holds: a place in the order of change, and what it may be used for and until when.
type cursor struct {
	entry
	bound  uint64 // the parameters that it belongs to
	issued int64  // microseconds since 1970, by the server's clock
	epoch  int64
}

// seal is the cursor's text. It changes with every answer, also when the place does not (APIS.md §3 (d)).
func (u *Upstream) seal(at entry, bound uint64, now time.Time) string {
	var b []byte
	for _, n := range []uint64{uint64(at.updated), uint64(at.id), bound, uint64(micros(now)), uint64(u.epoch)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, u.signature(b)))
}

// unseal reads a cursor; false: it is none of ours.
func (u *Upstream) unseal(text string) (cursor, bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != 48 || binary.BigEndian.Uint64(b[40:]) != u.signature(b[:40]) {
		return cursor{}, false
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return cursor{entry{int64(n(0)), int64(n(1))}, n(2), int64(n(3)), int64(n(4))}, true
}

func (u *Upstream) signature(b []byte) uint64 {
	sum := mix(uint64(u.o.Seed))
	for ; len(b) > 0; b = b[8:] {
		sum = mix(sum ^ binary.BigEndian.Uint64(b))
	}
	return sum
}

// expired reports whether a cursor is too old.
func (u *Upstream) expired(c cursor, now time.Time) bool {
	return c.epoch != u.epoch || u.o.CursorLife > 0 && micros(now)-c.issued >= u.o.CursorLife.Microseconds()
}

// ExpireCursors ends every opaque cursor that was handed out.
func (u *Upstream) ExpireCursors() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.epoch++
}
