package state

// Set is count and digest of the live keys of a table. It is stored with every transaction that changes a hash (K16) and
// compared at every restore (K8 g), so the digest's formula is part of the format: another one would look like lost state.
type Set struct {
	Count  int64
	Digest uint64 // sum over the live keys of mix(key hash, content hash), modulo 2^64; neither order nor version counts
}

// change replaces what a key adds to the set.
func (s *Set) change(h, oldHash uint64, oldLive bool, newHash uint64, newLive bool) {
	if oldLive {
		s.Count--
		s.Digest -= mix(h, oldHash)
	}
	if newLive {
		s.Count++
		s.Digest += mix(h, newHash)
	}
}

// mix is what a key adds to the digest. Each half is mixed on its own, so that two keys that exchange their contents do not
// leave the sum as it was.
func mix(h, hash uint64) uint64 { return finish(finish(h+0x9e3779b97f4a7c15) ^ hash) }

// finish is the finalizer of SplitMix64 (Stafford's variant 13).
func finish(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
