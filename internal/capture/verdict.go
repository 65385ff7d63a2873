package capture

import (
	"fmt"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
	"tidemark/internal/record"
	"tidemark/internal/state"
)

// mostCandidates bounds what of one verdict is kept as candidates, per stream (10): what is beyond waits for the next listing.
const mostCandidates = 100_000

// verdict carries out what was decided on a complete listing, in batches that can be cut anywhere: candidates and tombstones
// are state, and the mark commits with or after the last of them (D7).
type verdict struct {
	walk     *walk
	mark     cdc.Reconciliation
	parts    []part
	numbered bool // the number of its generation is on its way
}

// part is what is left to do for one stream.
type part struct {
	stream  *stream
	verdict reconcile.Verdict
	missing int64
	began   time.Time // when the oldest listing began that it rests on: of several partitions, where they share their keys (P24)
	keys    [][]byte  // the missing, up to mostCandidates
	next    int
}

// judge decides on what a pass that was to list everything did not show (D1 to D6).
func (o *ownership) judge(w *walk, complete bool, why string) error {
	p := w.partition
	l := reconcile.Listing{
		Generation: w.generation, Began: w.began, Ended: time.Now(), Complete: complete, Why: why, Print: p.request.Listing(),
	}
	var missing int64
	v := &verdict{walk: w}
	if complete {
		p.complete, p.lists = w.generation, w.listed
		for s := range o.streamsOf(p) {
			pt := o.unseen(p, s)
			missing += pt.missing
			v.parts = append(v.parts, pt)
		}
	}
	v.mark = reconcile.Mark(p.checkpoint().Reconciled, l, missing)
	if complete && p.request.SharesKeys() {
		o.show(p, &v.mark)
	}
	for i := range v.parts {
		pt := &v.parts[i]
		s, now := pt.stream, time.Now()
		rests := l
		if p.request.SharesKeys() && pt.missing > 0 {
			rests.Began = pt.began
		}
		c := reconcile.Case{
			Listing: rests, Missing: pt.missing,
			Damaged: s.mismatch, Guard: s.guard(), Levels: o.levels(p, s, w.census), Confirm: o.options.Confirm,
			Approved: s.approved(now), Shown: pt.shown(s.approval()),
		}
		if a := s.approval(); a != nil {
			c.ApprovedAt = a.At
		}
		c.Agreed, c.Empty = o.witnesses(p, s, &v.mark)
		c.Lookup = s.spec.HasLookup && (c.Empty == "" || pt.missing < o.live(p, s)) // a lookup is proven by what is alive (D4)
		pt.verdict = reconcile.Judge(c)
		if held := pt.verdict.Held(); held != "" {
			v.mark.Held = s.spec.Name + ": " + held
			o.log.Error("deletions are withheld", "partition", p.label, "stream", s.spec.Name, "missing", pt.missing, "why", held)
		}
	}
	if v.mark.Failed >= reconcile.Silence { // D2: silence must not mean "never deleted"
		o.log.Error("no listing was complete for a while, so nothing is deleted", "partition", p.label, "passes", v.mark.Failed, "why", why)
	}
	dry := w.dry()
	if err := o.answer(p, w, v); err != nil {
		return err
	}
	if dry {
		o.planListing(p, time.Now())
		return nil
	}
	p.verdict = v
	o.undertake(p)
	return o.pursue()
}

// unseen gathers the live keys of s that a complete pass of p did not show. Where partitions share their keys, a key is missing
// when a complete pass of every one did not show it (P24): those of this process, whose sightings stand.
func (o *ownership) unseen(p *partition, s *stream) part {
	pt := part{stream: s}
	since, of := p.complete, s.ordinal(p.spec.Name)
	if p.request.SharesKeys() {
		of = state.AnyPartition
		for _, other := range o.partitions {
			if other.request == p.request {
				since = min(since, other.complete)
			}
		}
	}
	if since == 0 {
		return pt
	}
	pt.began = o.begun(since)
	for key := range s.table.Unseen(since, of) {
		if !s.unseen(key, since) { // what is in flight says otherwise
			continue
		}
		pt.missing++
		if len(pt.keys) < mostCandidates {
			pt.keys = append(pt.keys, slices.Clone(key))
		}
	}
	return pt
}

// live counts the keys of s among which a verdict of p finds the missing.
func (o *ownership) live(p *partition, s *stream) int64 {
	if p.request.SharesKeys() {
		return s.table.Set().Count
	}
	return s.table.Live(s.ordinal(p.spec.Name))
}

