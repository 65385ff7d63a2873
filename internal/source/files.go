package source

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

const (
	// FilesField is the member of a published value that says what is known of its record's files. It is no part of the content:
	// the hash leaves it out (5).
	FilesField = "_files"
	// MaxFiles bounds the files of a record (10).
	MaxFiles = 1000

	defaultFile = 64 << 20 // max_bytes
	largestFile = 1 << 40
)

// Files says how the files of a stream's records are got.
type Files struct {
	Folder   bool  // they are downloaded; else the value names where they are
	Halt     bool  // one that cannot be had halts the stream, before the cursor passes its record (4); else the record goes on without
	MaxBytes int64 // of one file (10)

	each   record.Path
	call   call
	places []record.Path // of the record, that the request wants
	plan   *record.Plan  // how an element is hashed
}

// Element is one element of a record that names a file.
type Element struct {
	Hash uint64 // of its content, under the stream's rules: the same element names the same file
	at   record.Span
}

// files reads how the files of a record are asked for.
func (s *streamReader) files(n *yaml.Node) {
	if n == nil {
		return
	}
	f := s.fields(n, "files", filesTable)
	if f == nil {
		return
	}
	w := &Files{
		MaxBytes: s.bytes(f["max_bytes"], "max_bytes", defaultFile),
		Folder:   s.choice(f["store"], "store", filesTable.options("store")...) != "reference",
		Halt:     s.choice(f["on_error"], "on_error", filesTable.options("on_error")...) == "halt",
	}
	s.b.stream.Files = w
	if f["each"] == nil {
		s.fail(n, "files needs `each`: where in a record the elements lie that name a file each")
	} else if p := s.lists(f["each"], "each"); p != nil {
		w.each = *p
	}
	if f["request"] == nil {
		s.fail(n, "files needs `request`: how the file of an element is asked for")
		return
	}
	keys := s.fields(f["request"], "files.request", fileRequestTable)
	if keys == nil {
		return
	}
	sc := s.in("files", "item", "record", "partition", "config", "now")
	sc.slot = func(p record.Path) int {
		w.places = append(w.places, p)
		return len(w.places) - 1
	}
	w.call = s.call(keys, "files.request", f["request"], sc)
	s.fileRequest(w, f, sc)
}

// fileRequest checks what only request and store together can get wrong.
func (s *streamReader) fileRequest(w *Files, f map[string]*yaml.Node, sc *scope) {
	secret := ""
	w.call.each(func(t *template) {
		t.bindings(func(b binding) {
			if c := sc.setting(b.member); b.root == "config" && c != nil && c.secret {
				secret = b.member
			}
		})
	})
	if !w.call.mentions("item") {
		s.fail(f["request"], "files.request does not say which file it asks for: there is no {{ item.NAME }} in it")
	}
	if w.Folder {
		return
	}
	switch {
	case secret != "":
		s.fail(f["request"], "files.request names the secret config.%s: with `store: reference` its URL is published", secret)
	case w.call.method != http.MethodGet || w.call.headers != nil:
		s.fail(f["request"], "with `store: reference` consumers have nothing but the URL: a method or headers would be lost")
	}
	for _, key := range []string{"max_bytes", "on_error"} {
		if f[key] != nil {
			s.fail(f[key], "%s is about downloads, and with `store: reference` there are none", key)
		}
	}
}

var sizePart = regexp.MustCompile(`^([0-9]+)\s*(B|KB|KiB|MB|MiB|GB|GiB)?$`)

// bytes reads a size: a number of bytes, or one with a unit.
func (r *linter) bytes(n *yaml.Node, what string, fallback int64) int64 {
	if n == nil {
		return fallback
	}
	units := map[string]int64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	if m := sizePart.FindStringSubmatch(n.Value); n.Kind == yaml.ScalarNode && m != nil {
		if x, err := strconv.ParseInt(m[1], 10, 40); err == nil && x > 0 && x <= largestFile/units[m[2]] {
			return x * units[m[2]]
		}
	}
	r.fail(n, "%s must be a size such as 50MiB, at most 1024GiB, not %s", what, describe(n))
	return fallback
}

