package source

import (
	"strconv"
	"strings"
	"time"

	"tidemark/internal/record"
)

// recentID is the id of an entry of a log feed, with the entry's cursor.
type recentID struct {
	id string
	at time.Time // zero: the feed has no instants
}

// recents are the ids of the entries that a log feed may show again (P13). Beside an id stands the page that noted it, as
// in sightings; -1 is the checkpoint.
type recents struct {
	pages   map[string]int
	order   []recentID // as noted
	changed bool
}

// Remember gives the pass the ids that were kept beside its checkpoint: Page.Recent of the last page that counts. It is
// called after Begin, for log feeds.
func (p *Position) Remember(ids []string) {
	if !p.request.logFeed() {
		return
	}
	p.recent = &recents{pages: make(map[string]int, len(ids))}
	for _, text := range ids {
		id := unpackID(text)
		p.recent.pages[id.id] = -1
		p.recent.order = append(p.recent.order, id)
	}
}

// packID writes an id with its instant, in nanoseconds since 1970 to the base of 36 ("-" for none), and a blank between.
func packID(r recentID) string {
	at := "-"
	if !r.at.IsZero() {
		at = strconv.FormatInt(r.at.UnixNano(), 36)
	}
	return at + " " + r.id
}

func unpackID(text string) recentID {
	at, id, ok := strings.Cut(text, " ")
	if !ok {
		return recentID{id: text}
	}
	n, err := strconv.ParseInt(at, 36, 64)
	if err != nil {
		return recentID{id: id}
	}
	return recentID{id, time.Unix(0, n).UTC()}
}

// entry takes the id of a log feed's entry and reports whether it was read before (P13). The ids of the page wait in
// pending until the page is whole: a page that fails in its middle is asked for again, and has read nothing.
func (s *splitter) entry(rd *reader, rec *Record, w *row) bool {
	span := rd.scanner.Spans[rd.stream.recordIDSlot]
	switch k := record.KindAt(s.body, span); k {
	case record.String, record.Number:
	default:
		s.park(rec, "the entry has no id", errKind{k})
		return false
	}
	text := s.text(span)
	if len(s.request.Streams) > 1 { // an id is one of its stream
		s.entryID = append(append(append(s.entryID[:0], rd.stream.Name...), ' '), text...)
		text = s.entryID
	}
	w.key = record.KeyHash(text)
	if r := s.page.Next.recent; r != nil {
		if page, ok := r.pages[string(text)]; ok && page < s.page.Next.pages {
			return true
		}
	}
	if _, ok := s.noted[string(text)]; ok {
		return true
	}
	id := string(text)
	s.noted[id] = struct{}{}
	s.pending = append(s.pending, recentID{id, w.at})
	return false
}

// errKind says that record_id is of an unfit kind.
type errKind struct{ kind record.Kind }

func (e errKind) Error() string { return "record_id is " + e.kind.String() }

// remember notes the ids of a page that is whole.
func (s *splitter) remember(next *Position) {
	if len(s.pending) == 0 {
		return
	}
	if next.recent == nil {
		next.recent = &recents{pages: map[string]int{}}
	}
	r := next.recent
	for _, id := range s.pending {
		if _, ok := r.pages[id.id]; !ok {
			r.order = append(r.order, id)
		}
		r.pages[id.id] = next.pages
	}
	r.changed = true
}

// list returns the ids to keep: of the entries that the next pass can show again, which are those from cursor − lookback
// on, also beyond the cursor; bounded by count, the youngest (P13). nil where nothing changed.
func (r *recents) list(next *Position) []string {
	if r == nil || !r.changed {
		return nil
	}
	inc := next.request.incremental
	var low time.Time
	if inc != nil && inc.kind == timestampCursor && next.checkpoint.Cursor != "" {
		if at, err := inc.record.parse([]byte(next.checkpoint.Cursor)); err == nil {
			m := inc.unfolded(inc.base(next.checkpoint.Since, mark{next.checkpoint.Cursor, at}), max(inc.lookback, inc.deepSpan))
			low = inc.floor(m.at).Add(-2 * inc.granularity) // P11 asks a granule earlier
		}
	}
	kept := r.order[:0]
	limit := next.request.source.limits.withDefaults().Recent
	for i, id := range r.order {
		inside := id.at.IsZero() || !id.at.Before(low)
		if inside && len(r.order)-i <= limit {
			kept = append(kept, id)
		} else {
			delete(r.pages, id.id)
		}
	}
	clear(r.order[len(kept):])
	r.order, r.changed = kept, false
	out := make([]string, len(kept))
	for i, id := range kept {
		out[i] = packID(id)
	}
	return out
}
