package source

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// A listing in the order of the key (`reconcile.order: key`) can be cut anywhere and goes on behind the last record that it showed,
// in another process too (D3): what it did not show up to there is as missing as it would be at its end. Numbers go by their value,
// and so does text that is the digits of one; all other text stands behind them and goes by its bytes. Whether the API sorts so is
// seen: a key that stands where it should not makes the listing incomplete, and what is not proven complete deletes nothing (D2).

// ordering reads `reconcile.order`; n is where it stands. req is how the live records are listed.
func (s *streamReader) ordering(n *yaml.Node, req *Request) {
	if s.choice(n, "order", reconcileTable.options("order")...) == "" {
		return
	}
	p, st := &req.paginator, s.b.streams[0]
	for _, c := range []struct {
		wrong bool
		what  string
	}{
		{len(s.b.streams) > 1, "one stream has an order of its keys, and this request has several"},
		{len(st.primaryKey) != 1, "the key must be one field, for there is one order of it"},
		{st.keyScope && len(s.b.partitions) > 0, "with `key_scope: stream` a key is missing when no partition shows it, and each has an order of its own"},
		{p.kind != tokenPaginator, "a listing goes on behind a record with `paginator: {type: token}` alone: by {{ last }} in the request, or by tokens that stay good"},
		{p.next != nil && !p.stable, "a token must still be good after a restart: say `stable: true` in the paginator if they are, or page by {{ last }}"},
		{req.incremental != nil && req.incremental.window > 0 && (req == &s.b.request || req.uses.cursorEnd), "the request is cut into windows of time, and each begins with the first key again: name another request under `listing`"},
		{req.incremental != nil && req.incremental.kind != timestampCursor, "a feed with a cursor of its own is no list by key: name another request under `listing`"},
	} {
		if c.wrong {
			s.fail(n, "order: key, but %s (D3)", c.what)
			return
		}
	}
	req.ordered = true
}

// inOrder checks that the page goes on where the one before it ended, and counts its keys (D3).
func (s *splitter) inOrder(next *Position) {
	if !next.full {
		return
	}
	last := []byte(next.reached)
	for i := range s.page.Records {
		key := s.page.Records[i].Key
		if key == nil {
			continue
		}
		switch c := next.compare(last, key); {
		case len(last) == 0, c < 0:
			next.shown++
		case c > 0:
			next.spoil(fmt.Sprintf("its records do not stand in the order of the key: %.100q comes behind %.100q (reconcile.order)", key, last))
			return
		}
		last = key
	}
	next.reached = string(last)
}

// compare says which of two keys of the pass's partition comes first in the order of the key; the empty one does.
func (p *Position) compare(a, b []byte) int {
	if len(a) == 0 || len(b) == 0 {
		return cmp.Compare(len(a), len(b))
	}
	a, b = p.ownPart(a), p.ownPart(b)
	x, y := integral(a), integral(b)
	switch {
	case x && y:
		return compareDigits(a, b)
	case x != y:
		return before(x)
	}
	return bytes.Compare(a, b)
}

// ownPart returns the record's own field of a key, without the values of its partition (K4) and as plain text.
func (p *Position) ownPart(key []byte) []byte {
	if p.prefix == "" {
		return key
	}
	key = key[len(p.prefix) : len(key)-1] // ["eu",7] without ["eu", and ]
	switch {
	case key[0] != '"':
		return key
	case bytes.IndexByte(key, '\\') < 0:
		return key[1 : len(key)-1]
	}
	text, _ := record.Text(nil, key, record.All(key))
	return text
}

// compareDigits compares two integers of any length.
func compareDigits(a, b []byte) int {
	minus := a[0] == '-'
	switch {
	case minus != (b[0] == '-'):
		return before(minus)
	case minus:
		a, b = b[1:], a[1:]
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
}

// before is what a comparison says where it is the first of the two that comes first, or the other one.
func before(first bool) int {
	if first {
		return -1
	}
	return 1
}

// Passed reports whether a key of the pass's partition stands at or before last in the order of the key. One that a definition before
// this one has made, with the partition's value of another type, stands nowhere.
func (p *Position) Passed(key, last []byte) bool {
	return len(key) > len(p.prefix) && string(key[:len(p.prefix)]) == p.prefix && p.compare(key, last) <= 0
}

// Window returns what a listing in the order of the key has finished, as far as the pass knows it: Listing, Began, At and Missing are
// the caller's to add. It is false where there is nothing to go on from: the pass has no order, or is not complete up to here.
func (p *Position) Window() (cdc.Window, bool) {
	r := p.request
	if !r.ordered || !p.full || p.reached == "" || p.stage != reading || p.walk.drift { // P9: it will be walked again
		return cdc.Window{}, false
	}
	w := cdc.Window{
		Now: p.now, Last: p.reached, Token: p.token, Pages: p.pages, Records: p.rows, Keys: p.shown, Total: -1, Heard: p.heard,
	}
	if p.totalled {
		w.Total = p.total
	}
	if r.uses.last {
		text, err := json.Marshal(r.kept(p.last))
		if err != nil {
			return cdc.Window{}, false
		}
		w.Record = text
	}
	return w, true
}

// kept is what the templates see of the last record: no more of it becomes state.
func (r *Request) kept(last any) any {
	all, ok := last.(map[string]any)
	if !ok || slices.Contains(r.lastOf, "") {
		return last
	}
	some := map[string]any{}
	for _, name := range r.lastOf {
		if v, ok := all[name]; ok {
			some[name] = v
		}
	}
	return some
}

// Resume has a pass that was just begun go on behind w, which another one under the same Listing has finished (D3). It reports
// whether it can.
func (p *Position) Resume(w cdc.Window) bool {
	r := p.request
	if !r.ordered || !p.full || w.Last == "" || !strings.HasPrefix(w.Last, p.prefix) {
		return false
	}
	if r.uses.last {
		value, err := record.Value(w.Record, record.All(w.Record))
		if err != nil || value == nil {
			return false
		}
		p.last = value
	}
	p.now, p.reached, p.token, p.pages, p.rows, p.shown, p.heard = w.Now, w.Last, w.Token, w.Pages, w.Records, w.Keys, w.Heard
	p.behind = record.KeyHash([]byte(w.Last))
	p.total, p.totalled = max(w.Total, 0), w.Total >= 0
	return true
}
