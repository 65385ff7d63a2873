package source

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// Limits bound what a pass may hold and how long it may last, whatever the server sends (10). Zero fields have defaults.
type Limits struct {
	Record       record.Limits // depth of nesting, size of one record in bytes
	Pages        int           // pages of one pass: 1,000,000
	Sightings    int           // keys remembered to notice drift (P9), and of one run of ties (P8): 2,000,000
	Recent       int           // ids of a log feed that a checkpoint keeps (P13): 10,000
	SpoolBytes   int64         // of a newest-first feed held back until it can be played oldest first (P13): 4 GiB
	SpoolRecords int           // the same in records: 10,000,000
	SpoolMemory  int           // bytes of it that are in memory, the rest is in a file; and of a page that is played: 1 MiB
	Play         int           // records of a spool that make a page: 1,000
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Pages, 1_000_000}, {&l.Sightings, 2_000_000}, {&l.Recent, 10_000}, {&l.SpoolRecords, 10_000_000},
		{&l.SpoolMemory, 1 << 20}, {&l.Play, 1000},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if l.SpoolBytes <= 0 {
		l.SpoolBytes = 4 << 30
	}
	return l
}

// SetLimits sets the limits of every pass. It is called before the first Begin; without it the defaults hold.
func (s *Source) SetLimits(l Limits) { s.limits = l }

// Seed sets the seed of a stream's hashes, as restored or drawn by the caller. It is called before the stream's first Split.
func (s *Source) Seed(stream int, seed uint64) {
	st := s.Streams[stream]
	st.seed, st.reader = seed, nil
}

// stage says what the next request of a pass is for.
type stage uint8

const (
	reading   stage = iota // the next page
	measuring              // P10: the feed's first page, to see how long pages get
	tied                   // page tie.page of the run of equal cursors at the anchor (P8)
	earlier                // P11: the request that was answered with nothing, from one granule earlier
	vouching               // P11: lookup of the record that the empty answer should have shown
	heading                // P11: how far the sequence has got
	playing                // P13: no request, the next records come from the spool
	repeating              // D2: the page before, after a new login
	hydrating              // the whole of a record of which the list gave a part
)

var stages = [...]string{"page", "page size", "tie", "check of an empty answer", "lookup of the anchor", "head of the sequence", "spool",
	"page before, after a new login", "whole record"}

// mark is a place in a timestamp feed. Its text is the record's format: the server's own where it came from a record
// (P16), so that nothing is lost by writing it anew. The zero mark is no place.
type mark struct {
	text string
	at   time.Time
}

func (m mark) isZero() bool { return m.text == "" }

