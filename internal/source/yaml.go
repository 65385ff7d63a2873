package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/record"
)

// Limits of a definition (10): its bytes, and how deep its maps and lists may lie in each other.
const (
	maxDefinition = 1 << 20
	maxNesting    = 32
)

// Problem is one thing wrong with a definition.
type Problem struct {
	File         string
	Line, Column int // from 1
	Message      string
}

// Error implements error: "file:line:col: message".
func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Problems are all that is wrong with a definition, in the order of the file.
type Problems []Problem

// Error implements error, a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// linter reads YAML nodes strictly and keeps every problem it meets, so that an author sees all of them at once.
type linter struct {
	file     string
	files    map[*yaml.Node]string // nodes that stand in another file: that of the definition which this one extends
	problems Problems
	proof    []string // headers that the authenticator writes, once it was read
}

// fileOf returns where a node stands.
func (r *linter) fileOf(n *yaml.Node) string {
	if file, ok := r.files[n]; ok {
		return file
	}
	return r.file
}

func (r *linter) fail(n *yaml.Node, format string, args ...any) {
	r.report(Problem{r.fileOf(n), n.Line, n.Column, fmt.Sprintf(format, args...)})
}

// failAt is fail for what is wrong before there are nodes.
func (r *linter) failAt(line int, message string) { r.report(Problem{r.file, line, 1, message}) }

func (r *linter) report(p Problem) {
	p.Line, p.Column = max(p.Line, 1), max(p.Column, 1)
	// A mistake in `defaults` is met once for every stream, and is still one mistake.
	if !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// document returns the only document of data; nil where it cannot be read, which is then among the problems.
func (r *linter) document(data []byte) *yaml.Node {
	if len(data) > maxDefinition {
		r.failAt(1, fmt.Sprintf("the file has %d bytes, more than %d: a definition never needs so many", len(data), maxDefinition))
		return nil
	}
	if !utf8.Valid(data) {
		r.failAt(1, "the file is not UTF-8")
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		r.failAt(1, "the file is empty: a definition begins with `source: NAME`")
		return nil
	} else if err != nil {
		r.syntax(err)
		return nil
	}
	switch err := d.Decode(&more); {
	case err == nil:
		r.fail(&more, "a second document: a file holds one definition")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	root := doc.Content[0]
	if !r.sound(root, 0) {
		return nil
	}
	return root
}

func (r *linter) syntax(err error) {
	line, what := 1, err.Error()
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		line, _ = strconv.Atoi(m[1]) // no number is line 0, and failAt makes that 1
		what = m[2]
	}
	r.failAt(line, "not YAML: "+what)
}

// sound checks what holds for every node: no duplicate keys, no aliases (a few bytes could mean gigabytes), plain keys,
// numbers that every reader of YAML understands alike.
func (r *linter) sound(n *yaml.Node, depth int) bool {
	before := len(r.problems)
	switch {
	case depth > maxNesting:
		r.fail(n, "maps and lists lie more than %d deep in each other", maxNesting)
		return false
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fail(n, "anchors and aliases (& and *) are not part of the language: what streams share goes to `defaults`")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n, "tags (%s) are not part of the language", n.Tag)
		return false
	}
	if n.Kind == yaml.MappingNode {
		r.keysSound(n)
	}
	if n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float") && !decimal.MatchString(n.Value) {
		r.fail(n, "%s is a number in a spelling that readers understand differently: write it in decimal, or in quotes", n.Value)
	}
	for _, c := range n.Content {
		r.sound(c, depth+1)
	}
	return len(r.problems) == before
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (r *linter) keysSound(n *yaml.Node) {
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch first := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			r.fail(k, "a key must be a plain text")
		case k.ShortTag() == "!!merge":
			r.fail(k, "merge keys (<<) are not part of the language: what streams share goes to `defaults`")
		case first != nil:
			r.fail(k, "%q stands here twice, first in line %d", k.Value, first.Line)
		default:
			seen[k.Value] = k
		}
	}
}

// fields returns the children of a map by key. Keys that are not known are problems: what is written must never be ignored.
func (r *linter) fields(n *yaml.Node, what string, t *keyTable) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a map, not %s", what, describe(n))
		return nil
	}
	out := map[string]*yaml.Node{}
	known := t.names()
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case slices.Contains(known, k.Value):
			out[k.Value] = v
		default:
			r.fail(k, "unknown key %q in %s%s", k.Value, what, suggest(k.Value, known))
		}
	}
	return out
}

// foreign reports the keys that belong to another type of the map than kind.
func (r *linter) foreign(f map[string]*yaml.Node, what string, t *keyTable, kind string) {
	for _, k := range t.keys {
		if n := f[k.name]; n != nil && !k.has(kind) {
			r.fail(n, "%s %s has no `%s`", what, kind, k.name)
		}
	}
}

// each visits the children of a free map in their order.
func (r *linter) each(n *yaml.Node, what string, f func(k, v *yaml.Node)) {
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a map, not %s", what, describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f(n.Content[i], n.Content[i+1])
	}
}

// text returns a text; a number or a truth value is none.
func (r *linter) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" && n.ShortTag() != "!!timestamp" {
		r.fail(n, "%s must be a text, not %s", what, describe(n))
		return ""
	}
	return n.Value
}

// choice returns one of options.
func (r *linter) choice(n *yaml.Node, what string, options ...string) string {
	s := r.text(n, what)
	if s == "" || slices.Contains(options, s) {
		return s
	}
	r.fail(n, "%s cannot be %q%s: it is one of %s", what, s, suggest(s, options), strings.Join(options, ", "))
	return ""
}

