package fetch

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/internal/cdc"
)

const (
	silentPause  = time.Minute      // P22: where a 429 says nothing
	longestGuess = 15 * time.Minute // P22: up to which it doubles while it repeats
	longestPause = 24 * time.Hour   // P22: beyond it a pause is an error
	background   = 4                // what a background flow pays for a request, in the order of service
	reserved     = 10               // background leaves 1/10 of the budget to the others
)

// BudgetOptions are what an account may do. The zero value has no limits.
type BudgetOptions struct {
	Budget        float64       // cost that may be spent within any stretch of Per; 0: no limit known
	Per           time.Duration // default 1 min
	MaxConcurrent int           // requests under way at the same time; 0: no limit
	// RemainingHeader names the header that says what is left until the server's next window begins. ResetHeader says when
	// that is: in seconds, as Unix time (seconds or milliseconds) or as a date; without it windows are taken to begin at
	// multiples of Per by the server's Date.
	RemainingHeader, ResetHeader string
}

// Budget is what an account may ask for, shared by its connections and their streams (P22): a rate, a number of requests at
// a time, and the pauses that the server imposes. Streams take turns, by what they spent; within a stream it is first come,
// first served. Its methods may be called from several goroutines.
type Budget struct {
	mu       sync.Mutex
	options  BudgetOptions
	window   window
	inflight int
	back     int     // of them, those of background flows
	taken    float64 // cost of the requests under way: an answer's remaining does not count those still on their way

	left  float64 // what the server said is left, less what went out since; meaningful until reset
	most  float64 // the most that it ever said, of which background leaves its share
	reset time.Time

	paused  time.Time
	reason  string
	since   time.Time // first 429 of those that still repeat
	repeats int       // how many there were, each pause counted once
	epoch   uint64    // counts the pauses that 429s asked for: one that was under way before the pause does not double it
	probing bool      // after a 429 one request goes first; what it is answered opens the others

	flows   []*flow
	virtual float64 // the clock of start-time fair queueing: the start of the claim served last
	arrived uint64
	timer   *time.Timer
	stats   BudgetStats
}

// BudgetStats is a copy of a Budget's state, for the status page and metrics.
type BudgetStats struct {
	Requests    int64     // let go so far
	Throttled   int64     // 429s, and 503s that asked for a pause
	Waiting     int       // claims that wait
	InFlight    int       // requests under way
	Spent       float64   // cost in the window that ends now
	Budget      float64   // of the options
	PausedUntil time.Time // zero: not paused
	Reason      string
}

// Claim is one request's wish.
type Claim struct {
	Flow       string  // whose: the stream
	Cost       float64 // below 1 is 1; above the whole budget is the whole budget
	Background bool    // leaves the others a tenth of the budget, and counts four times in the order of service
	owner      *Client // whose stream: two connections of an account may have streams of one name
}

// Ticket is leave to send one request. Done ends it.
type Ticket struct {
	epoch      uint64
	cost       float64
	background bool
}

// flow is the queue of one stream. finish is where its last served claim ends on the virtual clock.
type flow struct {
	owner      *Client
	name       string
	background bool
	finish     float64
	queue      []*waiting
}

type waiting struct {
	Claim
	arrived uint64  // the order of arrival
	at      float64 // the virtual clock then
	ticket  Ticket
	refused error
	ready   chan struct{} // closed, under the mutex, when ticket is its own, or refused
}

// NewBudget returns the budget of an account.
func NewBudget(o BudgetOptions) *Budget {
	if o.Per <= 0 {
		o.Per = time.Minute
	}
	return &Budget{options: o, window: newWindow(o.Per)}
}

