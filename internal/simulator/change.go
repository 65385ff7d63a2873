package simulator

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Run makes ChangesPerSecond changes a second, on the wall clock, until ctx ends.
func (u *Upstream) Run(ctx context.Context) {
	if u.o.ChangesPerSecond <= 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(max(50*time.Millisecond, time.Duration(float64(time.Second)/u.o.ChangesPerSecond)))
	defer ticker.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			owed := int(time.Since(began).Seconds()*u.o.ChangesPerSecond) - made
			made += owed
			u.Step(min(owed, 1+10*int(u.o.ChangesPerSecond))) // a machine that slept does not owe hours of changes
		}
	}
}

// Step makes n changes now. Late commits become visible with the clock, or with Settle.
func (u *Upstream) Step(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := 0; i < n && !u.frozen; i++ {
		u.step()
	}
}

// step makes one change of a random kind.
func (u *Upstream) step() {
	now := micros(time.Now())
	u.surface(now)
	r := u.anyResource()
	if r == nil {
		return
	}
	draw := u.random.Float64()
	under := func(part float64) bool { // walks through the parts of the whole
		draw -= part
		return draw < 0
	}
	switch {
	case under(u.o.Creates):
		u.create(r, now)
	case under(u.o.CountsOnly):
		u.alter(r, 1, now, func(w *row) { w.counts++ })
	case under(u.o.Touches):
		u.alter(r, 1, now, func(*row) {})
	case under(u.o.Reverts):
		u.alter(r, 1, now, func(w *row) { w.content = w.before })
	case under(u.o.Ties):
		u.tie(r, 2+u.random.IntN(19), now)
	case under(u.o.LateCommits):
		u.late(r, 1, now, 1+u.random.Int64N(int64(u.o.Lateness/time.Microsecond)))
	case under(u.o.Deletes):
		u.alter(r, 1, now, (*row).vanish)
	case under(u.o.Restores):
		u.mend(r, 1, now, (*row).restorable, (*row).restore)
	case r.move != nil && under(u.o.Moves):
		u.alter(r, 1, now, func(w *row) { r.move(&w.moment) })
	default:
		u.alter(r, 1, now, (*row).rewrite)
	}
}

// anyResource draws a resource, each record being as likely as any other; nil where there are none.
func (u *Upstream) anyResource() *resource {
	total := 0
	for _, r := range u.resources {
		if !r.log {
			total += r.alive
		}
	}
	if total == 0 {
		return nil
	}
	draw := u.random.IntN(total)
	for _, r := range u.resources {
		switch {
		case r.log:
		case draw < r.alive:
			return r
		default:
			draw -= r.alive
		}
	}
	return nil
}

// rewrite gives a record content that it never had.
func (w *row) rewrite() {
	w.fresh++
	w.content = w.fresh
}

// vanish removes a record without a sign.
func (w *row) vanish() { w.gone = true }

// restore brings a removed record back, as it was.
func (w *row) restore() { w.gone = false }

func (w *row) restorable() bool { return w.gone && !w.orphan }

// stamp returns a new updated_at: now by the server's clock, later than all before it.
func (u *Upstream) stamp(now int64) int64 {
	u.stamped = max(u.stamped+1, now+int64(u.o.Skew/time.Microsecond))
	return u.stamped
}

// pick returns up to n records that live and are not waiting for a late commit, one after the other from a random one on.
func (u *Upstream) pick(r *resource, n int) []*row {
	var picked []*row
	if len(r.rows) == 0 || r.log {
		return nil
	}
	first := u.random.IntN(len(r.rows))
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
func (u *Upstream) alter(r *resource, n int, now int64, change func(*row)) []string {
	picked := u.pick(r, n)
	for _, w := range picked {
		u.commit(r, w, now, u.stamp(now), change)
	}
	return u.keys(r, picked)
}

func (u *Upstream) commit(r *resource, w *row, now, updated int64, change func(*row)) {
	next := *w
	next.at, next.updated = now, updated
	change(&next)
	w.fresh = next.fresh
	u.publish(r, next.moment)
}

func (u *Upstream) tie(r *resource, n int, now int64) []string {
	picked := u.pick(r, n)
	updated := u.stamp(now)
	for _, w := range picked {
		u.commit(r, w, now, updated, (*row).rewrite)
	}
	return u.keys(r, picked)
}

func (u *Upstream) late(r *resource, n int, now, after int64) []string {
	picked := u.pick(r, n)
	for _, w := range picked {
		next := *w
		next.updated = u.stamp(now)
		next.rewrite()
		w.fresh, w.late = next.fresh, true
		p := pending{due: now + after, r: r, m: next.moment}
		i, _ := slices.BinarySearchFunc(u.pending, p, func(a, b pending) int { return cmp.Compare(a.due, b.due+1) }) // behind its equals
		u.pending = slices.Insert(u.pending, i, p)
	}
	return u.keys(r, picked)
}

// create makes a record; "" where it would have to belong to another one and there is none.
func (u *Upstream) create(r *resource, now int64) string {
	var parent int64
	if r.parent != nil {
		if parent = u.anyParent(r); parent == 0 {
			return ""
		}
	}
	m := moment{at: now, updated: u.stamp(now), content: 1}
	o := origin{created: m.updated, parent: parent}
	if r.born != nil {
		r.born(&m, &o)
	}
	return r.keyOf(uint64(u.o.Seed), u.insert(r, m, o))
}

// insert makes the record whose first state is m, and returns its number.
func (u *Upstream) insert(r *resource, m moment, o origin) int64 {
	m.id = int64(len(r.rows) + 1)
	r.rows = append(r.rows, row{moment: moment{id: m.id}, origin: o, fresh: 1, before: 1})
	u.publish(r, m)
	return m.id
}

func (u *Upstream) keys(r *resource, picked []*row) []string {
	names := make([]string, len(picked))
	for i, w := range picked {
		names[i] = r.keyOf(uint64(u.o.Seed), w.id)
	}
	return names
}

// on runs f on a resource under the lock, with everything due made visible. An unknown name changes nothing.
func (u *Upstream) on(name string, f func(r *resource, now int64) []string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := micros(time.Now())
	u.surface(now)
	r := u.resource(name)
	if r == nil {
		return nil
	}
	return f(r, now)
}

// Freeze stops all changes of Run and Step and makes every late commit visible: from then on the truth is at rest, but for
// what the methods below do.
func (u *Upstream) Freeze() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.frozen = true
	u.settle()
}

