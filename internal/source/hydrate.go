package source

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// hydration is a page of parts whose whole records are asked for, one after the other, before the pass goes on: what the page
// said of the pass waits for them, since the cursor may not pass what is not published (4). It does not change; which of its
// parts is next is the position's.
type hydration struct {
	parts []fragment
	// What the page said, for when its last record is whole.
	stage                      stage
	checkpoint, done, complete bool
	why                        string // what the page's pass lacks, where it is not complete (D2)
}

// fragment is one record of which the list gave a part.
type fragment struct {
	list    int
	raw     []byte      // as the list showed it
	cursor  record.Span // of raw; zero where there is none
	key     string
	version cdc.Version
	request *fetch.Request
}

// hydrate reads the request for a whole record.
func (s *streamReader) hydrate(n *yaml.Node) {
	if n == nil {
		return
	}
	f := s.fields(n, "hydrate", hydrateTable)
	if f == nil {
		return
	}
	st := s.b.stream
	sc := s.in("hydrate", "record", "partition", "config", "now")
	sc.slot = s.slot
	h := &lookup{call: s.call(f, "hydrate", n, sc)}
	if p := s.place(f["records"], "records"); p != nil {
		h.records = *p
	}
	switch {
	case !h.call.mentions("record"):
		s.fail(n, "hydrate does not say which record it asks for: there is no {{ record.NAME }} in it")
	case st.contentKey:
		s.fail(n, "hydrate needs a key that the part has too, and `primary_key: content` is a hash of the whole")
	case st.LogFeed:
		s.fail(n, "hydrate and record_id: an entry of a log is whole, or its record has changed since")
	}
	st.hydrate = h
}

// partial takes the parts out of a page and begins to ask for the whole records, if there are any to ask for. What the list
// alone can tell stays: records that are unchanged, gone, outside the filter, or unreadable.
func (s *splitter) partial(next *Position) {
	h := &hydration{stage: next.stage, checkpoint: s.page.Checkpoint != nil, done: s.page.Done, complete: s.page.Complete, why: s.page.Why}
	kept := s.page.Records[:0]
	for _, rec := range s.page.Records {
		if rec.request == nil {
			kept = append(kept, rec)
			continue
		}
		part := fragment{list: rec.list, raw: bytes.Clone(rec.Raw.Of(s.body)), key: string(rec.Key), version: rec.Version, request: rec.request}
		if !rec.Cursor.IsZero() {
			part.cursor = record.Span{Off: rec.Cursor.Off - rec.Raw.Off, End: rec.Cursor.End - rec.Raw.Off}
		}
		h.parts = append(h.parts, part)
	}
	if s.page.Records = kept; len(h.parts) == 0 {
		return
	}
	s.page.Checkpoint, s.page.Done, s.page.Complete = nil, false, false
	next.hydration, next.wholes, next.stage = h, 0, hydrating
}

// Incomplete reports whether the pass goes on with the whole of a record of which the list gave a part.
func (p *Position) Incomplete() bool { return p.stage == hydrating }

// part decides on a record of a list whose records are parts: the request for the whole one, where that is needed. A condition
// that the part cannot answer is left to the whole.
func (s *splitter) part(rd *reader, rec *Record, list int) {
	st, spans := rd.stream, rd.scanner.Spans
	if st.delete != nil {
		if gone, err := st.delete.eval(s.body, spans, &s.vars); err == nil && gone {
			rec.Kind = Deleted
			return
		}
	}
	if st.filter != nil {
		if in, err := st.filter.eval(s.body, spans, &s.vars); err == nil && !in {
			rec.Kind = Filtered
			return
		}
	}
	v := s.vars
	v.view = &view{s.body, spans}
	request, err := s.request.send(&st.hydrate.call, &v)
	if err != nil {
		s.park(rec, "hydrate", parked("hydrate", cause(err)))
		return
	}
	judge := request.Judge
	request.Judge = func(resp *fetch.Response) error {
		if err := judge(resp); !missing(resp) && !parks(err) {
			return err
		}
		return nil // Split parks the record
	}
	rec.request, rec.list = request, list
}

