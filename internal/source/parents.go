package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// parentage is a dimension whose values are records of a parent stream (P21), before a connection's settings are filled in.
type parentage struct {
	name, stream string
	changed      bool
	by, extra    []string // paths as declared; nil: the default
	node         *yaml.Node
	uses, keys   []string // what the child's expressions take of partition.NAME and of key.NAME

	kept []parentField // by first, in its order; known once every stream was read
	n    int           // how many of them are by
}

// parentField is a field of the parent's record that its children keep.
type parentField struct {
	text  string // the path, canonical
	path  record.Path
	names []string
}

// Lineage is the dimension of a child request whose values are the records of a parent stream of the same connection, and
// ids from the configuration (P21).
type Lineage struct {
	Child *Request
	// Parent is the parent stream; nil where the connection did not choose it: then the configuration names all that there is.
	Parent *Stream
	// Changed says that a child is read when its parent was sighted as changed, and not by its interval (when: changed).
	Changed bool

	name   string
	stream string        // the parent's name
	fields []parentField // by first, in its order
	by     int           // how many of them are the partition's value in key and cursor name (P24)
	given  []choice      // from the configuration
}

// choice is one value of one dimension.
type choice struct {
	value  any    // string, int64, bool; of a lineage the parent's record, a map
	text   string // in the partition's name
	parent map[string]json.RawMessage
}

// ErrParentGone is the cause where upstream has nothing under a parent: its children's records are withheld, not deleted (P21).
var ErrParentGone = errors.New("upstream has nothing under this parent")

// parent reads {stream, or, when, by, fields}.
func (s *streamReader) parent(sp *spread, v *yaml.Node, sc *scope) {
	what := "partition " + sp.name
	f := s.fields(v, what, parentTable)
	p := &parentage{name: sp.name, node: v, stream: s.text(f["stream"], what+" stream")}
	if sp.parent = p; f["stream"] == nil {
		s.fail(v, "%s has no `stream`: whose records its values are", what)
	}
	p.changed = s.choice(f["when"], what+" when", parentTable.options("when")...) == "changed"
	p.by, p.extra = s.parentFields(f["by"], what+" by"), s.parentFields(f["fields"], what+" fields")
	if len(s.base.parents) > 0 {
		s.fail(v, "stream %s has two parents: several parents of one stream are not supported yet, this version has one beside lists", s.name.Value)
	}
	if s.base.parents == nil {
		s.base.parents = map[string]*parentage{}
	}
	s.base.parents[sp.name] = p
	if or := f["or"]; or != nil {
		s.values(sp, or, what+" or", sc)
	}
}

func (s *streamReader) parentFields(n *yaml.Node, what string) []string {
	var out []string
	if n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		s.fail(n, "%s is an empty list", what)
	}
	for _, c := range s.items(n, what) {
		p := s.place(c, what)
		if p == nil {
			continue
		}
		if _, ok := pathNames(c.Value); !ok {
			s.fail(c, "%s must be named by names alone, unlike %s", what, c.Value)
		} else if slices.Contains(out, p.String()) {
			s.fail(c, "%s has %s twice", what, c.Value)
		} else {
			out = append(out, p.String())
		}
	}
	return out
}

// use notes which field of the parent an expression takes: the names after partition.NAME, up to the first that is not written
// out. It is false where there is none.
func (p *parentage) use(steps []ast.Node, key bool) bool {
	n := 0
	for n < len(steps) {
		if _, ok := steps[n].(*ast.StringNode); !ok {
			break
		}
		n++
	}
	text, _ := constant(steps[:n])
	path, err := record.ParsePath(text)
	if n == 0 || err != nil {
		return false
	}
	list := &p.uses
	if key {
		list = &p.keys
	}
	if !slices.Contains(*list, path.String()) {
		*list = append(*list, path.String())
	}
	return true
}

