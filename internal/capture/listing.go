package capture

import (
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// A listing is a pass that reads everything of a partition beside its incremental passes, in turns with them (P1). It publishes
// what they missed, and its sightings are what the verdict on deletions rests on (D1 to D3).

// list begins a listing of p, or goes on with the one that an ownership before this one began (D3).
func (o *ownership) list(p *partition, now time.Time) error {
	if p.listing == nil {
		position, err := p.request.BeginListing(p.spec, now.Add(o.skew))
		w := o.walk(p, position, now)
		p.listing = w
		if err != nil {
			return o.fail(w.take(), err)
		}
		if !o.rejoin(w) {
			w.take()
			o.log.Info("listing begins", "partition", p.label, "generation", w.generation)
		}
		w.safe = standing{position: w.position, records: w.records, listed: slices.Clone(w.listed)}
	}
	p.listing.going = true
	return o.resume(p.listing)
}

// stand notes how far a listing has got. It may go on from here once all that it found up to here is known to be committed; a
// change that only the listing has seen would be lost with its batch otherwise, since no cursor leads back to it (P2, 4).
func (w *walk) stand(o *ownership) {
	st := standing{position: w.position, ended: w.ended, complete: w.page.Complete, why: w.page.Why, records: w.records, listed: slices.Clone(w.listed)}
	if now := time.Now(); now.Sub(w.told) > tellEvery {
		w.told = now
		o.log.Info("listing goes on", "partition", w.partition.label, "records", w.records, "pages", w.position.Pages(), "age", now.Sub(w.began).Round(time.Second))
	}
	switch {
	case !o.filling.empty():
		st.batch = o.filling.id
	case o.committing != nil:
		st.batch = o.committing.id
	}
	if n := len(w.unsafe); n > 0 && w.unsafe[n-1].batch >= st.batch {
		st.batch = w.unsafe[n-1].batch
		w.unsafe = w.unsafe[:n-1] // of one batch the last is enough
	}
	if st.batch <= o.settled {
		w.safe = st
		return
	}
	w.unsafe = append(w.unsafe, st)
}

// tellEvery is how often the log says how far a listing has got.
const tellEvery = 5 * time.Minute

// settle makes safe what waited for batch.
func (w *walk) settle(batch uint64) {
	for w != nil && len(w.unsafe) > 0 && w.unsafe[0].batch <= batch {
		w.safe = w.unsafe[0]
		w.unsafe = w.unsafe[1:]
	}
}

// again sets a listing back to where it is safe to go on from in another ownership. The sightings stay, since they are facts
// about upstream (D3).
func (w *walk) again() *walk {
	if w == nil {
		return nil
	}
	st := w.safe
	w.position, w.ended, w.records, w.listed = st.position, st.ended, st.records, slices.Clone(st.listed)
	w.page.Complete, w.page.Why = st.complete, st.why
	w.unsafe, w.lookups, w.safe.batch, w.orders, w.going = nil, nil, 0, nil, false
	w.gathering = gathering{}
	return w
}

// stop gives up everything that is under way or waits for p.
func (p *partition) stop(s *schedule) {
	s.remove(&p.poll)
	s.remove(&p.list)
	p.abandon()
	p.listing, p.verdict, p.inquest, p.orphans = nil, nil, nil, nil
}

// abandon gives up the pass under way, if there is one.
func (p *partition) abandon() {
	if p.walk != nil {
		p.walk.position.Abandon()
		p.walk = nil
	}
}

// finishListing ends a listing: the verdict on what it did not show follows.
func (o *ownership) finishListing(w *walk) error {
	p := w.partition
	p.listing = nil
	complete := w.page.Complete
	if complete {
		if err := o.agree(w); err != nil { // P14: a held version that a complete pass shows again
			return err
		}
	}
	o.log.Info("listing ended", "partition", p.label, "records", w.records, "complete", complete, "why", w.page.Why)
	return o.judge(w, complete, w.page.Why)
}

// failListing ends a listing that cannot go on. It halts nothing: what is wrong with the stream itself its own passes will meet,
// and what is not proven complete deletes nothing (D2). After what a pause may mend it goes on from where it stood.
func (o *ownership) failListing(w *walk, err error) error {
	p := w.partition
	remedy, _ := cdc.Verdict(err)
	w.failures++
	w.going = false
	if remedy == cdc.Retry && w.failures <= listingTries {
		wait := backoff(p.label+"/list", w.failures)
		o.log.Warn("the listing failed and goes on later", "partition", p.label, "in", wait.Round(time.Second), "error", err)
		o.schedule.at(&p.list, time.Now().Add(wait))
		return nil
	}
	p.listing = nil
	return o.judge(w, false, err.Error())
}

// listingTries is how often in all a listing may fail and go on.
const listingTries = 20

// planListing puts p's next listing into the schedule, unless one is under way.
func (o *ownership) planListing(p *partition, now time.Time) {
	cp := p.checkpoint()
	_, cut := p.window.get("")
	switch {
	case p.halted != nil, p.verdict != nil, p.inquest != nil, o.rests(p) != "":
		return
	case p.listing != nil:
		if !p.listing.going { // of an ownership before this one, or it failed; else it has its turns, and would get twice as many
			o.schedule.at(&p.list, now)
		}
		return
	case p.listsByItself(), cp.Passes == 0:
		return // every pass is one (D10); the first pass is one
	case len(p.orders) > 0, cut && p.request.Reconciles(): // D3: one that was cut goes on at once
		o.schedule.at(&p.list, now)
		return
	case !p.request.Reconciles():
		return
	}
	last, m := now, cp.Reconciled
	if m != nil {
		last = m.Ended
	}
	every := p.request.ReconcileEvery()
	due, timed := p.request.ListingAt(last) // what was missed is made up for
	if every > 0 {
		if at := phase(o.name+"/"+p.label+"/list", every, last); !timed || at.Before(due) { // P22
			due = at
		}
	}
	if at, ok := o.secondDue(p); ok && at.Before(due) {
		due = at
	}
	if m != nil && m.Failed > 0 { // D2: again, the more rarely the longer it fails, and whatever waits for it
		wait := 10 * time.Minute << min(m.Failed-1, 10)
		if every > 0 {
			wait = min(wait, every)
		}
		due = now.Add(wait)
	}
	o.schedule.at(&p.list, due)
}

// listsByItself reports whether every pass of p lists everything (D10).
func (p *partition) listsByItself() bool {
	return slices.ContainsFunc(p.request.Streams, func(st *source.Stream) bool { return st.Snapshot })
}

// secondDue is when the second complete pass is due that p's candidates wait for, the missing (D4) and the held versions (P14): not
// before the time that has to lie between the two, and within an hour after that. Where partitions share their keys it is the second
// of each of them (P24). What one that was late enough has not settled waits for as long again.
func (o *ownership) secondDue(p *partition) (time.Time, bool) {
	var first time.Time
	for s := range o.streamsOf(p) {
		if s.spec.HasLookup {
			continue
		}
		for _, c := range s.held.all() {
			mine := c.Partition == p.spec.Name || p.request.SharesKeys()
			if mine && c.Kind != offsets.Withheld && (first.IsZero() || c.At.Before(first)) {
				first = c.At
			}
		}
	}
	if first.IsZero() {
		return first, false
	}
	wait := o.confirmAfter()
	if m := p.checkpoint().Reconciled; m != nil && !m.Began.Before(first.Add(wait)) {
		first = m.Ended
	}
	return first.Add(wait + place(o.name+"/"+p.label, wait*5)), true
}

// confirmAfter is how much later a second complete pass has to begin (D4).
func (c *Connection) confirmAfter() time.Duration {
	if c.options.Confirm > 0 {
		return c.options.Confirm
	}
	return reconcile.SecondPass
}

// streamsOf goes through the streams that p's request feeds.
func (c *Connection) streamsOf(p *partition) func(func(*stream) bool) {
	return func(yield func(*stream) bool) {
		for _, s := range c.streams {
			if s.request == p.request && !yield(s) {
				return
			}
		}
	}
}

// unsettled reports whether something of the request's streams waits for another look at its records, or was lost: then an
// answer that says no more than "unchanged" is not enough (D10).
func (c *Connection) unsettled(p *partition) bool {
	for s := range c.streamsOf(p) {
		if s.held.len()+len(s.held.staged) > 0 || s.table.Set().Count == 0 || s.mismatch {
			return true
		}
	}
	m := p.checkpoint().Reconciled
	return m == nil || m.Held != "" || m.Agreed < reconcile.Agreement
}

// nextGeneration begins a generation of sightings: everything that is sighted from now on, by whatever pass, is of it or of a
// later one (D3).
func (c *Connection) nextGeneration(now time.Time) uint32 {
	c.generation++
	if len(c.generations) == 0 {
		c.generation0 = c.generation
	}
	const most = 1 << 12
	if len(c.generations) == most { // older ones count as the oldest that is kept
		c.generations = slices.Delete(c.generations, 0, most/2)
		c.generation0 += most / 2
	}
	c.generations = append(c.generations, now)
	return c.generation
}

// begun is when a generation of this process began; the zero time for one that is not known.
func (c *Connection) begun(generation uint32) time.Time {
	if generation >= c.generation0 && int(generation-c.generation0) < len(c.generations) {
		return c.generations[generation-c.generation0]
	}
	return time.Time{}
}

// lastSeen is when upstream last showed a key, as far as it is known: not earlier than that. After a restart it is the end of
// the partition's last complete pass, which showed what is still live.
func (c *Connection) lastSeen(p *partition, e state.Entry) time.Time {
	if at := c.begun(e.Seen); !at.IsZero() {
		return at
	}
	if m := p.checkpoint().Reconciled; m != nil {
		return m.Ended
	}
	return time.Time{}
}

// sighted notes what a page has shown: of a pass that lists everything, how many of each stream; and of any, a key that is
// there, for the lookups of others to be proven by (D4).
func (w *walk) sighted(streams []*stream) {
	if w.page.Again { // D5: a walk that shows nothing is an empty listing, whatever those before it have shown
		defer clear(w.listed)
	}
	p := w.partition
	noted := -1
	for i := len(w.page.Records) - 1; i >= 0; i-- {
		rec := &w.page.Records[i]
		if w.listed == nil && noted >= 0 {
			return
		}
		if rec.Key == nil || rec.Kind == source.Deleted {
			continue
		}
		if w.listed != nil {
			w.listed[rec.Stream]++
		}
		if rec.Err == nil && rec.Kind == source.Live && noted != rec.Stream {
			noted = rec.Stream
			p.witness(streams[rec.Stream], rec.Key)
		}
	}
}
