package capture

import (
	"fmt"
	"sync"
	"time"

	"tidemark/internal/offsets"
)

// mailbox holds what operators ask of a connection (K1), until an outcome is seen in the controls topic: an ownership that ends
// before its outcome is committed has done nothing, and the next one obeys.
type mailbox struct {
	mu      sync.Mutex // guards pending
	pending map[string]offsets.Command
	arrived chan struct{}
	taken   map[string]bool // by this ownership; the loop's own
}

// mostPending bounds the commands that wait for a connection (10).
const mostPending = 1000

// Order hands a command to the connection. It is carried out when this process owns the connection; whoever follows the
// controls topic calls Done when its outcome appears there.
func (c *Connection) Order(id string, command offsets.Command) {
	m := &c.mail
	m.mu.Lock()
	if len(m.pending) < mostPending {
		m.pending[id] = command
	}
	m.mu.Unlock()
	m.ring()
}

// Done forgets a command whose outcome is committed.
func (c *Connection) Done(id string) {
	c.mail.mu.Lock()
	defer c.mail.mu.Unlock()
	delete(c.mail.pending, id)
}

// ring tells the loop that something has arrived.
func (m *mailbox) ring() {
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// fresh returns the commands that this ownership has not taken yet.
func (m *mailbox) fresh() map[string]offsets.Command {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]offsets.Command{}
	for id, command := range m.pending {
		if !m.taken[id] {
			all[id], m.taken[id] = command, true
		}
	}
	return all
}

// order is a command on its way: it waits for the listings of its stream's partitions.
type order struct {
	id      string
	command offsets.Command
	left    int
	outcome offsets.Outcome
}