// parents resolves, once every stream was read, whose records a stream's partitions are and which of their fields are kept.
func (r *linter) parents(d *Definition) {
	for _, b := range d.streams {
		for i := range b.partitions {
			if p := b.partitions[i].parent; p != nil && p.stream != "" && r.related(d, b, p) {
				r.kept(d, p)
			}
		}
	}
}

// stream returns the stream of that name with the blueprint of its request; nil where there is none.
func (d *Definition) stream(name string) (*blueprint, *Stream) {
	for _, b := range d.streams {
		for _, st := range b.streams {
			if st.Name == name {
				return b, st
			}
		}
	}
	return nil, nil
}

// parent is the name of the stream's parent, "" where it has none.
func (b *blueprint) parent() string {
	for _, sp := range b.partitions {
		if sp.parent != nil {
			return sp.parent.stream
		}
	}
	return ""
}

// Ancestors returns the streams whose records the partitions of a stream, or of a request, are, the nearest first (P21).
func (d *Definition) Ancestors(stream string) []string {
	var out []string
	b, _ := d.stream(stream)
	for _, other := range d.streams {
		if other.request.Name == stream { // a request stands for all of its streams
			b = other
		}
	}
	for ; b != nil && b.parent() != ""; b, _ = d.stream(b.parent()) {
		out = append(out, b.parent())
	}
	return out
}

// related reports whether p's stream may be the parent of b: it is there, and b is not among its own ancestors.
func (r *linter) related(d *Definition, b *blueprint, p *parentage) bool {
	child := b.request.Name
	at, _ := d.stream(p.stream)
	if at == b {
		r.fail(p.node, "partition %s: stream %s cannot be its own parent", p.name, p.stream)
		return false
	}
	if at == nil {
		r.fail(p.node, "partition %s: no stream is called %q%s", p.name, p.stream, suggest(p.stream, d.StreamNames()))
		return false
	}
	line := []string{child}
	for ; at != nil && len(line) <= len(d.streams); at, _ = d.stream(at.parent()) {
		if line = append(line, at.request.Name); at == b {
			r.fail(p.node, "partition %s: a stream is among its own ancestors: %s", p.name, strings.Join(line, ", whose parent is "))
			return false
		}
	}
	return true
}

// kept decides which fields of the parent's record a child keeps: those that are its value in key and cursor name, and those
// that its templates, rules and conditions use.
func (r *linter) kept(d *Definition, p *parentage) {
	_, st := d.stream(p.stream)
	by := p.by
	if by == nil {
		for _, k := range st.primaryKey {
			by = append(by, k.String())
		}
	}
	if len(by) == 0 {
		r.fail(p.node, "partition %s needs `by`: stream %s has no primary_key that could be the partition's value", p.name, p.stream)
		return
	}
	for _, u := range p.keys {
		if !slices.Contains(by, u) {
			r.fail(p.node, "partition %s: key.%s.%s: of a lost record's parent only %s is known", p.name, p.name, u, strings.Join(by, ", "))
		}
	}
	extra := p.uses
	if p.extra != nil {
		extra = p.extra
		for _, u := range p.uses {
			if !covered(u, slices.Concat(by, extra)) {
				r.fail(p.node, "partition %s: the stream uses partition.%s.%s, and `fields` does not have it", p.name, p.name, u)
			}
		}
	}
	p.n = len(by)
	all := slices.Concat(by, slices.Sorted(slices.Values(extra)))
	for i, text := range all {
		if i >= p.n && covered(text, slices.Concat(all[:i], all[i+1:])) {
			continue // it comes with another one
		}
		path, _ := record.ParsePath(text) // it was one before
		names, _ := pathNames(text)
		p.kept = append(p.kept, parentField{text, path, names})
	}
}

// covered reports whether the field is one of list, or lies inside one.
func covered(field string, list []string) bool {
	return slices.ContainsFunc(list, func(outer string) bool {
		return field == outer || strings.HasPrefix(field, outer+".") || strings.HasPrefix(field, outer+"[")
	})
}

