package source

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/record"
)

// blueprint is a request and its streams before a connection's settings are filled in: Bind copies them.
type blueprint struct {
	request    Request
	streams    []*Stream // in the definition's order
	stream     *Stream   // the one that is being read, the last of streams
	start      *template
	zone       *template // of incremental.format, where a setting names it; nil: the formats have it
	partitions []spread
}

// spread is a dimension before its values are known.
type spread struct {
	name   string
	values []*template
	line   int
	parent *parentage // nil: a list
}

// The kinds of results that expressions are checked for.
const (
	numeric = reflect.Float64
	boolean = reflect.Bool
)

var (
	// requestNames are what a request's templates may speak of.
	requestNames = []string{"cursor", "cursor_end", "anchor", "start", "page_token", "offset", "page", "tie_page", "last", "partition", "config", "now"}
	answerNames  = []string{"response", "cursor", "anchor", "page_token", "offset", "page", "tie_page", "partition", "config", "now"}
	defaultEvery = 5 * time.Minute
)

func (r *linter) streams(d *Definition, defaults, n *yaml.Node) {
	if n == nil {
		return
	}
	if defaults != nil && defaults.Kind != yaml.MappingNode {
		r.fail(defaults, "defaults must be a map, not %s", describe(defaults))
		return
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		r.fail(n, "there is no stream in `streams`")
	}
	r.each(n, "streams", func(k, v *yaml.Node) {
		switch {
		case !validStream.MatchString(k.Value):
			r.fail(k, "a stream's name is made of a-z, 0-9, _ and -, and begins with a letter, unlike %q", k.Value)
		case v.Kind != yaml.MappingNode:
			r.fail(v, "stream %s must be a map, not %s", k.Value, describe(v))
		default:
			if defaults != nil {
				v = merge(defaults, v)
			}
			r.stream(d, k, v)
		}
	})
	r.names(d, n)
	r.parents(d)
}

// streamReader reads one stream; its fields are what the later keys need of the earlier ones.
type streamReader struct {
	*linter
	def  *Definition
	b    *blueprint
	name *yaml.Node
	f    map[string]*yaml.Node
	base scope
	// found is where the records of the stream that is being read lie in an answer.
	found record.Path
}

func (r *linter) stream(d *Definition, k, n *yaml.Node) {
	s := &streamReader{linter: r, def: d, b: &blueprint{}, name: k}
	s.f = r.fields(n, "stream "+k.Value, streamTable)
	s.b.request.Name = k.Value
	s.base = scope{config: d.config}
	s.partition(s.f["partition"])
	s.b.request.list = s.call(s.f, "stream "+s.name.Value, s.name, s.in("a request", requestNames...))
	s.paginator(&s.b.request.paginator, s.f["paginator"])
	s.incremental(s.f["incremental"])
	s.errorRules(s.f["errors"])
	s.interval(s.f["interval"])
	s.records(s.f["records"])
	s.listings(s.f["reconcile"])
	s.together()
	d.streams = append(d.streams, s.b)
}

// kind reads what concerns one kind of record: a stream, of which a request may have several.
func (s *streamReader) kind(name string) {
	s.b.stream = &Stream{Name: name, Schema: "json", OnLeave: "delete", cursorSlot: -1, versionSlot: -1, recordIDSlot: -1, valueSlot: -1}
	s.b.streams = append(s.b.streams, s.b.stream)
	s.base.keys = nil
	s.identity()
	if in := s.b.request.incremental; in == nil {
		s.b.stream.Snapshot = s.f["incremental"] == nil
	} else if in.cursorField != nil {
		s.b.stream.cursorSlot = s.slot(*in.cursorField)
	}
	s.moving()
	s.content()
	s.conditions()
	s.hydrate(s.f["hydrate"])
	s.files(s.f["files"])
	s.reconcile(s.f["reconcile"])
	s.topic()
}

func (s *streamReader) in(where string, names ...string) *scope { return s.base.with(where, names...) }

// slot plans a place of the record and returns its index.
func (s *streamReader) slot(p record.Path) int {
	for i, have := range s.b.stream.places {
		if have.String() == p.String() {
			return i
		}
	}
	s.b.stream.places = append(s.b.stream.places, p)
	return len(s.b.stream.places) - 1
}

func (s *streamReader) slotOf(n *yaml.Node, what string) int {
	if p := s.place(n, what); p != nil {
		return s.slot(*p)
	}
	return -1
}

