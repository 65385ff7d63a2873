package capture

import "iter"

// overlay holds the exceptions of a stream (parked records, held versions): few, so a map serves. Its staged part is what
// stands in batches that are not known to be committed (P2); it dies with the ownership (2).
type overlay[V any] struct {
	committed map[string]V
	staged    map[string][]staged[V] // oldest batch first
}

type staged[V any] struct {
	value V
	gone  bool
	batch uint64
}

func newOverlay[V any]() overlay[V] {
	return overlay[V]{committed: map[string]V{}, staged: map[string][]staged[V]{}}
}

// get reads staged over committed (P2).
func (o *overlay[V]) get(key string) (V, bool) {
	if s := o.staged[key]; len(s) > 0 {
		last := s[len(s)-1]
		return last.value, !last.gone
	}
	v, ok := o.committed[key]
	return v, ok
}

// put stages v under key; the key's older value stays committed until batch settles.
func (o *overlay[V]) put(batch uint64, key string, v V) {
	o.staged[key] = append(o.staged[key], staged[V]{value: v, batch: batch})
}

// remove stages that key is gone.
func (o *overlay[V]) remove(batch uint64, key string) {
	o.staged[key] = append(o.staged[key], staged[V]{gone: true, batch: batch})
}

// settle makes what batch staged committed (2). Batches settle in order.
func (o *overlay[V]) settle(batch uint64) {
	for key, s := range o.staged {
		for len(s) > 0 && s[0].batch <= batch {
			o.apply(key, s[0].value, s[0].gone)
			s = s[1:]
		}
		if len(s) == 0 {
			delete(o.staged, key)
		} else {
			o.staged[key] = s
		}
	}
}

// apply takes what Kafka holds under key: last write wins.
func (o *overlay[V]) apply(key string, v V, gone bool) {
	if gone {
		delete(o.committed, key)
		return
	}
	o.committed[key] = v
}

// drop forgets what is staged.
func (o *overlay[V]) drop() { clear(o.staged) }

// len counts what is committed.
func (o *overlay[V]) len() int { return len(o.committed) }

// all goes through what there is, staged over committed (P2), in no order.
func (o *overlay[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for key := range o.committed {
			if v, ok := o.get(key); ok && !yield(key, v) {
				return
			}
		}
		for key := range o.staged {
			if _, known := o.committed[key]; known {
				continue
			}
			if v, ok := o.get(key); ok && !yield(key, v) {
				return
			}
		}
	}
}
