package source

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// Kind says what a sighting of a record means.
type Kind uint8

// The kinds of sighting.
const (
	Live     Kind = iota // to be compared and, if it changed, published
	Deleted              // upstream says that it is gone
	Filtered             // it is there, but outside the stream's filter (P20)
)

// Record is one record of a page. Its spans are of Page.Body.
type Record struct {
	Stream     int         // index in Source.Streams
	Raw, Value record.Span // the record as it came; the value within it, of which Content is what is published (zero where Same, or where there is none)
	Cursor     record.Span // the cursor field's value, zero where it is absent, null, or not looked for (Same)
	// Key is the logical key (K4), in the page's arena; nil where the record has none: then Err is set.
	Key     []byte
	KeyHash uint64
	RawHash uint64
	Hash    uint64 // of the content; not computed where Same
	// Same says that the bytes are those of the last sighting: the record is unchanged, and nothing was parsed.
	Same    bool
	Version cdc.Version // P14
	Kind    Kind
	// Err parks the record (P19, P20, P24): a cdc.Error with remedy Park and reach Record.
	Err error

	whole   record.Span    // of Page.Body: the whole record, where Raw is a part of it (hydrate)
	request *fetch.Request // the whole record is still to be asked for
	list    int            // with request
	content []byte         // in the page's arena: the published value, where fields are added or removed; nil: Value's bytes
}

// Content returns the published value; body is the page's.
func (r *Record) Content(body []byte) []byte {
	if r.content != nil {
		return r.content
	}
	return r.Value.Of(body)
}

// Page is one answer, decoded. It is reused from page to page; what it holds is good until the next Split into it, and its
// spans until the response is released.
type Page struct {
	Records []Record
	Body    []byte // what the spans point into: the response's body, or what is played of the spool (P13)
	Next    Position
	Done    bool // the pass has ended
	// Complete says, where Done, that the pass listed everything that there is (D2); Why says what it lacks otherwise.
	Complete bool
	Why      string
	// Again says that the pass is walked again from its beginning behind this page (P9): what it has shown was seen, but the new
	// walk is the listing (D5).
	Again bool
	// Unchanged says that the listing is the same as when it was last read (D10): there was nothing to read.
	Unchanged bool
	// Checkpoint is to be committed with or after everything up to here (1); nil: none here (P4, P5). Where the stream is a
	// log feed, records, Recent and checkpoint of a page belong into one transaction (P13).
	Checkpoint *cdc.Checkpoint
	// Quiet says that the checkpoint tells nothing new but that time has passed: nothing is committed for it alone.
	Quiet   bool
	Rows    int // rows as the paginator counts them: of the longest list (P10)
	Beyond  int // records later than server time − settle: published, and the cursor does not move for them (P3)
	Skipped int // entries of a log feed that were read before (P13)
	Parked  int // records with Err
	Notices []string
	// Recent are the ids to keep beside the checkpoint, all of them (P13); nil: as before.
	Recent []string

	arena      []byte
	joined     []byte // a part and its whole record (hydrate)
	block      []byte // of the spool, where it is played
	checkpoint cdc.Checkpoint
}

func (p *Page) reset(pos *Position, body []byte) {
	*p = Page{Records: p.Records[:0], Body: body, Next: *pos, Notices: p.Notices[:0], arena: p.arena[:0], joined: p.joined, block: p.block}
	p.Next.pages++
}

// row is what the order of a feed needs of a record.
type row struct {
	key    uint64    // of the key; of the entry's id in a log feed; of the bytes where there is none
	at     time.Time // the cursor; zero: null
	raw    record.Span
	cursor record.Span // zero where it was not looked for
	list   int         // its selection
	read   bool        // an entry of a log feed that was read before
	joint  bool        // the page before showed it too, as it should (P9)
}

// tally counts the cursors of a list's rows.
type tally struct{ read, absent, strange int }

