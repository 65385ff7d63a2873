package capture

import (
	"cmp"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
)

// A listing in the order of the key says now and then what of it is finished, and goes on from there after a crash (D3). What it has
// shown until then need not be kept: it is every live key up to there, but the missing.

// stretch is a window, and the generation from which on a sighting counts for its listing; 0 where another process drew it.
type stretch struct {
	window     cdc.Window
	generation uint32
}

const (
	windowEvery = 30 * time.Second
	// windowShare bounds the time that goes into looking for the missing, of all listings: one part of so many.
	windowShare = 50
	// windowLasts is for how long a listing may lie still. What was missing from it before that says little of today: whoever came
	// back meanwhile, with no newer time of change, would be deleted, and created by the next listing.
	windowLasts = time.Hour
	// mostMissing and missingBytes bound what a window names (10): with more, a crash begins the listing anew.
	mostMissing  = 1000
	missingBytes = 64 << 10
)

// draw notes what the listing w has finished, if it is time for that. It commits with what was found up to there, or later.
func (o *ownership) draw(w *walk, now time.Time) {
	p := w.partition
	if !w.lists() || w.dry() {
		return
	}
	every := cmp.Or(o.options.Window, windowEvery)
	if w.drawAgain.IsZero() {
		w.drawAgain = now.Add(every) // a short listing is worth no window
	}
	if now.Before(w.drawAgain) || now.Before(o.drawAgain) {
		return
	}
	window, ok := w.position.Window()
	if !ok {
		return
	}
	missing, ok := o.missingUpTo(w, window.Last)
	w.drawAgain, o.drawAgain = now.Add(every), now.Add(windowShare*time.Since(now))
	if !ok {
		o.erase(p)
		return
	}
	window.Listing, window.Began, window.At, window.Missing = p.request.Listing(), w.began.UTC(), now.UTC(), missing
	o.keepWindow(p, stretch{window, w.generation})
}

// lists reports whether the pass is one whose place its partition's window holds: a listing, or one of those that list by themselves.
func (w *walk) lists() bool { return w.partition.listing == w || w.partition.listsByItself() }

// missingUpTo returns the live keys up to last that were not seen since w began, false where they are too many.
func (o *ownership) missingUpTo(w *walk, last string) (missing []string, ok bool) {
	p, size, upTo := w.partition, 0, []byte(last)
	s := o.streamOf(p.request)
	for key := range s.table.Unseen(w.generation, s.ordinal(p.spec.Name)) {
		if !w.position.Passed(key, upTo) || !s.unseen(key, w.generation) {
			continue
		}
		if size += len(key); len(missing) == mostMissing || size > missingBytes {
			return nil, false
		}
		missing = append(missing, string(key))
	}
	slices.Sort(missing)
	return missing, true
}

// keepWindow stages the window of p; one beyond the limits of K5 is worth no more than a listing that begins anew.
func (o *ownership) keepWindow(p *partition, st stretch) {
	value, err := offsets.Encode(st.window)
	if err != nil {
		o.log.Warn("a crash would begin the listing anew", "partition", p.label, "error", err)
		o.erase(p)
		return
	}
	b := o.filling
	p.windows().put(b.id, "", st)
	b.records.Offset(windowKey(o.name, p), value)
	b.touch(time.Now())
}

// erase forgets the window of p: its listing has ended.
func (o *ownership) erase(p *partition) {
	if !p.windowed() {
		return
	}
	b := o.filling
	p.windows().remove(b.id, "")
	b.records.Offset(windowKey(o.name, p), nil)
	b.touch(time.Now())
}

// shrink takes from the windows what was seen since they were drawn: a sighting that a cursor has passed is not made again, so it
// commits with or before that cursor (4).
func (o *ownership) shrink() {
	for _, p := range o.partitions {
		st, ok := p.window.get("")
		if !ok || len(st.window.Missing) == 0 {
			continue
		}
		s := o.streamOf(p.request)
		still := slices.DeleteFunc(slices.Clone(st.window.Missing), func(key string) bool { return !s.unseen([]byte(key), st.generation) })
		if len(still) < len(st.window.Missing) {
			st.window.Missing = still
			o.keepWindow(p, st)
		}
	}
}

// rejoin has a listing that was just begun go on where a crash, or another owner, has left it, and says whether it does. What it had
// shown by then is sighted now, but the missing; and everything that this process has seen before counts.
func (o *ownership) rejoin(w *walk) bool {
	p := w.partition
	st, ok := p.window.get("")
	if !ok || !w.lists() {
		return false
	}
	s, window, last := o.streamOf(p.request), st.window, []byte(st.window.Last)
	if s.mismatch || time.Since(window.At) > windowLasts || window.Listing != p.request.Listing() || !w.position.Resume(window) { // P23, K8 g
		o.erase(p)
		return false
	}
	w.generation, w.began, w.records, w.rejoined = st.generation, window.Began, window.Records, window.Last
	w.listed[s.spec.Index] = int64(window.Records)
	for key := range s.table.Unseen(w.generation, s.ordinal(p.spec.Name)) {
		if _, missing := slices.BinarySearch(window.Missing, string(key)); !missing && w.position.Passed(key, last) {
			s.table.Touch(key, record.KeyHash(key), record.RawHint{}, w.generation)
		}
	}
	o.log.Info("listing goes on where it was", "partition", p.label, "generation", w.generation, "records", w.records,
		"age", time.Since(w.began).Round(time.Second))
	return true
}

// claimWindows gives the windows that a restore has found a generation of their own: what is sighted from now on is of it or of a
// later one (D3).
func (c *Connection) claimWindows() {
	for _, p := range c.partitions {
		if st, ok := p.window.get(""); ok && st.generation == 0 {
			st.generation = c.nextGeneration(st.window.Began)
			p.windows().apply("", st, false)
		}
	}
}

// applyWindow takes a window of a restore.
func (p *partition) applyWindow(value []byte) error {
	var st stretch
	if err := applyTo(&st.window, value); err != nil {
		return err
	}
	p.windows().apply("", st, value == nil)
	return nil
}

// windows is p.window, to be written to.
func (p *partition) windows() *overlay[stretch] {
	if p.window.committed == nil { // few partitions have one
		p.window = newOverlay[stretch]()
	}
	return &p.window
}

// windowed reports whether Kafka holds a window of p, or will.
func (p *partition) windowed() bool { return p.window.len()+len(p.window.staged) > 0 }

func windowKey(connection string, p *partition) []byte {
	return offsets.Key{Kind: offsets.KindWindow, Connection: connection, Stream: p.request.Name, Name: p.spec.Name}.Append(nil)
}
