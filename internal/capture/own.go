package capture

import (
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/source"
)

// ownership is one fenced session with everything staged in it. It dies whole: after any error its batches are forgotten and
// the connection is owned anew (K14).
type ownership struct {
	*Connection
	session *kafka.Session
	ctx     context.Context // of the fetchers; ends with the ownership

	filling, committing *batch
	free                []*kafka.Batch // records of batches that are done with
	batches             uint64
	rest                *half
	undertaken          []*partition  // with a verdict or orphans to be carried out
	letting             bool          // more withheld deletions may go than the batch had room for
	tokens              []*tokenWrite // each travels alone, before anything else (K19)
	agreed              chan error
	pages               chan fetched
	committed           chan error
	fetchers            sync.WaitGroup
	waiting             map[*half]bool // pages that wait for their files
	retrying            map[keyed]bool // files that are tried again
	lastRetry           time.Time

	settled uint64 // the last batch that is known to be committed
	number  int64  // of the last event, for ce_id
	said    codec.Event
	headers []cdc.Header
	slab    []byte
	scratch []byte
	cursor  []byte
}

// own runs one ownership of the connection: from the fence to the first trouble.
func (c *Connection) own(ctx context.Context, assigned func() bool) error {
	c.phase("owning")
	if err := c.topics(ctx); err != nil {
		return err
	}
	session, err := kafka.Own(ctx, c.kafka, c.claim(assigned)) // fence, lost markers, owner record (3)
	if err != nil {
		return err
	}
	defer session.Close()
	c.phase("restoring")
	if err := c.restore(ctx, session); err != nil { // first time all of the shard, later its tail (K9)
		return err
	}
	o := c.begin(ctx, session)
	defer o.release()
	c.phase("running")
	return o.run(ctx)
}

// begin makes the ownership of a restored connection.
func (c *Connection) begin(ctx context.Context, session *kafka.Session) *ownership {
	o := &ownership{
		Connection: c, session: session, pages: make(chan fetched), committed: make(chan error, 1), agreed: make(chan error, 1),
		waiting: map[*half]bool{}, retrying: map[keyed]bool{},
	}
	c.vault.begin()
	fetching, cancel := context.WithCancelCause(ctx)
	o.ctx = fetching
	c.stopFetching = cancel
	o.filling = o.fresh()
	clear(o.mail.taken)
	o.mail.ring()
	return o
}

// fresh returns an empty batch.
func (o *ownership) fresh() *batch {
	o.batches++
	var records *kafka.Batch
	if n := len(o.free); n > 0 {
		records, o.free = o.free[n-1], o.free[:n-1]
	} else {
		records = kafka.NewBatch()
	}
	return newBatch(o.batches, records)
}

// release ends the ownership: fetchers are stopped and waited for, everything staged is forgotten (2). Sightings, tables and
// checkpoints as last committed, and a token in hand stay with the connection.
func (o *ownership) release() {
	o.stopFetching(errOver)
	o.vault.end()
	if o.rest != nil {
		o.rest.page.release()
	}
	o.session.Close() // ends a commit under way
	if o.committing != nil {
		<-o.committed //nolint:errcheck // a commit that was cut has no say: what became of it is read from Kafka (K9)
	}
	o.fetchers.Wait()
	for h := range o.waiting {
		h.page.release()
	}
	for _, s := range o.streams {
		s.drop()
	}
	for _, p := range o.partitions {
		// What it read and what is not known to be committed is read again at once, not after an interval.
		p.interrupted = p.walk != nil || p.staged != nil || p.written > o.settled
		p.written = 0
		p.staged, p.space.flight, p.space.queue = nil, 0, nil
		listing := p.listing
		p.stop(&o.schedule)                        // nothing begins before the next ownership has settled its token and planned (K19)
		p.listing, p.orders = listing.again(), nil // D3; the next ownership is told of the orders anew
		p.recent.drop()
		p.window.drop()
	}
	o.settleKin()
}

var errOver = errors.New("the ownership is over")

// run is the loop: one goroutine, and nobody else touches the connection's tables, checkpoints and batches.
func (o *ownership) run(ctx context.Context) error {
	o.settleToken()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := o.pursue(); err != nil { // verdicts go on where there is room for them
			return err
		}
		o.send() // committer idle and filling not empty: hand it over; that is group commit
		timer.Reset(o.pause(time.Now()))
		select {
		case page := <-o.intake(): // nil while filling is full: back-pressure
			if err := o.accept(page); err != nil {
				return err
			}
		case err := <-o.committed:
			if err := o.settle(err); err != nil { // staged becomes committed (2)
				return err
			}
		case <-timer.C:
			if err := o.tick(time.Now()); err != nil {
				return err
			}
		case t := <-o.vault.writes:
			o.tokens = append(o.tokens, t)
		case err := <-o.agreed: // the token in hand is the one that Kafka holds
			if err := o.open(err); err != nil {
				return err
			}
		case reply := <-o.asked:
			reply <- o.status()
		case <-o.mail.arrived: // what operators ask (K1)
			if err := o.obey(time.Now()); err != nil {
				return err
			}
		case <-ctx.Done():
			return o.drain(ctx)
		}
	}
}