func (s *streamReader) partition(n *yaml.Node) {
	sc := s.in("partition", "config")
	s.each(n, "partition", func(k, v *yaml.Node) {
		if !validSetting.MatchString(k.Value) {
			s.fail(k, "a partition's name is made of letters, digits and _, not %q", k.Value)
			return
		}
		s.base.partitions = append(s.base.partitions, k.Value)
		sp := spread{name: k.Value, line: v.Line}
		if v.Kind == yaml.MappingNode {
			s.parent(&sp, v, sc)
		} else {
			s.values(&sp, v, "partition "+k.Value, sc)
		}
		s.b.partitions = append(s.b.partitions, sp)
	})
	slices.SortFunc(s.b.partitions, func(a, b spread) int { return strings.Compare(a.name, b.name) })
}

// values reads a list, or the setting that holds one.
func (s *streamReader) values(sp *spread, v *yaml.Node, what string, sc *scope) {
	switch {
	case v.Kind == yaml.SequenceNode && len(v.Content) == 0:
		s.fail(v, "%s has no values", what)
	case v.Kind == yaml.SequenceNode:
		for _, c := range v.Content {
			sp.values = append(sp.values, s.template(c, what, sc))
		}
	case v.Kind == yaml.ScalarNode && strings.HasPrefix(strings.TrimSpace(v.Value), "{{"):
		sp.values = []*template{s.template(v, what, sc)}
	default:
		s.fail(v, "%s must be a list, or {{ config.x }} of a list, not %s", what, describe(v))
	}
}

// identity reads what makes a record this record (P24, P13).
func (s *streamReader) identity() {
	st := s.b.stream
	n := s.f["primary_key"]
	if n == nil {
		s.fail(s.name, "stream %s has no `primary_key`: the field that names a record, a list of them, or `content` where there is none", st.Name)
	}
	keys := s.items(n, "primary_key")
	if n != nil && n.Kind == yaml.SequenceNode && len(keys) == 0 {
		s.fail(n, "primary_key is an empty list")
	}
	if n != nil && n.Kind == yaml.ScalarNode && n.Value == "content" {
		st.contentKey, keys = true, nil
	}
	for _, k := range keys {
		p := s.place(k, "primary_key")
		if p == nil {
			continue
		}
		names, ok := pathNames(k.Value)
		if !ok {
			s.fail(k, "primary_key must be named by names alone, unlike %s", k.Value)
			continue
		}
		if slices.Contains(s.base.partitions, names[0]) {
			s.fail(k, "primary_key and partition both have %q: in a lookup key.%s would mean both; rename the partition", names[0], names[0])
		}
		if slices.ContainsFunc(st.primaryKey, func(q record.Path) bool { return q.String() == p.String() }) {
			s.fail(k, "primary_key has %s twice", k.Value)
		}
		st.primaryKey, st.keyPaths = append(st.primaryKey, *p), append(st.keyPaths, names)
		st.keySlots = append(st.keySlots, s.slot(*p))
		s.base.keys = append(s.base.keys, names[0])
	}
	scopeOf := s.choice(s.f["key_scope"], "key_scope", streamTable.options("key_scope")...)
	if st.keyScope = scopeOf == "stream"; !st.keyScope {
		s.base.keys = append(s.base.keys, s.base.partitions...)
	}
	st.recordIDSlot = s.slotOf(s.f["record_id"], "record_id")
	st.LogFeed = st.recordIDSlot >= 0
}

// moving refuses a key that changes with its record: each change would be a new record, and the old one stay for good. Rows that stand
// for a stretch of time keep theirs, and so do the entries of a log.
func (s *streamReader) moving() {
	st, in := s.b.stream, s.b.request.incremental
	if st.LogFeed || len(st.primaryKey) != 1 || in == nil || in.cursorField == nil || !st.primaryKey[0].Equal(*in.cursorField) {
		return
	}
	if in.granularity >= time.Hour || in.record == nil || in.record.daily() {
		return
	}
	s.fail(s.f["primary_key"], "primary_key is the cursor_field: a record that changes gets another time, and would be another record. "+
		"Name what stays the same; rows that stand for an hour or a day each say so by `granularity` or `format: date`")
}

