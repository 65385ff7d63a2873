package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// headers looks at the answer's: whether the server says its time, and what is left of the budget (P3, P22).
func (b *prober) headers(ctx context.Context, _ string) error {
	if !b.base.dated {
		_ = b.clear("server time", "the answers have no Date: our clock less one minute is taken for the server's")
	} else {
		_ = b.clear("server time", "the answers have a Date, %s from our clock", counted(b.base.took, "second"))
	}
	const limit, key = "rate limit", "/rate_limit.remaining_header"
	left, declared := headerLike(b.base.header, regexp.MustCompile(`(?i)remaining`)), b.src.Rate.RemainingHeader
	if declared != "" {
		left = declared
	}
	said := b.base.header.Get(left)
	switch {
	case left == "":
		return b.clear(limit, "no header says what is left of it")
	case said == "":
		return b.declare(limit, key, nil, true, "the answers have no header %s", left)
	case !wholeNumber(said):
		return b.declare(limit, key, nil, true, "%s says %s, which is no plain number of what is left", left, clipped(said, 40))
	}
	falls, text, err := b.falls(ctx, left)
	switch {
	case err != nil:
		return err
	case falls:
		return b.declare(limit, key, strings.ToLower(left), false, "it falls as requests are made: %s", text)
	case declared == "":
		return b.clear(limit, "%s does not fall as requests are made: %s", left, text)
	}
	return b.declare(limit, key, nil, true, "%s does not fall as requests are made: %s", left, text)
}

// falls asks a few times more, and reports whether the number that a header says gets less: what counts upwards says what was used, and
// what stays speaks of something else. It may rise once, where a new stretch of time begins.
func (b *prober) falls(ctx context.Context, header string) (falls bool, text string, err error) {
	said := []string{b.base.header.Get(header)}
	for range 3 {
		a, err := b.ask(ctx, source.Question{})
		if err != nil {
			return false, "", err
		}
		said = append(said, a.header.Get(header))
		before, err1 := strconv.Atoi(said[len(said)-2])
		now, err2 := strconv.Atoi(said[len(said)-1])
		if err1 == nil && err2 == nil && now < before {
			falls = true
			break
		}
	}
	return falls, strings.Join(said, ", "), nil
}

func wholeNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

// headerLike returns the first header with a whole number whose name is like that.
func headerLike(h http.Header, like *regexp.Regexp) string {
	var names []string
	for name := range h {
		if wholeNumber(h.Get(name)) && like.MatchString(name) {
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
	var listed [][]byte
	for _, r := range b.base.rows() {
		if r.Stream == st.Index && r.Key != nil {
			listed = append(listed, r.Key)
		}
	}
	if len(listed) == 0 {
		return errTooFew
	}
	keys := listed[:min(3, len(listed))]
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
	made := madeUp(listed)
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

// madeUp is a key of the same form as the listed ones that no record has: the last word of the last field is another one, and a long one.
func madeUp(listed [][]byte) []byte {
	for turn := 1; ; turn++ {
		made := another(listed[0], turn)
		if !slices.ContainsFunc(listed, func(k []byte) bool { return bytes.Equal(k, made) }) {
			return made
		}
	}
}

// another is a key of the same form: a list's last field, or the text itself.
func another(key []byte, turn int) []byte {
	var fields []any
	if decode(key, &fields) != nil || len(fields) == 0 {
		return []byte(strange(string(key), turn))
	}
	switch last := fields[len(fields)-1].(type) {
	case string:
		fields[len(fields)-1] = strange(last, turn)
	case json.Number:
		fields[len(fields)-1] = json.Number(strange(last.String(), turn))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(fields); err != nil {
		return []byte(strange(string(key), turn)) // it was decoded a moment ago
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

var (
	lastWord  = regexp.MustCompile(`[0-9A-Za-z]+[^0-9A-Za-z]*$`)
	hexWord   = regexp.MustCompile(`^([0-9a-f]{12,}|[0-9A-F]{12,})$`)
	endNumber = regexp.MustCompile(`[0-9]{1,11}$`)
)

// long is how long a made-up word is at least: a short one may well be somebody's.
const long = 12

// strange puts another word in the place of a text's last one. A long word of hexadecimal digits stays one, a number at the end of a
// word grows beyond all others, and any other word has its letters and digits moved, again and again until it is long.
func strange(text string, turn int) string {
	at := lastWord.FindStringIndex(text)
	if at == nil {
		return text + strings.Repeat("9", long+turn)
	}
	word := strings.TrimRightFunc(text[at[0]:at[1]], func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	rest := text[at[0]+len(word):]
	var made string
	switch number := endNumber.FindString(word); {
	case hexWord.MatchString(word):
		made = moved(word, 6, turn)
	case number != "" && (len(number) == len(word) || word[len(word)-len(number)-1] > '9'):
		n, _ := strconv.ParseInt(number, 10, 64) // eleven digits at the most
		made = word[:len(word)-len(number)] + strconv.FormatInt(n+int64(turn)<<40, 10)
	default:
		for made = moved(word, 26, turn); len(made) < long; {
			made += moved(word, 26, turn)
		}
	}
	if made[0] == '0' && word[0] != '0' { // a number does not begin with 0
		made = "9" + made[1:]
	}
	return text[:at[0]] + made + rest
}

// moved moves every digit and every letter of a word to another one, of so many letters.
func moved(word string, letters, turn int) string {
	out := []byte(word)
	step := func(c, first byte, n int) byte { return first + byte((int(c-first)+1+(n/2+turn)%(n-1))%n) }
	for i, c := range out {
		switch {
		case c <= '9':
			out[i] = step(c, '0', 10)
		case c <= 'Z':
			out[i] = step(c, 'A', letters)
		default:
			out[i] = step(c, 'a', letters)
		}
	}
	return string(out)
}