// intake is where pages come from; nil while a page waits for room (back-pressure) or a token waits to be stored (K19).
func (o *ownership) intake() <-chan fetched {
	if o.rest != nil {
		return nil
	}
	return o.pages
}

// pause is how long the loop may wait until something is due.
func (o *ownership) pause(now time.Time) time.Duration {
	wait := fencedEvery
	if e := o.schedule.next(); e != nil {
		wait = min(wait, e.due.Sub(now))
	}
	if o.committing == nil && !o.filling.empty() {
		wait = min(wait, o.filling.since.Add(patience).Sub(now))
	}
	return max(wait, 0)
}

// tick begins every pass that is due, and the chores.
func (o *ownership) tick(now time.Time) error {
	for e := o.schedule.next(); e != nil && !e.due.After(now); e = o.schedule.next() {
		o.schedule.remove(e)
		begin := o.start
		switch {
		case e.listing:
			begin = o.list
		case o.early(e.partition, now): // P21
			continue
		}
		if err := begin(e.partition, now); err != nil {
			return err
		}
	}
	return o.chores(now)
}

// chores are what an owner does beside reading: the heartbeat (K12), a look whether somebody has fenced us while we had nothing
// to commit (3), and another look at its topics (K2).
func (o *ownership) chores(now time.Time) error {
	if now.Sub(o.verified) > verifyEvery { // K2: while running too
		o.verified = now
		if err := o.session.Verify(o.ctx); err != nil && o.ctx.Err() == nil {
			if remedy, scope := cdc.Verdict(err); remedy == cdc.Halt && scope <= cdc.Stream {
				o.haltTopics(err)
				return nil
			}
			return err
		}
	}
	if now.Sub(o.unguarded) > unguardEvery { // D5
		o.unguarded = now
		if err := o.unguard(now); err != nil {
			return err
		}
	}
	if now.Sub(o.lastRetry) > retryEvery {
		if err := o.retry(now); err != nil {
			return err
		}
	}
	if now.Sub(o.exhumed) > exhumeEvery { // D7
		o.exhumed = now
		for _, s := range o.streams {
			o.exhume(s, now)
		}
	}
	if o.committing != nil || !o.filling.empty() {
		return nil // the commit tells whether we are fenced, and is a heartbeat
	}
	if now.Sub(o.lastCommit) > heartbeatEvery { // K12
		b := o.fresh()
		b.heartbeat = true
		o.commit(b)
		return nil
	}
	if now.Sub(o.lookedAround) > fencedEvery && now.Sub(o.lastCommit) > fencedEvery {
		o.lookedAround = now
		if err := o.session.Fenced(o.ctx); err != nil && o.ctx.Err() == nil { // told to stop: the loop drains
			if remedy, _ := cdc.Verdict(err); remedy != cdc.Retry {
				return err
			}
			o.log.Debug("no answer to whether somebody else owns the connection", "error", err)
		}
	}
	return nil
}

const (
	heartbeatEvery = 24 * time.Hour
	verifyEvery    = 5 * time.Minute
	fencedEvery    = 30 * time.Second
	unguardEvery   = 30 * time.Second
	exhumeEvery    = time.Hour
)

// start begins a pass of p, or goes on with the one that its checkpoint holds.
func (o *ownership) start(p *partition, now time.Time) error {
	cp := p.checkpoint()
	if cp.Request != "" && cp.Request != p.request.RequestPrint { // P23: Begin drops it
		o.log.Warn("the request changed: its cursor is void, a full pass begins", "partition", p.label)
	}
	if cp.Validator != "" && o.unsettled(p) {
		cp.Validator = "" // D10: what waits or is lost needs the records themselves
	}
	position, err := p.request.Begin(p.spec, cp, now.Add(o.skew))
	w := o.walk(p, position, now)
	if err != nil || !o.rejoin(w) {
		w.take()
	}
	p.walk = w
	p.kin.begun, p.kin.wanted = p.kin.sighted, time.Time{}
	if ids := p.recent.ids(); len(ids) > 0 {
		w.position.Remember(ids) // P13
	}
	if err != nil {
		return o.fail(w, err)
	}
	o.reask(w)
	return o.resume(w)
}

// settleToken makes the grant in hand and the one in Kafka agree, before anything is polled: a token that was got in an
// ownership that ended is stored first (K19, 9).
func (o *ownership) settleToken() {
	o.fetchers.Add(1)
	go func() {
		defer o.fetchers.Done()
		o.agreed <- o.client.Settle(o.ctx)
	}()
}