// lineages finds the parents of the bound streams.
func (b *binder) lineages() {
	for _, req := range b.source.Requests {
		l := req.Lineage()
		if l == nil {
			continue
		}
		for _, st := range b.source.Streams {
			if st.Name == l.stream {
				l.Parent, st.Children = st, append(st.Children, l)
			}
		}
		if l.Parent == nil && len(l.given) == 0 {
			b.fail("stream %s: its partitions are the records of stream %s, which is not chosen, and the configuration names none", req.Name, l.stream)
		}
	}
}

// give takes an element of `or`: the value of a single field, or a map of fields.
func (l *Lineage) give(x any) error {
	fields := map[string]json.RawMessage{}
	record, isMap := x.(map[string]any)
	if !isMap {
		if l.by > 1 {
			return fmt.Errorf("%s stands for one field, and the partition's value has %d: write a map with %s", shown(x), l.by, l.value())
		}
		record = map[string]any{}
		nested(record, l.fields[0].names, x)
	}
	for i, f := range l.fields {
		at := f.of(record)
		if at == nil && i < l.by {
			return fmt.Errorf("an element of the list has no %s", f.text)
		}
		if at == nil {
			continue
		}
		text, err := appendJSON(nil, at)
		if err != nil {
			return err
		}
		fields[l.stored(f)] = text
	}
	c, err := l.choice(fields)
	if err == nil {
		l.given = append(l.given, c)
	}
	return err
}

// of returns the field's value in a parent's record, nil where it has none.
func (f parentField) of(x any) any {
	for _, name := range f.names {
		x, _, _ = access(x, name)
	}
	return x
}

// value names the fields that are the partition's value.
func (l *Lineage) value() string {
	names := make([]string, l.by)
	for i := range names {
		names[i] = l.fields[i].text
	}
	return strings.Join(names, ", ")
}

// stored is the name of a field in a checkpoint: event.startTime.
func (l *Lineage) stored(f parentField) string { return l.name + "." + f.text }

// Name returns the dimension's name; in a checkpoint's Parent the caller may keep what it needs of the parents under it.
func (l *Lineage) Name() string { return l.name }

// Fields returns the names of the fields that a child keeps, as they stand in a checkpoint.
func (l *Lineage) Fields() []string {
	out := make([]string, len(l.fields))
	for i, f := range l.fields {
		out[i] = l.stored(f)
	}
	slices.Sort(out)
	return out
}

// Sight takes from a parent's record what its children keep (P21): canonical JSON by the names of Fields; what is not there is
// left out. It is nil where one of the fields that are the partition's value is absent or null: the record has no children. One
// that cannot be such a value parks the record.
func (l *Lineage) Sight(rec *Record, body []byte) (map[string]json.RawMessage, error) {
	readable := rec.Err == nil || record.Valid(rec.Raw.Of(body), l.Child.source.limits.Record) == nil
	if !readable {
		return nil, nil // it is parked, and says nothing of its children
	}
	fields := map[string]json.RawMessage{}
	for i, f := range l.fields {
		span, ok := f.path.Find(body, rec.Raw)
		if i < l.by && (!ok || record.KindAt(body, span) == record.Null) {
			return nil, nil
		}
		if ok {
			fields[l.stored(f)] = record.AppendCanonical(nil, body, span, record.Rules{})
		}
	}
	if _, err := l.choice(fields); err != nil {
		return nil, cdc.Errorf(cdc.Park, cdc.Record, "find children", "Correct the record upstream, or name another field under `by`",
			"stream %s: %w", l.Child.Name, err)
	}
	return fields, nil
}

// Named returns what is known of a parent by a partition's text alone; nil where its value has several fields.
func (l *Lineage) Named(text string) map[string]json.RawMessage {
	raw, err := appendJSON(nil, text)
	if l.by != 1 || err != nil {
		return nil
	}
	return map[string]json.RawMessage{l.stored(l.fields[0]): raw}
}