// reader reads one stream's records.
type reader struct {
	stream  *Stream
	plan    *record.Plan
	scanner *record.Scanner
	types   []record.Kind // of the key fields, Absent until learnt (P24)
	fast    bool          // an unchanged record may be recognised by its bytes alone
	ordered bool          // the version is the cursor: a known version spares looking for it (P7)
	patched *patched      // nil: nothing is added or removed
	old     map[oldRules]*oldReader
	include []record.Path // hash.include, until a record had one of them
}

// splitter is what Split needs again and again for one request. It belongs to the connection's loop.
type splitter struct {
	request  *Request
	envelope *record.Envelope
	slots
	readers []*reader // by selection
	salts   []uint64  // by selection: one key in two streams is two keys
	element func(list, pos int) (int, error)
	longest int // rows of the longest page ever seen (P10)

	// What follows is of the page that is being split.
	pos     *Position
	page    *Page
	body    []byte
	resp    *fetch.Response
	tables  []record.Known
	limit   time.Time // P3
	vars    vars
	counts  []int
	rows    []row
	single  bool   // it is the answer to a lookup, whose record is whole
	top     int    // the row with the largest cursor that counts, -1: none
	prefix  []byte // the partition's part of keys
	scratch []byte
	pending []recentID
	noted   map[string]struct{} // ids of pending
	entryID []byte
	changed map[uint64]struct{} // known keys whose bytes on this page are not those of last time
	tallies []tally             // by selection
	odd     error               // of the last record whose cursor could not be read
}

// slots are where the envelope has what is read of an answer beside its records; -1 where there is none.
type slots struct {
	echo, next, cursor, more, done, goesOn, total int
	stems                                         []int // by selection: what holds the lists of a path with [*]
}

// envelope returns what is read of an answer in one walk: places, and the lists of records.
func (r *Request) envelope() (places, lists []record.Path, at slots) {
	slot := func(p *record.Path) int {
		if p == nil || p.Wild() {
			return -1
		}
		places = append(places, *p)
		return len(places) - 1
	}
	ofSignal := func(sig *signal) int {
		if sig == nil {
			return -1
		}
		return slot(sig.place)
	}
	at = slots{
		echo: slot(r.paginator.sizeEcho), next: slot(r.paginator.next), more: ofSignal(r.paginator.more), done: ofSignal(r.paginator.done),
		cursor: -1, goesOn: -1, total: slot(r.total),
	}
	if inc := r.incremental; inc != nil {
		at.cursor, at.goesOn = slot(inc.next), ofSignal(inc.more)
	}
	for _, sel := range r.records {
		lists = append(lists, sel.path)
		stem := -1
		if sel.path.Wild() {
			head := sel.path.Stem()
			stem = slot(&head)
		}
		at.stems = append(at.stems, stem)
	}
	return places, lists, at
}

// prepare makes the request's splitter where there is none.
func (r *Request) prepare() (*splitter, error) {
	if r.splitter != nil {
		return r.splitter, r.splitter.attach()
	}
	s := &splitter{request: r}
	places, lists, at := r.envelope()
	s.slots, s.readers = at, make([]*reader, len(lists))
	for _, sel := range r.records {
		s.salts = append(s.salts, uint64(slices.Index(r.Streams, sel.stream))*0x9e3779b97f4a7c15)
	}
	err := s.attach()
	if err != nil {
		return nil, err
	}
	if s.envelope, err = record.NewEnvelope(places, lists, r.source.limits.Record); err != nil {
		return nil, err
	}
	s.counts, s.tallies, s.tables = make([]int, len(lists)), make([]tally, len(lists)), make([]record.Known, len(lists))
	s.element, s.noted = s.read, map[string]struct{}{}
	s.changed = map[uint64]struct{}{}
	r.splitter = s
	return s, nil
}

// attach takes the streams' readers, which Seed makes anew.
func (s *splitter) attach() error {
	for i, sel := range s.request.records {
		rd, err := sel.stream.prepare(s.request)
		if err != nil {
			return err
		}
		s.readers[i] = rd
	}
	return nil
}