// obey takes the commands that have arrived.
func (o *ownership) obey(now time.Time) error {
	for id, command := range o.mail.fresh() {
		if now.After(command.Expires) {
			o.log.Warn("a command came too late", "id", id, "do", command.Do, "stream", command.Stream, "author", command.Author)
			continue
		}
		o.log.Info("command", "id", id, "do", command.Do, "stream", command.Stream, "n", command.N, "author", command.Author)
		ord := &order{id: id, command: command}
		s := o.streamNamed([]byte(command.Stream))
		var err error
		switch {
		case s == nil:
			err = o.refuseOrder(ord, "the connection has no stream "+command.Stream)
		case s.halted != nil:
			err = o.refuseOrder(ord, "the stream is halted: "+s.halted.Error())
		case command.Do == offsets.Approve:
			err = o.approveSet(ord, s, now)
		default:
			err = o.orderListing(ord, s, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *ownership) refuseOrder(ord *order, why string) error {
	ord.outcome.Error = why
	return o.report(ord)
}

// report writes an order's outcome; it commits with what was done (K1).
func (o *ownership) report(ord *order) error {
	ord.outcome.At = time.Now().UTC()
	ord.command.Outcome = &ord.outcome
	value, err := offsets.Encode(ord.command)
	if err != nil {
		return err
	}
	b := o.filling
	b.records.Control([]byte(ord.id), value)
	b.events++
	b.touch(time.Now())
	return nil
}

// orderListing has every partition of the stream listed now.
func (o *ownership) orderListing(ord *order, s *stream, now time.Time) error {
	for _, p := range o.partitions {
		if p.request != s.request || p.halted != nil {
			continue
		}
		if !p.listsByItself() && !p.request.Reconciles() {
			return o.refuseOrder(ord, "nothing is declared of how its live records are listed: the definition has no `reconcile` with `every` or `schedule`")
		}
		ord.left++
		p.orders = append(p.orders, ord)
		o.hurry(p, now)
	}
	if ord.left == 0 {
		return o.refuseOrder(ord, "it has no partition that can be read")
	}
	return nil
}

// hurry has p listed now, or as soon as what is under way has ended.
func (o *ownership) hurry(p *partition, now time.Time) {
	switch {
	case !p.listsByItself():
		o.planListing(p, now)
	case p.walk == nil:
		o.schedule.at(&p.poll, now)
	}
}

// approveSet lets the withheld deletions of a stream go (D6): those that were shown until now, if they are no more than N. They
// go after another complete listing, which begins at once; declared ones, which no listing shows, go as they are.
func (o *ownership) approveSet(ord *order, s *stream, now time.Time) error {
	if a := s.approval(); a != nil && a.ID == ord.id {
		return o.report(ord) // its outcome was not seen in time
	}
	shown := map[string]int64{}
	var all int64
	for _, c := range s.held.all() {
		if c.Kind == offsets.Withheld {
			all++
			shown[c.Partition]++
		}
	}
	switch n := ord.command.N; {
	case all == 0:
		return o.refuseOrder(ord, "no deletion of the stream is withheld")
	case n < all:
		return o.refuseOrder(ord, fmt.Sprintf("%d deletions are withheld, more than %d: look at them, and approve as many", all, n))
	}
	s.letting = &offsets.Approval{ID: ord.id, N: ord.command.N, At: now.UTC(), Until: ord.command.Expires}
	o.filling.of(s)
	for _, p := range o.partitions {
		if n := shown[p.spec.Name]; p.request == s.request && n > 0 {
			ord.outcome.Partitions = append(ord.outcome.Partitions, offsets.Verdict{Partition: p.spec.Name, Missing: n,
				Next: "another complete listing, which begins now; what upstream declared deleted goes at once"})
			o.relist(p, now)
		}
	}
	if err := o.report(ord); err != nil {
		return err
	}
	return o.unguard(now)
}

// relist has p listed now, whatever its schedule says; where it is not reconciled at all there is nothing to list.
func (o *ownership) relist(p *partition, now time.Time) {
	switch {
	case p.listsByItself():
		o.hurry(p, now)
	case p.request.Reconciles() && p.listing == nil && p.verdict == nil && p.inquest == nil:
		o.schedule.at(&p.list, now)
	}
}

// dry reports whether somebody only wants to know what the verdict would be.
func (w *walk) dry() bool {
	for _, ord := range w.orders {
		if ord.command.Do == offsets.DryRun {
			return true
		}
	}
	return false
}

// take makes the orders that wait for p's next listing this walk's.
func (w *walk) take() *walk {
	if w.generation != 0 {
		w.orders, w.partition.orders = w.partition.orders, nil
	}
	return w
}

// sampleKeys is how many keys an outcome names, and sampleBytes how much of each.
const sampleKeys, sampleBytes = 20, 200

// answer tells who asked for the listing of p what it came to.
func (o *ownership) answer(p *partition, w *walk, v *verdict) error {
	for _, ord := range w.orders {
		of := offsets.Verdict{Partition: p.spec.Name, Why: v.mark.Why, Rows: w.records}
		for i := range v.parts {
			pt := &v.parts[i]
			if pt.stream.spec.Name != ord.command.Stream {
				continue
			}
			of.Missing, of.Held, of.Next = pt.missing, pt.verdict.Held(), pt.why(v.mark.Agreed)
			for _, key := range pt.keys[:min(len(pt.keys), sampleKeys)] {
				of.Sample = append(of.Sample, clip(string(key)))
			}
		}
		ord.outcome.Partitions = append(ord.outcome.Partitions, of)
		if ord.left--; ord.left == 0 {
			if err := o.report(ord); err != nil {
				return err
			}
		}
	}
	w.orders = nil
	return nil
}

func clip(key string) string {
	if len(key) <= sampleBytes {
		return key
	}
	cut := sampleBytes
	for cut > 0 && key[cut]&0xc0 == 0x80 { // not within a character
		cut--
	}
	return key[:cut] + "…"
}

// partitionOf returns the partition of s with this name; nil where it is not configured any more.
func (c *Connection) partitionOf(s *stream, name string) *partition {
	return c.byName[s.request.Name+"/"+name]
}
