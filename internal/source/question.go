package source

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// Question is a request as no pass sends it: whoever wants to know what an API does with it asks so. The zero Question is the
// stream's first request.
type Question struct {
	Cursor any    // what {{ cursor }} and {{ anchor }} are, as a request writes it; nil: none, the beginning
	Token  string // {{ page_token }}
	Link   string // the address instead of the stream's own
	Offset int64
	Page   *int64 // nil: the first
	Size   int64  // of a page; 0: as the definition has it
	Extra  string // a query parameter that the definition does not have
	Header string // a header that it does not have, with its value behind a colon
}

// Trait is what a definition says of a request, as far as it can be asked of the API.
type Trait struct {
	Paginator, Incremental string // types; "" for a snapshot
	Inclusive              bool
	Order                  string
	Granularity            time.Duration
	Record, Request, Zone  string // time formats, and the zone of times without an offset
	SizeEcho, Total        string // paths; "" where none is declared
	SizeName               string // the parameter that asks for a page size, as `query.limit`; "" where there is none
	Size                   int64
	FirstPage              int64
	Overlap, PerPass       bool // paginator.overlap; checkpoint: pass
	Next                   bool // the definition says where the answer's cursor, token or link lies
	Head, Rules            bool // there is a head, there are `errors`
}

// Trait returns what the definition says of the request.
func (r *Request) Trait() Trait {
	t := Trait{Paginator: string(r.paginator.kind), FirstPage: r.paginator.firstPage, Overlap: r.paginator.overlap}
	t.Rules = len(r.errors) > 0
	if p := r.paginator.sizeEcho; p != nil {
		t.SizeEcho = p.String()
	}
	if r.total != nil {
		t.Total = r.total.String()
	}
	if p, name := r.list.size(); p != nil {
		t.SizeName, t.Size = name, p.literal.(int64)
	}
	t.Next = r.paginator.next != nil || r.paginator.linkHeader
	in := r.incremental
	if in == nil {
		return t
	}
	t.Incremental, t.Inclusive, t.Order, t.Granularity = string(in.kind), in.inclusive, string(in.order), in.granularity
	t.Next, t.PerPass, t.Head = t.Next || in.next != nil, in.checkpointPass, in.head != nil
	if in.record != nil {
		t.Record, t.Request, t.Zone = in.record.name, in.request.name, in.request.zone.String()
	}
	return t
}

// sizeNames are how APIs call the number of records that a page shall have.
var sizeNames = regexp.MustCompile(`(?i)^(\$?(limit|top|first|take|count|size|rows)|(per|max)[-_.]?(page|results|records|items)|page[-_.]?(size|limit)|results[-_.]?per[-_.]?page)$`)

// size finds the constant that asks for a page size, and how the definition calls it.
func (c *call) size() (*template, string) {
	for _, l := range []struct {
		what string
		list []parameter
	}{{"query", c.query}, {"form", c.form}} {
		for _, p := range l.list {
			if p.value.sizes(p.name) {
				return p.value, l.what + "." + p.name
			}
		}
	}
	if c.body != nil {
		for _, f := range c.body.fields {
			if f.value.leaf.sizes(f.name) {
				return f.value.leaf, "body." + f.name
			}
		}
	}
	return nil, ""
}

func (t *template) sizes(name string) bool {
	if t == nil || t.parts != nil || !sizeNames.MatchString(name) {
		return false
	}
	_, ok := t.literal.(int64)
	return ok
}

// sized is the call with another page size.
func (c *call) sized(n int64) call {
	out := *c
	old, _ := c.size()
	if old == nil || n == 0 {
		return out
	}
	other := *old
	other.literal, other.text = n, fmt.Sprint(n)
	swap := func(list []parameter) []parameter {
		list = slices.Clone(list)
		for i := range list {
			if list[i].value == old {
				list[i].value = &other
			}
		}
		return list
	}
	out.query, out.form = swap(c.query), swap(c.form)
	if c.body != nil && c.body.kind == bodyMap {
		b := *c.body
		b.fields = slices.Clone(b.fields)
		for i, f := range b.fields {
			if f.value.leaf == old {
				b.fields[i].value = &body{leaf: &other}
			}
		}
		out.body = &b
	}
	return out
}

// Ask returns the request of a question. Every answer is taken as one, but those that are to be asked for again and those that
// refuse the credential: what an API says to a strange request is what is to be learnt.
func (r *Request) Ask(p Partition, q Question, now time.Time) (*fetch.Request, error) {
	v := r.vars(p, now)
	if r.paginator.kind == offsetPaginator {
		v.offset = &q.Offset
	}
	if q.Page != nil {
		v.page = *q.Page
	}
	if q.Token != "" {
		v.pageToken = q.Token
	}
	if q.Cursor != nil {
		v.cursor, v.anchor = q.Cursor, q.Cursor
	} else if r.incremental != nil && r.incremental.start != nil {
		v.start = r.incremental.start
	}
	list := r.list.sized(q.Size)
	out, err := r.send(&list, &v)
	if err != nil {
		return nil, err
	}
	if q.Link != "" {
		out.URL = q.Link
	}
	if q.Extra != "" {
		out.URL += map[bool]string{true: "&", false: "?"}[strings.Contains(out.URL, "?")] + q.Extra
	}
	if name, value, ok := strings.Cut(q.Header, ": "); ok {
		out.Header = out.Header.Clone()
		out.Header.Set(name, value)
	}
	out.Judge = anyAnswer
	return out, nil
}