func (st *Stream) prepare(r *Request) (*reader, error) {
	if st.reader != nil {
		return st.reader, nil
	}
	plan, err := record.NewPlan(st.places, st.Rules, st.seed)
	if err != nil {
		return nil, err
	}
	rd := &reader{stream: st, plan: plan, scanner: record.NewScanner(plan, r.source.limits.Record)}
	if st.patch != nil {
		if rd.patched, err = newPatched(st.patch, r.source.config, st.Rules, st.seed, r.source.limits.Record); err != nil {
			return nil, err
		}
	}
	for _, text := range st.Rules.Include {
		path, err := record.ParsePath(text)
		if err != nil {
			return nil, err
		}
		rd.include = append(rd.include, path)
	}
	rd.types = make([]record.Kind, len(st.primaryKey))
	for i, name := range strings.Split(st.KeyType, ",") {
		if i < len(rd.types) {
			rd.types[i] = typeNamed(name)
		}
	}
	// The bytes of last time mean what they meant then, unless an expression looks at the clock. A log feed's entries are
	// compared by their ids, and a key that is made of the content cannot be had before it.
	rd.fast = !st.contentKey && !st.LogFeed && !st.filter.clocked() && !st.delete.clocked()
	rd.ordered = st.versionSlot >= 0 && st.versionSlot == st.cursorSlot && st.hydrate == nil // else the version is the whole's
	st.reader = rd
	return rd, nil
}

// clocked reports whether the condition looks at `now`.
func (c *condition) clocked() bool {
	if c == nil {
		return false
	}
	return slices.ContainsFunc(c.bindings, func(b binding) bool { return b.root == "now" })
}

// Split reads the answer to pos's request: its records into page, and where the pass goes on. known gives a stream's
// table, for the fast path; it may return nil. On an error nothing of page counts, pos stands where it stood, and the
// error's remedy says what happens to the pass. Nothing is allocated for an unchanged record.
func (r *Request) Split(pos *Position, resp *fetch.Response, known func(stream int) record.Known, page *Page) error {
	s, err := r.prepare()
	if err != nil {
		return pos.fail(cdc.Halt, cdc.Stream, "Correct the paths in the definition", "%w", err)
	}
	s.open(pos, resp, known, page)
	defer s.release()
	switch {
	case page.Next.pages > r.source.limits.withDefaults().Pages:
		err = pos.fail(cdc.Halt, cdc.Partition, "See whether the API's pages repeat themselves; else raise the limit of pages",
			"the pass does not end: %d pages", pos.pages)
	case pos.stage == playing:
		err = s.play()
	case pos.stage == heading:
		err = s.headed()
	case pos.stage == vouching:
		err = s.vouched()
	case pos.stage == hydrating:
		err = s.hydrated()
	case pos.stage == repeating:
		err = s.repeated(&page.Next)
	case s.doubtful():
		s.doubt(&page.Next)
	default:
		if err = s.split(); err == nil {
			s.show(&page.Next)
			s.partial(&page.Next)
		}
	}
	if err == nil {
		err = s.close()
	}
	if err != nil {
		page.Records, page.Checkpoint, page.Done = page.Records[:0], nil, false
	}
	return s.veil(err)
}

// veil hides the credential in what err and the errors of records quote of the answer.
func (s *splitter) veil(err error) error {
	for i := 0; s.page.Parked > 0 && i < len(s.page.Records); i++ {
		if rec := &s.page.Records[i]; rec.Err != nil {
			rec.Err = s.resp.Veil(rec.Err)
		}
	}
	return s.resp.Veil(err)
}

// open makes the splitter ready for one page.
func (s *splitter) open(pos *Position, resp *fetch.Response, known func(int) record.Known, page *Page) {
	var body []byte
	if resp != nil {
		body = resp.Body
	}
	page.reset(pos, body)
	s.pos, s.page, s.resp, s.body = pos, page, resp, body
	s.rows, s.pending = s.rows[:0], s.pending[:0]
	clear(s.noted)
	clear(s.changed)
	s.odd, s.single = nil, false
	s.vars = vars{partition: pos.partition.Values, config: s.request.source.config, now: pos.now}
	s.prefix = s.request.partitionPrefix(s.prefix[:0], pos.partition.Values)
	clear(s.counts)
	clear(s.tallies)
	for i, rd := range s.readers {
		s.tables[i] = nil
		if known != nil && rd.fast {
			s.tables[i] = known(rd.stream.Index)
		}
	}
	s.limit = time.Time{}
	if inc := s.request.incremental; inc != nil && inc.kind == timestampCursor && resp != nil {
		s.limit = resp.ServerTime.Add(-inc.settle) // P3
	}
}