// pathNames cuts a path of names alone: a.b, ["a b"].c.
func pathNames(text string) ([]string, bool) {
	var out []string
	for rest := text; rest != ""; {
		if strings.HasPrefix(rest, `["`) {
			d := json.NewDecoder(strings.NewReader(rest[1:]))
			var name string
			if d.Decode(&name) != nil || int(d.InputOffset())+1 >= len(rest) {
				return nil, false
			}
			out, rest = append(out, name), strings.TrimPrefix(rest[d.InputOffset()+2:], ".")
			continue
		}
		i := strings.IndexAny(rest, ".[")
		switch {
		case i < 0:
			return append(out, rest), true
		case i == 0 || rest[i] == '[' && !strings.HasPrefix(rest[i:], `["`):
			return nil, false
		}
		out, rest = append(out, rest[:i]), strings.TrimPrefix(rest[i:], ".")
	}
	return out, len(out) > 0
}

// call reads path, url, method, query, headers, body and form. at is where a missing path is reported.
func (r *linter) call(f map[string]*yaml.Node, what string, at *yaml.Node, sc *scope) call {
	c := call{method: "GET"}
	switch {
	case f["path"] != nil && f["url"] != nil:
		r.fail(f["url"], "%s has both `path` and `url`", what)
	case f["path"] != nil:
		c.path = r.template(f["path"], "path", sc)
		if !c.path.beginsWith("/") && !c.path.beginsWith("") {
			r.fail(f["path"], "path %q must begin with / (or be empty, for base_url itself)", f["path"].Value)
		}
	case f["url"] != nil:
		c.url = r.origin(f["url"], "url", sc)
	default:
		r.fail(at, "%s has no `path`", what)
	}
	for _, key := range []string{"path", "url"} {
		if n := f[key]; n == nil {
			continue
		} else if text := literalText(n.Value); strings.ContainsAny(text, "?#") {
			r.fail(n, "%s has a ? or # in it: parameters belong under `query`", key)
		} else if _, err := url.PathUnescape(text); err != nil {
			r.fail(n, "%s has a %% that begins no escape: write %%25 for the sign itself", key)
		}
	}
	c.query, c.headers = r.parameters(f["query"], "query", sc), r.parameters(f["headers"], "headers", sc)
	if n := f["form"]; n != nil {
		if c.form = r.parameters(n, "form", sc); c.form == nil {
			c.form = []parameter{}
		}
	}
	if n := f["body"]; n != nil {
		c.body = r.body(n, "body", sc)
		if n.Kind == yaml.ScalarNode {
			c.body.text = true
		}
	}
	if m := r.choice(f["method"], "method", requestTable.options("method")...); m != "" {
		c.method = m
	}
	switch {
	case f["body"] != nil && f["form"] != nil:
		r.fail(f["form"], "%s has both `body` and `form`", what)
	case f["body"] != nil && c.method == "GET":
		r.fail(f["body"], "a GET has no body: say `method: POST`")
	case f["form"] != nil && c.method == "GET":
		r.fail(f["form"], "a GET has no form: say `method: POST`")
	}
	return c
}

func (t *template) beginsWith(prefix string) bool {
	switch {
	case t.parts == nil && prefix == "":
		return t.literal == ""
	case t.parts == nil:
		s, _ := t.literal.(string)
		return strings.HasPrefix(s, prefix) || t.literal == nil
	}
	return prefix != "" && t.parts[0].expr == nil && strings.HasPrefix(t.parts[0].text, prefix)
}

// literalText returns what of a template is no expression.
func literalText(text string) string {
	segments, err := cut(text)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, s := range segments {
		if !s.expr {
			b.WriteString(s.text)
		}
	}
	return b.String()
}

func (r *linter) body(n *yaml.Node, where string, sc *scope) *body {
	b := &body{}
	switch n.Kind {
	case yaml.MappingNode:
		b.kind = bodyMap
		r.each(n, where, func(k, v *yaml.Node) {
			b.fields = append(b.fields, field{k.Value, r.body(v, where+"."+k.Value, sc)})
		})
	case yaml.SequenceNode:
		b.kind = bodyList
		for i, c := range n.Content {
			b.list = append(b.list, r.body(c, fmt.Sprintf("%s[%d]", where, i), sc))
		}
	default:
		b.leaf = r.template(n, where, sc)
	}
	return b
}

// expression reads a bare expression; nil for a key that is not there.
func (r *linter) expression(n *yaml.Node, what string, sc *scope, want reflect.Kind) *expression {
	if n == nil {
		return nil
	}
	text := n.Value
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || strings.TrimSpace(text) == "":
		r.fail(n, "%s must be an expression, not %s", what, describe(n))
		return nil
	case strings.Contains(text, "{{"):
		r.fail(n, "%s is an expression, not a template: write it without {{ }}", what)
		return nil
	}
	e, err := compile(text, sc, want)
	if err != nil {
		r.misused(n, what, err)
		return nil
	}
	return e
}

