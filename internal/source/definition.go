package source

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/types"
	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
)

//go:embed catalog/*.yaml
var catalog embed.FS

// Definition is a parsed and checked source definition. It does not change, and any number of connections may be bound to it.
type Definition struct {
	Name string // its `source:`
	File string // where it was read, for messages
	Doc  string

	config  []*setting
	base    *template
	headers []parameter
	auth    authentication
	rate    RateLimit
	streams []*blueprint
}

// setting is one entry of `config:`.
type setting struct {
	name     string
	kind     string // string, integer, number, boolean, list
	fallback any    // its default; nil: none
	secret   bool
	optional bool
	choices  []string // what `select` of the authenticator takes; nil: anything
	doc      string
	file     string
	line     int
}

func (s *setting) nullable() bool { return s != nil && s.optional && s.fallback == nil }

// checked is the setting's type for the check of expressions.
func (s *setting) checked() types.Type {
	if s == nil || s.nullable() {
		return types.Any
	}
	switch s.kind {
	case "integer":
		return types.Int64
	case "number":
		return types.Float64
	case "boolean":
		return types.Bool
	case "list":
		return types.TypeOf([]any{})
	default:
		return types.String
	}
}

// Setting describes one entry of a definition's config for people.
type Setting struct {
	Name, Type, Doc  string
	Default          any // nil: none
	Secret, Optional bool
	Choices          []string // the values that it may have; nil: any
}

// Settings returns what a connection has to configure, in the definition's order.
func (d *Definition) Settings() []Setting {
	out := make([]Setting, len(d.config))
	for i, s := range d.config {
		out[i] = Setting{s.name, s.kind, s.doc, s.fallback, s.secret, s.optional, s.choices}
	}
	return out
}

// StreamNames returns the names of the streams in the definition's order.
func (d *Definition) StreamNames() []string {
	var out []string
	for _, b := range d.streams {
		for _, st := range b.streams {
			out = append(out, st.Name)
		}
	}
	return out
}