// open begins to poll, once the token is settled.
func (o *ownership) open(err error) error {
	if err != nil {
		return err
	}
	now := time.Now()
	if err := o.takeRoots(now); err != nil {
		return err
	}
	return o.planAll(now)
}

// walk makes the pass that begins at position. One that lists everything gets a generation of sightings of its own (D3).
func (c *Connection) walk(p *partition, position source.Position, now time.Time) *walk {
	w := &walk{partition: p, position: position, began: now, told: now, older: map[keyed]uint64{}}
	if position.Full() {
		w.generation, w.census, w.listed = c.nextGeneration(now), c.census(p), make([]int64, len(c.streams))
	}
	return w
}

// resume goes on with a walk between two pages.
func (o *ownership) resume(w *walk) error {
	if w.ended {
		return o.border(w)
	}
	return o.want(w.partition.space, w)
}

// fetch starts the fetcher of one request of sp. What it brings reaches the loop, or is released when the ownership ends.
func (o *ownership) fetch(sp *space, f fetched, request *fetch.Request) {
	sp.flight++
	o.fetchers.Add(1)
	go func() {
		defer o.fetchers.Done()
		if request != nil { // P13: a spool is played without asking
			f.response, f.err = o.client.Do(o.ctx, request)
		}
		select {
		case o.pages <- f:
		case <-o.ctx.Done():
			f.release()
		}
	}()
}

// fail ends a pass that cannot go on, as the error's remedy and reach say. What it returns ends the ownership.
func (o *ownership) fail(w *walk, err error) error {
	p := w.partition
	remedy, scope := cdc.Verdict(err)
	now := time.Now()
	switch {
	case o.ctx.Err() != nil:
		return nil //nolint:nilerr // the ownership ends; whoever ended it says why
	case remedy == cdc.Reopen, scope >= cdc.Connection && remedy == cdc.Halt:
		return err
	case p.listing == w:
		return o.failListing(w, err)
	}
	w.position.Abandon()
	p.walk = nil
	if p.listsByItself() && (remedy != cdc.Retry || p.failures >= listingTries) { // D3: what it went on from may be what is wrong
		if o.erase(p); w.rejoined != "" && remedy == cdc.Halt {
			remedy = cdc.Restart
		}
	}
	switch {
	case errors.Is(err, source.ErrParentGone): // P21
		o.deserted(p, err, now)
		return nil
	case remedy == cdc.Halt && scope == cdc.Stream:
		o.haltRequest(p.request, err)
		return nil
	case remedy == cdc.Halt:
		o.haltPartition(p, err)
		return nil
	case remedy == cdc.Expired: // P17: a full pass
		o.log.Warn("the cursor is not known upstream any more: the next pass begins anew", "partition", p.label, "error", err)
		return o.expire(p, now, err)
	}
	p.failures++
	p.paused = err
	next, moved := source.CursorFrom(err)
	if cp := p.checkpoint(); remedy == cdc.Restart && (cp.Anchor != "" || moved) { // P17: a dead page token; the pass begins at its cursor
		if cp = source.Restart(cp); moved {
			cp.Cursor, cp.Sequence = next, cp.Sequence+1
		}
		if err := o.filling.checkpoint(p, cp, now); err != nil {
			return err
		}
	}
	if remedy == cdc.Restart && p.failures <= restartsAtOnce {
		o.log.Info("the pass begins again", "partition", p.label, "error", err)
		o.schedule.at(&p.poll, now)
		return nil
	}
	wait := backoff(p.label, p.failures)
	o.log.Warn("the pass failed and is tried again", "partition", p.label, "in", wait.Round(time.Second), "error", err)
	o.schedule.at(&p.poll, now.Add(wait))
	return nil
}

// restartsAtOnce is how many passes in a row may begin again without a pause (P9, P17).
const restartsAtOnce = 3

// expire drops the cursor of p and begins a full pass (P17), or takes the cursor that the answer gave. Should that expire at
// once too, it waits as for a failure.
func (o *ownership) expire(p *partition, now time.Time, err error) error {
	p.failures++
	cp := source.Expire(p.checkpoint())
	if next, ok := source.CursorFrom(err); ok {
		cp.Cursor = next
	}
	if err := o.filling.checkpoint(p, cp, now); err != nil {
		return err
	}
	if p.failures > 1 {
		now = now.Add(backoff(p.label, p.failures))
	}
	o.schedule.at(&p.poll, now)
	return nil
}

// haltTopics halts the streams whose topics err names, and reports whether there was one that went on till now.
func (c *Connection) haltTopics(err error) bool {
	found := false
	for _, bad := range kafka.BadTopics(err) {
		for _, s := range c.streams {
			if s.topic.Name == bad.Topic && s.halted == nil {
				c.haltStream(s, err)
				found = true
			}
		}
	}
	return found
}