// witnesses says of the listings that a verdict on s rests on how many of them agree (P23), and which one showed nothing (D5): the
// one of p; where partitions share their keys the last ones of all (P24), since what an empty one should have shown is missing from
// all of them. There one that was always empty is believed.
func (o *ownership) witnesses(p *partition, s *stream, mark *cdc.Reconciliation) (agreed int, empty string) {
	agreed = mark.Agreed
	if !p.request.SharesKeys() {
		if p.lists[s.spec.Index] == 0 {
			return agreed, "the listing"
		}
		return agreed, ""
	}
	var listed int64
	for _, other := range o.partitions {
		if other.request != p.request || other.lists == nil {
			continue // of the latter nothing is known, and so nothing is missing (unseen)
		}
		n, m := other.lists[s.spec.Index], other.checkpoint().Reconciled
		switch {
		case other == p:
			m = mark
		case m == nil || m.Listing != mark.Listing:
			return 0, ""
		}
		if agreed, listed = min(agreed, m.Agreed), listed+n; n == 0 && slices.Contains(m.Shown, s.spec.Name) {
			return agreed, "the listing of " + other.spec.Name
		}
	}
	if listed == 0 {
		return agreed, "every listing"
	}
	return agreed, ""
}

// show adds the streams of which a listing of p showed something to those that its mark names.
func (o *ownership) show(p *partition, mark *cdc.Reconciliation) {
	for s := range o.streamsOf(p) {
		if p.lists[s.spec.Index] > 0 && !slices.Contains(mark.Shown, s.spec.Name) {
			mark.Shown = append(slices.Clone(mark.Shown), s.spec.Name)
		}
	}
}

// shown counts the missing keys that were withheld, and so shown to the operator, before his approval (D6).
func (pt *part) shown(a *offsets.Approval) int64 {
	if a == nil {
		return 0
	}
	var n int64
	for _, key := range pt.keys {
		if c, ok := pt.stream.held.get(string(key)); ok && c.Kind == offsets.Withheld && !c.At.After(a.At) {
			n++
		}
	}
	return n
}

// undertake puts p among the partitions whose verdict, or whose orphans, are still to be carried out.
func (o *ownership) undertake(p *partition) {
	if !slices.Contains(o.undertaken, p) {
		o.undertaken = append(o.undertaken, p)
	}
}

// pursue goes on with the verdicts, the orphans and what was let go, as far as the filling batch has room (K17).
func (o *ownership) pursue() error {
	if o.letting && !o.bound.Full(o.filling.records) {
		if err := o.unguard(time.Now()); err != nil {
			return err
		}
	}
	for _, p := range slices.Clone(o.undertaken) {
		if p.orphans != nil {
			if err := o.pursueOrphans(p); err != nil {
				return err
			}
		}
		if v := p.verdict; v != nil {
			done, err := o.each(v.parts, func(pt *part, key []byte) error { return o.decide(p, v, pt, key) })
			if err == nil && done {
				err = o.conclude(p, v)
			}
			if err != nil {
				return err
			}
		}
	}
	o.undertaken = slices.DeleteFunc(o.undertaken, func(p *partition) bool { return p.verdict == nil && p.orphans == nil })
	return nil
}