// signal reads a place of the answer's body, or an expression over `response`.
func (r *linter) signal(n *yaml.Node, what string, sc *scope) *signal {
	if n == nil {
		return nil
	}
	out := &signal{name: what}
	if text := strings.TrimSpace(n.Value); n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && text != "" && text != "." &&
		!strings.HasPrefix(text, "response.") && !strings.HasPrefix(text, "response[") {
		if p, err := record.ParsePath(text); err == nil {
			if p.Wild() {
				r.fail(n, "%s must name one place, and %s names many", what, text)
			}
			out.place = &p
			return out
		}
	}
	if out.expr = r.expression(n, what, sc, reflect.Invalid); out.expr == nil {
		return nil
	}
	return out
}

func (s *streamReader) paginator(p *paginator, n *yaml.Node) {
	p.kind, p.firstPage = noPaginator, 1
	if n == nil {
		return
	}
	f := s.fields(n, "paginator", paginatorTable)
	if f == nil {
		return
	}
	if f["type"] == nil {
		s.fail(n, "paginator has no `type`: keyset, page, offset, token, link or none")
		return
	}
	kind := s.choice(f["type"], "paginator type", paginatorTable.options("type")...)
	if kind == "" {
		return
	}
	p.kind = paginatorKind(kind)
	s.foreign(f, "paginator", paginatorTable, kind)
	sc := s.in("an answer", answerNames...)
	p.sizeEcho, p.next = s.place(f["size_echo"], "size_echo"), s.place(f["next"], "next")
	p.more, p.done = s.signal(f["more"], "more", sc), s.signal(f["done"], "done", sc)
	p.reanchorAfter = int(s.integer(f["reanchor_after"], "reanchor_after", 1, 1<<30))
	p.stable = s.boolean(f["stable"], "stable", false)
	if f["start"] != nil {
		p.firstPage = s.integer(f["start"], "start", 0, 1)
	}
	s.pageEnds(p, f, n)
}

// pageEnds checks that a paginator knows its next page and its end (P10).
func (s *streamReader) pageEnds(p *paginator, f map[string]*yaml.Node, n *yaml.Node) {
	p.overlap = s.boolean(f["overlap"], "overlap", false)
	p.size = int(s.integer(f["size"], "size", 1, 1<<30))
	if p.overlap && p.size < 2 {
		s.fail(f["overlap"], "overlap needs `size` of 2 or more, the rows that a request asks for: a page of one row would show the joint row alone")
	}
	if p.kind == tokenPaginator && p.stable && f["next"] == nil {
		s.fail(f["stable"], "stable is said of tokens, and without `next` there are none")
	}
	if p.more != nil && p.done != nil {
		s.fail(f["done"], "paginator has both `more` and `done`: one of them says it")
	}
	if p.kind != linkPaginator {
		return
	}
	p.linkHeader = s.boolean(f["header"], "header", f["next"] == nil)
	if p.linkHeader == (p.next != nil) {
		s.fail(n, "paginator link takes the next URL either from the Link header or from `next`")
	}
}

func (s *streamReader) incremental(n *yaml.Node) {
	if n == nil {
		return
	}
	f := s.fields(n, "incremental", incrementalTable)
	if f == nil {
		return
	}
	kind := "timestamp"
	if f["type"] != nil {
		kind = s.choice(f["type"], "incremental type", incrementalTable.options("type")...)
	}
	in := &incremental{kind: incrementalKind(kind), order: unordered, inclusive: true, granularity: time.Second}
	s.b.request.incremental = in
	if kind == "" {
		return
	}
	s.foreign(f, "incremental", incrementalTable, kind)
	s.b.start = s.template(f["start"], "incremental start", s.in("incremental start", "config"))
	if in.kind == timestampCursor {
		s.timestamps(in, f, n)
		return
	}
	if in.next = s.place(f["next"], "next"); f["next"] == nil {
		s.fail(n, "incremental %s needs `next`: where the answer's cursor lies", kind)
	}
	in.more = s.signal(f["more"], "more", s.in("an answer", answerNames...))
	in.checkpointPass = s.choice(f["checkpoint"], "checkpoint", incrementalTable.options("checkpoint")...) == "pass"
	if in.kind == sequenceCursor {
		in.back = s.integer(f["lookback"], "lookback (of a sequence, a count of numbers)", 0, 1<<40)
	}
	s.head(in, f["head"])
}

