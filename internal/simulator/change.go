package simulator

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// Run makes ChangesPerSecond changes a second, on the wall clock, until ctx ends.
func (s *SalesLoft) Run(ctx context.Context) {
	if s.o.ChangesPerSecond <= 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(max(50*time.Millisecond, time.Duration(float64(time.Second)/s.o.ChangesPerSecond)))
	defer ticker.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			owed := int(time.Since(began).Seconds()*s.o.ChangesPerSecond) - made
			made += owed
			s.Step(min(owed, 1+10*int(s.o.ChangesPerSecond))) // a machine that slept does not owe hours of changes
		}
	}
}

// Step makes n changes now. Late commits become visible with the clock, or with Settle.
func (s *SalesLoft) Step(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < n && !s.frozen; i++ {
		s.step()
	}
}

// step makes one change of a random kind.
func (s *SalesLoft) step() {
	now := micros(time.Now())
	s.surface(now)
	r := s.anyResource()
	if r == nil {
		return
	}
	if s.o.Deletions && s.random.IntN(50) == 0 {
		s.alter(r, 1, now, func(w *row) { w.gone = true })
		return
	}
	draw := s.random.Float64()
	under := func(part float64) bool { // walks through the parts of the whole
		draw -= part
		return draw < 0
	}
	switch {
	case under(s.o.Creates):
		s.create(r, now)
	case under(s.o.CountsOnly):
		s.alter(r, 1, now, func(w *row) { w.counts++ })
	case under(s.o.Touches):
		s.alter(r, 1, now, func(*row) {})
	case under(s.o.Reverts):
		s.alter(r, 1, now, func(w *row) { w.content = w.before })
	case under(s.o.Ties):
		s.tie(r, 2+s.random.IntN(19), now)
	case under(s.o.LateCommits):
		s.late(r, 1, now, 1+s.random.Int64N(int64(s.o.Lateness/time.Microsecond)))
	default:
		s.alter(r, 1, now, (*row).rewrite)
	}
}

// anyResource draws a resource, each record being as likely as any other; nil where there are none.
func (s *SalesLoft) anyResource() *resource {
	total := 0
	for _, r := range s.resources {
		total += r.alive
	}
	if total == 0 {
		return nil
	}
	draw := s.random.IntN(total)
	for _, r := range s.resources {
		if draw < r.alive {
			return r
		}
		draw -= r.alive
	}
	return nil
}

// rewrite gives a record content that it never had.
func (w *row) rewrite() {
	w.fresh++
	w.content = w.fresh
}

// stamp returns a new updated_at: now by the server's clock, later than all before it.
func (s *SalesLoft) stamp(now int64) int64 {
	s.stamped = max(s.stamped+1, now+int64(s.o.Skew/time.Microsecond))
	return s.stamped
}

// pick returns up to n records that live and are not waiting for a late commit, one after the other from a random one on.
func (s *SalesLoft) pick(r *resource, n int) []*row {
	var picked []*row
	if len(r.rows) == 0 {
		return nil
	}
	first := s.random.IntN(len(r.rows))
	for i := range r.rows {
		if len(picked) >= n {
			break
		}
		w := &r.rows[(first+i)%len(r.rows)]
		if w.committed && !w.gone && !w.late {
			picked = append(picked, w)
		}
	}
	return picked
}

// alter applies a change to n records, each with an updated_at of its own. The change works on a copy: what is visible, and
// what the index was made of, changes in publish alone.
func (s *SalesLoft) alter(r *resource, n int, now int64, change func(*row)) []string {
	picked := s.pick(r, n)
	for _, w := range picked {
		s.commit(r, w, now, s.stamp(now), change)
	}
	return keys(picked)
}

func (s *SalesLoft) commit(r *resource, w *row, now, updated int64, change func(*row)) {
	next := *w
	next.at, next.updated = now, updated
	change(&next)
	w.fresh = next.fresh
	s.publish(r, next.moment)
}

func (s *SalesLoft) tie(r *resource, n int, now int64) []string {
	picked := s.pick(r, n)
	updated := s.stamp(now)
	for _, w := range picked {
		s.commit(r, w, now, updated, (*row).rewrite)
	}
	return keys(picked)
}

func (s *SalesLoft) late(r *resource, n int, now, after int64) []string {
	picked := s.pick(r, n)
	for _, w := range picked {
		next := *w
		next.updated = s.stamp(now)
		next.rewrite()
		w.fresh, w.late = next.fresh, true
		p := pending{due: now + after, r: r, m: next.moment}
		i, _ := slices.BinarySearchFunc(s.pending, p, func(a, b pending) int { return order(a.due, b.due+1) }) // behind its equals
		s.pending = slices.Insert(s.pending, i, p)
	}
	return keys(picked)
}

