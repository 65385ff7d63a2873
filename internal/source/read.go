package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// read reads the element of a list at pos: by its bytes where they are those of last time, else by a scan. It returns
// where the element ends.
func (s *splitter) read(list, pos int) (int, error) {
	rd := s.readers[list]
	s.counts[list]++
	if table := s.tables[list]; table != nil && !s.request.records[list].gone {
		if end, ok := s.same(rd, table, list, pos); ok {
			return end, nil
		}
	}
	end, err := rd.scanner.Scan(s.body, pos)
	if err != nil && !errors.Is(err, record.ErrSize) {
		return s.unreadable(rd, list, pos, end, err)
	}
	s.record(rd, list, err)
	return end, nil
}

// same recognises an unchanged record. Its key is looked for in text that nobody has checked, so what is found proves
// nothing by itself; the hash of the bytes from pos on, as many as the record had last time, does: these bytes were checked
// when they were first seen. Whatever does not fit is left to the scanner.
func (s *splitter) same(rd *reader, table record.Known, list, pos int) (int, bool) {
	start := len(s.page.arena)
	whole := record.Span{Off: int32(pos), End: int32(len(s.body))}
	key, ok := s.shallowKey(rd, whole)
	if !ok {
		s.page.arena = s.page.arena[:start]
		return 0, false
	}
	h := record.KeyHash(key)
	hint, ok := table.Raw(key, h)
	if _, twice := s.changed[h]; twice {
		ok = false // P2: what the page itself said of the key is newer than last time
	}
	end := pos + int(hint.Len)
	if !ok || hint.Len == 0 || end > len(s.body) || end < len(s.body) && !ends(s.body[end]) ||
		record.RawHash(s.body[pos:end]) != hint.Hash {
		s.page.arena = s.page.arena[:start]
		return 0, false
	}
	rec := Record{
		Stream: rd.stream.Index, Raw: record.Span{Off: int32(pos), End: int32(end)}, Key: key, KeyHash: h, RawHash: hint.Hash,
		Same: true, Version: hint.Version,
	}
	w := row{key: h + s.salts[list], raw: rec.Raw, list: list}
	if rd.stream.cursorSlot >= 0 && s.request.incremental != nil {
		if rd.ordered && hint.Version.Kind == cdc.Instant {
			w.at = hint.Version.Time() // P7: the version is the cursor, so it need not be looked for
		} else if at, ok := s.cursorIn(rec.Raw); ok {
			w.at = at
		} else {
			s.page.arena = s.page.arena[:start]
			return 0, false
		}
	}
	s.page.Records = append(s.page.Records, rec)
	s.add(w)
	return end, true
}

