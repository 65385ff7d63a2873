package main

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// headers looks at the answer's: whether the server says its time, and what is left of the budget (P3, P22).
func (b *prober) headers(_ context.Context, _ string) error {
	if !b.base.dated {
		_ = b.clear("server time", "the answers have no Date: our clock less one minute is taken for the server's")
	} else {
		_ = b.clear("server time", "the answers have a Date, %s from our clock", counted(b.base.took, "second"))
	}
	left := headerLike(b.base.header, regexp.MustCompile(`(?i)remaining`))
	declared := b.src.Rate.RemainingHeader
	switch {
	case left == "" && declared == "":
		return b.clear("rate limit", "no header says what is left of it")
	case declared != "" && b.base.header.Get(declared) == "":
		return b.declare("rate limit", "/rate_limit.remaining_header", nil, true, "the answers have no header %s", declared)
	case declared != "":
		left = declared
	}
	return b.declare("rate limit", "/rate_limit.remaining_header", strings.ToLower(left), false, "it says %s", b.base.header.Get(left))
}

// headerLike returns the first header with a whole number whose name is like that.
func headerLike(h http.Header, like *regexp.Regexp) string {
	var names []string
	for name := range h {
		if _, err := strconv.Atoi(h.Get(name)); err == nil && like.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names[:min(1, len(names))], "")
}

// etag looks whether an unchanged answer is known again (D10).
func (b *prober) etag(ctx context.Context, fact string) error {
	name, header := "If-None-Match", b.base.header.Get("ETag")
	if header == "" {
		name, header = "If-Modified-Since", b.base.header.Get("Last-Modified")
	}
	if header == "" {
		return b.clear(fact, "the answers have neither ETag nor Last-Modified")
	}
	a, err := b.ask(ctx, source.Question{Header: name + ": " + header})
	if err != nil {
		return err
	}
	if a.status == http.StatusNotModified {
		return b.clear(fact, "works: the same request with %s is answered by 304", name)
	}
	if now := a.header.Get("ETag"); now != "" && now != header {
		return b.clear(fact, "does not work: %s is another one for the same request: %s, then %s", "ETag", clipped(header, 40), clipped(now, 40))
	}
	return b.clear(fact, "does not work: the same request with %s %s", name, a.said())
}

// parameter looks whether a parameter that nobody knows is refused: where it is not, neither is one that is misspelt.
func (b *prober) parameter(ctx context.Context, fact string) error {
	a, err := b.ask(ctx, source.Question{Extra: "tidemark_probe=1"})
	if err != nil {
		return err
	}
	if a.glimpse == nil {
		return b.clear(fact, "is refused by %d: %s", a.status, a.why)
	}
	return b.clear(fact, "is ignored: nor would a misspelt one be noticed")
}

// lookups looks whether the lookup of each stream finds a listed record, and whether its 404 means that there is none (D4).
func (b *prober) lookups(ctx context.Context, fact string) error {
	for _, st := range b.request.Streams {
		name := fact
		if st.Name != b.request.Name {
			name += " of " + st.Name
		}
		if !st.HasLookup {
			if err := b.clear(name, "none is declared: deletions wait for a second complete listing"); err != nil {
				return err
			}
			continue
		}
		if err := b.lookup(ctx, name, st); err != nil {
			return err
		}
	}
	return nil
}

// lookup asks for up to three listed records and for one that nobody has.
func (b *prober) lookup(ctx context.Context, fact string, st *source.Stream) error {
	key := "reconcile.lookup"
	if st.Name != b.request.Name {
		key = "records." + st.Name + ".reconcile.lookup"
	}
	var keys [][]byte
	for _, r := range b.base.rows() {
		if r.Stream == st.Index && r.Key != nil && len(keys) < 3 {
			keys = append(keys, r.Key)
		}
	}
	if len(keys) == 0 {
		return errTooFew
	}
	for _, k := range keys {
		status, gone, err := b.seek(ctx, st, k)
		switch {
		case status == 0:
			return err
		case err != nil:
			return b.declare(fact, key, nil, true, "the listed record %s is asked for, and the answer %d has no such record: %s", k, status, firstLine(err))
		case gone:
			return b.declare(fact, key, nil, true, "FALSE %d: the listed record %s is said not to be there; nothing may be deleted on its word", status, k)
		}
	}
	made := madeUp(keys[0])
	status, gone, err := b.seek(ctx, st, made)
	switch {
	case status == 0:
		return err
	case gone:
		return b.clear(fact, "its %d is real: %s found, the made-up %s is not", status, counted(int64(len(keys)), "listed record"), made)
	case err != nil:
		return b.declare(fact, key, nil, true, "the made-up %s is answered by %d instead of 404 or 410: %s", made, status, firstLine(err))
	}
	return b.declare(fact, key, nil, true, "the made-up %s is found", made)
}

// seek looks one record up.
func (b *prober) seek(ctx context.Context, st *source.Stream, key []byte) (status int, gone bool, err error) {
	request, err := b.request.Lookup(st.Index, key)
	if err != nil {
		return 0, false, err
	}
	judge := request.Judge
	request.Judge = func(resp *fetch.Response) error {
		status = resp.Status
		return judge(resp)
	}
	resp, err := b.spend(ctx, request)
	if err != nil {
		return status, false, err
	}
	defer resp.Release()
	var page source.Page
	gone, err = b.request.Found(st.Index, key, resp, &page)
	return resp.Status, gone, err
}

// madeUp is a key of the same form that no record has: every digit and letter of its last field is another one. A number grows.
func madeUp(key []byte) []byte {
	out := slices.Clone(key)
	if n, err := strconv.ParseInt(string(key), 10, 52); err == nil {
		return strconv.AppendInt(nil, n+1<<40, 10)
	}
	from := strings.LastIndexByte(strings.TrimRight(string(out), `"]`), '"') + 1
	if from == 0 {
		from = strings.LastIndexByte(string(out), ',') + 1
	}
	for i := from; i < len(out); i++ {
		switch c := out[i]; {
		case c >= '0' && c <= '9':
			out[i] = '0' + (c-'0'+7)%10
		case c >= 'a' && c <= 'f':
			out[i] = 'a' + (c-'a'+3)%6
		case c >= 'A' && c <= 'F':
			out[i] = 'A' + (c-'A'+3)%6
		}
	}
	if out[from] == '0' && out[len(out)-1] == ']' { // a number does not begin with 0
		out[from] = '9'
	}
	return out
}
