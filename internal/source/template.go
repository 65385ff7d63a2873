package source

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tidemark/internal/cdc"
)

// template is a compiled text with {{ expressions }} in it, or a value that was written as one.
type template struct {
	text    string // as written, for messages
	where   string // "query page", for messages
	literal any    // the value, when there are no parts with an expression
	parts   []part
}

// part is literal text, or an expression.
type part struct {
	text string
	expr *expression
}

// segment is a piece of a template's text before it is compiled.
type segment struct {
	text   string
	expr   bool
	offset int // runes before text
}

// cut finds the {{ expressions }} of text: }} ends one outside of quotes and inner braces.
func cut(text string) ([]segment, error) {
	var out []segment
	at := 0
	for {
		open := strings.Index(text[at:], "{{")
		if open < 0 {
			break
		}
		open += at
		if open > at {
			out = append(out, segment{text[at:open], false, utf8.RuneCountInString(text[:at])})
		}
		end := closing(text, open+2)
		if end < 0 {
			return nil, &misuse{utf8.RuneCountInString(text[:open]), "{{ without }}"}
		}
		out = append(out, segment{text[open+2 : end], true, utf8.RuneCountInString(text[:open+2])})
		at = end + 2
	}
	if rest := text[at:]; rest != "" {
		if i := strings.Index(rest, "}}"); i >= 0 {
			return nil, &misuse{utf8.RuneCountInString(text[:at+i]), "}} without {{"}
		}
		out = append(out, segment{rest, false, utf8.RuneCountInString(text[:at])})
	}
	return out, nil
}

func closing(text string, i int) int {
	depth, quote := 0, byte(0)
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == '\\' && quote != '`' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}' && i+1 < len(text) && text[i+1] == '}':
			return i
		}
	}
	return -1
}

// compileTemplate compiles text in a scope.
func compileTemplate(text string, sc *scope) (*template, error) {
	segments, err := cut(text)
	if err != nil {
		return nil, err
	}
	in := *sc
	in.template = true
	t := &template{text: text}
	for _, s := range segments {
		p := part{text: s.text}
		if s.expr {
			if p.expr, err = compile(s.text, &in, reflect.Invalid); err != nil {
				var m *misuse
				if errors.As(err, &m) {
					err = &misuse{s.offset + m.offset, m.message}
				}
				return nil, err
			}
			if p.expr.result == reflect.TypeOf(time.Duration(0)) {
				return nil, &misuse{s.offset, "a duration has no text: take it from a time, or use unix"}
			}
		}
		t.parts = append(t.parts, p)
	}
	if len(segments) == 0 || len(segments) == 1 && !segments[0].expr {
		t.literal, t.parts = text, nil
	}
	return t, nil
}

// canonical is the template's text for fingerprints: how its expressions are spelled does not matter.
func (t *template) canonical() string {
	if t.parts == nil {
		return fmt.Sprintf("%T %v", t.literal, t.literal)
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.text)
		} else {
			b.WriteString("{{" + p.expr.text + "}}")
		}
	}
	return b.String()
}

// bindings calls f for every name that the template takes from vars.
func (t *template) bindings(f func(binding)) {
	if t == nil {
		return
	}
	for _, p := range t.parts {
		if p.expr != nil {
			for _, b := range p.expr.bindings {
				f(b)
			}
		}
	}
}

// eval returns the value: of a template that is one {{ x }} alone the value with its type (string, int64, float64, bool,
// []any, map[string]any), else a string. ok is false when it is null, or when a part of a longer text is: its parameter is
// left out.
func (t *template) eval(v *vars) (value any, ok bool, err error) {
	if t.parts == nil {
		return t.literal, t.literal != nil, nil
	}
	if len(t.parts) == 1 {
		x, err := t.part(t.parts[0], v)
		return x, x != nil, err
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.text)
			continue
		}
		s, ok, err := t.written(p, v)
		if !ok || err != nil {
			return nil, false, err
		}
		b.WriteString(s)
	}
	return b.String(), true, nil
}

// part returns an expression's value. Times become texts: that is the only way they can be sent.
func (t *template) part(p part, v *vars) (any, error) {
	x, err := p.expr.eval(v)
	switch at := x.(type) {
	case time.Time:
		x, err = isoOf(at)
	case time.Duration:
		err = errors.New("a duration has no text")
	}
	if err != nil {
		return nil, t.fail(p.expr.discreet(err))
	}
	if p.expr.secret {
		v.confide(p.expr, x)
	}
	return x, nil
}

// written returns a part as text; ok is false where it is null.
func (t *template) written(p part, v *vars) (string, bool, error) {
	x, err := t.part(p, v)
	if x == nil || err != nil {
		return "", false, err
	}
	s, err := written(x)
	if err != nil {
		return "", false, t.fail(err)
	}
	return s, true, nil
}