func (r *linter) boolean(n *yaml.Node, what string, absent bool) bool {
	if n == nil {
		return absent
	}
	if n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
		r.fail(n, "%s must be true or false, not %s", what, describe(n))
		return absent
	}
	return n.Value == "true"
}

func (r *linter) integer(n *yaml.Node, what string, low, high int64) int64 {
	if n == nil {
		return 0
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if n.ShortTag() != "!!int" || err != nil {
		r.fail(n, "%s must be a whole number, not %s", what, describe(n))
		return 0
	}
	if i < low || i > high {
		r.fail(n, "%s must lie between %d and %d, not be %d", what, low, high, i)
		return 0
	}
	return i
}

func (r *linter) number(n *yaml.Node, what string) float64 {
	if n == nil {
		return 0
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || err != nil || f <= 0 {
		r.fail(n, "%s must be a number above 0, not %s", what, describe(n))
		return 0
	}
	return f
}

// duration returns a time span: 30s, 5m, 24h, 7d, 1us. absent is for a key that is not there.
func (r *linter) duration(n *yaml.Node, what string, absent time.Duration) time.Duration {
	if n == nil {
		return absent
	}
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "%s must be a duration such as 30s, not %s", what, describe(n))
		return absent
	}
	d, err := parseDuration(n.Value)
	if err != nil {
		r.fail(n, "%s must be a duration such as 30s, 5m, 24h or 7d: %v", what, err)
		return absent
	}
	return d
}

// positive is duration for what must be above 0.
func (r *linter) positive(n *yaml.Node, what string, absent time.Duration) time.Duration {
	before := len(r.problems)
	d := r.duration(n, what, absent)
	if n != nil && d <= 0 && len(r.problems) == before {
		r.fail(n, "%s must be longer than 0", what)
		return absent
	}
	return d
}

// place returns a path to one place; nil for a key that is not there.
func (r *linter) place(n *yaml.Node, what string) *record.Path {
	if n == nil {
		return nil
	}
	s := r.text(n, what)
	if s == "" {
		if n.ShortTag() == "!!str" {
			r.fail(n, "%s is empty: a path such as data.id, or . for the whole", what)
		}
		return nil
	}
	return r.path(n, what, s)
}

func (r *linter) path(n *yaml.Node, what, s string) *record.Path {
	if strings.Contains(s, "{{") {
		r.fail(n, "%s is a path, not a template: write the name without {{ }}", what)
		return nil
	}
	p, err := record.ParsePath(s)
	switch {
	case err != nil:
		r.fail(n, "%s is not a path: %v", what, err)
	case p.Wild():
		r.fail(n, "%s must name one place, and %s names many", what, s)
	default:
		return &p
	}
	return nil
}

// items returns the elements of a list; a single scalar is a list of one.
func (r *linter) items(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		return []*yaml.Node{n}
	}
	r.fail(n, "%s must be a list, not %s", what, describe(n))
	return nil
}

// literal returns the value of a scalar with the type that YAML gives it; times stay texts.
func literal(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i
		}
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f
		}
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!null":
		return nil
	}
	return n.Value
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp":
		return fmt.Sprintf("the text %q", n.Value)
	default:
		return n.Value
	}
}

// merge lays over on base: maps merge, null removes, anything else replaces.
func merge(base, over *yaml.Node) *yaml.Node {
	if base == nil || base.Kind != yaml.MappingNode || over.Kind != yaml.MappingNode {
		return over
	}
	out := *over
	out.Content = nil
	for i := 0; i+1 < len(base.Content); i += 2 {
		k, v := base.Content[i], base.Content[i+1]
		switch with := child(over, k.Value); {
		case with == nil:
			out.Content = append(out.Content, k, v)
		case with.ShortTag() == "!!null":
		case slices.Contains(typed, k.Value) && otherType(v, with):
			out.Content = append(out.Content, k, with)
		default:
			out.Content = append(out.Content, k, merge(v, with))
		}
	}
	for i := 0; i+1 < len(over.Content); i += 2 {
		if k := over.Content[i]; child(base, k.Value) == nil {
			out.Content = append(out.Content, k, over.Content[i+1])
		}
	}
	return &out
}

// typed are the maps whose keys belong to their `type`: one that names another type replaces instead of merging.
var typed = []string{"authenticator", "paginator", "incremental"}

func otherType(base, over *yaml.Node) bool {
	b, o := child(base, "type"), child(over, "type")
	return o != nil && (b == nil || b.Value != o.Value)
}

// child returns the value of a key, nil where there is none, or no map.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// suggest returns ` (did you mean "x"?)` for the nearest of candidates, or "" where none is near.
func suggest(word string, candidates []string) string {
	best, distance := "", min(2, max(1, len(word)/2))+1
	if len(word) > 8 {
		distance++
	}
	for _, c := range candidates {
		if d := edits(word, c); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// edits counts the insertions, deletions, substitutions and swaps of neighbours between a and b, without regard to case.
func edits(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

var durationPart = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d|w)`)

// parseDuration reads Go's durations and, beside them, d (24 hours) and w (7 days).
func parseDuration(s string) (time.Duration, error) {
	units := map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
		"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	if s == "" {
		return 0, errors.New("it is empty")
	}
	var total float64
	for rest := s; rest != ""; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, fmt.Errorf("%q has no number with a unit at %q", s, rest)
		}
		f, _ := strconv.ParseFloat(m[1], 64) // digits only: the expression saw to it
		total += f * float64(units[m[2]])
		rest = rest[len(m[0]):]
	}
	if total > float64(100*365*24*time.Hour) {
		return 0, fmt.Errorf("%q is more than 100 years", s)
	}
	return time.Duration(total), nil
}