// choice rebuilds a value of the dimension from what is kept of a parent.
func (l *Lineage) choice(fields map[string]json.RawMessage) (choice, error) {
	c := choice{parent: fields}
	tree := map[string]any{}
	for i, f := range l.fields {
		raw, ok := fields[l.stored(f)]
		if !ok && i < l.by {
			return c, fmt.Errorf("%s is not there", f.text)
		}
		if !ok {
			continue
		}
		x, err := record.Value(raw, record.All(raw))
		if err != nil {
			return c, err
		}
		x = normal(x)
		if i < l.by && !names(x) {
			return c, fmt.Errorf("%s is %s, and a partition is named by texts and whole numbers", f.text, shown(x))
		}
		nested(tree, f.names, x)
	}
	c.value = tree
	c.text = l.text(tree)
	return c, nil
}

// names reports whether x can be a partition's value.
func names(x any) bool {
	switch x := x.(type) {
	case string:
		return x != ""
	case int64, bool:
		return true
	}
	return false
}

// parts returns the values of the fields that are the partition's value, in their order.
func (l *Lineage) parts(value any) []any {
	out := make([]any, l.by)
	for i := range out {
		out[i] = l.fields[i].of(value)
	}
	return out
}

// text is the value in the partition's name: of one field as it is, of several as a JSON list.
func (l *Lineage) text(value any) string {
	parts := l.parts(value)
	if len(parts) == 1 {
		return fmt.Sprint(parts[0])
	}
	out := []byte{'['}
	for i, p := range parts {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendPart(out, p)
	}
	return string(append(out, ']'))
}

// appendPart appends a partition's value as it stands in keys (K4).
func appendPart(dst []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendString(dst, v)
	default:
		return appendString(dst, fmt.Sprint(v))
	}
}

// Keep returns fields with the partition's value as old has it: 7 and "7" name one partition, and a key's bytes never change.
func (l *Lineage) Keep(fields, old map[string]json.RawMessage) map[string]json.RawMessage {
	out := maps.Clone(fields)
	for _, f := range l.fields[:l.by] {
		if v, ok := old[l.stored(f)]; ok {
			out[l.stored(f)] = v
		}
	}
	return out
}

// Partitions returns the partitions that a parent gives: one for each combination of the request's lists.
func (l *Lineage) Partitions(fields map[string]json.RawMessage) ([]Partition, error) {
	c, err := l.choice(fields)
	if err != nil {
		return nil, err
	}
	return l.Child.product(func(d *dimension) []choice {
		if d.lineage == l {
			return []choice{c}
		}
		return d.choices()
	}), nil
}

// Revive returns the partition of that name, from what its checkpoint keeps of its parent. It is false where the definition or
// the configuration does not have it any more (P24: it is retired).
func (r *Request) Revive(name string, parent map[string]json.RawMessage) (Partition, bool) {
	texts := map[string]string{}
	for pair := range strings.SplitSeq(name, ",") {
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		text, err2 := url.QueryUnescape(v)
		if err != nil || err2 != nil {
			return Partition{}, false
		}
		texts[key] = text
	}
	if len(texts) != len(r.partitions) {
		return Partition{}, false
	}
	all := r.product(func(d *dimension) []choice {
		if d.lineage != nil {
			if c, err := d.lineage.choice(parent); err == nil && c.text == texts[d.name] {
				return []choice{c}
			}
			return nil
		}
		return slices.DeleteFunc(d.choices(), func(c choice) bool { return c.text != texts[d.name] })
	})
	if len(all) != 1 {
		return Partition{}, false
	}
	return all[0], true
}

// Lineage returns the request's dimension over a parent stream; nil where it has none.
func (r *Request) Lineage() *Lineage {
	for _, d := range r.partitions {
		if d.lineage != nil {
			return d.lineage
		}
	}
	return nil
}