func (s *streamReader) timestamps(in *incremental, f map[string]*yaml.Node, n *yaml.Node) {
	if in.cursorField = s.place(f["cursor_field"], "cursor_field"); f["cursor_field"] == nil {
		s.fail(n, "incremental timestamp needs `cursor_field`")
	}
	s.formats(in, f["format"], n)
	in.granularity = s.positive(f["granularity"], "granularity", time.Second)
	in.inclusive = s.boolean(f["inclusive"], "inclusive", true)
	if o := s.choice(f["order"], "order", incrementalTable.options("order")...); o != "" {
		in.order = sortOrder(o)
	}
	in.lookback = s.duration(f["lookback"], "lookback", time.Minute)
	in.settle = s.duration(f["settle"], "settle", 0)
	if in.window = s.positive(f["window"], "window", 0); in.window > 0 && in.window <= in.granularity {
		s.fail(f["window"], "window must be longer than granularity (%s)", in.granularity)
	}
	if d := f["deep_lookback"]; d != nil {
		deep := s.fields(d, "deep_lookback", deepTable)
		in.deepEvery, in.deepSpan = s.positive(deep["every"], "every", 0), s.positive(deep["span"], "span", 0)
		if deep != nil && (deep["every"] == nil || deep["span"] == nil) {
			s.fail(d, "deep_lookback needs `every` and `span`")
		} else if in.deepSpan > 0 && in.deepSpan <= in.lookback {
			s.fail(deep["span"], "deep_lookback reaches back no further than lookback (%s)", in.lookback)
		}
	}
}

func (s *streamReader) formats(in *incremental, n, at *yaml.Node) {
	var record, request, zone string
	switch {
	case n == nil:
		s.fail(at, "incremental timestamp needs `format`: rfc3339, date, unix, unix_ms, unix_us, unix_ns, or a pattern")
		return
	case n.Kind == yaml.MappingNode:
		f := s.fields(n, "format", formatTable)
		if f["record"] == nil {
			s.fail(n, "format needs `record`: how records write their time")
			return
		}
		record, request = s.text(f["record"], "record"), s.text(f["request"], "request")
		if z := f["zone"]; z != nil && strings.Contains(z.Value, "{{") {
			s.b.zone = s.template(z, "format.zone", s.in("format.zone", "config"))
		} else {
			zone = s.text(z, "zone")
		}
	default:
		record = s.text(n, "format")
	}
	if request == "" {
		request = record
	}
	var err error
	if in.record, err = newFormat(record, zone); err != nil {
		s.fail(n, "%v", err)
		return
	}
	if in.request, err = newFormat(request, zone); err != nil {
		s.fail(n, "%v", err)
	}
}

// head reads the request that tells how far a sequence has got (P11).
func (s *streamReader) head(in *incremental, n *yaml.Node) {
	if n == nil {
		return
	}
	f := s.fields(n, "head", headTable)
	if f == nil {
		return
	}
	in.head = &head{call: s.call(f, "head", n, s.in("head", "partition", "config", "now"))}
	if f["place"] == nil {
		s.fail(n, "head needs `place`: where the newest sequence lies")
	}
	if p := s.place(f["place"], "place"); p != nil {
		in.head.place = *p
	}
}

// schema reads the name of the Avro schema, and the schema itself where it is a file of the definition's author.
func (s *streamReader) schema(n *yaml.Node) {
	name := s.text(n, "schema")
	if name == "" {
		return
	}
	st := s.b.stream
	switch st.Schema = name; {
	case name == "json" || shippedSchema.MatchString(name):
	case !strings.HasSuffix(name, ".avsc") || !filepath.IsLocal(name):
		s.fail(n, "schema must be json, a shipped schema such as salesloft/person, or a file beside the definition such as person.avsc, not %q", name)
	default:
		text, err := os.ReadFile(filepath.Join(filepath.Dir(s.fileOf(n)), name))
		if err != nil {
			s.fail(n, "schema: %v; its path is taken from the definition's directory", err)
		}
		st.Avsc = text
	}
}