// Parse reads and checks a definition. file is its name for messages. The error is a cdc.Error around Problems: all that is
// wrong, each with file, line and column.
func Parse(file string, data []byte) (*Definition, error) {
	r := &linter{file: file}
	d := &Definition{File: file}
	if root := r.document(data); root != nil {
		if root = r.extended(root); root != nil {
			r.definition(d, root)
		}
	}
	if len(r.problems) == 0 {
		return d, nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		if a.File != b.File { // what the author wrote comes before what it is laid upon
			return strings.Compare(elsewhere(a.File, file), elsewhere(b.File, file))
		}
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return nil, &cdc.Error{Op: "check definition", Where: file, Err: r.problems, Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: "Correct the definition; `connector sources check` checks it without a connection"}
}

// elsewhere orders files: one's own first.
func elsewhere(file, own string) string {
	if file == own {
		return ""
	}
	return file
}

// Open returns the definition of that name in the catalog, or reads a file: what has a slash or ends in .yaml or .yml.
func Open(nameOrFile string) (*Definition, error) {
	if strings.ContainsAny(nameOrFile, `/\`) || strings.HasSuffix(nameOrFile, ".yaml") || strings.HasSuffix(nameOrFile, ".yml") {
		data, err := os.ReadFile(nameOrFile)
		if err != nil {
			return nil, &cdc.Error{Op: "open definition", Where: nameOrFile, Err: err, Remedy: cdc.Halt, Scope: cdc.Connection,
				Hint: "Give the path of a definition, or a name of the catalog: " + strings.Join(Catalog(), ", ")}
		}
		return Parse(nameOrFile, data)
	}
	data, err := CatalogFile(nameOrFile)
	if err != nil {
		return nil, err
	}
	return Parse(nameOrFile+".yaml", data)
}

// Catalog returns the names of the shipped definitions, sorted.
func Catalog() []string {
	entries, err := catalog.ReadDir("catalog")
	if err != nil {
		panic(err) // it is part of the program
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(out)
	return out
}

// CatalogFile returns the text of a shipped definition.
func CatalogFile(name string) ([]byte, error) {
	data, err := catalog.ReadFile(path.Join("catalog", name+".yaml"))
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "open definition",
			"The catalog has "+strings.Join(Catalog(), ", ")+"; a definition of your own is named by its path, ./"+name+".yaml",
			"no definition is called %q%s", name, suggest(name, Catalog()))
	}
	return data, nil
}

var (
	validStream   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	validSetting  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	shippedSchema = regexp.MustCompile(`^[a-z0-9_-]+/[a-z0-9_-]+$`)
	validHeader   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

func (r *linter) definition(d *Definition, root *yaml.Node) {
	f := r.fields(root, "the definition", definitionTable)
	if f == nil {
		return
	}
	for _, k := range definitionTable.keys {
		if k.needs != nil && f[k.name] == nil {
			r.fail(root, "`%s` is missing", k.name)
		}
	}
	if d.Name = r.text(f["source"], "source"); f["source"] != nil && !cdc.ValidName(d.Name) {
		r.fail(f["source"], "source must be a name of 1 to 64 letters, digits, _ and -, not %q", d.Name)
	}
	d.Doc = r.text(f["doc"], "doc")
	r.settings(d, f["config"])
	sc := (&scope{config: d.config}).with("settings of the source", "config")
	if f["base_url"] != nil {
		d.base = r.origin(f["base_url"], "base_url", sc)
	}
	r.authenticator(d, f["authenticator"], sc)
	r.proof = d.auth.headers()
	d.headers = r.parameters(f["headers"], "headers", sc)
	r.rateLimit(d, f["rate_limit"])
	r.streams(d, f["defaults"], f["streams"])
}

func (r *linter) settings(d *Definition, n *yaml.Node) {
	r.each(n, "config", func(k, v *yaml.Node) {
		s := &setting{name: k.Value, kind: "string", file: r.fileOf(k), line: k.Line}
		if !validSetting.MatchString(s.name) {
			r.fail(k, "a setting's name is made of letters, digits and _, not %q", s.name)
			return
		}
		f := r.fields(v, "config."+s.name, settingTable)
		if kind := r.choice(f["type"], "type", settingTable.options("type")...); kind != "" {
			s.kind = kind
		}
		s.secret, s.optional = r.boolean(f["secret"], "secret", false), r.boolean(f["optional"], "optional", false)
		s.doc = r.text(f["doc"], "doc")
		if n := f["default"]; n != nil {
			fallback, err := s.convert(plainValue(n))
			if err != nil {
				r.fail(n, "the default of config.%s: %v", s.name, err)
			} else if s.secret {
				r.fail(n, "a secret has no default: what stands in a definition is no secret")
			}
			s.fallback = fallback
		}
		d.config = append(d.config, s)
	})
}

// plainValue returns a node's value as it was written.
func plainValue(n *yaml.Node) any {
	if n.Kind == yaml.SequenceNode {
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			out[i] = plainValue(c)
		}
		return out
	}
	if n.Kind == yaml.MappingNode {
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			out[n.Content[i].Value] = plainValue(n.Content[i+1])
		}
		return out
	}
	return literal(n)
}

// template compiles a scalar. A number or a truth value stays one.
func (r *linter) template(n *yaml.Node, where string, sc *scope) *template {
	if n == nil {
		return nil
	}
	t := &template{where: where}
	switch {
	case n.Kind != yaml.ScalarNode:
		r.fail(n, "%s must be a text, not %s", where, describe(n))
		return t
	case n.ShortTag() == "!!null":
		r.fail(n, "%s has no value: give it one, or leave it out", where)
		return t
	}
	text, isText := literal(n).(string)
	if !isText {
		t.literal, t.text = literal(n), n.Value
		return t
	}
	c, err := compileTemplate(text, sc)
	if err != nil {
		r.misused(n, where, err)
		return t
	}
	c.where = where
	return c
}

// origin compiles an absolute address. What of its beginning is written out is checked here, a setting when it is known.
func (r *linter) origin(n *yaml.Node, what string, sc *scope) *template {
	before := len(r.problems)
	t := r.template(n, what, sc)
	head, whole := t.text, t.parts == nil
	if len(r.problems) > before || !whole && t.parts[0].expr != nil {
		return t
	}
	if !whole {
		head = t.parts[0].text
	}
	scheme, rest, ok := strings.Cut(head, "://")
	host, _, slash := strings.Cut(rest, "/")
	if !ok || scheme != "https" && scheme != "http" || host == "" && (whole || slash) {
		r.fail(n, "%s must begin with https:// (or http://) and a host, unlike %q", what, n.Value)
	}
	return t
}

// misused reports an error inside of a scalar where it stands, as far as YAML lets us know that.
func (r *linter) misused(n *yaml.Node, where string, err error) {
	line, column := n.Line, n.Column
	var m *misuse
	if errors.As(err, &m) && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && !strings.Contains(n.Value, "\n") {
		column += m.offset
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			column++
		}
	}
	r.report(Problem{r.fileOf(n), line, column, where + ": " + err.Error()})
}

// parameters reads a map of templates or of lists of them, in its order.
func (r *linter) parameters(n *yaml.Node, what string, sc *scope) []parameter {
	var out []parameter
	r.each(n, what, func(k, v *yaml.Node) {
		where := strings.TrimSuffix(what, "s") + " " + k.Value
		p := parameter{name: k.Value}
		if strings.Contains(k.Value, "{{") {
			r.fail(k, "a parameter's name is no template")
		}
		if what == "headers" {
			r.header(k)
		}
		if v.Kind == yaml.SequenceNode {
			if len(v.Content) == 0 {
				r.fail(v, "%s has an empty list", where)
			}
			for _, c := range v.Content {
				p.list = append(p.list, r.template(c, where, sc))
			}
		} else {
			p.value = r.template(v, where, sc)
		}
		out = append(out, p)
	})
	return out
}

func (r *linter) rateLimit(d *Definition, n *yaml.Node) {
	if n == nil {
		return
	}
	f := r.fields(n, "rate_limit", rateTable)
	d.rate = RateLimit{
		Budget:          r.number(f["budget"], "budget"),
		Per:             r.positive(f["per"], "per", time.Minute),
		MaxConcurrent:   int(r.integer(f["max_concurrent"], "max_concurrent", 1, 1000)),
		RemainingHeader: r.text(f["remaining_header"], "remaining_header"),
		ResetHeader:     r.text(f["reset_header"], "reset_header"),
	}
	if f["per"] != nil && f["budget"] == nil {
		r.fail(f["per"], "`per` needs `budget`: how much may be spent in it")
	}
	sc := (&scope{config: d.config}).with("cost", "cursor", "anchor", "start", "page_token", "offset", "page", "tie_page", "config", "now")
	d.rate.cost = r.expression(f["cost"], "cost", sc, numeric)
}

// location says where the setting was declared.
func (s *setting) location() string { return fmt.Sprintf("%s:%d", s.file, s.line) }