func (t *template) fail(err error) error {
	hint := "Correct the template in the definition"
	var n *null
	if errors.As(err, &n) {
		hint = fmt.Sprintf("A listing without it could be of anything, so nothing was sent: give it a value, or say %s ?? VALUE", n.name)
	}
	return &cdc.Error{Op: "write request", Where: fmt.Sprintf("%s %q", t.where, t.text), Err: err, Hint: hint,
		Remedy: cdc.Halt, Scope: cdc.Stream}
}

// nothing is the error of a template that is null as a whole and may not be.
func (t *template) nothing() error {
	if len(t.parts) == 1 {
		return &null{t.parts[0].expr.text}
	}
	return errors.New("it is null, since a part of it is")
}

// written is the text of a single value.
func written(x any) (string, error) {
	switch x := normal(x).(type) {
	case string:
		return x, nil
	case int64:
		return strconv.FormatInt(x, 10), nil
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(x), nil
	case time.Time:
		return isoOf(x)
	default:
		return "", fmt.Errorf("%s has no text: pick from it, or use join or json", kindOf(x))
	}
}

// parameter is one name of query, headers or form.
type parameter struct {
	name  string
	value *template // nil: list
	list  []*template
}

// values returns the texts of a parameter: none when it is null, several for a list.
func (p *parameter) values(v *vars) ([]string, error) {
	if p.value == nil {
		var out []string
		for _, t := range p.list {
			one, err := (&parameter{name: p.name, value: t}).values(v)
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
		}
		return out, nil
	}
	x, ok, err := p.value.eval(v)
	if !ok || err != nil {
		return nil, err
	}
	list, ok := x.([]any)
	if !ok {
		s, err := written(x)
		if err != nil {
			return nil, p.value.fail(err)
		}
		return []string{s}, nil
	}
	if len(list) == 0 {
		return nil, p.value.fail(errors.New("the list is empty, and a parameter without values would be left out"))
	}
	out := make([]string, len(list))
	for i := range list {
		if out[i], err = written(list[i]); err != nil {
			return nil, p.value.fail(fmt.Errorf("element %d: %w", i, err))
		}
	}
	return out, nil
}

// call is one request as the definition writes it.
type call struct {
	method  string
	path    *template // after base_url; nil with url
	url     *template // absolute
	query   []parameter
	headers []parameter
	body    *body // nil: none
	form    []parameter
}

// mentions reports whether the call's templates take something of root.
func (c *call) mentions(root string) bool {
	found := false
	c.each(func(t *template) { t.bindings(func(b binding) { found = found || b.root == root }) })
	return found
}

// each visits the call's templates.
func (c *call) each(f func(*template)) {
	for _, list := range [][]parameter{c.query, c.headers, c.form} {
		for _, p := range list {
			if p.value != nil {
				f(p.value)
			}
			for _, t := range p.list {
				f(t)
			}
		}
	}
	for _, t := range []*template{c.path, c.url} {
		if t != nil {
			f(t)
		}
	}
	if c.body != nil {
		c.body.each(f)
	}
}

// compose writes the request. Its URL is absolute; the authenticator's part of it is fetch's to add. v.config is set to the
// source's settings.
func (c *call) compose(s *Source, v *vars) (method, target string, header http.Header, body []byte, err error) {
	v.config = s.config
	if c.url != nil {
		target, err = c.url.address(v, 1)
	} else if target, err = c.path.address(v, 0); err == nil {
		target = s.BaseURL + target
	}
	if err != nil {
		return "", "", nil, nil, err
	}
	query, err := encode(c.query, v, "%20")
	if err != nil {
		return "", "", nil, nil, err
	}
	if query != "" {
		target += "?" + query
	}
	header = http.Header{"Accept": {"application/json"}}
	for _, list := range [][]parameter{s.headers, c.headers} { // a stream's header replaces the source's
		for i := range list {
			if err := list[i].header(header, v); err != nil {
				return "", "", nil, nil, err
			}
		}
	}
	body, err = c.content(header, v)
	return c.method, target, header, body, err
}

func (p *parameter) header(h http.Header, v *vars) error {
	values, err := p.values(v)
	if err != nil || values == nil {
		return err
	}
	h.Del(p.name)
	for _, s := range values {
		if strings.ContainsAny(s, "\r\n\x00") {
			return p.value.fail(errors.New("a header cannot hold a line break"))
		}
		h.Add(p.name, s)
	}
	return nil
}

// content writes the body, and says in the header what it is where the definition does not.
func (c *call) content(h http.Header, v *vars) (out []byte, err error) {
	kind := ""
	switch {
	case c.form != nil:
		var s string
		s, err = encode(c.form, v, "+")
		out, kind = []byte(s), "application/x-www-form-urlencoded"
	case c.body != nil:
		out, kind, err = c.body.render(v)
	}
	if kind != "" && h.Get("Content-Type") == "" {
		h.Set("Content-Type", kind)
	}
	return out, err
}

