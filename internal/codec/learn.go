package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tidemark/internal/record"
)

// Learner finds a schema that fits the records which it was shown. Whatever they leave open stays out of the schema, and so goes
// to _extra, from where a later version can take it: a type is easily added, and never changed.
type Learner struct {
	root   shown
	names  map[string]bool
	extras []string
}

// Sure is how many samples make what all of them have in common a promise: below it, every field but those of the key may be null.
const Sure = 1000

// shown is what samples had in one place.
type shown struct {
	kinds   [record.Object + 1]int
	decimal bool // a number that is no long, or is not written as one
	times   int  // how often there was a value, null too
	names   []string
	members map[string]*shown
	items   *shown
}

// validName is a name as Avro has them; members with other names stay in _extra.
var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Add shows the published value of one record, whose text has been checked.
func (l *Learner) Add(value []byte) { l.root.add(value, record.All(value)) }

// Records returns the number of records that were shown.
func (l *Learner) Records() int { return l.root.times }

func (s *shown) add(buf []byte, at record.Span) {
	kind := record.KindAt(buf, at)
	if kind == record.True {
		kind = record.False
	}
	s.times++
	s.kinds[kind]++
	switch kind {
	case record.Number:
		_, long := parseLong(at.Of(buf))
		s.decimal = s.decimal || !long || bytes.ContainsAny(at.Of(buf), ".eE") // 10.0 may be 10.5 tomorrow
	case record.Array:
		if s.items == nil {
			s.items = &shown{}
		}
		for e := range record.Elements(buf, at) {
			s.items.add(buf, e)
		}
	case record.Object:
		for name, v := range record.Members(buf, at) {
			text, _ := record.Text(nil, buf, name)
			s.member(string(text)).add(buf, v)
		}
	}
}

func (s *shown) member(name string) *shown {
	m := s.members[name]
	if m == nil {
		if s.members == nil {
			s.members = map[string]*shown{}
		}
		m = &shown{}
		s.members[name], s.names = m, append(s.names, name)
	}
	return m
}

// kind is the one kind of value that was seen beside null; Absent where there was none, or several.
func (s *shown) kind() record.Kind {
	one := record.Absent
	for k, n := range s.kinds {
		if k := record.Kind(k); n > 0 && k != record.Null {
			if one != record.Absent {
				return record.Absent
			}
			one = k
		}
	}
	return one
}

// open reports whether an object's members are data and no fields: they differ from sample to sample.
func (s *shown) open() bool {
	there := 0
	for _, m := range s.members {
		there += m.times
	}
	return 2*there < len(s.names)*s.kinds[record.Object]
}

// recordType is written by hand: the order of members is for people.
type recordType struct {
	name, namespace, doc string
	fields               []string
}

// Schema returns the schema as text, and what stays in _extra and why, for people. key names the fields that are always there.
func (l *Learner) Schema(namespace, name, doc string, key []string) (schema []byte, extras []string, err error) {
	if l.root.kind() != record.Object || l.root.kinds[record.Null] > 0 || len(l.root.names) == 0 {
		return nil, nil, fmt.Errorf("a schema is for records that are objects, and of %d samples %d are", l.root.times, l.root.kinds[record.Object])
	}
	l.names, l.extras = map[string]bool{}, nil
	t := recordType{name: l.unique(camel(name)), namespace: namespace, doc: doc}
	l.fields(&t, &l.root, "", key)
	t.fields = append(t.fields, `{"name": "_extra", "type": ["null", {"type": "string", "tidemark": "json"}], "default": null, `+
		`"doc": "What the API sends beyond this schema, as the text of a JSON object."}`)
	text := t.head("\n  ") + "\n    " + strings.Join(t.fields, ",\n    ") + "\n  ]\n}\n"
	return []byte(text), l.extras, nil
}

func (t *recordType) head(gap string) string {
	out := "{" + gap + `"type": "record",` + gap + `"name": ` + quoted(t.name) + ","
	if t.namespace != "" {
		out += gap + `"namespace": ` + quoted(t.namespace) + ","
	}
	if t.doc != "" {
		out += gap + `"doc": ` + quoted(t.doc) + ","
	}
	return out + gap + `"fields": [`
}

func quoted(s string) string {
	out, _ := json.Marshal(s) // a string always has a JSON form
	return string(out)
}

// fields adds the fields of s to t; path is where it stands in the record.
func (l *Learner) fields(t *recordType, s *shown, path string, key []string) {
	for _, name := range s.names {
		m, at := s.members[name], path+name
		if at == extraField {
			continue // the field is ours, and takes what has its name, too
		}
		if !validName.MatchString(name) {
			l.leave(at, "Avro has no such name")
			continue
		}
		typ, why := l.typeOf(m, t.name+camel(name), at+".")
		if why != "" {
			l.leave(at, why)
			continue
		}
		sure := m.times == s.kinds[record.Object] && m.kinds[record.Null] == 0 && (m.times >= Sure || path == "" && slices.Contains(key, name))
		if sure {
			t.fields = append(t.fields, fmt.Sprintf(`{"name": %s, "type": %s}`, quoted(name), typ))
		} else {
			t.fields = append(t.fields, fmt.Sprintf(`{"name": %s, "type": ["null", %s], "default": null}`, quoted(name), typ))
		}
	}
}

func (l *Learner) leave(path, why string) { l.extras = append(l.extras, path+" ("+why+")") }

// typeOf returns the type of what was seen in a place, without null; or why it is left open.
func (l *Learner) typeOf(s *shown, name, path string) (typ, why string) {
	switch s.kind() {
	case record.False:
		return `"boolean"`, ""
	case record.String:
		return `"string"`, ""
	case record.Number:
		if s.decimal {
			return `"double"`, ""
		}
		return `"long"`, ""
	case record.Array:
		item, why := l.typeOf(s.items, name, path)
		if why != "" {
			return "", "a list: " + why
		}
		if s.items.kinds[record.Null] > 0 {
			item = `["null", ` + item + `]`
		}
		return `{"type": "array", "items": ` + item + `}`, ""
	case record.Object:
		switch {
		case len(s.names) == 0:
			return "", "an object that was empty"
		case s.open():
			return "", fmt.Sprintf("an object whose members differ: %d names in %d objects", len(s.names), s.kinds[record.Object])
		}
		before := len(l.extras)
		t := recordType{name: l.unique(name)}
		if l.fields(&t, s, path, nil); len(t.fields) == 0 {
			l.extras = l.extras[:before]
			return "", "an object without a member that could be a field"
		}
		return strings.ReplaceAll(t.head(" "), "{ ", "{") + strings.Join(t.fields, ", ") + "]}", ""
	}
	if s.times == s.kinds[record.Null] {
		return "", "only null was seen, or nothing"
	}
	return "", "several types were seen"
}

// unique returns name, with a number where there is such a type already.
func (l *Learner) unique(name string) string {
	out := name
	for i := 2; l.names[out]; i++ {
		out = fmt.Sprintf("%s%d", name, i)
	}
	l.names[out] = true
	return out
}

// camel writes a name as types are called: cadence_memberships is CadenceMemberships.
func camel(name string) string {
	var b strings.Builder
	up := true
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z' && up:
			b.WriteRune(c - 'a' + 'A')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && b.Len() > 0:
			b.WriteRune(c)
		default:
			up = true
			continue
		}
		up = false
	}
	if b.Len() == 0 {
		return "Record"
	}
	return b.String()
}
