package source

import (
	"bytes"
	"errors"
	"net/http"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// Lookup returns the request for one record by its key, all that is known of a lost record. Of its answer 404 and 410 are
// good answers too: Found reads it.
func (r *Request) Lookup(stream int, key []byte) (*fetch.Request, error) {
	st := r.source.Streams[stream]
	if st.lookup == nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "look up", "Declare `reconcile.lookup` in the definition", "%s has no lookup", st.Name)
	}
	partition, fields, err := st.fields(key)
	if err != nil {
		return nil, err
	}
	v := vars{partition: r.whole(partition), config: r.source.config, key: st.keyNames(partition, fields), now: time.Now().UTC()}
	out, err := r.send(&st.lookup.call, &v)
	if err != nil {
		return nil, err
	}
	judge := out.Judge
	out.Judge = func(resp *fetch.Response) error {
		if missing(resp) {
			return nil
		}
		return judge(resp)
	}
	return out, nil
}

// missing reports whether the API itself says that there is no such record (D4).
func missing(resp *fetch.Response) bool {
	return resp.Status == http.StatusNotFound || resp.Status == http.StatusGone
}

// Found reads the answer to the lookup of key. gone is true for 404, 410 and the states that lookup.gone names; else the
// record stands alone on page, judged as on a page of its stream (D4). An answer with another record proves nothing and is
// an error.
func (r *Request) Found(stream int, key []byte, resp *fetch.Response, page *Page) (gone bool, err error) {
	s, err := r.prepare()
	if err != nil {
		return false, cdc.Errorf(cdc.Halt, cdc.Stream, "look up", "Correct the paths in the definition", "%w", err)
	}
	partition, _, err := r.source.Streams[stream].fields(key)
	if err != nil {
		return false, err
	}
	pos := Position{request: r, partition: Partition{Values: r.whole(partition)}, now: time.Now().UTC()}
	s.open(&pos, resp, nil, page)
	defer s.release()
	switch {
	case !missing(resp):
		gone, err = s.found(stream, key)
	case len(bytes.TrimSpace(resp.Body)) == 0:
		gone = true
	default:
		gone, err = true, s.proven() // D4: a proxy's web page is not the API's own word
	}
	return gone, s.veil(err)
}

// found reads the one record of a looked-up answer.
func (s *splitter) found(stream int, key []byte) (bool, error) {
	st := s.request.source.Streams[stream]
	if err := s.proven(); err != nil {
		return false, err
	}
	if err := record.Valid(s.body, s.request.source.limits.Record); err != nil {
		return false, s.broken(err)
	}
	span, ok := st.lookup.records.Find(s.body, record.All(s.body))
	list := -1
	for i, sel := range s.request.records {
		if sel.stream == st && !sel.gone {
			list = i
		}
	}
	if ok && record.KindAt(s.body, span) == record.Array {
		n := 0
		for e := range record.Elements(s.body, span) {
			span = e
			n++
		}
		ok = n == 1
	}
	if !ok || list < 0 || record.KindAt(s.body, span) != record.Object {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `reconcile.lookup` in the definition",
			"the looked-up answer has no single record at %q: %s", st.lookup.records, s.excerpt())
	}
	rd := s.readers[list]
	_, err := rd.scanner.Scan(s.body, int(span.Off))
	if err != nil && !errors.Is(err, record.ErrSize) {
		return false, s.broken(err)
	}
	if st.gone != nil {
		if gone, err := st.gone.eval(s.body, rd.scanner.Spans, &s.vars); gone || err != nil {
			return gone, err
		}
	}
	s.single = true
	s.record(rd, list, err)
	if len(s.page.Records) != 1 || string(s.page.Records[0].Key) != string(key) {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `reconcile.lookup` in the definition",
			"the lookup of %.100q answered with another record", key)
	}
	return false, nil
}

// Rescan returns the hash of a record of body under another rule set and seed than the stream's (P23): state that was
// written under old rules is compared under them.
func (r *Request) Rescan(p Partition, stream int, body []byte, rec *Record, rules record.Rules, seed uint64) (uint64, error) {
	st := r.source.Streams[stream]
	rd, err := st.prepare(r)
	if err != nil {
		return 0, err
	}
	name := oldRules{rules.Fingerprint(), seed}
	old := rd.old[name]
	if old == nil {
		if old, err = r.oldReader(rules, seed); err != nil {
			return 0, err
		}
		if rd.old == nil {
			rd.old = map[oldRules]*oldReader{}
		}
		rd.old[name] = old
	}
	if _, err := old.scanner.Scan(body, int(recordOf(rec).Off)); err != nil && !errors.Is(err, record.ErrSize) {
		return 0, err
	}
	if old.patched == nil {
		return old.scanner.Hash, nil
	}
	var hash uint64
	old.scratch, hash, err = old.patched.apply(old.scratch[:0], body, old.scanner.ValueSpan, old.scanner.Spans, p.Values)
	if err != nil {
		return 0, nil //nolint:nilerr // such a record was never published under the old rules, so it is another one now
	}
	return hash, nil
}

// oldRules names a rule set of the past.
type oldRules struct {
	rules string
	seed  uint64
}

// oldReader hashes records as a rule set of the past did.
type oldReader struct {
	scanner *record.Scanner
	patched *patched // nil: it added and removed nothing
	scratch []byte
}

func (r *Request) oldReader(rules record.Rules, seed uint64) (*oldReader, error) {
	old := &oldReader{}
	var places []record.Path
	if rules.Fields != "" {
		p, wanted, config, err := patchOf(rules.Fields, r.partitions)
		if err != nil {
			return nil, err
		}
		places = wanted
		if old.patched, err = newPatched(p, config, rules, seed, r.source.limits.Record); err != nil {
			return nil, unknownRules(err)
		}
	}
	plan, err := record.NewPlan(places, rules, seed)
	if err != nil {
		return nil, unknownRules(err)
	}
	old.scanner = record.NewScanner(plan, r.source.limits.Record)
	return old, nil
}

func unknownRules(err error) error {
	return cdc.Errorf(cdc.Halt, cdc.Stream, "read state", "The state was written by another version: see its release notes", "%w", err)
}
