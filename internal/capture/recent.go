package capture

import (
	"slices"
	"time"

	"tidemark/internal/offsets"
)

// recentPiece is how many ids of a log feed go into one record of the offsets topic: lists are records of their own (K5).
const recentPiece = 500

// recents are the ids of a log feed's partition that may come again (P13), in pieces as Kafka holds them.
type recents struct {
	committed map[int][]string
	staged    []string
	dirty     bool // staged differs from committed
}

// ids reads staged over committed (P2).
func (r *recents) ids() []string {
	if r.dirty {
		return r.staged
	}
	var all []string
	for n := range len(r.committed) {
		all = append(all, r.committed[n]...)
	}
	return all
}

// settle makes ids, which a known commit wrote, the committed ones (2).
func (r *recents) settle(ids []string) {
	r.committed = map[int][]string{}
	for piece := range slices.Chunk(ids, recentPiece) {
		r.committed[len(r.committed)] = piece
	}
}

// drop forgets what is staged.
func (r *recents) drop() { r.staged, r.dirty = nil, false }

// apply takes one piece of a restore.
func (r *recents) apply(number int, value []byte) error {
	if r.committed == nil {
		r.committed = map[int][]string{}
	}
	if value == nil {
		delete(r.committed, number)
		return nil
	}
	v, err := offsets.Decode[offsets.Recent](value)
	r.committed[number] = v.IDs
	return err
}

// remember stages the ids of a log feed beside its checkpoint (P13): all of them, in pieces; pieces that are not needed any
// more become tombstones. nil leaves them as they are.
func (o *ownership) remember(p *partition, ids []string) error {
	if ids == nil {
		return nil
	}
	b := o.filling
	key := func(n int) []byte {
		return offsets.Key{Kind: offsets.KindRecent, Connection: o.name, Stream: p.request.Name, Name: p.spec.Name, Number: n}.Append(nil)
	}
	// Batches before this one may have left more pieces than are committed.
	left := max(len(p.recent.committed), (len(p.recent.staged)+recentPiece-1)/recentPiece)
	ids = slices.Clone(ids)
	n := 0
	for piece := range slices.Chunk(ids, recentPiece) {
		value, err := offsets.Encode(offsets.Recent{IDs: piece})
		if err != nil {
			return err
		}
		b.records.Offset(key(n), value)
		n++
	}
	for ; n < left; n++ {
		b.records.Offset(key(n), nil)
	}
	p.recent.staged, p.recent.dirty = ids, true
	b.recent[p] = ids
	b.touch(time.Now())
	return nil
}