// anyAnswer takes every answer that is the API's own word.
func anyAnswer(resp *fetch.Response) error {
	switch resp.Status {
	case http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusTooEarly,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fetch.DefaultJudge(resp)
	}
	return nil
}

// Verdict is what the definition makes of an answer (`errors`, and the status).
func (r *Request) Verdict(p Partition, resp *fetch.Response) error {
	v := r.vars(p, time.Now().UTC())
	return r.judge(resp, &v, false)
}

// At returns an instant as the request writes it; format is another time format than the declared one, "" is that.
func (r *Request) At(at time.Time, format string) (any, error) {
	f := r.incremental.request
	if format != "" {
		var err error
		if f, err = newFormat(format, f.zone.String()); err != nil {
			return nil, err
		}
	}
	return f.value(at), nil
}

// Exact returns the cursor of a row as the request writes it, and whether nothing of it is lost (P16).
func (r *Request) Exact(row Row) (any, bool) {
	in := r.incremental
	sent := in.sendable(mark{row.Text, row.At})
	text, err := written(sent)
	if err != nil {
		return sent, false
	}
	at, err := in.request.parse([]byte(text))
	return sent, err == nil && at.Equal(row.At)
}

// Glimpse is an answer that is read without the rules of a pass: out of order, beside the filter, as it comes.
type Glimpse struct {
	Rows    []Row
	Longest int              // rows of the longest list
	Next    string           // the cursor, token or address that the answer gave; "" where it gave none
	More    bool             // a declared `more` or `done` says that there is more
	Said    bool             // one is declared
	Numbers map[string]int64 // whole numbers beside the records, by path
}

// Row is one record of a glimpse.
type Row struct {
	Stream int
	Key    []byte // as in Kafka (K4); nil where it has none
	ID     string // tells it from other records
	Text   string // the cursor field, as the server writes it
	At     time.Time
	Odd    error // the cursor field is there, and is no time in the declared format
}

// Glimpse reads an answer of status 2xx.
func (r *Request) Glimpse(p Partition, resp *fetch.Response) (*Glimpse, error) {
	s, err := r.prepare()
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "read", "Correct the paths in the definition", "%w", err)
	}
	pos := Position{request: r, partition: p, now: time.Now().UTC()}
	var page Page
	s.open(&pos, resp, nil, &page)
	defer s.release()
	if err := s.proven(); err != nil {
		return nil, err
	}
	if err := record.Valid(s.body, record.Limits{}); err != nil {
		return nil, s.broken(err)
	}
	g := &Glimpse{Numbers: map[string]int64{}}
	for i, sel := range r.records {
		if !sel.gone {
			g.list(s, i, sel)
		}
	}
	s.signs(g)
	value, err := record.Value(s.body, record.All(s.body))
	if err == nil {
		g.numbers(r, value, record.Path{})
	}
	return g, nil
}

// list reads the rows of one selection.
func (g *Glimpse) list(s *splitter, i int, sel selection) {
	before := len(g.Rows)
	sel.path.Each(s.body, record.All(s.body), func(span record.Span) bool {
		switch record.KindAt(s.body, span) {
		case record.Array:
			for e := range record.Elements(s.body, span) {
				g.Rows = append(g.Rows, s.row(i, e))
			}
		case record.Object:
			g.Rows = append(g.Rows, s.row(i, span))
		}
		return true
	})
	g.Longest = max(g.Longest, len(g.Rows)-before)
}

// row reads what identifies a record, and its time.
func (s *splitter) row(list int, at record.Span) Row {
	rd := s.readers[list]
	row := Row{Stream: rd.stream.Index}
	if _, err := rd.scanner.Scan(s.body, int(at.Off)); err != nil {
		row.ID, row.Odd = fmt.Sprint(list, " ", string(at.Of(s.body))), err
		return row
	}
	var rec Record
	if err := s.key(rd, &rec); err == nil {
		row.Key = slices.Clone(rec.Key)
	}
	row.ID = fmt.Sprint(list, " ", string(row.Key))
	st, in := rd.stream, s.request.incremental
	if st.recordIDSlot >= 0 {
		row.ID += " " + string(rd.scanner.Spans[st.recordIDSlot].Of(s.body))
	}
	if row.Key == nil {
		row.ID = fmt.Sprint(list, " ", string(at.Of(s.body)))
	}
	if in == nil || st.cursorSlot < 0 || in.record == nil {
		return row
	}
	text, kind := record.Text(nil, s.body, rd.scanner.Spans[st.cursorSlot])
	if kind == record.Absent || kind == record.Null {
		return row
	}
	row.Text = string(text)
	row.At, row.Odd = in.record.parse(text)
	return row
}

