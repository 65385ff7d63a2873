package source

import (
	"fmt"
	"slices"
	"strings"
)

// Reference returns the page that has every key of definitions and of connections.yaml, every function and every verb of times, as
// Markdown, made of the parser's tables.
func Reference() []byte {
	var b strings.Builder
	b.WriteString("# Every key\n\nWritten by `make reference` from the parser's own tables, as is `connector sources json-schema`, with which editors complete and check.\n" +
		"[Source definitions](definitions.md) and [connections](connections.md) explain them. In a stream, and in a definition that\n" +
		"extends another one, a key with the value `null` is removed. Behind the\nkeys of definitions stand the [functions](#functions) of expressions and how [times](#times) are written.\n\n# Source definitions\n")
	p := page{out: &b, seen: map[*keyTable]bool{kindKeys: true}}
	p.table(definitionTable)
	p.functions()
	p.times()
	b.WriteString("\n# connections.yaml\n")
	p.table(connectionTable)
	return []byte(b.String())
}

// page writes tables, each once.
type page struct {
	out  *strings.Builder
	seen map[*keyTable]bool
}

func (p *page) table(t *keyTable) {
	if p.seen[t] {
		return
	}
	p.seen[t] = true
	fmt.Fprintf(p.out, "\n## %s\n\n%s", t.name, t.doc)
	keys := t.keys
	if t.like != nil {
		names := make([]string, 0, len(t.like.keys))
		for _, k := range t.like.keys {
			names = append(names, "`"+k.name+"`")
		}
		fmt.Fprintf(p.out, " It has %s of [%s](#%[2]s)", strings.Join(names, ", "), t.like.name)
		if keys = keys[len(t.like.keys):]; len(keys) > 0 {
			p.out.WriteString(", and:")
		} else {
			p.out.WriteString(".")
		}
	}
	if p.out.WriteString("\n\n"); len(keys) > 0 {
		p.out.WriteString("| key | value | default | meaning | rules |\n|---|---|---|---|---|\n")
	}
	for i := range keys {
		p.row(&keys[i])
	}
	if t.like != nil && t.like.doc != "" {
		p.table(t.like)
	}
	for _, k := range keys {
		for _, below := range k.is.tables() {
			p.table(below)
		}
	}
}

// functions writes what expressions may call.
func (p *page) functions() {
	p.out.WriteString("\n## Functions\n\nWhat templates, conditions and other expressions may call; there are no others. `value | f(x)` is `f(value, x)`.\n\n" +
		"| function | gives | example | is |\n|---|---|---|---|\n")
	for _, f := range language {
		fmt.Fprintf(p.out, "| `%s(%s)` | %s | `%s` | `%s` |\n", f.name, f.takes, cell(f.gives), cell(f.example), f.result)
	}
}

// times writes how a time may be written.
func (p *page) times() {
	p.out.WriteString("\n## Times\n\nA format is `rfc3339`, `date`, `unix`, `unix_ms`, `unix_us`, `unix_ns` (seconds since 1970, and thousandths of those), or a pattern: text\n" +
		"with these verbs. A cursor's pattern has `%Y`, `%m` and `%d`, or one of `%s` and `%Q`, which are a whole time: beside them stands no other verb but `%z`.\n\n" +
		"| verb | is | example |\n|---|---|---|\n")
	for _, v := range verbs {
		fmt.Fprintf(p.out, "| `%s` | %s | `%s` |\n", v.name, v.is, v.example)
	}
}

// cell is text as it may stand in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func (p *page) row(k *key) {
	absent := ""
	switch {
	case k.need("") || k.needs != nil && slices.Equal(k.needs, k.of):
		absent = "needed"
	case k.absent != "":
		absent = "`" + k.absent + "`"
	}
	fmt.Fprintf(p.out, "| `%s` | %s | %s | %s | %s |\n", k.name, k.is, absent, cell(k.said()), k.rule)
}

// slug is the table's name in a URL: as headings of Markdown have it.
func (t *keyTable) slug() string { return strings.ReplaceAll(t.name, " ", "-") }

// said is what is to be said of a key: the types that have it, and its meaning.
func (k *key) said() string {
	if k.of == nil {
		return k.doc
	}
	return "(" + strings.Join(k.of, ", ") + ") " + k.doc
}

// tables returns the tables that may stand under a key.
func (f form) tables() []*keyTable {
	if f.shape == tableShape {
		return []*keyTable{f.in}
	}
	var out []*keyTable
	for _, one := range f.of {
		out = append(out, one.tables()...)
	}
	return out
}

var shapeNames = map[formShape]string{
	anything: "anything", textShape: "text", templateShape: "template", exprShape: "expression", placeShape: "path", booleanShape: "`true`, `false`",
	integerShape: "whole number", numberShape: "number above 0", durationShape: "duration",
}

// String says what may stand under a key, for people.
func (f form) String() string {
	var all []string
	switch f.shape {
	case choiceShape:
		for _, o := range f.options {
			all = append(all, "`"+o+"`")
		}
		return strings.Join(all, ", ")
	case eitherShape:
		for _, one := range f.of {
			all = append(all, one.String())
		}
		return strings.Join(all, ", or ")
	case listShape:
		return "list of: " + f.of[0].String()
	case mapShape:
		return "map of names to: " + f.of[0].String()
	case tableShape:
		return fmt.Sprintf("[%s](#%s)", f.in.name, f.in.slug())
	}
	return shapeNames[f.shape]
}
