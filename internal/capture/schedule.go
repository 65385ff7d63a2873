package capture

import (
	"container/heap"
	"hash/fnv"
	"time"
)

// entry is something that is due at a time: a partition's next pass, or its next listing.
type entry struct {
	partition *partition
	listing   bool
	due       time.Time
	slot      int // in the heap, -1 outside
}

// schedule holds what is due by its time. An idle partition is an entry here and nothing else: no goroutine, no timer of its
// own.
type schedule struct{ entries []*entry }

// at makes e due at t, whether it waits already or not.
func (s *schedule) at(e *entry, t time.Time) {
	e.due = t
	if e.slot >= 0 {
		heap.Fix(s, e.slot)
		return
	}
	heap.Push(s, e)
}

// remove takes e out, where it waits.
func (s *schedule) remove(e *entry) {
	if e.slot >= 0 {
		heap.Remove(s, e.slot)
	}
}

// next returns the entry that is due first, nil where none waits.
func (s *schedule) next() *entry {
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
	e := x.(*entry)
	e.slot = len(s.entries)
	s.entries = append(s.entries, e)
}
func (s *schedule) Pop() any {
	last := len(s.entries) - 1
	e := s.entries[last]
	s.entries[last] = nil
	s.entries = s.entries[:last]
	e.slot = -1
	return e
}

// place is where name lies in a stretch of time: a hash of the name, so that neighbours do not bunch (P22).
func place(name string, stretch time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(stretch))
}

// phase is the first moment after now that lies on name's place in the interval (P22): restarts and neighbours do not bunch,
// since the place is a hash of the name and not the time of the start.
func phase(name string, interval time.Duration, now time.Time) time.Time {
	next := now.Truncate(interval).Add(place(name, interval))
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
	return d - place(name, d/5)
}