// release lets go of what belongs to the page.
func (s *splitter) release() {
	s.pos, s.page, s.resp, s.body, s.vars = nil, nil, nil, nil, vars{}
	clear(s.tables)
}

// split reads a page of records and decides where the pass goes on.
func (s *splitter) split() error {
	next := &s.page.Next
	if skip, err := s.request.skips(s.resp, &s.vars); skip || err != nil {
		s.page.Notices = append(s.page.Notices, fmt.Sprintf("%s: partition skipped, answer %d", s.pos.where(), s.resp.Status))
		s.page.Done, s.page.Why = true, "the partition was skipped"
		return err
	}
	if s.resp.Status == http.StatusNotModified {
		s.unchanged(next)
		return nil
	}
	if err := s.scan(); err != nil {
		return err
	}
	if err := s.summed(next); err != nil {
		return err
	}
	if next.began.IsZero() {
		next.began = s.resp.ServerTime
		// P9: what changed before the first answer was made is no drift. A Date has whole seconds.
		next.late = next.began.Add(s.resp.Received.Sub(s.resp.Sent) + time.Second)
		next.logins = s.resp.Logins
	}
	s.join(next)
	next.rows += len(s.rows)
	switch r := s.request; {
	case r.ordered:
		s.inOrder(next)
	case (r.total != nil || r.cap > 0) && !r.watched():
		s.count(next)
	}
	next.longest = max(next.longest, s.page.Rows)
	s.longest = max(s.longest, s.page.Rows)
	if err := s.checkCursors(); err != nil {
		return err
	}
	if s.request.uses.last && len(s.rows) > 0 {
		value, err := record.Value(s.body, s.rows[len(s.rows)-1].raw)
		if err != nil {
			return s.broken(err)
		}
		next.last = value
	}
	return s.step(next)
}

// step decides where the pass goes on.
func (s *splitter) step(next *Position) error {
	r := s.request
	switch {
	case s.pos.stage == earlier:
		return s.compareEarlier(next)
	case s.pos.stage == measuring:
		return s.measured(next)
	case r.spooled():
		return s.hold(next)
	case r.paginator.kind == keysetPaginator && s.pos.stage == tied:
		return s.walkTie(next)
	case r.paginator.kind == keysetPaginator:
		return s.keyset(next)
	case r.incremental != nil && r.incremental.kind != timestampCursor:
		return s.opaque(next)
	default:
		return s.listed(next)
	}
}

