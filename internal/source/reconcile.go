package source

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// The guard's numbers where nothing else is said (D5).
const (
	guardKeys  = 20
	guardShare = 0.05
)

// reconcile reads how deletions that nobody declares are found (D1) and confirmed (D4).
func (s *streamReader) reconcile(n *yaml.Node) {
	rec := &s.b.stream.Reconcile
	rec.Orphans, rec.GuardKeys, rec.GuardShare = "withhold", guardKeys, guardShare
	if n == nil {
		return
	}
	f := s.fields(n, "reconcile", reconcileTable)
	if f == nil {
		return
	}
	rec.Every, rec.times = s.positive(f["every"], "reconcile.every", 0), s.timetable(f["schedule"], "reconcile.schedule")
	switch {
	case f["every"] != nil && f["schedule"] != nil:
		s.fail(f["schedule"], "reconcile has both `every` and `schedule`: one of them says when")
	case !s.b.stream.Snapshot && f["every"] == nil && f["schedule"] == nil && f["lookup"] == nil && f["guard"] == nil && f["orphans"] == nil:
		s.fail(n, "reconcile needs `every` or `schedule`, `lookup`, or both")
	case s.b.stream.LogFeed:
		s.fail(n, "reconcile, but the stream is a log feed (record_id): its entries leave the listing by age, and nothing is deleted by that (D1)")
	case s.b.stream.Snapshot && cmp.Or(f["every"], f["schedule"]) != nil:
		s.fail(cmp.Or(f["every"], f["schedule"]), "a stream without `incremental` reconciles at every pass: its `interval` says how often (D10)")
	}
	if o := s.choice(f["orphans"], "orphans", reconcileTable.options("orphans")...); o != "" {
		rec.Orphans = o
	}
	s.guard(f["guard"], "guard", rec)
	s.lookup(f["lookup"])
}

// listings reads what of `reconcile` concerns the request and all its streams: how its live records are listed (D1).
func (s *streamReader) listings(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	s.listing(child(n, "listing"))
	s.ordering(child(n, "order"), cmp.Or(s.b.request.listing, &s.b.request))
	for _, req := range []*Request{&s.b.request, s.b.request.listing} {
		if req != nil {
			req.total, req.cap = s.place(child(n, "total"), "total"), int(s.integer(child(n, "cap"), "cap", 1, math.MaxInt32))
			s.apart(n, req)
		}
	}
}

// guard reads the numbers of D5 into rec; what is not said stays as it is.
func (r *linter) guard(n *yaml.Node, what string, rec *Reconcile) {
	if n == nil {
		return
	}
	f := r.fields(n, what, guardTable)
	if f["records"] != nil {
		rec.GuardKeys = r.integer(f["records"], what+".records", 0, math.MaxInt32)
	}
	if p := f["percent"]; p != nil {
		if rec.GuardShare = r.number(p, what+".percent") / 100; rec.GuardShare > 1 {
			r.fail(p, "%s.percent is at most 100", what)
		}
	}
}

// listing reads how every live record is listed, where that is not the stream's request without its cursor (D1). It becomes a
// request of its own, with the stream's records, errors and partitions.
func (s *streamReader) listing(n *yaml.Node) {
	if n == nil {
		return
	}
	f := s.fields(n, "listing", listingTable)
	if f == nil {
		return
	}
	if s.f["incremental"] == nil {
		s.fail(n, "listing, but the stream has no `incremental`: its own request lists everything at every pass (D10)")
	}
	l := s.b.request
	l.uses, l.lastOf, l.records = uses{}, nil, slices.Clone(l.records)
	if in := l.incremental; in != nil && in.kind != timestampCursor {
		l.incremental = nil // its cursor belongs to the other request
	}
	l.list = s.call(f, "listing", n, s.in("a listing", requestNames...))
	if f["records"] != nil {
		switch p := s.place(f["records"], "records"); {
		case len(s.b.streams) > 1:
			s.fail(f["records"], "records in a listing of several streams: they lie where the request has them")
		case p != nil && len(s.b.streams) == 1:
			l.records = []selection{{path: *p, stream: s.b.streams[0]}}
		}
	}
	at := s.f["paginator"]
	if f["paginator"] != nil {
		at, l.paginator = f["paginator"], paginator{}
		s.paginator(&l.paginator, at)
	}
	s.pages(&l, at)
	s.b.request.listing = &l
}

// lookup reads how upstream is asked for one record by its key (D4).
func (s *streamReader) lookup(l *yaml.Node) {
	if l == nil {
		return
	}
	lf := s.fields(l, "lookup", lookupTable)
	if lf == nil {
		return
	}
	if s.b.stream.contentKey {
		s.fail(l, "a lookup needs a key to ask for, and `primary_key: content` is a hash")
		return
	}
	names := []string{"key", "config", "now"}
	if !s.b.stream.keyScope {
		names = append(names, "partition")
	}
	before := len(s.problems)
	look := &lookup{call: s.call(lf, "lookup", l, s.in("lookup", names...))}
	if p := s.place(lf["records"], "records"); p != nil {
		look.records = *p
	} else {
		look.records = s.found
	}
	if !look.call.mentions("key") && len(s.problems) == before {
		s.fail(l, "the lookup does not say which record it asks for: there is no {{ key.NAME }} in it")
	}
	sc := s.in("lookup gone", "record", "config", "now")
	sc.slot = s.slot
	if e := s.expression(lf["gone"], "gone", sc, boolean); e != nil {
		s.b.stream.gone = newCondition("gone", e)
	}
	s.b.stream.lookup, s.b.stream.HasLookup = look, true
}

