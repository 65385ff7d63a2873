package capture

import (
	"context"
	"errors"
	"slices"
	"time"

	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// send hands the filling batch to the committer if that is idle: one page per transaction when there is little to do, large
// ones under load, and no timer (group commit). A token goes first and alone (K19).
func (o *ownership) send() {
	if o.committing != nil {
		return
	}
	if len(o.tokens) > 0 {
		t := o.tokens[0]
		o.tokens = o.tokens[1:]
		b := o.fresh()
		b.token = t
		b.records.Offset(t.key, t.value)
		o.commit(b)
		return
	}
	if !o.filling.ready(time.Now()) {
		return
	}
	b := o.filling
	if err := o.seal(b); err != nil {
		// What cannot be written stays out of Kafka with all that came with it; the loop hears of it as of a failed commit.
		o.committing = b
		o.committed <- err
	} else {
		o.commit(b)
	}
	o.filling = o.fresh()
}

// seal adds what a transaction ends with: the stream records with count and digest as of this batch (K16), and the newest
// checkpoint of each partition, behind everything that it passed (1).
func (o *ownership) seal(b *batch) error {
	o.shrink()
	for s := range b.streams {
		r := s.record()
		value, err := offsets.Encode(r)
		if err != nil {
			return err
		}
		b.promised[s] = r
		b.records.Offset(offsets.Key{Kind: offsets.KindStream, Connection: o.name, Stream: s.spec.Name}.Append(nil), value)
	}
	for p, w := range b.checkpoints {
		b.records.Offset(p.key, w.value)
	}
	return nil
}

// commit starts the committer: one transaction, one goroutine, one answer. Its deadlines are the session's own; a stopping
// process does not cancel a transaction that has begun.
func (o *ownership) commit(b *batch) {
	o.committing = b
	b.sent = time.Now()
	ctx := context.WithoutCancel(o.ctx)
	go func() {
		if b.heartbeat {
			o.committed <- o.session.Heartbeat(ctx)
			return
		}
		o.committed <- o.session.Commit(ctx, b.records)
	}()
}

// settle takes the outcome of the transaction in flight. Known to be committed: staged becomes committed (2). Anything else:
// the outcome is unknown, and Kafka is read again (K9, K14).
func (o *ownership) settle(err error) error {
	b := o.committing
	o.committing = nil
	took := time.Since(b.sent)
	o.bound.Observe(took, err)
	if err != nil {
		var rejected *kafka.RejectedError
		if errors.As(err, &rejected) {
			o.refuse(b, rejected.Indexes)
		}
		return err
	}
	o.applied = o.session.Applied()
	o.lastCommit = time.Now()
	if b.token == nil && !b.heartbeat { // those overtake the batch that is being filled
		o.settled = b.id
		for _, p := range o.partitions {
			p.listing.settle(b.id)
			p.window.settle(b.id)
		}
	}
	o.commits.note(b, took)
	for s, c := range b.streams {
		s.settle(b.id)
		s.total.add(*c)
		s.known = true
		// The tail that is read at the next owning begins behind this commit (K9), so the promise to compare with is kept here (K8 g).
		s.meta.Count, s.meta.Digest = b.promised[s].Count, b.promised[s].Digest
		s.meta.Deleted, s.meta.Approved = b.promised[s].Deleted, b.promised[s].Approved
	}
	for p, w := range b.checkpoints {
		p.committed = w.checkpoint
		if p.stagedIn == b.id {
			p.staged = nil
		}
	}
	for p, ids := range b.recent {
		p.recent.settle(ids)
	}
	if b.token != nil {
		o.vault.settled(b.token)
	}
	b.records.Reset()
	o.free = append(o.free, b.records)
	if o.rest != nil {
		o.send()
		return o.take(o.rest)
	}
	return nil
}

// drainFor bounds what SIGTERM waits for: the batch in flight and the one that is filled.
const drainFor = 6 * time.Second

// drain ends the ownership in order: reading has stopped; what was begun is committed, then what was staged, as far as the
// deadline allows. What is not known by then is safe: the next owner reads what Kafka holds.
func (o *ownership) drain(ctx context.Context) error {
	o.stopFetching(errOver)
	deadline := time.NewTimer(drainFor)
	defer deadline.Stop()
	cause := context.Cause(ctx)
	if o.rest != nil { // a half page has no checkpoint yet: its records are read again
		o.rest.page.release()
		o.rest = nil
	}
	idle := make(chan struct{})
	go func() { // waits for the fetchers: a refresh that has begun ends with its token stored (K19)
		o.fetchers.Wait()
		close(idle)
	}()
	late := false
	for o.filling.urgent = true; ; {
		o.send()
		if idle == nil && (late || o.committing == nil) {
			return cause
		}
		select {
		case <-idle:
			idle = nil
		case err := <-o.committed:
			if err := o.settle(err); err != nil {
				return errors.Join(cause, err)
			}
		case t := <-o.vault.writes: // a token in hand is stored before we go (K19)
			o.tokens = append(o.tokens, t)
		case reply := <-o.asked:
			reply <- o.status()
		case <-deadline.C:
			late = true // K19: only a refresh may go on; whoever stops us has a budget of his own (K11)
		}
	}
}

// refuse notes the records that the broker refused by themselves, so that the next try parks them (K15).
func (o *ownership) refuse(b *batch, indexes []int) {
	for _, c := range b.contents {
		if slices.Contains(indexes, c.index) {
			o.refused[c.content] = true
		}
	}
}

// plan puts a partition back into the schedule after a pass.
func (o *ownership) plan(p *partition, now time.Time) {
	if o.planKin(p, now) {
		return
	}
	if at, ok := p.request.Scheduled(now); ok {
		o.schedule.at(&p.poll, at)
		return
	}
	every, err := o.every(p, now)
	if err != nil {
		o.haltPartition(p, err)
		return
	}
	p.kin.planned = now
	o.later(p, phase(o.name+"/"+p.label, every, now), now) // P22: by a hash of the name
}

// planAll schedules every partition of a new ownership: what was never read, or was interrupted, is due now; what waited goes
// on waiting; what was read by a process before this one is due soon.
func (o *ownership) planAll(now time.Time) error {
	for _, p := range o.partitions {
		if p.reset { // at once: the next commit promises the damaged set, and a crash would forget that it is damaged (K8 g)
			if err := o.filling.checkpoint(p, p.committed, now); err != nil {
				return err
			}
		}
		switch cp := p.committed; {
		case o.planRestored(p, now): // P21
		case p.halted != nil:
		case o.timed(p, now):
		case cp.Passes == 0, cp.Anchor != "", p.interrupted:
			o.schedule.at(&p.poll, now)
		case p.failures > 0:
			o.schedule.at(&p.poll, now.Add(backoff(p.label, p.failures)))
		case p.poll.due.After(now): // planned in an ownership before this one
			o.schedule.at(&p.poll, p.poll.due)
		default: // P22: a restart does not poll everything at once, nor later than its interval would have it
			spread := startWithin
			if every, err := p.request.Every(p.spec, now.Add(o.skew)); err == nil && every < spread {
				spread = every
			}
			o.schedule.at(&p.poll, phase(o.name+"/"+p.label, spread, now))
		}
		p.interrupted, p.asked = false, map[*stream]bool{}
		o.planListing(p, now)
	}
	return nil
}

// timed puts a partition with a schedule into its place: it waits for its next moment, the first time too. A pass that was cut,
// or failed, or whose moment went by while nobody was there to see it, is not left for that.
func (o *ownership) timed(p *partition, now time.Time) bool {
	cp := p.committed
	at, ok := p.request.Scheduled(now)
	if !ok || cp.Anchor != "" || p.interrupted || p.failures > 0 {
		return false
	}
	if missed, _ := p.request.Scheduled(cp.Ended); cp.Passes > 0 && !missed.After(now) {
		return false
	}
	o.schedule.at(&p.poll, at)
	return true
}

// startWithin is the time over which a start spreads the partitions that have been read before, at most.
const startWithin = 10 * time.Second

// commitStats are what is shown of transactions.
type commitStats struct {
	Count, Records int64
	Last           time.Time
	Took           time.Duration // of the last
}

func (c *commitStats) note(b *batch, took time.Duration) {
	c.Count++
	c.Records += int64(b.records.Len())
	c.Last, c.Took = time.Now(), took
}

// mended notes that a complete pass over p has compared everything that there is with the table (K8 g).
func (o *ownership) mended(p *partition) {
	p.reset = false
	for _, other := range o.partitions {
		if other.request == p.request && other.reset {
			return
		}
	}
	for _, s := range o.streams {
		if s.request == p.request {
			s.mismatch = false
		}
	}
}