// compileFiles prepares the stream's files for its rules, and leaves what is said of them out of the hash (5).
func (st *Stream) compileFiles(of *Files) error {
	if of == nil {
		return nil
	}
	w := *of
	st.Files = &w
	rules := record.Rules{Algorithm: st.Rules.Algorithm}
	stem := w.each.String()
	if value := st.Rules.Value; value != "" {
		stem = strings.TrimPrefix(stem, value+".")
	}
	for _, path := range st.Rules.Exclude { // what is no change of the record is no change of its element either
		for _, prefix := range []string{stem + "[*].", stem + "."} {
			if rest, ok := strings.CutPrefix(path, prefix); ok {
				rules.Exclude = append(rules.Exclude, rest)
				break
			}
		}
	}
	if len(st.Rules.Include) == 0 {
		st.Rules.Exclude = slices.Sorted(slices.Values(append(slices.Clone(st.Rules.Exclude), FilesField)))
	}
	var err error
	w.plan, err = record.NewPlan(nil, rules, 0)
	return err
}

// recordOf is where a whole record lies on its page.
func recordOf(rec *Record) record.Span {
	if !rec.whole.IsZero() {
		return rec.whole
	}
	return rec.Raw
}

// Whole returns the text of a record as it came, which Reread reads again; body is the page's.
func (r *Record) Whole(body []byte) []byte { return recordOf(r).Of(body) }

// Elements returns those elements of a record that name a file each; body is the page's. The error parks the record.
func (st *Stream) Elements(body []byte, rec *Record) ([]Element, error) {
	const hint = "Name another place in `files.each`, or take the field away with `remove_fields`"
	w := st.Files
	var all []Element
	add := func(at record.Span) bool {
		if k := record.KindAt(body, at); k != record.Null {
			all = append(all, Element{Hash: record.KeyHash(w.plan.AppendCanonical(nil, body, at)), at: at})
		}
		return len(all) <= MaxFiles
	}
	w.each.Each(body, recordOf(rec), func(at record.Span) bool {
		if record.KindAt(body, at) != record.Array {
			return add(at)
		}
		for e := range record.Elements(body, at) {
			if !add(e) {
				return false
			}
		}
		return true
	})
	content := rec.Content(body)
	switch whole := record.All(content); {
	case len(all) > MaxFiles:
		return nil, cdc.Errorf(cdc.Park, cdc.Record, "read files", hint, "the record has more than %d files", MaxFiles)
	case len(all) > 0 && record.KindAt(content, whole) != record.Object:
		return nil, cdc.Errorf(cdc.Park, cdc.Record, "read files", hint, "its value is no map, so nothing can be said of its files in it")
	default:
		if _, taken := record.Member(FilesField).Find(content, whole); taken {
			return nil, cdc.Errorf(cdc.Park, cdc.Record, "read files", hint, "its value has a field %s of its own", FilesField)
		}
	}
	return all, nil
}

// File returns the request for the file of an element. The error says why there is none.
func (r *Request) File(p Partition, stream int, body []byte, rec *Record, e Element) (*fetch.Request, error) {
	w := r.source.Streams[stream].Files
	item, err := record.Value(body, e.at)
	if err != nil {
		return nil, err
	}
	spans := make([]record.Span, len(w.places))
	for i, place := range w.places {
		spans[i], _ = place.Find(body, recordOf(rec))
	}
	v := vars{partition: p.Values, config: r.source.config, now: time.Now().UTC(), item: item, view: &view{body, spans}}
	out, err := r.send(&w.call, &v)
	if err != nil {
		return nil, cdc.Errorf(cdc.Park, cdc.Record, "ask for file", "Correct `files.request` in the definition", "%w", cause(err))
	}
	out.Foreign = w.call.url != nil // the record may name any place
	if !slices.ContainsFunc(w.call.headers, func(p parameter) bool { return strings.EqualFold(p.name, "Accept") }) {
		out.Header.Set("Accept", "*/*")
	}
	return out, nil
}

// Reread reads again a record that Whole gave: it stands alone on page, judged as on a page of its stream.
func (r *Request) Reread(p Partition, stream int, text []byte, page *Page) (*Record, error) {
	s, err := r.prepare()
	if err != nil {
		return nil, err
	}
	st := r.source.Streams[stream]
	list := slices.IndexFunc(r.records, func(sel selection) bool { return sel.stream == st && !sel.gone })
	pos := Position{request: r, partition: p, now: time.Now().UTC()}
	s.open(&pos, &fetch.Response{Status: http.StatusOK, Body: text}, nil, page)
	defer s.release()
	if err := record.Valid(text, r.source.limits.Record); err != nil {
		return nil, err
	}
	rd := s.readers[list]
	if _, err := rd.scanner.Scan(text, 0); err != nil && !errors.Is(err, record.ErrSize) {
		return nil, err
	}
	s.single = true
	s.record(rd, list, nil)
	if len(page.Records) != 1 {
		return nil, fmt.Errorf("the text holds %d records", len(page.Records))
	}
	rec := &page.Records[0]
	return rec, rec.Err
}