// Position is where a pass stands: it says what the next request is. It is a value; copies are independent, any page can
// be asked for again from it, and it holds nothing of an answer's bytes but what is spooled (P13), which Abandon gives back.
type Position struct {
	request    *Request
	partition  Partition
	checkpoint cdc.Checkpoint // as Begin was given it, moved along since
	saved      cdc.Checkpoint // as it was handed out last
	stage      stage
	now        time.Time // frozen for the pass, `now` in templates
	began      time.Time // server time of the pass's first answer (P4)
	late       time.Time // no later than this the first request was looked at: what is newer changed while we walked (P9)
	fresh      bool      // there was no cursor to begin from: templates see `start`
	full       bool      // everything was listed so far, and sighted (D2)
	why        string    // the first reason why full was lost
	previous   *lastPage // the page before, as long as full (D2)
	resume     stage     // of the page that waits for previous to be repeated
	listing    bool      // a reconciliation's: it moves no cursor (D1)
	total      int64     // what the listing says of its size (D1), where totalled
	totalled   bool
	deep       bool  // the lower end is deep_lookback's (P12)
	doubts     int   // how often previous was asked for again, for the page that is next
	logins     int64 // of the first answer: another count is another login (D2)
	pages      int
	rows       int  // records of the pass so far
	heard      bool // an answer had what paginator.more or done names (P10)
	told       bool // an answer had what incremental.more names
	parked     int
	counted    int // of parked, by Split for the last page

	lower    mark // timestamp: where the pass began, `cursor` in templates
	anchor   mark // keyset: the last record's cursor
	from     mark // keyset: what is asked for so that the anchor's records come again
	pane     pane // of windows, the one that is read (P15)
	opening  pane // the first one
	high     mark // the largest cursor that may become the partition's (P3)
	owes     bool // an honest answer shows at least one record (P11)
	suspect  bool // the last empty answer was contradicted (P11)
	keys     []uint64
	longest  int  // rows of the longest page
	measured bool // the feed's first page was looked at for it
	tie      tie

	cursor string // opaque, sequence: what the last answer gave
	given  string // the same of the first page that had one, inside a pass that has an inner paginator (P4)
	token  string
	link   string
	turns  circle // of tokens and links, in a window
	rounds circle // of cursors
	page   int64
	reach  reach  // offset
	last   any    // `last` in templates
	behind uint64 // token without `next`: the key of that record

	reached string // the key of the last record shown, of a listing in its order (D3)
	shown   int    // keys of it that were shown
	prefix  string // of its keys: what is their partition's

	hydration *hydration
	wholes    int // parts of it that are whole

	walk   walk
	spool  *spool
	held   int   // entries of the spool that are to be played
	end    int64 // of them in the spool
	recent *recents
}

// Partition returns the partition that the pass reads.
func (p *Position) Partition() Partition { return p.partition }

// Stage says in a word or two what the next request is for, for people.
func (p *Position) Stage() string { return stages[p.stage] }

// Checkpoint returns the partition's checkpoint as the pass has moved it; Page.Checkpoint says when it may be committed.
func (p *Position) Checkpoint() cdc.Checkpoint { return p.checkpoint }

// Pages returns the number of pages that the pass has read.
func (p *Position) Pages() int { return p.pages }

// Deep reports whether the pass uses deep_lookback (P12): such passes go in the background of the budget.
func (p *Position) Deep() bool { return p.deep }

// Expire returns what is left of a checkpoint when upstream no longer knows its cursor (P17), or when the request has
// changed (P23): the next pass is a full one. It counts as read before, so what it finds new is created, not first read.
func Expire(cp cdc.Checkpoint) cdc.Checkpoint {
	cp.Cursor, cp.Validator = "", ""
	cp.Witness = nil // P11: it bears witness to the cursor that is void
	cp.Sequence++
	return Restart(cp)
}

// Restart returns cp without its unfinished pass: the next pass begins at the cursor (P17, a dead page token).
func Restart(cp cdc.Checkpoint) cdc.Checkpoint {
	cp.Anchor, cp.Start, cp.Began = "", "", time.Time{}
	return cp
}

// Begin returns the position of a new pass over p, or of the unfinished one that cp holds (P3: its anchor). now is the
// server's time as the caller estimates it, and is frozen for the pass. A cursor that cannot be read halts the stream:
// beginning anew in silence would hide that it was lost (7).
func (r *Request) Begin(p Partition, cp cdc.Checkpoint, now time.Time) (Position, error) {
	if cp.Request != "" && cp.Request != r.RequestPrint {
		cp = Expire(cp) // P23: a cursor belongs to the request that gave it
	}
	resumed := cp.Anchor != "" && r.checkpointed()
	if !resumed {
		cp = Restart(cp)
	}
	pos := Position{request: r, partition: p, checkpoint: cp, saved: cp, now: now, page: r.paginator.firstPage}
	pos.fresh = r.incremental == nil || cp.Cursor == ""
	if r.ordered && len(r.partitions) > 0 {
		pos.prefix = "[" + string(r.partitionPrefix(nil, p.Values)) + ","
	}
	if r.spooled() {
		pos.spool = &spool{}
	}
	if resumed {
		// The pass goes on as it began: with its lower end (P3: not with a lookback of the moved cursor), and with its now.
		if r.incremental == nil || r.incremental.kind == timestampCursor {
			pos.fresh = cp.Start == ""
		}
		if pos.began = cp.Began; !pos.began.IsZero() {
			pos.now = pos.began
		}
		pos.late = pos.now
	}
	// D3: what a resumed pass sighted before is not in this process, so it proves nothing missing.
	pos.full = pos.fresh && !resumed && !r.logFeed()
	var err error
	switch {
	case r.incremental == nil:
		pos.resumeToken(resumed)
	case r.incremental.kind == timestampCursor:
		err = pos.beginTimestamp(resumed)
	default:
		err = pos.beginOpaque(resumed)
	}
	return pos, err
}