// scan walks the body once: the envelope is proven (P18), and every element of the lists is read.
func (s *splitter) scan() error {
	if err := s.proven(); err != nil {
		return err
	}
	if err := s.envelope.Scan(s.body, s.element); err != nil {
		return s.broken(err)
	}
	for i, sel := range s.request.records {
		if s.stems[i] >= 0 {
			if err := s.scattered(i); err != nil {
				return err
			}
			continue
		}
		span := s.envelope.Lists[i]
		switch kind := record.KindAt(s.body, span); kind {
		case record.Array:
		case record.Object: // one record without a list around it
			if _, err := s.read(i, int(span.Off)); err != nil {
				return s.broken(err)
			}
		default:
			return s.astray(sel.path, kind)
		}
	}
	s.page.Rows = slices.Max(s.counts)
	if s.echo >= 0 && s.size() <= 0 {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.size_echo` in the definition, or leave it out",
			"the answer does not say its page size at %q: %s", s.request.paginator.sizeEcho, s.excerpt())
	}
	return nil
}

// scattered looks at the lists of a path with [*]: they have been read, but for what is no list.
func (s *splitter) scattered(list int) (err error) {
	path, stem := s.request.records[list].path, s.envelope.Spans[s.stems[list]]
	found := false
	path.Each(s.body, record.All(s.body), func(span record.Span) bool {
		found = true
		switch kind := record.KindAt(s.body, span); kind {
		case record.Array:
		case record.Object:
			if _, err = s.read(list, int(span.Off)); err != nil {
				err = s.broken(err)
			}
		default:
			err = s.astray(path, kind)
		}
		return err == nil
	})
	if kind := record.KindAt(s.body, stem); err == nil && kind != record.Array {
		err = s.astray(path.Stem(), kind)
	}
	for range record.Elements(s.body, stem) {
		if err == nil && !found { // some may lack a list, as some APIs leave out what is empty; all of them is a wrong name
			err = s.astray(path, record.Absent)
		}
		break
	}
	return err
}

// astray says that an answer is not what it should be: an error object with status 200 is an error, not an empty page (P18).
func (s *splitter) astray(path record.Path, kind record.Kind) error {
	return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `records` in the definition, or declare the answer under `errors`",
		"the answer has no records at %q (%s): %s", path, kind, s.excerpt())
}

// proven refuses what is not even meant to be the API's answer (P18).
func (s *splitter) proven() error {
	media, _, _ := mime.ParseMediaType(s.resp.Header.Get("Content-Type"))
	text := bytes.TrimLeft(s.body, " \t\r\n")
	switch {
	case strings.Contains(media, "html"), len(text) > 0 && text[0] == '<':
		return s.pos.fail(cdc.Halt, cdc.Stream, "It looks like a login page or a proxy: check base_url and the credential",
			"the answer is not JSON but a web page: %s", s.excerpt())
	case len(text) == 0:
		return s.pos.fail(cdc.Retry, cdc.Partition, againHint, "the answer %d is empty", s.resp.Status)
	}
	return nil
}

// againHint says what to do about what passes by itself, should it not.
const againHint = "It is asked for again by itself; if it stays so, ask for smaller pages, and see what stands between here and the API"

// excerpt returns the beginning of the answer for a message.
func (s *splitter) excerpt() string {
	if s.resp == nil {
		return "(from the spool)"
	}
	return s.resp.Excerpt()
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// broken turns an error of the scanner into one of the pass: what was cut off on the way may come whole the next time,
// everything else will not (P18).
func (s *splitter) broken(err error) error {
	var known *cdc.Error
	switch {
	case errors.As(err, &known):
		return s.pos.wrap(err)
	case errors.Is(err, record.ErrTruncated):
		return s.pos.fail(cdc.Retry, cdc.Partition, againHint, "the answer is cut off after %d bytes: %w", len(s.body), err)
	default:
		return s.pos.fail(cdc.Halt, cdc.Stream, "The answer is not what JSON allows: report it to the API's maker, with the offset",
			"%w: %s", err, s.excerpt())
	}
}

// size returns the echoed page size; 0 where it is not given.
func (s *splitter) size() int {
	if s.echo < 0 {
		return 0
	}
	n, err := number(string(s.envelope.Spans[s.echo].Of(s.body)))
	if err != nil {
		return 0
	}
	return int(n)
}

// full reports whether the page is as long as pages get: the echoed size, else the longest page seen (P10).
func (s *splitter) full() bool {
	if size := s.size(); size > 0 {
		return s.page.Rows >= size
	}
	return s.page.Rows >= max(s.longest, s.page.Next.longest)
}

// short reports whether the page says of itself that it is the last: shorter than the page size that it echoes (P10).
func (s *splitter) short() bool { return s.size() > 0 && s.page.Rows < s.size() }

// given evaluates a signal: a place by its span, an expression over the response. there says whether what it looks at is in the
// answer, as far as its being absent is not meant.
func (s *splitter) given(sig *signal, slot int) (yes, there bool, err error) {
	if slot < 0 {
		v := s.pos.variables()
		resp := &response{status: s.resp.Status, header: s.resp.Header, body: s.body, checked: true, valid: true}
		yes, err = sig.eval(resp, &v)
		return yes, yes || sig.there(resp), err
	}
	// The signal looks at the place alone, so that a long page is not searched for it.
	span := s.envelope.Spans[slot]
	if span.IsZero() {
		return false, false, nil
	}
	value, err := record.Value(s.body, span)
	if err != nil {
		return false, true, s.broken(err)
	}
	if yes, err = truth(normal(value)); err != nil {
		err = s.pos.fail(cdc.Halt, cdc.Stream, "Correct `"+sig.name+"` in the definition", "%s at %q: %w", sig.name, sig.place, err)
	}
	return yes, true, err
}

// close ends a page: what it moved becomes the next position's, and the checkpoint is judged.
func (s *splitter) close() error {
	next, page := &s.page.Next, s.page
	for _, rd := range s.readers {
		if err := s.checkIncluded(rd); err != nil {
			return err
		}
	}
	if err := next.count(page.Parked); err != nil {
		return err
	}
	next.counted = page.Parked
	if s.remember(next); len(s.pending) > 0 && page.Checkpoint == nil {
		// P13: the ids of what is published here must commit with it, even where the cursor stays.
		next.checkpoint.Request = s.request.RequestPrint
		page.Checkpoint = &next.checkpoint
	}
	if next.listing {
		page.Checkpoint = nil // it moves no cursor
	}
	if page.Done {
		next.Abandon()
		next.spool, next.walk, next.tie, next.keys = nil, walk{}, tie{}, nil
	}
	if page.Checkpoint == nil {
		return nil
	}
	page.checkpoint = next.checkpoint
	page.Checkpoint = &page.checkpoint
	page.Recent = next.recent.list(next)
	cp, saved := &next.checkpoint, &next.saved
	page.Quiet = page.Recent == nil && s.request.Interval.cron == nil && // a restart must know which of the scheduled passes was missed
		saved.Passes > 0 && cp.Cursor == saved.Cursor && cp.Request == saved.Request &&
		cp.Drifting == saved.Drifting && cp.Validator == saved.Validator && cp.Deep.Equal(saved.Deep) && (!page.Done || saved.Anchor == "") &&
		(cp.Witness == nil || saved.Witness != nil) // P11: another one of the same cursor is no news
	if !page.Quiet {
		next.saved = next.checkpoint
	}
	return nil
}

// mark says that the page has a checkpoint: an unfinished pass that goes on at anchor.
func (s *splitter) checkpointAt(next *Position, anchor string) {
	cp := &next.checkpoint
	cp.Anchor, cp.Start, cp.Began, cp.Request = anchor, next.lower.text, next.began, s.request.RequestPrint
	s.page.Checkpoint = cp
}

// finish ends the pass.
func (s *splitter) finish(next *Position) {
	cp := &next.checkpoint
	*cp = Restart(*cp)
	cp.Passes++
	cp.Request = s.request.RequestPrint
	if s.resp != nil {
		cp.Ended = s.resp.ServerTime
	} else {
		cp.Ended = next.began
	}
	if inc := s.request.incremental; inc != nil && inc.kind == timestampCursor {
		cp.Since = next.began
	}
	if next.deep || next.fresh && s.request.incremental != nil && s.request.incremental.deepEvery > 0 {
		cp.Deep = cp.Ended
	}
	cp.Drifting = next.walk.drift
	cp.Validator = s.validator(next)
	s.page.Done = true
	s.page.Why = s.incomplete(next)
	s.page.Complete = s.page.Why == ""
	s.page.Checkpoint = cp
}

// Park counts the parked records of the page that was split last: n of them, those with Err among them (a codec parks too).
// More than 20 and more than 5 % of the pass are no bad records but a wrong definition or another API: the stream halts
// (P19). Split itself refuses a page that has too many with Err.
func (p *Position) Park(n int) error {
	more := max(0, n-p.counted)
	p.counted = 0
	return p.count(more)
}

func (p *Position) count(n int) error {
	p.parked += n
	if n > 0 && p.parked > 20 && p.parked*20 > p.rows {
		return p.fail(cdc.Halt, cdc.Stream, "See the dead-letter topic or `connector sources test`, and correct the definition",
			"%d of %d records of this pass could not be published", p.parked, p.rows)
	}
	return nil
}