// content reads what of a record is published and compared.
func (s *streamReader) content() {
	st := s.b.stream
	s.schema(s.f["schema"])
	if p := s.place(s.f["value"], "value"); p != nil {
		if p.String() != "." {
			st.valueSlot = s.slot(*p)
			st.Rules.Value = p.String()
		}
	}
	st.Rules.Algorithm = record.Algorithm
	sc := s.in("add_fields", patchNames...)
	sc.slot = s.slot
	st.patch = s.patch(s.f["add_fields"], s.f["remove_fields"], sc)
	if p := st.patch; p != nil && p.add != nil && st.keyScope {
		p.add.each(func(t *template) {
			t.bindings(func(b binding) {
				if b.root == "partition" {
					s.fail(s.f["add_fields"], "add_fields names partition.%s: with key_scope stream a record has one state in all partitions", b.member)
				}
			})
		})
	}
	if n := s.f["hash"]; n != nil {
		f := s.fields(n, "hash", hashTable)
		if f["include"] != nil && f["exclude"] != nil {
			s.fail(n, "hash has both `include` and `exclude`")
		}
		st.Rules.Include, st.Rules.Exclude = s.paths(f["include"], "include"), s.paths(f["exclude"], "exclude")
	}
}

func (s *streamReader) paths(n *yaml.Node, what string) []string {
	var out []string
	if n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		s.fail(n, "%s is an empty list", what)
	}
	for _, c := range s.items(n, what) {
		text := s.text(c, what)
		p, err := record.ParsePath(text)
		if err != nil {
			s.fail(c, "%s is not a path: %v", what, err)
		} else if text != "" {
			out = append(out, p.String())
		}
	}
	slices.Sort(out) // the order says nothing, and must not change the rules' fingerprint
	return slices.Compact(out)
}

func (s *streamReader) conditions() {
	st := s.b.stream
	sc := s.in("a condition over records", "record", "partition", "config", "now")
	sc.slot = s.slot
	read := func(n *yaml.Node, name string, sc *scope) *condition {
		e := s.expression(n, name, sc, boolean)
		if e == nil {
			return nil
		}
		ofRecord := func(b binding) bool {
			return b.root == "record" || b.root == "partition" && s.base.parents[b.member] != nil
		}
		if !slices.ContainsFunc(e.bindings, ofRecord) {
			s.fail(n, "%s says the same of every record: it names nothing of `record`", name)
		}
		return newCondition(name, e)
	}
	st.filter, st.delete = read(s.f["filter"], "filter", sc), read(s.f["delete"], "delete", sc)
	if o := s.choice(s.f["on_leave"], "on_leave", streamTable.options("on_leave")...); o != "" {
		st.OnLeave = o
		if s.f["filter"] == nil {
			s.fail(s.f["on_leave"], "on_leave without `filter`: nothing can leave")
		}
	}
	if in := s.b.request.incremental; in != nil && in.kind == timestampCursor && !st.LogFeed {
		st.versionSlot, st.versionFormat = st.cursorSlot, in.record // P14: the default of a state feed
	}
	if s.f["version"] != nil {
		st.versionSlot, st.versionFormat = s.slotOf(s.f["version"], "version"), nil
		if st.versionSlot == st.cursorSlot && s.b.request.incremental != nil {
			st.versionFormat = s.b.request.incremental.record
		}
	}
	st.Versioned = st.versionSlot >= 0
}

func (s *streamReader) errorRules(n *yaml.Node) {
	if n == nil {
		return
	}
	if n.Kind != yaml.SequenceNode {
		s.fail(n, "errors must be a list, not %s", describe(n))
		return
	}
	for _, c := range n.Content {
		f := s.fields(c, "an error rule", errorTable)
		if f == nil {
			continue
		}
		rule := errorRule{hint: s.text(f["hint"], "hint"), when: s.signal(f["when"], "when", s.in("an answer", answerNames...))}
		for _, st := range s.items(f["status"], "status") {
			rule.status = append(rule.status, int(s.integer(st, "status", 100, 599)))
		}
		if f["status"] == nil && f["when"] == nil {
			s.fail(c, "an error rule needs `status`, `when` or both")
		}
		if f["do"] == nil {
			s.fail(c, "an error rule needs `do`: retry, park_record, skip_partition, restart_pass, expired or halt")
		}
		rule.do = errorAction(s.choice(f["do"], "do", errorTable.options("do")...))
		s.cursorFrom(&rule, f["cursor_from"])
		s.b.request.errors = append(s.b.request.errors, rule)
	}
}