func (p *Position) beginTimestamp(resumed bool) error {
	r, cp := p.request, &p.checkpoint
	inc := r.incremental
	var err error
	if cp.Cursor != "" {
		if p.high, err = p.parse(cp.Cursor); err != nil {
			return err
		}
	}
	switch {
	case resumed && cp.Start != "":
		if p.lower, err = p.parse(cp.Start); err != nil {
			return err
		}
	case !resumed && !p.high.isZero():
		back := inc.lookback
		// P12: now and then further back, for what was committed later than lookback covers.
		if inc.deepEvery > 0 && p.now.Sub(cp.Deep) >= inc.deepEvery {
			p.deep = true
			back = max(back, inc.deepSpan)
		}
		p.lower = inc.unfolded(inc.base(cp.Since, p.high), back)
	}
	p.owes = !p.lower.isZero()
	p.openWindows()
	p.anchor, p.from = p.lower, p.lower
	if resumed && r.paginator.kind == keysetPaginator {
		if p.anchor, err = p.parse(cp.Anchor); err != nil {
			return err
		}
		p.from = inc.rejoin(p.anchor)
		p.owes = true
	}
	p.resumeToken(resumed)
	return nil
}

// resumeToken goes on at a stable page token (P5).
func (p *Position) resumeToken(resumed bool) {
	if resumed && p.request.paginator.kind == tokenPaginator {
		p.token = p.checkpoint.Anchor
	}
}

// parse reads a cursor as the checkpoint holds it.
func (p *Position) parse(text string) (mark, error) {
	at, err := p.request.incremental.record.parse([]byte(text))
	if err != nil {
		return mark{}, p.fail(cdc.Halt, cdc.Partition, "If incremental.format was changed, start again with `connector offsets rewind`, or undo the change",
			"the stored cursor %q cannot be read: %w", text, err)
	}
	return mark{text, at}, nil
}

// base is the place that a lookback counts from: the cursor, or the beginning of the last pass where that is earlier. A pass
// may have stood still on its way, for a pause of the server's or a crash, and its cursor then got further than what was
// committed late behind it: a record of before the pause that shows itself after it would be out of reach for good (P12).
func (inc *incremental) base(since time.Time, cursor mark) mark {
	if inc.lookback == 0 || since.IsZero() || !since.Before(cursor.at) {
		return cursor
	}
	return inc.mark(since)
}

// reach returns from where to ask so that an honest server shows everything from m less back on.
func (inc *incremental) reach(m mark, back time.Duration) mark {
	if !inc.inclusive {
		back += inc.granularity // P6: read inclusively, also where the filter is not
	}
	if back <= 0 {
		return m
	}
	at := m.at.Add(-back)
	if at.Before(inc.startTime) && !m.at.Before(inc.startTime) {
		at = inc.startTime // what lies before the configured beginning is nobody's
	}
	return inc.mark(at)
}

// mark writes a place down. Its instant is what its text says, which is less where the format has fewer digits, and the
// earlier one where the text is ambiguous.
func (inc *incremental) mark(at time.Time) mark {
	m := mark{inc.record.print(at), at}
	if said, err := inc.record.parse([]byte(m.text)); err == nil {
		m.at = said
	}
	return m
}

