package state

import (
	"fmt"
	"slices"
	"unsafe"
)

// batch is what one batch has staged. Each has its own small table, so that settling one is writing it down and forgetting
// it whole; a look through all of them costs a few cached reads, since no more than two are in flight (DESIGN §4).
type batch struct {
	number uint64
	slots  []uint64 // upper half of the hash, item + 1; at most half of them used
	items  []item
	keys   []byte
}

// item is one staged key.
type item struct {
	h     uint64
	at, n uint32 // of its key in keys
	gone  bool   // the entry is to be removed
	entry Entry
}

func (b *batch) bytes() int64 {
	return int64(cap(b.slots))*8 + int64(cap(b.items))*int64(unsafe.Sizeof(item{})) + int64(cap(b.keys))
}

func (b *batch) key(it *item) []byte { return b.keys[it.at : it.at+it.n] }

// find returns the item of key, valid until the next put; nil where there is none.
func (b *batch) find(key []byte, h uint64) *item {
	if len(b.items) == 0 {
		return nil
	}
	mask := uint64(len(b.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		w := b.slots[i]
		if w == 0 {
			return nil
		}
		if w>>32 == h>>32 {
			it := &b.items[uint32(w)-1]
			if it.h == h && string(b.key(it)) == string(key) {
				return it
			}
		}
	}
}

// put returns the item of key, a new one where there is none.
func (b *batch) put(key []byte, h uint64) *item {
	if it := b.find(key, h); it != nil {
		return it
	}
	if 2*(len(b.items)+1) > len(b.slots) {
		b.slots = make([]uint64, max(256, 2*len(b.slots)))
		for i := range b.items {
			b.place(b.items[i].h, i)
		}
	}
	b.place(h, len(b.items))
	b.items = append(b.items, item{h: h, at: uint32(len(b.keys)), n: uint32(len(key))})
	b.keys = append(b.keys, key...)
	return &b.items[len(b.items)-1]
}

func (b *batch) place(h uint64, i int) {
	mask := uint64(len(b.slots) - 1)
	at := h & mask
	for b.slots[at] != 0 {
		at = (at + 1) & mask
	}
	b.slots[at] = h>>32<<32 | uint64(i+1)
}

// top returns key's item in the newest batch that has one, nil where it is not staged.
func (t *Table) top(key []byte, h uint64) *item {
	for i := len(t.staged) - 1; i >= 0; i-- {
		if it := t.staged[i].find(key, h); it != nil {
			return it
		}
	}
	return nil
}

// Stage says that batch holds an event of key that makes it e. Get sees it from now on (P2); it is committed by Settle and
// forgotten by Drop. Batches are numbered in the order in which they commit; staging for a batch that is older than the
// newest one and holds nothing yet panics.
func (t *Table) Stage(batch uint64, key []byte, h uint64, e Entry) {
	live, hash := t.view(key, h)
	it := t.batch(batch).put(key, h)
	if !it.gone {
		e.Seen = max(e.Seen, it.entry.Seen)
	}
	it.entry, it.gone = e, false
	t.shown(key, h, live, hash)
	t.sight(key, h, e.Seen)
}

// StageDelete says that batch holds a tombstone of key that leaves no grave. See Stage.
func (t *Table) StageDelete(batch uint64, key []byte, h uint64) {
	live, hash := t.view(key, h)
	it := t.batch(batch).put(key, h)
	it.entry, it.gone = Entry{}, true
	t.shown(key, h, live, hash)
}

// shown brings what is now seen of key into StagedSet, in the place of what was: nothing changes where a batch that is newer
// than the one staged for holds the key too.
func (t *Table) shown(key []byte, h uint64, live bool, hash uint64) {
	nowLive, now := t.view(key, h)
	t.all.change(h, hash, live, now, nowLive)
}

// batch returns the batch of that number, a new one where there is none.
func (t *Table) batch(number uint64) *batch {
	for _, b := range slices.Backward(t.staged) {
		if b.number == number {
			return b
		}
	}
	if n := len(t.staged); n > 0 && t.staged[n-1].number > number {
		panic(fmt.Sprintf("state: batch %d begins after batch %d", number, t.staged[n-1].number))
	}
	b := t.blank()
	b.number = number
	t.staged = append(t.staged, b)
	return b
}

// blank returns an empty batch.
func (t *Table) blank() *batch {
	if n := len(t.spare); n > 0 {
		b := t.spare[n-1]
		t.spare = t.spare[:n-1]
		return b
	}
	return &batch{}
}

// Settle says that batch, and with it all before it, is known to be committed: what they staged is committed now (2). A
// batch that staged nothing is fine.
func (t *Table) Settle(batch uint64) {
	for len(t.staged) > 0 && t.staged[0].number <= batch {
		b := t.staged[0]
		for i := range b.items {
			it := &b.items[i]
			key := b.key(it)
			if it.gone {
				t.erase(key, it.h)
				continue
			}
			c := t.lookup(key, it.h)
			if c != nil {
				it.entry.Seen = max(it.entry.Seen, c.seen)
			}
			t.write(key, it.h, c, it.entry)
		}
		t.staged = slices.Delete(t.staged, 0, 1)
		t.recycle(b)
	}
	// A commit of ours is known again, so the restore that might have asked for them is over.
	if t.sighted != nil {
		t.recycle(t.sighted)
		t.sighted = nil
	}
}

// recycle keeps b's memory for the next batch, unless an unusual batch made it large (10).
func (t *Table) recycle(b *batch) {
	const most = 1 << 15 // items; a transaction's bound is 10,000 records (K17)
	if len(t.spare) >= 2 || cap(b.items) > most {
		return
	}
	clear(b.slots)
	b.items, b.keys = b.items[:0], b.keys[:0]
	t.spare = append(t.spare, b)
}

// Drop forgets everything staged: the ownership died, and whether its last batch committed is Kafka's to say (2), (K14).
// The sightings stay (D3): those of committed keys were noted as they came; those of keys that were new are kept aside
// until a commit is known again, for a restore that finds that the batch did commit (Apply).
func (t *Table) Drop() {
	for _, b := range t.staged {
		for i := range b.items {
			it := &b.items[i]
			key := b.key(it)
			if it.gone || t.lookup(key, it.h) != nil {
				continue
			}
			if t.sighted == nil {
				t.sighted = t.blank()
			}
			kept := t.sighted.put(key, it.h)
			kept.entry.Seen = max(kept.entry.Seen, it.entry.Seen)
		}
		t.recycle(b)
	}
	t.staged = t.staged[:0]
	t.all = t.committed
}
