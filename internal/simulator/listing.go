package simulator

import (
	"math"
	"slices"
	"sort"
)

// listing is what a list request asks for, whatever the system's own words for it are.
type listing struct {
	r          *resource
	from, to   int64            // time of change, inclusive; null and MaxInt64: all
	match      func(*row) bool  // nil: all
	by         func(*row) int64 // the order, ascending, then by number; nil: the time of change, which is fast
	descending bool
	first      int    // how many rows come before
	after      *entry // or: they are all up to this place
	size       int
}

// page is the answer to a listing.
type page struct {
	r     *resource // as it was, where a stale replica answers
	ids   []int64
	total int   // how many match in all
	first int   // how many of them come before
	last  entry // the place of the last one; where there is none, the place where the page begins
	more  bool
	other bool // these are the records of another tenant
}

// list makes the page that was asked for, as the faults have it. The lock is held.
func (u *Upstream) list(l listing, hit strikes) page {
	u.stir(l, hit)
	if f, ok := hit.of(Stale); ok {
		l.r = l.r.past(f.N)
	}
	if hit.has(Hidden) {
		match := l.match
		l.match = func(w *row) bool { return !hidden(w.id) && (match == nil || match(w)) }
	}
	if hit.has(IgnoreFilter) {
		l.from, l.to, l.after = null, math.MaxInt64, nil
	}
	if hit.has(IgnoreSort) {
		l.by, l.descending = func(w *row) int64 { return w.id }, false
	}
	total, at := l.matching(l.r)
	p := page{r: l.r, first: l.first, total: total, other: hit.has(Tenant)}
	if l.after != nil {
		p.last = *l.after
		p.first = sort.Search(total, func(i int) bool { return entry{l.r.rows[at(i)-1].updated, at(i)}.compare(p.last) > 0 })
	}
	p.spoil(&l, hit)
	for i := p.first; i < min(p.first+l.size, p.total); i++ {
		id := at(i)
		if l.descending {
			id = at(total - 1 - i)
		}
		p.ids = append(p.ids, id)
		p.last = entry{l.r.rows[id-1].updated, id}
	}
	p.more = p.first+l.size < p.total
	if hit.has(Shuffle) {
		u.random.Shuffle(len(p.ids), func(i, j int) { p.ids[i], p.ids[j] = p.ids[j], p.ids[i] })
	}
	u.stats.Records += int64(len(p.ids))
	return p
}

// spoil moves the edges of the page as the faults have it.
func (p *page) spoil(l *listing, hit strikes) {
	if f, ok := hit.of(Capped); ok {
		l.size = min(l.size, f.N)
	}
	if f, ok := hit.of(CutListing); ok {
		p.total = min(p.total, f.N)
	}
	switch {
	case hit.has(Empty):
		p.total = 0
	case hit.has(DropPage):
		p.first += l.size
	case hit.has(RepeatPage):
		p.first = max(0, p.first-l.size)
	}
}

// matching returns how many rows match, and the numbers of them in ascending order.
func (l listing) matching(r *resource) (int, func(int) int64) {
	if l.by == nil { // two binary searches, however large the resource
		low := sort.Search(len(r.index), func(i int) bool { return r.index[i].updated >= l.from })
		high := max(low, sort.Search(len(r.index), func(i int) bool { return r.index[i].updated > l.to }))
		if l.match == nil {
			return high - low, func(i int) int64 { return r.index[low+i].id }
		}
		var ids []int64
		for _, e := range r.index[low:high] {
			if l.match(&r.rows[e.id-1]) {
				ids = append(ids, e.id)
			}
		}
		return len(ids), func(i int) int64 { return ids[i] }
	}
	var all []entry
	for i := range r.rows {
		w := &r.rows[i]
		if w.committed && !w.gone && w.updated >= l.from && w.updated <= l.to && (l.match == nil || l.match(w)) {
			all = append(all, entry{l.by(w), w.id})
		}
	}
	slices.SortFunc(all, entry.compare)
	return len(all), func(i int) int64 { return all[i].id }
}

// hidden says which half of the records a lost permission hides.
func hidden(id int64) bool { return mix(uint64(id))%2 == 0 }

// find returns a record by its number for a lookup, and the resource that it is of; nil: there is none.
func (u *Upstream) find(r *resource, id int64, hit strikes) (*resource, *row) {
	present, now := r, r.at(id)
	if f, ok := hit.of(Stale); ok {
		r = r.past(f.N)
	}
	w := r.at(id)
	if hit.has(Hidden) && hidden(id) {
		w = nil
	}
	switch {
	case w != nil && r != present:
		u.shows(r, w.moment, false)
	case w != nil:
	case now != nil: // who asked is told that it is gone
		gone := now.moment
		gone.gone = true
		u.shows(r, gone, false)
	}
	return r, w
}

// appendAll appends the records of a page, with commas between them.
func (u *Upstream) appendAll(dst []byte, p page) []byte {
	lies := p.other || p.r != u.resource(p.r.name)
	for i, id := range p.ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		w := &p.r.rows[id-1]
		if lies {
			u.shows(p.r, w.moment, p.other)
		}
		if p.other {
			dst = u.renderOther(dst, p.r, w.moment, w.origin)
		} else {
			dst = u.render(dst, p.r, w.moment, w.origin)
		}
	}
	return dst
}