// unfolded is reach for the beginning of a pass: an anchor inside a fold or just after one goes back one hour, since the
// server may take its text for the other of two instants (P16).
func (inc *incremental) unfolded(m mark, back time.Duration) mark {
	if inc.record.folds(m.at.Add(-back)) || inc.request.folds(m.at.Add(-back)) {
		back += time.Hour
	}
	return inc.reach(m, back)
}

// rejoin is reach for the anchor of a page inside a pass. Inside a fold every page is asked for from before it: the run is
// walked by its pages there (P8).
func (inc *incremental) rejoin(m mark) mark {
	if from, _, ok := inc.record.fold(m.at); ok {
		return inc.mark(from.Add(-inc.granularity)) // the text of its very beginning is ambiguous too
	}
	return inc.reach(m, 0)
}

// floor returns t at the server's granularity: what falls on one floor is equal for it (P8).
func (inc *incremental) floor(t time.Time) time.Time {
	if from, _, ok := inc.record.fold(t); ok {
		return from
	}
	return t.Truncate(inc.granularity)
}

// above returns the beginning of the floor above that of t.
func (inc *incremental) above(t time.Time) time.Time {
	if _, to, ok := inc.record.fold(t); ok {
		return to
	}
	return t.Truncate(inc.granularity).Add(inc.granularity)
}

// sendable returns m as a request writes it: the server's own text where the formats are one (P16), with the type that
// the format has in a request.
func (inc *incremental) sendable(m mark) any {
	if m.isZero() {
		return nil
	}
	value := inc.request.value(m.at)
	if !inc.record.same(inc.request) {
		return value
	}
	if n, ok := value.(int64); ok && inc.request.print(m.at) == m.text {
		return n
	}
	return m.text
}

// checkpointed reports whether a pass has page checkpoints whose anchor a later one can go on from (P5). Page numbers and
// links over rows that move have none: going on in the middle of them loses rows.
func (r *Request) checkpointed() bool {
	switch {
	case r.paginator.kind == keysetPaginator:
		return true
	case r.paginator.kind == tokenPaginator:
		return r.paginator.stable && !r.spooled() && !(r.ordered && r.incremental == nil) // D3: of a snapshot a window says more
	case r.incremental != nil && r.incremental.kind != timestampCursor:
		return r.paginator.kind == noPaginator && !r.incremental.checkpointPass
	}
	return false
}

// logFeed reports whether entries are events of their keys (P13).
func (r *Request) logFeed() bool {
	for _, st := range r.Streams {
		if st.LogFeed {
			return true
		}
	}
	return false
}

// spooled reports whether the feed shows the newest first and its order matters (P13).
func (r *Request) spooled() bool {
	return r.logFeed() && r.incremental != nil && r.incremental.order == descending
}

// variables returns what templates see from p.
func (p *Position) variables() vars {
	r := p.request
	v := vars{partition: p.partition.Values, config: r.source.config, now: p.now, page: p.page, last: p.last}
	if r.paginator.kind == offsetPaginator {
		at := p.reach.at
		v.offset = &at
	}
	if p.token != "" {
		v.pageToken = p.token
	}
	if p.stage == tied {
		page := p.tie.page
		v.tiePage = &page
	}
	inc := r.incremental
	if inc == nil {
		return v
	}
	if (p.fresh && p.pane.from.isZero() && p.cursor == "" || p.stage == measuring) && inc.start != nil {
		v.start = inc.start
	}
	if p.stage == measuring {
		return v
	}
	switch inc.kind {
	case timestampCursor:
		lower, from := p.lower, p.from
		switch {
		case p.stage == earlier: // P11: what the whole pass should have shown
			lower, from = p.before(lower), p.before(from)
		case !p.pane.from.isZero():
			lower = p.pane.from
		}
		if p.stage != earlier {
			v.cursorEnd = inc.sendable(p.pane.until)
		}
		v.cursor, v.anchor = inc.sendable(lower), inc.sendable(from)
	case sequenceCursor:
		if n, err := number(p.cursor); err == nil {
			v.cursor = n
		}
	default:
		if p.cursor != "" {
			v.cursor = p.cursor
		}
	}
	return v
}