// cursorFrom reads where an answer says that the next pass should begin (P17).
func (s *streamReader) cursorFrom(rule *errorRule, n *yaml.Node) {
	if n == nil {
		return
	}
	rule.from = s.signal(n, "cursor_from", s.in("an answer", answerNames...))
	if rule.do != doExpired && rule.do != doRestartPass {
		s.fail(n, "cursor_from says where the pass begins anew, so it stands beside `do: expired` or `do: restart_pass`")
	}
	if in := s.b.request.incremental; in == nil || in.kind == timestampCursor {
		s.fail(n, "cursor_from needs an opaque cursor or a sequence: a timestamp comes from records (P3)")
	}
}

func (s *streamReader) interval(n *yaml.Node) {
	s.b.request.Interval = Interval{fixed: defaultEvery, cron: s.timetable(s.f["schedule"], "schedule")}
	if n != nil && s.f["schedule"] != nil {
		s.fail(s.f["schedule"], "stream %s has both `schedule` and `interval` (`interval: null` removes one that `defaults` gives)", s.name.Value)
	}
	if n == nil {
		return
	}
	if n.Kind != yaml.SequenceNode {
		s.b.request.Interval.fixed = s.every(n, "interval")
		return
	}
	sc := s.in("interval", "partition", "config", "now")
	for i, c := range n.Content {
		f := s.fields(c, "an interval rule", intervalTable)
		if f == nil {
			continue
		}
		if f["every"] == nil {
			s.fail(c, "an interval rule needs `every`")
		}
		if last := i == len(n.Content)-1; last != (f["when"] == nil) {
			s.fail(c, "every interval rule but the last has a `when`, and the last has none: it holds when no other does")
		}
		rule := intervalRule{when: s.expression(f["when"], "when", sc, boolean), every: s.every(f["every"], "every")}
		s.b.request.Interval.rules = append(s.b.request.Interval.rules, rule)
	}
	if len(n.Content) == 0 {
		s.fail(n, "interval is an empty list")
	}
}

func (s *streamReader) every(n *yaml.Node, what string) time.Duration {
	d := s.positive(n, what, defaultEvery)
	if n != nil && d < 100*time.Millisecond {
		s.fail(n, "%s must be at least 100ms", what)
	}
	return d
}

func (s *streamReader) topic() {
	t := &s.b.stream.Topic
	if n := s.f["topic"]; n != nil {
		f := s.fields(n, "topic", topicTable)
		t.Name = s.text(f["name"], "topic.name")
		t.Partitions = int32(s.integer(f["partitions"], "topic.partitions", 1, 10_000))
		t.Cleanup = s.choice(f["cleanup"], "topic.cleanup", topicTable.options("cleanup")...)
		if t.Name != "" && !validTopic(t.Name) {
			s.fail(f["name"], "topic.name must be 1 to 249 of A-Z a-z 0-9 . _ -, not %q", t.Name)
		}
	}
	n := s.f["retention"]
	if n != nil && n.Value == "forever" {
		t.Retention = -1
	} else {
		t.Retention = s.positive(n, "retention", 0)
	}
}

func validTopic(name string) bool {
	return len(name) <= 249 && name != "." && name != ".." && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	})
}

// together checks what only several keys together can get wrong.
func (s *streamReader) together() {
	req := &s.b.request
	s.pages(req, s.f["paginator"])
	u, p, in := req.uses, &req.paginator, req.incremental
	for _, c := range []struct {
		wrong bool
		at    *yaml.Node
		what  string
	}{
		{u.cursorEnd && (in == nil || in.window == 0), s.name, "the request has {{ cursor_end }}, but `incremental` has no `window`: it would never be sent"},
		{in != nil && in.window > 0 && !u.cursorEnd, s.f["incremental"], "incremental has a window, but no {{ cursor_end }} in the request: each would list everything to the end"},
		{in != nil && in.window > 0 && (p.kind == keysetPaginator || p.stable || req.spooled()), s.f["incremental"],
			"incremental has a window, which keyset, stable tokens and newest-first logs have no use for: they go on where they were, or are held back whole"},
		{in == nil && (u.cursor || u.start), s.name, "the request has {{ cursor }} or {{ start }}, but the stream has no `incremental`: it would never be sent"},
	} {
		if c.wrong {
			s.fail(c.at, "stream %s: %s", s.name.Value, c.what)
		}
	}
	s.singles(req)
	if in != nil && p.kind != keysetPaginator && !u.cursor && s.f["incremental"].Kind == yaml.MappingNode {
		s.fail(s.f["incremental"], "stream %s: incremental, but no {{ cursor }} in the request: every pass would list everything", s.name.Value)
	}
	if req.logFeed() && (in == nil || in.kind != timestampCursor) {
		s.fail(cmp.Or(s.f["record_id"], s.name), "record_id needs a timestamp cursor: its ids are kept as far back as lookback (P13)")
	}
}