// ReconcileEvery is how often the request's partitions are listed in full: as often as the most demanding of its streams says.
// 0: not by an interval.
func (r *Request) ReconcileEvery() time.Duration {
	var every time.Duration
	for _, st := range r.Streams {
		if e := st.Reconcile.Every; e > 0 && (every == 0 || e < every) {
			every = e
		}
	}
	return every
}

// ListingAt is the first moment after a time at which the clock says that the request's partitions are listed in full; false where
// it does not (P22).
func (r *Request) ListingAt(after time.Time) (at time.Time, ok bool) {
	for _, st := range r.Streams {
		if t := st.Reconcile.times; t != nil {
			if next := t.next(after); !ok || next.Before(at) {
				at, ok = next, true
			}
		}
	}
	return at, ok
}

func (st *Stream) reconciles() bool { return st.Reconcile.Every > 0 || st.Reconcile.times != nil }

// Reconciles reports whether the request's partitions are listed in full now and then.
func (r *Request) Reconciles() bool {
	return slices.ContainsFunc(r.Streams, (*Stream).reconciles)
}

// Listing is the fingerprint of what a complete listing was made under: the request, the filter, and who asked (P23). What is
// not visible to a credential is deleted (D9), so after a change of it two listings have to agree, as after one of the filter.
func (r *Request) Listing() string { return r.ListingPrint + "-" + r.source.Identity }

// BeginListing returns the position of a pass that lists every live record of p (D1), as the definition declares it: by default
// the request without its cursor, from `start`. It moves no cursor and has no checkpoint; its requests leave others the last of
// the budget.
func (r *Request) BeginListing(p Partition, now time.Time) (Position, error) {
	req := r
	if r.listing != nil {
		req = r.listing
	}
	pos, err := req.Begin(p, cdc.Checkpoint{}, now)
	pos.listing = true
	return pos, err
}

// Request returns what the pass asks: the partition's request, or the listing that is declared beside it.
func (p *Position) Request() *Request { return p.request }

// Full reports whether the pass lists everything from the beginning, so that what it does not show may be missing (D2). Where a
// listing is declared, the request itself does not.
func (p *Position) Full() bool { return p.full && p.request.listing == nil }

// incomplete says why a pass that has ended is no complete listing; "" where it is one (D2).
func (s *splitter) incomplete(next *Position) string {
	r := s.request
	switch {
	case next.why != "":
		return next.why
	case !next.full:
		return "it did not begin at the beginning"
	case next.walk.drift:
		return "rows moved between its pages (P9)"
	case next.walk.lost:
		return "it has more keys than can be watched for drift"
	case s.unheard(next) != "":
		return s.unheard(next)
	case r.cap > 0 && next.keysShown() >= r.cap:
		return fmt.Sprintf("it has %d keys and is cut off at %d (reconcile.cap)", next.keysShown(), r.cap) // D1
	case r.total != nil && !next.totalled:
		return fmt.Sprintf("its answers do not say their total at %q", r.total)
	case r.total != nil && next.total != int64(next.keysShown()):
		return fmt.Sprintf("it shows %d keys and says that there are %d", next.keysShown(), next.total) // D1
	}
	return ""
}

// watched reports whether watch notes the keys of the pages.
func (r *Request) watched() bool {
	if r.ordered || r.paginator.kind == keysetPaginator || r.incremental != nil && r.incremental.kind != timestampCursor {
		return false
	}
	return r.total != nil || slices.Contains([]paginatorKind{pagePaginator, offsetPaginator, linkPaginator}, r.paginator.kind)
}

// count notes the keys of a page whose paginator does not watch them, so that they can be compared with total and cap (D1): rows
// are no measure, since pages overlap and a walk that drifts is taken again.
func (s *splitter) count(next *Position) {
	most := s.request.source.limits.withDefaults().Sightings
	for i := range s.rows {
		next.walk.note(s.rows[i].key, next.pages, most)
	}
}

// keysShown is how many keys the pass has shown.
func (p *Position) keysShown() int {
	if p.request.ordered {
		return p.shown
	}
	return len(p.walk.seen)
}

// spoil notes that the pass can no longer prove anything missing, and why; the first reason stands.
func (p *Position) spoil(why string) {
	if p.full = false; p.why == "" {
		p.why = why
	}
}

// summed reads the answer's total (D1). One that changes while the listing is walked is a sign of drift (P9).
func (s *splitter) summed(next *Position) error {
	if s.total < 0 {
		return nil
	}
	span := s.envelope.Spans[s.total]
	if k := record.KindAt(s.body, span); k == record.Absent || k == record.Null {
		return nil
	}
	n, err := number(string(s.text(span)))
	if err != nil {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `reconcile.total` in the definition", "the total at %q: %w", s.request.total, err)
	}
	if next.totalled && n != next.total {
		next.walk.drift = true
	}
	next.total, next.totalled = n, true
	return nil
}