// before returns the place one granule before m.
func (p *Position) before(m mark) mark {
	if m.isZero() {
		return m
	}
	inc := p.request.incremental
	return inc.mark(m.at.Add(-inc.granularity))
}

// Compose returns the next request. It is nil where the next page needs none (P13: it comes from the spool); Split is then
// called without a response. A template that cannot be filled in halts the stream.
func (r *Request) Compose(pos *Position) (*fetch.Request, error) {
	switch pos.stage {
	case playing:
		return nil, nil
	case repeating:
		return r.Compose(&pos.previous.at)
	case hydrating:
		request := *pos.hydration.parts[pos.wholes].request
		request.Background = pos.deep || pos.listing
		return &request, nil
	case vouching:
		w := pos.checkpoint.Witness
		req, err := r.Lookup(r.witnessed(w).Index, []byte(w.Key))
		if err != nil {
			return nil, pos.wrap(err)
		}
		judge := req.Judge
		req.Judge = func(resp *fetch.Response) error {
			if err := judge(resp); !parks(err) {
				return err
			}
			return nil // it bears no witness
		}
		return req, nil
	}
	v := pos.variables()
	list := &r.list
	if pos.stage == heading {
		list = &r.incremental.head.call
	}
	out, err := r.send(list, &v)
	if err != nil {
		return nil, pos.wrap(r.ofPartition(err))
	}
	out.Background = pos.deep || pos.listing
	pos.conditional(out)
	if pos.link != "" && pos.stage == reading {
		out.URL = pos.link // P10: the server wrote the next request; fetch refuses it outside the origins
	}
	return out, nil
}

// send writes one request with the rules by which its answer is judged.
func (r *Request) send(c *call, v *vars) (*fetch.Request, error) {
	method, url, header, body, err := c.compose(r.source, v)
	if err != nil {
		return nil, err
	}
	cost, err := r.cost(v)
	if err != nil {
		return nil, err
	}
	seen, single := *v, v.key != nil || v.view != nil
	seen.view = nil // the page's bytes belong to the page
	return &fetch.Request{
		Method: method, URL: url, Header: header, Body: body, Secrets: v.secrets, Cost: float64(cost), Flow: r.Name,
		Judge: func(resp *fetch.Response) error { return r.judge(resp, &seen, single) },
	}, nil
}

// advance moves the partition's cursor; the caller has compared (P3).
func (p *Position) advance(cursor string) {
	if cursor != "" && cursor != p.checkpoint.Cursor {
		p.checkpoint.Cursor = cursor
		p.checkpoint.Sequence++ // a reader sees an old checkpoint for what it is
	}
}

// raise moves the cursor of a timestamp feed to m if that is forward.
func (p *Position) raise(m mark) {
	if !m.isZero() && (p.high.isZero() || m.at.After(p.high.at)) {
		p.high = m // P3: the cursor only moves forward
	}
}

// fail returns an error of the pass, with where it happened.
func (p *Position) fail(remedy cdc.Remedy, scope cdc.Scope, hint, format string, args ...any) error {
	e := cdc.Errorf(remedy, scope, "read", hint, format, args...)
	e.Where = p.where()
	return e
}

// wrap adds to err where it happened; its remedy stays.
func (p *Position) wrap(err error) error {
	if err == nil {
		return nil
	}
	remedy, scope := cdc.Verdict(err)
	return &cdc.Error{Op: "read", Where: p.where(), Err: err, Hint: "", Remedy: remedy, Scope: scope}
}

func (p *Position) where() string {
	out := p.request.source.Connection + "/" + p.request.Name
	if p.partition.Name != "" && p.partition.Name != cdc.NoPartition {
		out += "/" + p.partition.Name
	}
	return out
}