// Limit changes what the account may do from now on. What was spent counts on, and a pause stays.
func (b *Budget) Limit(o BudgetOptions) {
	if o.Per <= 0 {
		o.Per = time.Minute
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o.Per != b.options.Per {
		spent := b.window.total
		b.window = newWindow(o.Per)
		b.window.spend(time.Now(), spent)
	}
	b.options = o
	b.advance()
}

// Take waits until the claim may go and returns its ticket, which the caller ends by Done. It fails with ctx's error, or
// halts the connection where the account is paused for more than a day.
func (b *Budget) Take(ctx context.Context, c Claim) (Ticket, error) {
	c.Cost = max(c.Cost, 1)
	b.mu.Lock()
	if b.options.Budget > 0 {
		c.Cost = min(c.Cost, b.options.Budget)
	}
	if time.Until(b.paused) > longestPause {
		defer b.mu.Unlock()
		return Ticket{}, tooLongPause(b.paused, b.reason)
	}
	b.arrived++
	w := &waiting{Claim: c, arrived: b.arrived, at: b.virtual, ready: make(chan struct{})}
	f := b.flow(c)
	f.queue = append(f.queue, w)
	b.advance()
	b.mu.Unlock()
	select {
	case <-w.ready:
		return w.ticket, w.refused
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(f.queue, w); i >= 0 {
		f.queue = slices.Delete(f.queue, i, i+1)
	} else if w.refused == nil {
		b.done(w.ticket) // it was let go while we gave up
	}
	b.advance()
	return Ticket{}, ctx.Err()
}

// flow returns the queue of c, a new one where there is none.
func (b *Budget) flow(c Claim) *flow {
	for _, f := range b.flows {
		if f.owner == c.owner && f.name == c.Flow && f.background == c.Background {
			return f
		}
	}
	f := &flow{owner: c.owner, name: c.Flow, background: c.Background}
	b.flows = append(b.flows, f)
	return f
}

// Done ends the ticket of a request that was answered, failed or was never sent.
func (b *Budget) Done(t Ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done(t)
	b.advance()
}

func (b *Budget) done(t Ticket) {
	b.inflight--
	b.taken -= t.cost
	if t.background {
		b.back--
	}
}

// advance lets claims go, in their order, until the first has to wait; then it sets the timer for it. The mutex is held.
func (b *Budget) advance() {
	now := time.Now()
	var next time.Time
	b.flows = slices.DeleteFunc(b.flows, func(f *flow) bool { return len(f.queue) == 0 && f.finish <= b.virtual })
	for {
		f := b.first(true)
		if f == nil {
			break
		}
		at, ok := b.when(now, f.queue[0])
		if (!ok || at.After(now)) && f.background {
			// What holds background back (its reserve) may not hold back the others.
			if front := b.first(false); front != nil {
				f = front
				at, ok = b.when(now, f.queue[0])
			}
		}
		if !ok || at.After(now) {
			if ok {
				next = at
			}
			break
		}
		b.serve(now, f)
	}
	b.wake(now, next)
}

// wake sets the timer that advances again at next; zero is not at all.
func (b *Budget) wake(now, next time.Time) {
	switch {
	case next.IsZero():
		if b.timer != nil {
			b.timer.Stop()
		}
	case b.timer == nil:
		b.timer = time.AfterFunc(next.Sub(now), func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.advance()
		})
	default:
		b.timer.Reset(next.Sub(now))
	}
}

// first returns the flow whose head is to be served next: that with the smallest start, as in start-time fair queueing; where
// they are equal, the head that came first.
func (b *Budget) first(all bool) *flow {
	var best *flow
	for _, f := range b.flows {
		switch {
		case len(f.queue) == 0, f.background && !all:
		case best == nil, f.start() < best.start(), f.start() == best.start() && f.queue[0].arrived < best.queue[0].arrived:
			best = f
		}
	}
	return best
}

// start is where the flow's head begins on the virtual clock: behind what the flow had, but never in the past, so that who
// was silent has saved nothing.
func (f *flow) start() float64 { return max(f.finish, f.queue[0].at) }

// when returns the moment from which on w may go; false: not before somebody is done. The mutex is held.
func (b *Budget) when(now time.Time, w *waiting) (time.Time, bool) {
	o := b.options
	if o.MaxConcurrent > 0 && b.inflight >= o.MaxConcurrent || b.probing && b.inflight > 0 {
		return time.Time{}, false
	}
	if w.Background && o.MaxConcurrent > 1 && b.back >= o.MaxConcurrent-1 {
		return time.Time{}, false // of several places the last is never theirs
	}
	at := now
	if b.paused.After(at) {
		at = b.paused
	}
	reserve := 0.0
	if w.Background {
		reserve = max(o.Budget, b.most) / reserved
	}
	if o.Budget > 0 {
		// Nothing spent is always enough, also where the reserve does not fit beside the cost.
		if t := b.window.free(now, max(0, o.Budget-w.Cost-reserve)); t.After(at) {
			at = t
		}
	}
	if b.reset.After(now) && w.Cost+reserve > b.left && b.reset.After(at) {
		at = b.reset
	}
	return at, true
}

// serve lets the head of f go.
func (b *Budget) serve(now time.Time, f *flow) {
	w := f.queue[0]
	b.virtual = f.start()
	f.queue = slices.Delete(f.queue, 0, 1)
	share := w.Cost
	if w.Background {
		share *= background
	}
	f.finish = b.virtual + share
	b.inflight++
	b.taken += w.Cost
	if w.Background {
		b.back++
	}
	b.left -= w.Cost
	if b.options.Budget > 0 {
		b.window.spend(now, w.Cost)
	}
	b.stats.Requests++
	w.ticket = Ticket{b.epoch, w.Cost, w.Background}
	close(w.ready)
}

// Observe hears of every answer: of what its header says is left, and that the server answers again.
func (b *Budget) Observe(t Ticket, r *Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.epoch == b.epoch && r.Status < 500 && r.Status != 429 {
		b.repeats, b.since, b.probing = 0, time.Time{}, false
	}
	if b.options.RemainingHeader == "" {
		return
	}
	left, err := strconv.ParseFloat(strings.TrimSpace(r.Header.Get(b.options.RemainingHeader)), 64)
	if err != nil || !(left >= 0) { // NaN too
		return
	}
	// Answers may overtake each other: what the header counts is all up to this request, so those still under way come off.
	b.left, b.most = left-max(0, b.taken-t.cost), max(b.most, left)
	b.reset = r.Received.Add(b.untilReset(r))
	b.advance()
}

// untilReset returns how long the server's window still lasts.
func (b *Budget) untilReset(r *Response) time.Duration {
	server := clock(r)
	if d, ok := resetIn(r.Header.Get(b.options.ResetHeader), server); ok {
		return d
	}
	// P22, APIS §1: the budget comes back with the clock minute of the Date header. The Date is cut to whole seconds, hence
	// never too early.
	return b.options.Per - time.Duration(server.UnixNano()%int64(b.options.Per))
}

// resetOf returns what the reset header says, if there is one.
func (b *Budget) resetOf(r *Response) (time.Duration, bool) {
	b.mu.Lock()
	header := b.options.ResetHeader
	b.mu.Unlock()
	return resetIn(r.Header.Get(header), clock(r))
}

// clock is the server's clock in an answer; ours where it has none.
func clock(r *Response) time.Time {
	if server, dated := date(r.Header, "Date"); dated {
		return server
	}
	return r.Began
}

// resetIn reads a reset header by the server's clock: Unix time in seconds or milliseconds, seconds from now, or a date.
func resetIn(text string, server time.Time) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	var at time.Time
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		switch {
		case !(n >= 0) || n > 1e14:
			return 0, false
		case n > 1e11:
			at = time.UnixMilli(int64(n))
		case n > 1e8:
			at = time.Unix(int64(n), 0)
		default:
			return min(seconds(n), longestPause), true
		}
	} else if at, err = time.Parse(time.RFC1123, text); err != nil {
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return 0, false
		}
	}
	return min(max(at.Sub(server), 0), longestPause), true
}