// signs reads where the answer says that one goes on.
func (s *splitter) signs(g *Glimpse) {
	r := s.request
	find := func(p *record.Path) string {
		if p == nil {
			return ""
		}
		span, ok := p.Find(s.body, record.All(s.body))
		if kind := record.KindAt(s.body, span); !ok || kind == record.Null || kind == record.Absent {
			return ""
		}
		text, _ := record.Text(nil, s.body, span)
		return string(text)
	}
	more, done := r.paginator.more, r.paginator.done
	if in := r.incremental; in != nil && in.next != nil {
		g.Next = find(in.next)
		more = cmp.Or(in.more, more)
	}
	if g.Next == "" {
		if g.Next = find(r.paginator.next); r.paginator.linkHeader {
			g.Next = nextLink(s.resp.Header)
		}
	}
	answer := response{status: s.resp.Status, header: s.resp.Header, body: s.body}
	for sign, end := range map[*signal]bool{more: false, done: true} {
		if sign == nil {
			continue
		}
		if yes, err := sign.eval(&answer, &s.vars); err == nil && (end || yes || sign.there(&answer)) {
			g.Said, g.More = true, yes != end
		}
	}
}

// numbers collects the whole numbers beside the records.
func (g *Glimpse) numbers(r *Request, value any, at record.Path) {
	if slices.ContainsFunc(r.records, func(sel selection) bool { return sel.path.Equal(at) }) || at.Depth() > 6 {
		return
	}
	switch v := value.(type) {
	case int64:
		if at.Depth() > 0 {
			g.Numbers[at.String()] = v
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			g.numbers(r, v[name], at.Join(record.Member(name)))
		}
	}
}

// Follow returns the question for the next page of a walk; false where there is none, as far as the answer tells.
func (r *Request) Follow(q Question, g *Glimpse, base string) (Question, bool) {
	q.Header = ""
	if len(g.Rows) == 0 || g.Said && !g.More {
		return q, false
	}
	if in := r.incremental; in != nil && in.kind != timestampCursor && r.paginator.kind == noPaginator {
		before := q.Cursor
		q.Cursor = r.Opaque(g.Next)
		return q, g.Next != "" && q.Cursor != before
	}
	switch r.paginator.kind {
	case keysetPaginator:
		last := g.Rows[len(g.Rows)-1]
		if last.At.IsZero() {
			return q, false
		}
		before := q.Cursor
		q.Cursor = r.incremental.sendable(mark{last.Text, last.At})
		return q, q.Cursor != before
	case pagePaginator:
		next := r.paginator.firstPage + 1
		if q.Page != nil {
			next = *q.Page + 1
		}
		q.Page = &next
		return q, true
	case offsetPaginator:
		q.Offset += int64(g.Longest)
		return q, true
	case tokenPaginator:
		q.Token = g.Next
		return q, g.Next != ""
	case linkPaginator:
		link, err := resolve(base, g.Next)
		before := q.Link
		q.Link = link
		return q, err == nil && g.Next != "" && link != before
	}
	return q, false
}

// Opaque returns a cursor that the answer gave as a request writes it: a sequence is a number.
func (r *Request) Opaque(text string) any {
	if r.incremental != nil && r.incremental.kind == sequenceCursor {
		if n, err := number(text); err == nil {
			return n
		}
	}
	return text
}

// CursorOf returns the cursor that a person means: text as the API writes a cursor or, where that is a time, as people write times.
func (r *Request) CursorOf(text string) (string, error) {
	in := r.incremental
	switch {
	case in == nil:
		return "", errors.New("it has no cursor: every pass lists everything")
	case in.kind == sequenceCursor:
		_, err := number(text)
		return text, err
	case in.kind != timestampCursor:
		return text, nil
	}
	if _, err := in.record.parse([]byte(text)); err == nil {
		return text, nil
	}
	for _, name := range []string{"rfc3339", "date", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"} {
		f, err := newFormat(name, in.record.zone.String())
		if err != nil {
			return "", err
		}
		if at, err := f.parse([]byte(text)); err == nil {
			return in.record.print(at), nil
		}
	}
	return "", fmt.Errorf("it is no time: write it as 2024-01-31, as 2024-01-31T12:00:00Z, or as the API does (%s)", in.record.name)
}

// Reached returns the checkpoint that the pass would leave if there were nothing behind the pages that it has read. Whoever reads
// a few pages only begins the next pass from it.
func (p *Position) Reached() cdc.Checkpoint {
	ended := *p
	ended.checkpoint = Restart(p.checkpoint)
	ended.checkpoint.Passes++
	ended.checkpoint.Request = p.request.RequestPrint
	ended.checkpoint.Deep = p.now
	switch in := p.request.incremental; {
	case in == nil:
	case in.kind == timestampCursor:
		ended.advance(p.high.text)
	default:
		ended.advance(cmp.Or(p.given, p.cursor))
	}
	return ended.checkpoint
}