// pages checks that a request and its paginator, which stands at n, fit each other.
func (s *streamReader) pages(req *Request, n *yaml.Node) {
	req.list.each(func(t *template) {
		t.bindings(func(b binding) {
			if req.uses.add(b.root); b.root == "last" {
				req.lastOf = append(req.lastOf, b.member)
			}
		})
	})
	u, p := req.uses, &req.paginator
	p.tiePage = u.tiePage
	for _, c := range []struct {
		wrong bool
		at    *yaml.Node
		what  string
	}{
		{p.kind == tokenPaginator && p.next == nil && (!u.last || u.pageToken), n,
			"paginator token needs `next`: where the next page's token lies; without tokens the request goes on by {{ last }}, the last record of the page before"},
		{p.kind == tokenPaginator && p.next != nil && !u.pageToken, n, "paginator token, but no {{ page_token }} in the request: every page would be the first"},
		{p.kind == pagePaginator && !u.page, n, "paginator page, but no {{ page }} in the request: every page would be the first"},
		{p.kind == offsetPaginator && !u.offset, n, "paginator offset, but no {{ offset }} in the request: every page would be the first"},
		{p.kind != offsetPaginator && u.offset, s.name, "the request has {{ offset }}, but its paginator is not offset: it would never be sent"},
		{p.kind != tokenPaginator && u.pageToken, s.name, "the request has {{ page_token }}, but its paginator is not token: it would never be sent"},
		{p.kind != pagePaginator && u.page, s.name, "the request has {{ page }}, but its paginator is not page"},
		{p.kind != keysetPaginator && u.tiePage, s.name, "the request has {{ tie_page }}, but its paginator is not keyset: it would never be sent"},
		{p.kind != keysetPaginator && u.anchor, s.name, "the request has {{ anchor }}, but its paginator is not keyset: {{ cursor }} is the partition's cursor"},
	} {
		if c.wrong {
			s.fail(c.at, "stream %s: %s", s.name.Value, c.what)
		}
	}
	s.keyset(u, p, req.incremental, n)
}

// singles checks that a rule about requests for one record has some to be about.
func (s *streamReader) singles(req *Request) {
	one := slices.ContainsFunc(s.b.streams, func(st *Stream) bool { return st.HasLookup || st.hydrate != nil || st.Files != nil })
	if n := s.f["errors"]; !one && slices.ContainsFunc(req.errors, func(r errorRule) bool { return r.do == doParkRecord }) {
		s.fail(n, "do: park_record is about requests for one record, and stream %s has neither `hydrate`, `files` nor a lookup", s.name.Value)
	}
}

// keyset checks that every request can ask from the last record's cursor, inclusively (P6).
func (s *streamReader) keyset(u uses, p *paginator, in *incremental, n *yaml.Node) {
	if p.kind != keysetPaginator {
		return
	}
	switch {
	case in == nil || in.kind != timestampCursor:
		s.fail(n, "paginator keyset needs `incremental` with a cursor_field: the last record's is where the next page begins (P6)")
	case in.order != ascending:
		s.fail(n, "paginator keyset needs `order: asc`, and a request that asks for it (P6, P7)")
	case !in.inclusive:
		s.fail(n, "paginator keyset needs an inclusive filter: a page cut inside equal cursors would lose the rest of them (P6). "+
			"With an exclusive one let the server page: `link` or `token`, and {{ cursor }} in the request")
	case !u.anchor:
		s.fail(n, "paginator keyset, but no {{ anchor }} in the request: every page would be the first")
	}
}

func (u *uses) add(root string) {
	for name, to := range map[string]*bool{"cursor": &u.cursor, "cursor_end": &u.cursorEnd, "anchor": &u.anchor, "start": &u.start, "page_token": &u.pageToken,
		"offset": &u.offset, "page": &u.page, "tie_page": &u.tiePage, "last": &u.last, "now": &u.now} {
		if name == root {
			*to = true
		}
	}
}

var errNoValues = errors.New("no values")