// Throttled hears that the request of t was told to wait (P22): for that long where the server said so, else for 60 s,
// doubling while it repeats, up to 15 min. A request outside the budget, a login or the refresh of a token, has no t. The whole account
// pauses, and after it one request goes first. It returns when the pause ends; an error past a day, of one pause or of pauses without
// an answer in between.
func (b *Budget) Throttled(t *Ticket, wait time.Duration, told bool, why string) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.stats.Throttled++
	// Ten requests may be under way when the account is throttled, and all ten come back as 429: that is one pause. Those
	// that went out before it began have an older epoch.
	if t == nil || t.epoch == b.epoch {
		b.epoch++
		if b.repeats++; b.repeats == 1 {
			b.since = now
		}
		if guess := silentPause << min(b.repeats-1, 10); !told {
			wait = min(guess, longestGuess)
		} else {
			// Retry-After: 0 again and again would be a loop without a pause.
			wait = max(wait, min(time.Second<<min(b.repeats-1, 10), silentPause))
		}
	} else if !told {
		wait = 0
	}
	b.probing = true
	b.pause(now.Add(wait), why)
	if wait > longestPause || !b.since.IsZero() && now.Sub(b.since) > longestPause {
		b.since = now // whoever restarts the connection gets a day again
		err := tooLongPause(b.paused, why)
		if wait > longestPause {
			b.refuse(err) // as whoever comes from now on
		}
		return b.paused, err
	}
	return b.paused, nil
}

// refuse ends all claims that wait.
func (b *Budget) refuse(err error) {
	for _, f := range b.flows {
		for _, w := range f.queue {
			w.refused = err
			close(w.ready)
		}
		f.queue = nil
	}
}

func tooLongPause(until time.Time, why string) error {
	return cdc.Errorf(cdc.Halt, cdc.Connection, "request", "The account's quota seems to be used up: raise it upstream or lower the connection's rate, then restart the connection, which lifts the pause.",
		"paused for more than a day, until %s: %s", until.UTC().Format(time.RFC3339), why)
}

// pause lets nothing of the account go before until; an earlier end than that of the present pause changes nothing.
func (b *Budget) pause(until time.Time, why string) {
	if until.After(b.paused) {
		b.paused, b.reason = until, why
	}
}

// Resume lifts the present pause, whoever asked for it: the word of somebody who restarts a connection.
func (b *Budget) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused, b.reason, b.repeats, b.since = time.Time{}, "", 0, time.Time{}
	b.advance()
}

// Paused returns until when the account is paused, and why; the zero time where it is not.
func (b *Budget) Paused() (until time.Time, why string) {
	s := b.Stats()
	return s.PausedUntil, s.Reason
}

// Stats returns the present state.
func (b *Budget) Stats() BudgetStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	now := time.Now()
	b.window.slot(now)
	s.InFlight, s.Spent, s.Budget = b.inflight, b.window.total, b.options.Budget
	for _, f := range b.flows {
		s.Waiting += len(f.queue)
	}
	if b.paused.After(now) {
		s.PausedUntil, s.Reason = b.paused, b.reason
	}
	return s
}
