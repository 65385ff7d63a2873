package capture

import (
	"container/heap"
	"hash/fnv"
	"time"
)

// schedule holds the partitions by the time at which they are due. An idle partition is an entry here and nothing else:
// no goroutine, no timer of its own.
type schedule struct{ entries []*partition }

// at makes p due at t, whether it waits already or not.
func (s *schedule) at(p *partition, t time.Time) {
	p.due = t
	if p.slot >= 0 {
		heap.Fix(s, p.slot)
		return
	}
	heap.Push(s, p)
}

// remove takes p out, where it waits.
func (s *schedule) remove(p *partition) {
	if p.slot >= 0 {
		heap.Remove(s, p.slot)
	}
}

// next returns the partition that is due first, nil where none waits.
func (s *schedule) next() *partition {
	if len(s.entries) == 0 {
		return nil
	}
	return s.entries[0]
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (s *schedule) Len() int           { return len(s.entries) }
func (s *schedule) Less(i, j int) bool { return s.entries[i].due.Before(s.entries[j].due) }
func (s *schedule) Swap(i, j int) {
	s.entries[i], s.entries[j] = s.entries[j], s.entries[i]
	s.entries[i].slot, s.entries[j].slot = i, j
}
func (s *schedule) Push(x any) {
	p := x.(*partition)
	p.slot = len(s.entries)
	s.entries = append(s.entries, p)
}
func (s *schedule) Pop() any {
	last := len(s.entries) - 1
	p := s.entries[last]
	s.entries[last] = nil
	s.entries = s.entries[:last]
	p.slot = -1
	return p
}

// phase is the first moment after now that lies on name's place in the interval (P22): restarts and neighbours do not bunch,
// since the place is a hash of the name and not the time of the start.
func phase(name string, interval time.Duration, now time.Time) time.Time {
	h := fnv.New64a()
	h.Write([]byte(name))
	offset := time.Duration(h.Sum64() % uint64(interval))
	next := now.Truncate(interval).Add(offset)
	for !next.After(now) {
		next = next.Add(interval)
	}
	return next
}

// backoff is the pause before the next try after n failures in a row: 1 s doubling up to 5 min, less up to a fifth by the
// hash of the name, so that streams that failed together do not come back together.
func backoff(name string, n int) time.Duration {
	d := 5 * time.Minute
	if n < 9 {
		d = min(d, time.Second<<n)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return d - time.Duration(h.Sum64()%uint64(d/5))
}