func (s *SalesLoft) create(r *resource, now int64) string {
	updated := s.stamp(now)
	id := int64(len(r.rows) + 1)
	r.rows = append(r.rows, row{moment: moment{id: id}, created: updated, fresh: 1, before: 1})
	s.publish(r, moment{id: id, at: now, updated: updated, content: 1})
	return strconv.FormatInt(id, 10)
}

func keys(picked []*row) []string {
	names := make([]string, len(picked))
	for i, w := range picked {
		names[i] = strconv.FormatInt(w.id, 10)
	}
	return names
}

// on runs f on a resource under the lock, with everything due made visible. An unknown name changes nothing.
func (s *SalesLoft) on(name string, f func(r *resource, now int64) []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := micros(time.Now())
	s.surface(now)
	r := s.resource(name)
	if r == nil {
		return nil
	}
	return f(r, now)
}

// Freeze stops all changes of Run and Step and makes every late commit visible: from then on the truth is at rest, but for
// what the methods below do.
func (s *SalesLoft) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
	s.settle()
}

// Thaw ends Freeze.
func (s *SalesLoft) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = false
}

// Settle makes every late commit visible now.
func (s *SalesLoft) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

func (s *SalesLoft) settle() {
	now := micros(time.Now())
	s.surface(now)
	for i := range s.pending {
		s.pending[i].due = now
	}
	s.surface(now)
}

// Change changes the content of n records of the resource, each with its own updated_at; it returns their keys, as all below
// do. Fewer change where fewer live.
func (s *SalesLoft) Change(name string, n int) []string {
	return s.change(name, n, (*row).rewrite)
}

// Touch moves updated_at alone.
func (s *SalesLoft) Touch(name string, n int) []string {
	return s.change(name, n, func(*row) {})
}

// TouchCounts moves counts and updated_at alone.
func (s *SalesLoft) TouchCounts(name string, n int) []string {
	return s.change(name, n, func(w *row) { w.counts++ })
}

// Revert gives records the content that they had before their present one.
func (s *SalesLoft) Revert(name string, n int) []string {
	return s.change(name, n, func(w *row) { w.content = w.before })
}

// Regress restores records as an old backup does: the content before the present one, under an updated_at an hour older.
func (s *SalesLoft) Regress(name string, n int) []string {
	return s.change(name, n, func(w *row) {
		w.content = w.before
		w.updated -= int64(time.Hour / time.Microsecond)
	})
}

// Delete removes n records.
func (s *SalesLoft) Delete(name string, n int) []string {
	return s.change(name, n, func(w *row) { w.gone = true })
}

// Spoil changes n records so that they are broken in the given way, with new content; Sound mends as many broken ones.
func (s *SalesLoft) Spoil(name string, n int, how Spoil) []string {
	if how != Sound {
		return s.change(name, n, func(w *row) {
			w.rewrite()
			w.spoil = how
		})
	}
	return s.mend(name, n, func(w *row) bool { return w.spoil != Sound && !w.gone }, func(w *row) {
		w.rewrite()
		w.spoil = Sound
	})
}

// Restore brings removed records back, as they were, under a new updated_at.
func (s *SalesLoft) Restore(name string, n int) []string {
	return s.mend(name, n, func(w *row) bool { return w.gone }, func(w *row) { w.gone = false })
}

// mend applies a change to the first n records that need it.
func (s *SalesLoft) mend(name string, n int, needs func(*row) bool, change func(*row)) []string {
	return s.on(name, func(r *resource, now int64) []string {
		var mended []*row
		for i := range r.rows {
			if w := &r.rows[i]; len(mended) < n && w.committed && !w.late && needs(w) {
				mended = append(mended, w)
				s.commit(r, w, now, s.stamp(now), change)
			}
		}
		return keys(mended)
	})
}

func (s *SalesLoft) change(name string, n int, change func(*row)) []string {
	return s.on(name, func(r *resource, now int64) []string { return s.alter(r, n, now, change) })
}

// Create creates n records.
func (s *SalesLoft) Create(name string, n int) []string {
	return s.on(name, func(r *resource, now int64) []string {
		var names []string
		for range n {
			names = append(names, s.create(r, now))
		}
		return names
	})
}

// Tie changes the content of n records that share one updated_at.
func (s *SalesLoft) Tie(name string, n int) []string {
	return s.on(name, func(r *resource, now int64) []string { return s.tie(r, n, now) })
}

// Late changes the content of n records now, but they become visible only after the given time.
func (s *SalesLoft) Late(name string, n int, after time.Duration) []string {
	return s.on(name, func(r *resource, now int64) []string { return s.late(r, n, now, int64(after/time.Microsecond)) })
}