// hydrated reads a whole record. Its bytes are put behind those of its part: the part is what the next list shows, so by its
// bytes it is known again; key, content, filter and version are those of the whole.
func (s *splitter) hydrated() error {
	next, h := &s.page.Next, s.pos.hydration
	part := h.parts[s.pos.wholes]
	s.page.joined = append(append(append(s.page.joined[:0], part.raw...), '\n'), s.body...)
	behind := len(part.raw) + 1
	if err := s.whole(part, behind); err != nil {
		return err
	}
	next.pages-- // it is part of its page
	if next.wholes++; next.wholes < len(h.parts) {
		return nil
	}
	next.stage, next.hydration, next.wholes = h.stage, nil, 0
	if h.checkpoint {
		s.page.Checkpoint = &next.checkpoint
	}
	s.page.Done, s.page.Complete, s.page.Why = h.done, h.complete && next.full, h.why
	if s.page.Done && !s.page.Complete && s.page.Why == "" {
		s.page.Why = next.why
	}
	return nil
}

// whole reads the record of a hydration's answer, which begins in the joined buffer at behind.
func (s *splitter) whole(part fragment, behind int) error {
	rd := s.readers[part.list]
	rec := Record{
		Stream: rd.stream.Index, Raw: record.Span{End: int32(len(part.raw))},
		RawHash: record.RawHash(s.page.joined[:behind-1]), Key: s.keep(part.key),
	}
	rec.KeyHash, rec.Version, rec.Cursor = record.KeyHash(rec.Key), part.version, part.cursor
	err := s.request.judge(s.resp, &s.vars, true)
	switch {
	case missing(s.resp), parks(err):
		s.park(&rec, "the list shows it", fmt.Errorf("the whole record is not to be had: %d %s", s.resp.Status, s.excerpt()))
	default:
		if err := s.proven(); err != nil {
			return err
		}
		if err := record.Valid(s.body, s.request.source.limits.Record); err != nil {
			return s.broken(err)
		}
		if err := s.complete(rd, &rec, behind); err != nil {
			return err
		}
	}
	if rec.Err != nil {
		if rec.Hash == 0 {
			rec.Hash = rec.RawHash // once per content (P19)
		}
		s.page.Parked++
	}
	s.body, s.page.Body = s.page.joined, s.page.joined
	s.page.Records = append(s.page.Records, rec)
	return nil
}

// keep puts a key into the page's arena.
func (s *splitter) keep(key string) []byte {
	start := len(s.page.arena)
	s.page.arena = append(s.page.arena, key...)
	return s.page.arena[start:len(s.page.arena):len(s.page.arena)]
}

// complete takes what is wanted of the whole record.
func (s *splitter) complete(rd *reader, rec *Record, behind int) error {
	place := rd.stream.hydrate.records
	span, ok := place.Find(s.page.joined, record.Span{Off: int32(behind), End: int32(len(s.page.joined))})
	if !ok || record.KindAt(s.page.joined, span) != record.Object {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `hydrate` in the definition", "the answer has no single record at %q: %s", place, s.excerpt())
	}
	_, fault := rd.scanner.Scan(s.page.joined, int(span.Off))
	if fault != nil && !errors.Is(fault, record.ErrSize) {
		return s.broken(fault)
	}
	s.body = s.page.joined
	var whole Record
	err := s.key(rd, &whole)
	if err != nil || string(whole.Key) != string(rec.Key) {
		return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `hydrate` in the definition: the whole record has the key of its part",
			"asked for the whole of %.100q and got another record: %s", rec.Key, s.excerpt())
	}
	if fault != nil {
		s.park(rec, "the record is too large", fault)
	}
	rec.whole, rec.Value, rec.Hash = rd.scanner.Record, rd.scanner.ValueSpan, rd.scanner.Hash
	var w row
	if slot := rd.stream.cursorSlot; slot >= 0 {
		if at, err := s.request.incremental.record.parse(s.text(rd.scanner.Spans[slot])); err == nil {
			w.at, w.cursor = at, rd.scanner.Spans[slot]
		}
	}
	if v, err := s.version(rd, &w); err == nil && v.Kind != cdc.NoVersion {
		rec.Version = v
	}
	if rec.Err == nil {
		s.kind(rd, rec, false)
	}
	if rd.patched != nil && rec.Err == nil && rec.Kind == Live {
		s.patch(rd, rec)
	}
	return nil
}

// facts are what the request for whole records sends: another one reads other records.
func (l *lookup) facts(stream string) []string {
	lines := []string{"hydrate " + stream + " " + l.call.method + " " + l.records.String()}
	l.call.each(func(t *template) {
		lines = append(lines, strings.Join([]string{"hydrate", stream, t.where, t.canonical()}, " "))
	})
	return lines
}