// ends reports whether a value may end before c.
func ends(c byte) bool {
	switch c {
	case ',', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// cursorIn finds the cursor of a record that was checked before; the zero time where it is null (P8).
func (s *splitter) cursorIn(raw record.Span) (time.Time, bool) {
	span, ok := s.request.incremental.cursorField.Find(s.body, raw)
	if !ok {
		return time.Time{}, false
	}
	if record.KindAt(s.body, span) == record.Null {
		return time.Time{}, true
	}
	at, err := s.request.incremental.record.parse(s.text(span))
	return at, err == nil
}

// text returns the content of a string without its escapes, or the literal of another kind. It is good until the next call.
func (s *splitter) text(span record.Span) []byte {
	raw := span.Of(s.body)
	if len(raw) >= 2 && raw[0] == '"' {
		plain := true
		for _, c := range raw {
			if c == '\\' {
				plain = false
				break
			}
		}
		if plain {
			return raw[1 : len(raw)-1]
		}
	}
	s.scratch, _ = record.Text(s.scratch[:0], s.body, span)
	return s.scratch
}

// unreadable parks a record that is no good JSON but whose end is known; what does not end spoils the page (P18).
func (s *splitter) unreadable(rd *reader, list, pos, end int, err error) (int, error) {
	if errors.Is(err, record.ErrTruncated) || errors.Is(err, record.ErrMalformed) {
		return end, err
	}
	end, ok := record.Skip(s.body, pos)
	if !ok { // P18: what does not end was cut off, whatever else is wrong with it
		return end, &record.SyntaxError{Offset: len(s.body), What: "behind a record that cannot be read (" + err.Error() + ")", Err: record.ErrTruncated}
	}
	rec := Record{Stream: rd.stream.Index, Raw: record.Span{Off: int32(pos), End: int32(end)}}
	rec.RawHash = record.RawHash(rec.Raw.Of(s.body))
	rec.Hash = rec.RawHash // it has no content to hash; once per content is once per bytes here (P19)
	s.park(&rec, "the record cannot be read", err)
	s.page.Records = append(s.page.Records, rec)
	s.page.Parked++
	s.page.Next.spoil("it has a record that cannot be read") // D2: who it is cannot be told, so nobody is proven missing
	s.add(row{key: rec.RawHash, raw: rec.Raw, list: list})
	return end, nil
}

// parkedHint says what becomes of a parked record: nobody has to send it again.
const parkedHint = "Correct the record upstream, or the definition: it comes by itself when it is read again, " +
	"at its next change, by a full listing or after `connector offsets rewind`"

// park gives the record its error, unless it has one.
func (s *splitter) park(rec *Record, what string, err error) {
	if rec.Err != nil {
		return
	}
	var known *cdc.Error
	if errors.As(err, &known) && known.Remedy == cdc.Park {
		rec.Err = err
		return
	}
	e := cdc.Errorf(cdc.Park, cdc.Record, "read record", parkedHint, "%s: %w", what, err)
	e.Where = s.pos.where()
	rec.Err = e
}

// record takes what is wanted of the record that the scanner has just read. fault is what is wrong with it as a whole.
func (s *splitter) record(rd *reader, list int, fault error) {
	sc, st := rd.scanner, rd.stream
	rec := Record{Stream: st.Index, Raw: sc.Record, Value: sc.ValueSpan, Hash: sc.Hash}
	rec.RawHash = record.RawHash(rec.Raw.Of(s.body))
	if fault != nil {
		s.park(&rec, "the record is too large", fault)
	}
	if err := s.key(rd, &rec); err != nil {
		s.park(&rec, "the record has no usable key", err)
	}
	if table := s.tables[list]; table != nil && rec.Key != nil {
		if _, known := table.Raw(rec.Key, rec.KeyHash); known {
			s.changed[rec.KeyHash] = struct{}{}
		}
	}
	w := row{raw: rec.Raw, key: rec.KeyHash + s.salts[list], list: list}
	if rec.Key == nil {
		w.key = rec.RawHash
		s.page.Next.spoil("it has a record without a usable key") // D2, as above
	}
	s.recordCursor(rd, &rec, &w)
	if v, err := s.version(rd, &w); err != nil {
		s.park(&rec, "the record's version cannot be read", err)
	} else {
		rec.Version = v
	}
	switch gone := s.request.records[list].gone; {
	case rec.Err != nil:
	case st.hydrate != nil && !gone && !s.single:
		s.part(rd, &rec, list)
	default:
		s.kind(rd, &rec, gone)
	}
	if rd.patched != nil && rec.request == nil && rec.Err == nil && rec.Kind == Live {
		s.patch(rd, &rec)
	}
	if st.LogFeed {
		if s.entry(rd, &rec, &w) {
			s.page.Skipped++ // P13: read before
			w.read = true
			s.add(w)
			return
		}
	}
	if rec.Err != nil {
		s.page.Parked++
	}
	s.page.Records = append(s.page.Records, rec)
	s.add(w)
}

// recordCursor reads the cursor field. A null cursor moves nothing and counts as a tie (P8); one that cannot be read parks
// its record (P19).
func (s *splitter) recordCursor(rd *reader, rec *Record, w *row) {
	slot := rd.stream.cursorSlot
	if slot < 0 || s.request.incremental == nil {
		return
	}
	span := rd.scanner.Spans[slot]
	switch record.KindAt(s.body, span) {
	case record.Absent:
		s.tallies[w.list].absent++
		return
	case record.Null:
		return
	}
	at, err := s.request.incremental.record.parse(s.text(span))
	if err != nil {
		s.tallies[w.list].strange++
		s.odd = err
		s.park(rec, "the record's cursor cannot be read", err)
		return
	}
	w.at, w.cursor, rec.Cursor = at, span, span
}

// version reads the record's version (P14).
func (s *splitter) version(rd *reader, w *row) (cdc.Version, error) {
	slot := rd.stream.versionSlot
	if slot < 0 {
		return cdc.Version{}, nil
	}
	if slot == rd.stream.cursorSlot {
		if w.cursor.IsZero() {
			return cdc.Version{}, nil
		}
		return cdc.InstantVersion(w.at), nil
	}
	span := rd.scanner.Spans[slot]
	switch record.KindAt(s.body, span) {
	case record.Absent, record.Null:
		return cdc.Version{}, nil
	}
	text := s.text(span)
	if f := rd.stream.versionFormat; f != nil {
		at, err := f.parse(text)
		return cdc.InstantVersion(at), err
	}
	n, err := number(string(text))
	if err == nil {
		return cdc.IntegerVersion(n), nil
	}
	if span.Len() > 2 && s.body[span.Off] == '"' {
		plain := format{name: "rfc3339", zone: time.UTC}
		if at, err := plain.parse(text); err == nil {
			return cdc.InstantVersion(at), nil
		}
	}
	return cdc.Version{}, err
}

// kind decides what the sighting means. What upstream declares deleted is not asked for its filter: a stub of a record
// seldom has the fields (P20).
func (s *splitter) kind(rd *reader, rec *Record, gone bool) {
	st := rd.stream
	if gone {
		rec.Kind = Deleted // op: delete
		return
	}
	if st.delete != nil {
		gone, err := st.delete.eval(s.body, rd.scanner.Spans, &s.vars)
		if err != nil {
			s.park(rec, "delete", err)
			return
		}
		if gone {
			rec.Kind = Deleted
			return
		}
	}
	if st.filter != nil {
		in, err := st.filter.eval(s.body, rd.scanner.Spans, &s.vars)
		if err != nil {
			s.park(rec, "filter", err)
			return
		}
		if !in {
			rec.Kind = Filtered
			return
		}
	}
	// A null value would be a tombstone downstream, and nothing here says that the record is gone (6).
	if k := record.KindAt(s.body, rec.Value); k == record.Absent || k == record.Null {
		s.park(rec, "the record has no value", errors.New("`value` is "+k.String()))
	}
}

// add notes a row, and what is late of it.
func (s *splitter) add(w row) {
	if !s.limit.IsZero() && !w.at.IsZero() && w.at.After(s.limit) {
		s.page.Beyond++
	}
	if !w.at.IsZero() {
		s.tallies[w.list].read++
	}
	s.rows = append(s.rows, w)
}

// checkCursors halts where the definition misnames the cursor: a single record without one is the record's fault, a list
// full of them is not, and would be read again at every pass without a word. What is listed as gone needs none.
func (s *splitter) checkCursors() error {
	inc := s.request.incremental
	if inc == nil || inc.kind != timestampCursor {
		return nil
	}
	for list, sel := range s.request.records {
		switch t := s.tallies[list]; {
		case t.read > 0 || sel.gone:
		case t.strange > 0:
			return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.format` in the definition",
				"no record of the page at %q has a cursor that can be read: %w", sel.path, s.odd)
		case t.absent > 0 && t.absent == s.counts[list]:
			return s.pos.fail(cdc.Halt, cdc.Stream, "Correct `incremental.cursor_field` in the definition",
				"no record of the page at %q has %q", sel.path, inc.cursorField)
		}
	}
	return nil
}

// checkIncluded halts where none of a stream's first records has any of hash.include: the name of a field that is nowhere makes all
// records equal, and every change would be suppressed for good (P23). What one of them had is not looked for again.
func (s *splitter) checkIncluded(rd *reader) error {
	if len(rd.include) == 0 {
		return nil
	}
	var last *Record
	for i := range s.page.Records {
		rec := &s.page.Records[i]
		if rec.Stream != rd.stream.Index || rec.Kind != Live || rec.Err != nil {
			continue
		}
		if rec.Same && rd.patched != nil {
			return nil // its published value was not made, so it cannot be asked
		}
		body, at := s.published(rd, rec)
		for _, path := range rd.include {
			if _, ok := path.Find(body, at); ok {
				rd.include = nil
				return nil
			}
		}
		last = rec
	}
	if last == nil {
		return nil
	}
	body, at := s.published(rd, last)
	return s.pos.fail(cdc.Halt, cdc.Stream,
		"Correct `hash.include` in the definition; where all of its fields may be absent, include one that is always there, such as the key",
		"no record of the page has anything of `hash.include`, so that no change of them would count: %s", lacking(body, at, rd.include[0]))
}

// published returns where the published value of a live record is.
func (s *splitter) published(rd *reader, rec *Record) (body []byte, at record.Span) {
	switch {
	case rec.content != nil:
		return rec.content, record.All(rec.content)
	case !rec.Same:
		return s.page.Body, rec.Value
	case rd.stream.valueSlot < 0:
		return s.page.Body, rec.Raw
	}
	at, _ = rd.stream.places[rd.stream.valueSlot].Find(s.page.Body, rec.Raw)
	return s.page.Body, at
}

// placed returns the row's mark, with the server's own text (P16).
func (s *splitter) placed(w *row) (mark, error) {
	span := w.cursor
	if span.IsZero() {
		span, _ = s.request.incremental.cursorField.Find(s.body, w.raw)
	}
	if span.IsZero() {
		return mark{}, s.pos.fail(cdc.Halt, cdc.Stream, "This is a defect of the connector: report it", "a record lost its cursor")
	}
	return mark{string(s.text(span)), w.at}, nil
}

// highest returns the largest cursor of the page that may become the partition's: those beyond server time − settle do not
// move it, be they of a clock that is ahead or of an import dated 2099 (P3).
func (s *splitter) highest() (mark, error) {
	s.top = -1
	for i := range s.rows {
		at := s.rows[i].at
		if at.IsZero() || at.After(s.limit) {
			continue
		}
		if s.top < 0 || at.After(s.rows[s.top].at) {
			s.top = i
		}
	}
	if s.top < 0 {
		return mark{}, nil
	}
	return s.placed(&s.rows[s.top])
}

// contentKey returns the hexadecimal SHA-256 of the canonical content (P24).
func (s *splitter) contentKey(dst []byte, rd *reader) []byte {
	s.scratch = rd.plan.AppendCanonical(s.scratch[:0], s.body, rd.scanner.ValueSpan)
	sum := sha256.Sum256(s.scratch)
	return hex.AppendEncode(dst, sum[:])
}