// choices are the values that the definition and the configuration give.
func (d *dimension) choices() []choice {
	if d.lineage != nil {
		return d.lineage.given
	}
	out := make([]choice, len(d.values))
	for i, v := range d.values {
		out[i] = choice{value: v, text: fmt.Sprint(v)} // strings, integers and truth values only
	}
	return out
}

// parts returns what a value of the dimension is in a key, in order.
func (d *dimension) parts(value any) []any {
	if d.lineage == nil {
		return []any{value}
	}
	return d.lineage.parts(value)
}

// width is the number of a key's fields that the dimension fills.
func (d *dimension) width() int {
	if d.lineage == nil {
		return 1
	}
	return d.lineage.by
}

// take rebuilds a value of the dimension from the fields of a key.
func (d *dimension) take(parts []any) any {
	if d.lineage == nil {
		return parts[0]
	}
	tree := map[string]any{}
	for i, p := range parts {
		nested(tree, d.lineage.fields[i].names, p)
	}
	return tree
}

// identity is the dimension in the fingerprint of the key (P23): whose fields a parent's value is made of counts.
func (d *dimension) identity() string {
	if d.lineage == nil {
		return d.name
	}
	return d.name + "{" + d.lineage.value() + "}"
}

// product returns the partitions of every combination of the dimensions' values, in a fixed order.
func (r *Request) product(of func(*dimension) []choice) []Partition {
	type combination struct {
		values map[string]any
		texts  map[string]string
		parent map[string]json.RawMessage
	}
	all := []combination{{map[string]any{}, map[string]string{}, nil}}
	for i := range r.partitions {
		d := &r.partitions[i]
		var next []combination
		for _, c := range all {
			for _, v := range of(d) {
				with := combination{maps.Clone(c.values), maps.Clone(c.texts), c.parent}
				with.values[d.name], with.texts[d.name] = v.value, v.text
				if v.parent != nil {
					with.parent = v.parent
				}
				next = append(next, with)
			}
		}
		all = next
	}
	out := make([]Partition, len(all))
	for i, c := range all {
		out[i] = Partition{Name: cdc.PartitionName(c.texts), Values: c.values, Parent: c.parent}
	}
	return out
}

// Know tells the request of a partition that appeared or whose parent changed: lookups see the parent's record by it. Forget
// takes it back.
func (r *Request) Know(p Partition) {
	if r.known == nil {
		r.known = map[string]map[string]any{}
	}
	r.known[p.Name] = p.Values
}

// Forget is the end of what Know began.
func (r *Request) Forget(name string) { delete(r.known, name) }

// whole returns what is known of the partition that a key names: of a parent's record more than the key holds.
func (r *Request) whole(values map[string]any) map[string]any {
	if r.Lineage() == nil || len(values) == 0 {
		return values
	}
	if known := r.known[r.partitionNameOf(values)]; known != nil {
		return known
	}
	return values
}

// partitionNameOf returns the name of the partition with these values.
func (r *Request) partitionNameOf(values map[string]any) string {
	texts := map[string]string{}
	for _, d := range r.partitions {
		if texts[d.name] = fmt.Sprint(values[d.name]); d.lineage != nil {
			texts[d.name] = d.lineage.text(values[d.name])
		}
	}
	return cdc.PartitionName(texts)
}

// orphaned reports whether the answer says that there is nothing under a parent (P21). 410 is for cursors first (P17), and for
// parents where none was sent.
func (r *Request) orphaned(resp *fetch.Response, v *vars) bool {
	return r.Lineage() != nil && (resp.Status == http.StatusNotFound || resp.Status == http.StatusGone && v.cursor == nil && v.anchor == nil)
}

// ofPartition confines an error to the partition where a parent's record is its cause: a field that is null, or one that would
// lead to another place. The others go on (P21).
func (r *Request) ofPartition(err error) error {
	var e *cdc.Error
	if r.Lineage() == nil || !errors.As(err, &e) || e.Remedy != cdc.Halt || e.Scope != cdc.Stream {
		return err
	}
	confined := *e
	confined.Scope = cdc.Partition
	return &confined
}