// Thaw ends Freeze.
func (u *Upstream) Thaw() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.frozen = false
}

// Settle makes every late commit visible now.
func (u *Upstream) Settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
}

func (u *Upstream) settle() {
	now := micros(time.Now())
	u.surface(now)
	for i := range u.pending {
		u.pending[i].due = now
	}
	u.surface(now)
}

// Change changes the content of n records of the resource, each with its own updated_at; it returns their keys, as all below
// do. Fewer change where fewer live.
func (u *Upstream) Change(name string, n int) []string {
	return u.change(name, n, (*row).rewrite)
}

// Touch moves updated_at alone.
func (u *Upstream) Touch(name string, n int) []string {
	return u.change(name, n, func(*row) {})
}

// TouchCounts moves counts and updated_at alone.
func (u *Upstream) TouchCounts(name string, n int) []string {
	return u.change(name, n, func(w *row) { w.counts++ })
}

// Revert gives records the content that they had before their present one.
func (u *Upstream) Revert(name string, n int) []string {
	return u.change(name, n, func(w *row) { w.content = w.before })
}

// Regress restores records as an old backup does: the content before the present one, under an updated_at an hour older.
func (u *Upstream) Regress(name string, n int) []string {
	return u.change(name, n, func(w *row) {
		w.content = w.before
		w.updated -= int64(time.Hour / time.Microsecond)
	})
}

// Move moves n records to another partition, where the system has such.
func (u *Upstream) Move(name string, n int) []string {
	return u.on(name, func(r *resource, now int64) []string {
		if r.move == nil {
			return nil
		}
		return u.alter(r, n, now, func(w *row) { r.move(&w.moment) })
	})
}

// Delete removes n records. What belongs to them goes with them, and comes back with them.
func (u *Upstream) Delete(name string, n int) []string {
	return u.change(name, n, (*row).vanish)
}

// Spoil changes n records so that they are broken in the given way, with new content; Sound mends as many broken ones.
func (u *Upstream) Spoil(name string, n int, how Spoil) []string {
	if how != Sound {
		return u.change(name, n, func(w *row) {
			w.rewrite()
			w.spoil = how
		})
	}
	return u.on(name, func(r *resource, now int64) []string {
		return u.mend(r, n, now, func(w *row) bool { return w.spoil != Sound && !w.gone }, func(w *row) {
			w.rewrite()
			w.spoil = Sound
		})
	})
}

// Restore brings removed records back, as they were, under a new updated_at.
func (u *Upstream) Restore(name string, n int) []string {
	return u.on(name, func(r *resource, now int64) []string { return u.mend(r, n, now, (*row).restorable, (*row).restore) })
}

// mend applies a change to the first n records that need it.
func (u *Upstream) mend(r *resource, n int, now int64, needs func(*row) bool, change func(*row)) []string {
	var mended []*row
	for i := range r.rows {
		if w := &r.rows[i]; len(mended) < n && w.committed && !w.late && needs(w) {
			mended = append(mended, w)
			u.commit(r, w, now, u.stamp(now), change)
		}
	}
	return u.keys(r, mended)
}

func (u *Upstream) change(name string, n int, change func(*row)) []string {
	return u.on(name, func(r *resource, now int64) []string { return u.alter(r, n, now, change) })
}

// Create creates n records.
func (u *Upstream) Create(name string, n int) []string {
	return u.on(name, func(r *resource, now int64) []string {
		var names []string
		for range n {
			if name := u.create(r, now); name != "" {
				names = append(names, name)
			}
		}
		return names
	})
}

// Tie changes the content of n records that share one updated_at.
func (u *Upstream) Tie(name string, n int) []string {
	return u.on(name, func(r *resource, now int64) []string { return u.tie(r, n, now) })
}

// Late changes the content of n records now, but they become visible only after the given time.
func (u *Upstream) Late(name string, n int, after time.Duration) []string {
	return u.on(name, func(r *resource, now int64) []string { return u.late(r, n, now, int64(after/time.Microsecond)) })
}
