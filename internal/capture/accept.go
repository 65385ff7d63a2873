package capture

import (
	"errors"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// fetched is what a fetcher brings: a page, or the answer to a lookup, or the error that ended its tries.
type fetched struct {
	walk     *walk
	lookup   *lookup   // not nil: the answer to it
	file     *download // not nil: a file that was downloaded; walk is then nil where it was tried again
	response *fetch.Response
	err      error
}

// half is a page of which the filling batch could not take everything: the intake is closed until the rest is in.
type half struct {
	walk *walk
	page fetched // owns the bytes
	next int     // index of the first record that is not compared
	done bool

	parked int // of the walk, before this page

	held  bool // its key space waits for it: files may have to be downloaded before it is published
	ahead int  // index of the first record whose files were not looked for
}

// accept takes what a fetcher brought: Split, the next request, then Compare and encode (DESIGN §4).
func (o *ownership) accept(f fetched) error {
	if f.file != nil {
		return o.downloaded(f)
	}
	if f.lookup != nil && f.lookup.inquest != nil {
		return o.heard(f)
	}
	w := f.walk
	sp := w.partition.space
	sp.flight--
	if w.over() { // the pass was given up while this request was under way
		f.release()
		return o.serve(sp)
	}
	if f.err != nil && f.lookup != nil {
		if remedy, _ := cdc.Verdict(f.err); remedy == cdc.Park {
			return o.unanswered(w, *f.lookup, f.err)
		}
	}
	if f.err != nil {
		return errors.Join(o.fail(w, f.err), o.serve(sp))
	}
	if f.lookup != nil {
		return errors.Join(o.found(w, *f.lookup, f.response), o.serve(sp))
	}
	if f.response != nil {
		o.observe(f.response)
	}
	if err := w.position.Request().Split(&w.position, f.response, o.knownBy, &w.page); err != nil {
		f.release()
		return errors.Join(o.fail(w, err), o.serve(sp))
	}
	done := w.page.Done
	w.position = w.page.Next
	if !done {
		sp.queue = append(sp.queue, w)
	}
	h := &half{walk: w, page: f, done: done, parked: w.parked, held: o.hasFiles(w)}
	if h.held {
		sp.flight++ // P1: what comes after the page waits for its files
	}
	if err := o.serve(sp); err != nil { // the next request leaves before this page is compared
		f.release()
		return err
	}
	w.records += len(w.page.Records)
	return o.take(h)
}

func (f *fetched) release() {
	if f.response != nil {
		f.response.Release()
	}
}

// knownBy is the table of a stream as the scanner sees it.
func (o *ownership) knownBy(stream int) record.Known { return o.streams[stream].table }

// observe learns how far the server's clock is from ours.
func (o *ownership) observe(r *fetch.Response) {
	if !r.ServerTime.IsZero() {
		o.skew = r.ServerTime.Sub(r.Received)
	}
}

// take compares the records of a page until the filling batch is full; the rest waits in o.rest, with the intake closed.
func (o *ownership) take(h *half) error {
	w := h.walk
	o.rest = nil
	if w.over() { // its stream was halted while the rest of the page waited, or its next request could not be made
		return o.let(h, nil)
	}
	for ; h.next < len(w.page.Records); h.next++ {
		// P13: entries of a log feed, their ids and the checkpoint belong into one transaction.
		if o.full() && w.page.Recent == nil {
			o.wrote(w.partition)
			if o.send(); o.full() { // the committer is busy: back-pressure
				o.rest = h
				return nil
			}
		}
		if h.held {
			switch ready, err := o.gather(h); {
			case err != nil:
				return o.let(h, err)
			case !ready:
				w.gathering.half, o.waiting[h] = h, true
				return nil
			}
		}
		if err := o.compare(w, &w.page.Records[h.next], w.page.Body); err != nil {
			return o.let(h, err)
		}
	}
	o.wrote(w.partition)
	w.sighted(o.streams)
	if err := w.position.Park(w.parked - h.parked); err != nil { // P19: what stops leaves the cursor
		return o.let(h, err)
	}
	return errors.Join(o.turn(w, h.done), o.let(h, nil))
}

// full reports whether the filling batch has reached the bound: checkpoints count, since a page of parents may move many (K17).
func (o *ownership) full() bool {
	records, _ := o.bound.Now()
	return o.bound.Full(o.filling.records) || len(o.filling.checkpoints) >= records
}

// wrote notes that the filling batch may hold records of p.
func (o *ownership) wrote(p *partition) {
	if o.filling.events > 0 {
		p.written = o.filling.id
	}
}

// turn ends a page: its checkpoint, if it has one, is staged behind everything that it passed (1, 4).
func (o *ownership) turn(w *walk, done bool) error {
	p := w.partition
	for _, n := range w.page.Notices {
		o.log.Info(n, "partition", p.label)
	}
	if cp := w.page.Checkpoint; cp != nil && !done {
		if err := o.stage(w, *cp); err != nil {
			return o.fail(w, err)
		}
	}
	w.ended = done
	if w == p.listing {
		w.stand(o)
	}
	if !done {
		o.draw(w, time.Now())
		return nil
	}
	return o.border(w)
}

// stage stages the checkpoint cp of w's partition, with the ids that belong to it (P13). One that tells nothing new but that
// time has passed is worth no transaction: nothing new, nothing committed.
func (o *ownership) stage(w *walk, cp cdc.Checkpoint) error {
	p := w.partition
	p.keep(&cp)
	if news := p.carry(&cp, w.ended); w.page.Quiet && !news {
		p.quiet(cp)
		return nil
	}
	if err := o.remember(p, w.page.Recent); err != nil {
		return err
	}
	return o.filling.checkpoint(p, cp, time.Now())
}

// border is reached between two requests of a pass: lookups that wait are asked now (P1), and when there are none left after
// the last page the pass is over.
func (o *ownership) border(w *walk) error {
	switch p := w.partition; {
	case len(w.lookups) > 0:
		return o.want(p.space, w)
	case !w.ended:
		return nil
	case p.listing == w:
		return o.finishListing(w)
	default:
		return o.finish(w)
	}
}

// finish ends a pass: the partition is due again after its interval.
func (o *ownership) finish(w *walk) error {
	p := w.partition
	if cp := w.page.Checkpoint; cp != nil { // not before the last lookup: a held version is kept first (4)
		if err := o.stage(w, *cp); err != nil {
			return o.fail(w, err)
		}
	}
	o.filling.urgent = o.filling.urgent || !o.filling.empty()
	p.last = passReport{Began: w.began, Ended: time.Now(), Records: w.records, Complete: w.page.Complete}
	if w.page.Complete {
		o.mended(p)
		o.kin.surveyed[p] = true
		if err := o.agree(w); err != nil {
			return o.fail(w, err)
		}
	}
	if p.paused != nil {
		o.log.Info("recovered", "partition", p.label)
	}
	p.walk, p.failures, p.paused, p.kin.gone = nil, 0, nil, false
	if w.generation != 0 && !w.page.Unchanged && (p.listsByItself() || p.request.Reconciles()) { // D1: it listed everything too
		if err := o.judge(w, w.page.Complete, w.page.Why); err != nil {
			return o.fail(w, err)
		}
	}
	if err := o.inquire(p); err != nil {
		return err
	}
	now := time.Now()
	if p.list.slot < 0 { // after the first pass
		o.planListing(p, now)
	}
	o.plan(p, now)
	return nil
}

// compare decides what a record is, against the table with everything staged (P2).
func (o *ownership) compare(w *walk, rec *source.Record, body []byte) error {
	s := o.streams[rec.Stream]
	if len(s.spec.Children) > 0 {
		if err := o.sight(s, rec, body); err != nil { // P21
			return o.park(w, s, rec, body, err)
		}
	}
	if rec.Same { // the bytes are those of last time
		s.total.Suppressed++
		s.table.Touch(rec.Key, rec.KeyHash, record.RawHint{Len: uint32(rec.Raw.Len()), Hash: rec.RawHash, Version: rec.Version}, o.generation)
		return o.unchanged(w, s, rec)
	}
	if rec.Err != nil {
		return o.park(w, s, rec, body, rec.Err)
	}
	known, ok := s.table.Get(rec.Key, rec.KeyHash)
	live := ok && known.Flags&state.Grave == 0
	switch rec.Kind {
	case source.Deleted:
		return o.remove(w, s, rec, body, known, live, cdc.Declared)
	case source.Filtered:
		s.table.Touch(rec.Key, rec.KeyHash, record.RawHint{}, o.generation) // P20: a filtered sighting is a sighting
		switch {
		case !live:
			return o.bereave(s, rec.Key, rec.KeyHash)
		case s.spec.OnLeave == "keep":
			o.unexcept(s, rec.Key, rec.Version)
			return nil
		}
		return o.remove(w, s, rec, body, known, live, cdc.Filtered) // P20
	}
	if live {
		same, err := o.sameContent(w, s, rec, known, body)
		if err != nil || same {
			return err
		}
	}
	if ok && older(rec, known) { // P14, (8)
		agreed, err := o.hold(w, s, rec)
		if err != nil || !agreed {
			return err
		}
		return o.publish(w, s, rec, body, o.opOf(w, live), cdc.Rollback)
	}
	return o.publish(w, s, rec, body, o.opOf(w, live), "")
}

// older reports whether rec is older than what is known of its key (P14). A grave holds the version of the record's end, which
// may be that of its last state; so what is not newer than a grave is older: a stale replica does not resurrect (D7).
func older(rec *source.Record, known state.Entry) bool {
	c := rec.Version.Compare(known.Version)
	return c < 0 || c == 0 && !known.Live() && rec.Version.Kind != cdc.NoVersion && rec.Version.Kind == known.Version.Kind
}

// opOf says what a published record is.
func (o *ownership) opOf(w *walk, live bool) cdc.Op {
	switch {
	case live:
		return cdc.Updated
	case w.partition.checkpoint().Passes == 0:
		return cdc.Read
	default:
		return cdc.Created
	}
}

// sameContent reports whether rec says what the last committed event of its key said (5), or the last parked content (P19).
func (o *ownership) sameContent(w *walk, s *stream, rec *source.Record, known state.Entry, body []byte) (bool, error) {
	hint := record.RawHint{Len: uint32(rec.Raw.Len()), Hash: rec.RawHash, Version: rec.Version}
	if known.Rules != s.rules { // P23: compare under the old rules, store the new, publish nothing for the change alone
		rules, ok := s.ruleSet(known.Rules)
		if !ok {
			return false, cdc.Errorf(cdc.Halt, cdc.Stream, "compare", "Report this, and run `connector offsets reset` for the stream to go on",
				"the hash of key %s names rule set %d, which the stream's record does not have", rec.Key, known.Rules)
		}
		old, err := o.rescan(w, s, rec, rules, body)
		if err != nil {
			return false, err
		}
		if old != known.Hash {
			return false, nil
		}
		s.total.Rehashed++
		s.total.Suppressed++
		e := known
		e.Hash, e.Rules, e.Raw, e.RawLen, e.Seen = rec.Hash, s.rules, rec.RawHash, uint32(rec.Raw.Len()), o.generation
		if rec.Version.Compare(e.Version) > 0 {
			e.Version = rec.Version // P14
		}
		o.store(s, rec.Key, rec.KeyHash, e)
		return true, o.unchanged(w, s, rec)
	}
	if known.Hash != rec.Hash {
		return false, nil
	}
	s.total.Suppressed++
	s.table.Touch(rec.Key, rec.KeyHash, hint, o.generation) // a suppressed record raises the known version in memory (P14)
	return true, o.unchanged(w, s, rec)
}

// rescan hashes rec under the rules that a known hash was made with.
func (o *ownership) rescan(w *walk, s *stream, rec *source.Record, rules record.Rules, body []byte) (uint64, error) {
	if strings.HasSuffix(rules.Fields, adoptedFields) {
		hash, err := s.normalHash(rules, rec.Content(body))
		if err != nil {
			return 0, nil //nolint:nilerr // it does not fit its schema: publish will park it, with the reason
		}
		return hash, nil
	}
	return w.partition.request.Rescan(w.partition.spec, rec.Stream, body, rec, rules, uint64(s.meta.Seed))
}

// store stages the state of a key: table and hashes topic, in the same transaction as its event (1).
func (o *ownership) store(s *stream, key []byte, hash uint64, e state.Entry) {
	b := o.filling
	s.table.Stage(b.id, key, hash, e)
	o.scratch = offsets.AppendHashKey(o.scratch[:0], o.name, s.spec.Name, key)
	n := len(o.scratch)
	o.scratch = offsets.AppendHash(o.scratch, offsets.Hash{
		Hash: e.Hash, Version: e.Version, Rules: e.Rules, Flags: offsets.HashFlags(e.Flags), Partition: s.partitionName(e.Partition),
	})
	b.records.Hash(o.scratch[:n], o.scratch[n:])
	b.press(s)
}

// publish encodes rec into the filling batch: event, hash and what it replaces go together (K16, 1).
func (o *ownership) publish(w *walk, s *stream, rec *source.Record, body []byte, op cdc.Op, reason cdc.Reason) error {
	if err := offsets.CheckKey(rec.Key); err != nil {
		return o.park(w, s, rec, body, err)
	}
	if o.refused[content{s, rec.KeyHash, rec.Hash}] { // K15: the broker refused exactly this
		return o.park(w, s, rec, body, errRefused)
	}
	files, err := o.arrange(w, s, rec, body)
	if err == nil {
		err = o.issue(s, rec, body, files.text, op, reason)
	}
	if err != nil {
		return o.park(w, s, rec, body, err)
	}
	o.store(s, rec.Key, rec.KeyHash, state.Entry{
		Hash: rec.Hash, Raw: rec.RawHash, RawLen: uint32(rec.Raw.Len()), Seen: o.generation, Version: rec.Version,
		Partition: s.ordinal(w.partition.spec.Name), Rules: s.rules,
	})
	if reason == cdc.Rollback { // upstream has agreed: what the guard withholds of the key is over too (P14)
		o.forgive(s, rec.Key)
	}
	o.unexcept(s, rec.Key, rec.Version)
	return o.shelve(s, rec.Key, &files)
}

// issue encodes the event of rec, whose value says what is given, into the filling batch. The error parks the record.
func (o *ownership) issue(s *stream, rec *source.Record, body, said []byte, op cdc.Op, reason cdc.Reason) error {
	ev := o.event(s, rec, body, op, reason)
	value, err := s.encoder.AppendEvent(o.filling.records.Slab(len(said)+64), ev, said)
	if err != nil {
		return err
	}
	o.headers, o.slab = codec.AppendHeaders(o.headers[:0], o.slab[:0], ev)
	if err := o.session.Fits(s.topic.Name, rec.Key, value, o.headers); err != nil { // K15: sizes are checked before the transaction
		return err
	}
	b := o.filling
	index := b.records.Event(s.topic.Name, s.topic.Partitions, rec.Key, value, o.headers)
	b.contents = append(b.contents, indexed{index, content{s, rec.KeyHash, rec.Hash}})
	b.of(s).event(op)
	return nil
}

// cursorOf is the record's cursor in the server's own text.
func (o *ownership) cursorOf(rec *source.Record, body []byte) []byte {
	o.cursor, _ = record.Text(o.cursor[:0], body, rec.Cursor)
	return o.cursor
}

var errRefused = errors.New("the broker refuses the record by itself, whatever surrounds it (K15)")

// event fills in what is said of a change beside its record.
func (o *ownership) event(s *stream, rec *source.Record, body []byte, op cdc.Op, reason cdc.Reason) *codec.Event {
	o.number++
	ev := &o.said
	*ev = codec.Event{
		Origin: s.origin, Owner: o.session.Nonce(), Number: o.number, Key: rec.Key, Time: rec.Version.Time(),
		Op: op, Reason: reason, Cursor: o.cursorOf(rec, body), ContentType: s.encoder.ContentType(),
	}
	return ev
}