// encode writes parameters in the order of the definition.
func encode(list []parameter, v *vars, blank string) (string, error) {
	var b strings.Builder
	for i := range list {
		values, err := list[i].values(v)
		if err != nil {
			return "", err
		}
		for _, s := range values {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			for j, text := range []string{list[i].name, s} {
				if j > 0 {
					b.WriteByte('=')
				}
				b.WriteString(strings.ReplaceAll(url.QueryEscape(text), "+", blank))
			}
		}
	}
	return b.String(), nil
}

// address writes a path or, with origin 1, an absolute URL, whose first part may be an expression that holds the origin (and
// a path after it, as it is).
// Literal text stands as it is; values are escaped, and may neither be empty nor climb: /people/{{ "" }} would be a listing,
// and /people/{{ ".." }} another one.
func (t *template) address(v *vars, origin int) (string, error) {
	if t.parts == nil {
		s, err := written(t.literal)
		return s, err
	}
	var b strings.Builder
	for i, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.text)
			continue
		}
		s, ok, err := t.written(p, v)
		if err != nil {
			return "", err
		}
		switch {
		case !ok:
			return "", t.fail(&null{p.expr.text})
		case i < origin:
			b.WriteString(strings.TrimRight(s, "/"))
		case s == "" || s == "." || s == "..":
			return "", t.fail(fmt.Errorf("%s is %q, which would lead to another place", p.expr.text, s))
		default:
			b.WriteString(url.PathEscape(s))
		}
	}
	return b.String(), nil
}

// body is a JSON body as a tree whose leaves are templates, or a text.
type body struct {
	fields []field // a map, in the definition's order
	list   []*body
	leaf   *template
	text   bool // the whole body is a text that is sent as it is
	kind   bodyKind
}

type bodyKind uint8

const (
	bodyLeaf bodyKind = iota
	bodyMap
	bodyList
)

type field struct {
	name  string
	value *body
}

func (b *body) each(f func(*template)) {
	if b.leaf != nil {
		f(b.leaf)
	}
	for _, c := range b.list {
		c.each(f)
	}
	for _, c := range b.fields {
		c.value.each(f)
	}
}

// render writes the body and says what it is: a text's kind is the definition's to declare.
func (b *body) render(v *vars) (out []byte, kind string, err error) {
	if b.text {
		x, ok, err := b.leaf.eval(v)
		if err != nil {
			return nil, "", err
		}
		if s, isText := x.(string); ok && isText {
			return []byte(s), "", nil
		}
	}
	out, ok, err := b.append(nil, v)
	switch {
	case err != nil || ok:
	case b.kind == bodyMap:
		out = []byte("{}") // of the whole something has to be sent
	default:
		err = b.leaf.fail(b.leaf.nothing())
	}
	return out, "application/json", err
}

// appendFields appends the members that are not null to a map that dst leaves open.
func appendFields(dst []byte, fields []field, v *vars) ([]byte, error) {
	for i := range fields {
		mark := len(dst)
		if dst[mark-1] != '{' {
			dst = append(dst, ',')
		}
		dst, _ = appendJSON(dst, fields[i].name) // a string always has a JSON form
		out, ok, err := fields[i].value.append(append(dst, ':'), v)
		if err != nil {
			return nil, err
		}
		if dst = out; !ok {
			dst = dst[:mark] // null leaves the field out
		}
	}
	return dst, nil
}

// append writes b as JSON; false where it is null, or a map all of whose members are, and then left out of its map or list.
func (b *body) append(dst []byte, v *vars) ([]byte, bool, error) {
	switch b.kind {
	case bodyMap:
		out, err := appendFields(append(dst, '{'), b.fields, v)
		if err != nil {
			return nil, false, err
		}
		return append(out, '}'), len(out) > len(dst)+1 || len(b.fields) == 0, nil
	case bodyList:
		dst = append(dst, '[')
		for i, first := 0, true; i < len(b.list); i++ {
			mark := len(dst)
			if !first {
				dst = append(dst, ',')
			}
			out, ok, err := b.list[i].append(dst, v)
			if err != nil {
				return nil, false, err
			}
			if dst = out; !ok {
				dst = dst[:mark]
			}
			first = first && !ok
		}
		return append(dst, ']'), true, nil
	default:
		x, ok, err := b.leaf.eval(v)
		if !ok || err != nil {
			return dst, false, err
		}
		out, err := appendJSON(dst, x)
		if err != nil {
			return nil, false, b.leaf.fail(err)
		}
		return out, true, nil
	}
}