// each does what is to be done for the keys that are left of parts, as far as the filling batch has room (K17). It reports whether
// that was all of them.
func (o *ownership) each(parts []part, do func(pt *part, key []byte) error) (done bool, err error) {
	for i := range parts {
		pt := &parts[i]
		for ; pt.next < len(pt.keys); pt.next++ {
			if o.bound.Full(o.filling.records) {
				return false, nil
			}
			if err := do(pt, pt.keys[pt.next]); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// numbered commits the number of a generation with or before the first tombstone that names it: the mark follows the last of them,
// and a crash in between would give the number to another listing (D3).
func (o *ownership) numbered(p *partition, v *verdict) error {
	if v.numbered {
		return nil
	}
	cp := p.checkpoint()
	if cp.Reconciled == nil {
		return nil
	}
	v.numbered = true
	mark := *cp.Reconciled
	mark.Generation = v.mark.Generation
	cp.Reconciled = &mark
	return o.filling.checkpoint(p, cp, time.Now())
}

// decide carries out what the verdict says of one missing key.
func (o *ownership) decide(p *partition, v *verdict, pt *part, key []byte) error {
	s, h := pt.stream, record.KeyHash(key)
	known, ok := s.table.Get(key, h)
	if !ok || !known.Live() || known.Seen >= v.walk.generation {
		return nil // it was deleted or seen while the verdict was carried out (P1)
	}
	var prior reconcile.Prior
	c, ok := s.held.get(string(key))
	if ok && c.Kind != offsets.Older {
		prior = reconcile.Prior{Found: c.At, Withheld: c.Kind == offsets.Withheld, Believed: c.Kind == offsets.Missing || c.Passes > 0}
	}
	if c.Kind == offsets.Withheld && c.Reason != cdc.Reconciled {
		return nil // upstream declared it deleted: that waits by itself
	}
	missed := offsets.Candidate{Reason: cdc.Reconciled, Generation: v.mark.Generation}
	if pt.verdict.Believed() {
		missed.Passes = 1
	}
	decision, leave, approved := pt.verdict.Decide(prior)
	switch decision {
	case reconcile.Delete:
		leave, why := reconcile.Admit(leave, approved, s.guard(), o.levels(p, s, v.walk.census))
		if !leave.Holds() {
			return o.withhold(p, s, string(key), known, missed, why)
		}
		if err := o.numbered(p, v); err != nil {
			return err
		}
		return o.carryOut(p, s, string(key), cdc.Version{}, leave, approved)
	case reconcile.Withhold:
		if prior.Withheld && (prior.Believed || !pt.verdict.Believed()) {
			return nil // it was shown already, and keeps the time of that (D6)
		}
		return o.withhold(p, s, string(key), known, missed, pt.verdict.Why())
	default:
		if approved {
			o.approve(s, key)
		}
		return o.suspect(p, s, key, known, c, decision == reconcile.Ask, v.mark.Generation)
	}
}

// suspect makes a missing key a candidate, unless it is one already (D4). ask says that its lookup decides.
func (o *ownership) suspect(p *partition, s *stream, key []byte, known state.Entry, before offsets.Candidate, ask bool, generation int64) error {
	c := offsets.Candidate{
		Kind: offsets.Missing, Reason: cdc.Reconciled, Partition: p.spec.Name, At: time.Now().UTC(),
		Seen: o.lastSeen(p, known).UTC(), Generation: generation,
	}
	if ask {
		c.Passes = 1
	}
	if before.Kind == offsets.Missing {
		if before.Passes == c.Passes {
			return nil
		}
		c.At, c.Seen = before.At, before.Seen
	}
	return o.holdAs(s, string(key), c)
}

// conclude ends a verdict: the mark commits with or after all that it did (D7), then candidates are looked up.
func (o *ownership) conclude(p *partition, v *verdict) error {
	p.verdict, p.asked, p.askAgain = nil, map[*stream]bool{}, time.Time{}
	now := time.Now()
	cp := p.checkpoint()
	before := cp.Reconciled
	cp.Reconciled = &v.mark
	for i := range v.parts {
		if pt := &v.parts[i]; pt.missing > int64(len(pt.keys)) {
			o.log.Warn("more keys are missing than can wait at a time: the others wait for the next listing", "stream", pt.stream.spec.Name,
				"missing", pt.missing, "waiting", len(pt.keys))
		}
	}
	if quiet(before, &v.mark) && p.listsByItself() && !v.numbered && !p.windowed() {
		p.quiet(cp) // nothing new, nothing committed
	} else if err := o.filling.checkpoint(p, cp, now); err != nil {
		return err
	}
	o.erase(p) // D3: with the mark, so that no other listing goes on from where this one was
	if err := o.inquire(p); err != nil {
		return err
	}
	o.planListing(p, now)
	if p.request.SharesKeys() {
		o.planOthers(p, now)
	}
	return nil
}

// planOthers plans the listings of the partitions that share p's keys: what p missed they are to be asked for a second time, too (P24).
// One that failed waits already.
func (o *ownership) planOthers(p *partition, now time.Time) {
	for _, other := range o.partitions {
		if other == p || other.request != p.request || other.listing != nil {
			continue
		}
		if m := other.checkpoint().Reconciled; m != nil && m.Failed == 0 {
			o.planListing(other, now)
		}
	}
}

// quiet reports whether a mark says nothing that the one before did not, but for its time.
func quiet(before, now *cdc.Reconciliation) bool {
	return before != nil && before.Listing == now.Listing && before.Agreed == now.Agreed && before.Failed == now.Failed && before.Held == now.Held &&
		before.Missing == now.Missing && before.Unlisted == now.Unlisted && slices.Equal(before.Shown, now.Shown)
}

// keep puts what belongs to us into a checkpoint that a pass has moved: a pass knows its cursor, and nothing of these.
func (p *partition) keep(cp *cdc.Checkpoint) {
	now := p.checkpoint()
	cp.Reconciled, cp.Deleted, cp.Listing = now.Reconciled, now.Deleted, ""
}

// why says what is to happen before the missing keys of a part are deleted, for people.
func (pt *part) why(agreed int) string {
	switch {
	case pt.missing == 0:
		return ""
	case pt.verdict.Held() != "":
		return "approve them: connector reconcile CONNECTION/STREAM --approve " + fmt.Sprint(pt.missing)
	case agreed < 2:
		return "another complete listing, since request, filter or credential are new"
	case pt.stream.spec.HasLookup:
		return "their lookups say that they are gone"
	default:
		return "another complete listing, 10 minutes later or more, does not show them either"
	}
}
