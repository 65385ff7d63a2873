package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// Limits of an expression (10): the nodes of its tree, and the elements that it may make while it runs.
const (
	maxNodes  = 500
	maxMemory = 100_000
)

// The roots of LANGUAGE.md's table that may be null in a template: their parameter is then left out.
var nullable = []string{"cursor", "cursor_end", "anchor", "page_token", "offset", "tie_page", "start", "last"}

// scope is what an expression may speak of: where it stands decides.
type scope struct {
	where      string // "a request", for messages
	names      []string
	config     []*setting
	partitions []string
	parents    map[string]*parentage // those of partitions that are records of a parent stream (P21)
	keys       []string              // first names of key.x
	// template says that a null is an error unless its name may be null.
	template bool
	// slot plans a place of the record; nil where there is no record.
	slot func(record.Path) int
}

func (s *scope) with(where string, names ...string) *scope {
	out := *s
	out.where, out.names = where, names
	return &out
}

// misuse is something wrong in an expression, at a rune of its text.
type misuse struct {
	offset  int
	message string
}

func (m *misuse) Error() string { return m.message }

// binding is one value that an expression takes from vars: root, or root.member.
type binding struct{ env, root, member string }

// expression is a compiled expression over vars. It keeps no state between evaluations.
type expression struct {
	text     string // canonical: the same meaning gives the same text, for fingerprints
	program  *vm.Program
	bindings []binding
	result   reflect.Type // nil where it is only known when it runs
	secret   bool         // a secret setting is in it
	spots    []spot       // of the answer: those whose absence is not meant
}

// spot is what an expression takes from an answer: a place of the body, or a header.
type spot struct {
	path   record.Path
	header string
}

// compile parses, restricts, rewrites, type-checks and compiles text. want is the kind of the result, Invalid for any.
func compile(text string, sc *scope, want reflect.Kind) (*expression, error) {
	config := restricted()
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, located(err)
	}
	canonical := tree.Node.String()
	w := &rewriter{scope: sc, bound: map[string]binding{}}
	tree.Node = w.rewrite(tree.Node, position{value: sc.template})
	if w.err != nil {
		return nil, w.err
	}
	config.WithEnv(w.environment())
	config.Expect, config.ExpectAny = want, true
	result, err := checker.Check(tree, config)
	if err != nil {
		return nil, located(err)
	}
	config.Expect = reflect.Invalid // no cast: a result of another type is an error of ours, with a better text
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return nil, located(err)
	}
	e := &expression{text: canonical, program: program, result: result, spots: w.spots}
	for _, name := range slices.Sorted(maps.Keys(w.bound)) {
		b := w.bound[name]
		if b.root == "last" {
			for _, b.member = range w.lastOf {
				e.bindings = append(e.bindings, b)
			}
			continue
		}
		e.bindings = append(e.bindings, b)
		e.secret = e.secret || b.root == "config" && sc.setting(b.member).secret
	}
	if result != nil && result.Kind() == reflect.Interface {
		e.result = nil
	}
	return e, nil
}

// restricted returns expr's configuration with no builtins but the short list, and ours beside them.
func restricted() *conf.Config {
	config := conf.CreateNew()
	config.Optimize = false // rewritten places must stay where they are: `a ?? b` decides which of them is read
	config.MaxNodes = maxNodes
	config.DisableIfOperator = true
	for name := range config.Builtins {
		if f := functionNamed(name); f == nil || f.types != nil {
			config.Disabled[name] = true
			delete(config.Builtins, name)
		}
	}
	for _, f := range functions() {
		config.Functions[f.Name] = f
	}
	return config
}

// position says how a node's value is used.
type position struct {
	value   bool // it becomes the template's value: null is an error unless its name may be null
	lenient bool // it stands left of ??: null and undefined are accepted
	meant   bool // it is compared with nil, or stands left of ??: that it may be absent is meant
}

// rewriter turns expr's tree into one that follows LANGUAGE.md: members are null-safe, names are checked, places of a
// record are planned. It works before types are checked, so that what it puts in is checked too.
type rewriter struct {
	scope  *scope
	bound  map[string]binding
	lastOf []string // the members of the last record that are mentioned; "": any
	spots  []spot
	err    *misuse
}

func (w *rewriter) fail(n ast.Node, format string, args ...any) ast.Node {
	if w.err == nil {
		w.err = &misuse{n.Location().From, fmt.Sprintf(format, args...)}
	}
	return n
}

func (w *rewriter) rewrite(n ast.Node, p position) ast.Node {
	switch n := n.(type) {
	case *ast.NilNode:
		if p.value {
			return w.fail(n, "nil is no value: only %s and optional settings may be null", strings.Join(nullable, ", "))
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode:
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		return w.chain(n, p)
	case *ast.PointerNode:
		if n.Name != "" && n.Name != "index" {
			return w.fail(n, "#%s is not part of the language", n.Name)
		}
	case *ast.UnaryNode:
		n.Node = w.rewrite(n.Node, position{})
	case *ast.BinaryNode:
		return w.binary(n, p)
	case *ast.ConditionalNode:
		n.Cond = w.rewrite(n.Cond, position{})
		n.Exp1, n.Exp2 = w.rewrite(n.Exp1, p), w.rewrite(n.Exp2, p)
	case *ast.SliceNode:
		n.Node, n.From, n.To = w.optional(n.Node), w.optional(n.From), w.optional(n.To)
	case *ast.ArrayNode:
		w.all(n.Nodes)
	case *ast.MapNode:
		w.all(n.Pairs)
	case *ast.PairNode:
		n.Key, n.Value = w.rewrite(n.Key, position{}), w.rewrite(n.Value, position{})
	case *ast.PredicateNode:
		n.Node = w.rewrite(n.Node, position{})
	case *ast.BuiltinNode:
		return w.builtin(n, p)
	case *ast.CallNode:
		return w.call(n, p)
	default:
		return w.fail(n, "%s are not part of the language: write one expression", map[bool]string{true: "variables (let)", false: "sequences (;)"}[isLet(n)])
	}
	return n
}

func isNil(n ast.Node) bool {
	_, ok := n.(*ast.NilNode)
	return ok
}

func isZero(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Value == 0
	case *ast.FloatNode:
		return n.Value == 0
	}
	return false
}

func isLet(n ast.Node) bool {
	_, ok := n.(*ast.VariableDeclaratorNode)
	return ok
}

func (w *rewriter) optional(n ast.Node) ast.Node {
	if n == nil {
		return nil
	}
	return w.rewrite(n, position{})
}

func (w *rewriter) all(nodes []ast.Node) {
	for i := range nodes {
		nodes[i] = w.rewrite(nodes[i], position{})
	}
}

func (w *rewriter) binary(n *ast.BinaryNode, p position) ast.Node {
	switch n.Operator {
	case "??":
		// P20: this is the one place where undefined is accepted; and the left side's null is not the template's value.
		n.Left = w.rewrite(n.Left, position{lenient: true, meant: true})
		n.Right = w.rewrite(n.Right, p)
	case "==", "!=":
		n.Left, n.Right = w.rewrite(n.Left, position{meant: isNil(n.Right)}), w.rewrite(n.Right, position{meant: isNil(n.Left)})
	case "/", "%":
		n.Left, n.Right = w.rewrite(n.Left, position{}), w.rewrite(n.Right, position{})
		if isZero(n.Right) {
			return w.fail(n, "this divides by zero")
		}
	case "..":
		return w.fail(n, "ranges (..) are not part of the language")
	default:
		n.Left, n.Right = w.rewrite(n.Left, position{}), w.rewrite(n.Right, position{})
	}
	return n
}

func (w *rewriter) builtin(n *ast.BuiltinNode, p position) ast.Node {
	if functionNamed(n.Name) == nil {
		return w.unknownFunction(n, n.Name)
	}
	text := n.String()
	w.all(n.Arguments)
	if p.value && (n.Name == "first" || n.Name == "last") {
		return required(n, text)
	}
	return n
}

func (w *rewriter) call(n *ast.CallNode, p position) ast.Node {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return w.fail(n, "methods are not part of the language: call a function")
	}
	if functionNamed(callee.Value) == nil {
		return w.unknownFunction(n, callee.Value)
	}
	text := n.String()
	w.all(n.Arguments)
	if p.value && callee.Value == "regex_find" {
		return required(n, text)
	}
	return n
}

func (w *rewriter) unknownFunction(n ast.Node, name string) ast.Node {
	var names []string
	for _, f := range language {
		names = append(names, f.name)
	}
	near := suggest(name, names)
	for _, known := range names { // len, to_json
		if lower := strings.ToLower(name); near == "" && len(name) > 2 && (strings.Contains(known, lower) || strings.Contains(lower, known)) {
			near = fmt.Sprintf(" (did you mean %q?)", known)
		}
	}
	return w.fail(n, "unknown function %q%s: docs/reference.md has the list, under Functions (connector sources reference)", name, near)
}

// chain rewrites root.a.b[0]: the root is a name of the table, a pointer, or another expression.
func (w *rewriter) chain(n ast.Node, p position) ast.Node {
	var steps []ast.Node
	base := n
	for done := false; !done; {
		switch m := base.(type) {
		case *ast.ChainNode: // a?.b is a.b: members are null-safe anyway
			base = m.Node
		case *ast.MemberNode:
			if m.Method {
				return w.fail(n, "methods are not part of the language: call a function")
			}
			steps, base = append(steps, m.Property), m.Node
		default:
			done = true
		}
	}
	slices.Reverse(steps)
	root, ok := base.(*ast.IdentifierNode)
	if !ok {
		text := n.String()
		return w.guard(w.members(w.rewrite(base, position{lenient: p.lenient}), steps, p), p, text)
	}
	if !slices.Contains(w.scope.names, root.Value) {
		return w.unknownName(root, steps)
	}
	switch root.Value {
	case "record":
		return w.place(root, steps, p)
	case "config", "partition", "key", "response":
		return w.member(root, steps, p)
	}
	w.bound[root.Value] = binding{env: root.Value, root: root.Value}
	if root.Value == "last" {
		w.lastOf = append(w.lastOf, firstName(steps))
	}
	out := w.members(root, steps, p)
	if slices.Contains(nullable, root.Value) {
		return out
	}
	return w.guard(out, p, root.Value)
}

// firstName returns the member that the first step leads to; "" where that may be any.
func firstName(steps []ast.Node) string {
	if len(steps) > 0 {
		if s, ok := steps[0].(*ast.StringNode); ok {
			return s.Value
		}
	}
	return ""
}

func (w *rewriter) unknownName(n *ast.IdentifierNode, steps []ast.Node) ast.Node {
	every := []string{"cursor", "anchor", "start", "cursor_end", "page_token", "offset", "page", "tie_page", "last", "partition",
		"config", "record", "key", "item", "response", "now"}
	if slices.Contains(every, n.Value) {
		return w.fail(n, "%q is not known in %s: there are %s", n.Value, w.scope.where, strings.Join(w.scope.names, ", "))
	}
	if len(steps) == 0 && slices.ContainsFunc(w.scope.config, func(s *setting) bool { return s.name == n.Value }) &&
		slices.Contains(w.scope.names, "config") {
		return w.fail(n, "unknown name %q (did you mean \"config.%s\"?)", n.Value, n.Value)
	}
	return w.fail(n, "unknown name %q%s", n.Value, suggest(n.Value, w.scope.names))
}

// member rewrites the roots whose members are declared: config.x, partition.x, key.x, response.x.
func (w *rewriter) member(root *ast.IdentifierNode, steps []ast.Node, p position) ast.Node {
	known := w.scope.members(root.Value)
	name := firstName(steps)
	if !slices.Contains(known, name) {
		if name == "" {
			return w.fail(root, "%s needs a name after it: %s.NAME", root.Value, root.Value)
		}
		if len(known) == 0 {
			return w.fail(root, "%s.%s is not there: %s", root.Value, name, w.scope.none(root.Value))
		}
		return w.fail(root, "unknown name %s.%s%s: there are %s", root.Value, name, suggest(root.Value+"."+name, prefixed(root.Value, known)), strings.Join(known, ", "))
	}
	if root.Value == "response" && name == "body" && len(steps) > 1 {
		if path, ok := constant(steps[1:]); ok {
			return w.guard(w.body(root, path, p), p, "response.body"+dotted(path))
		}
	}
	env := root.Value + "." + name
	if p := w.scope.parents[name]; p != nil && (root.Value == "partition" || root.Value == "key") && !p.use(steps[1:], root.Value == "key") {
		return w.fail(root, "%s is a record of stream %s: name one of its fields, %s.NAME", env, p.stream, env)
	}
	w.bound[env] = binding{env, root.Value, name}
	id := &ast.IdentifierNode{Value: env}
	id.SetLocation(root.Location())
	if root.Value == "response" && name == "headers" && len(steps) > 1 {
		if s, ok := steps[1].(*ast.StringNode); ok {
			s.Value = strings.ToLower(s.Value) // names of headers have no case (RFC 9110, 5.1)
			if !p.meant {
				w.spots = append(w.spots, spot{header: s.Value})
			}
		}
	}
	rest, _ := constant(steps[1:]) // "" where a step is only known when it runs
	out := w.members(id, steps[1:], p)
	if root.Value == "config" && w.scope.setting(name).nullable() {
		return out
	}
	return w.guard(out, p, env+dotted(rest))
}

func prefixed(root string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = root + "." + n
	}
	return out
}

func (s *scope) setting(name string) *setting {
	for _, c := range s.config {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (s *scope) members(root string) []string {
	switch root {
	case "config":
		var out []string
		for _, c := range s.config {
			out = append(out, c.name)
		}
		return out
	case "partition":
		return s.partitions
	case "key":
		return s.keys
	default:
		return []string{"status", "headers", "body"}
	}
}

func (s *scope) none(root string) string {
	if root == "config" {
		return "no settings are declared under `config:`"
	}
	return "the stream has no `" + map[string]string{"partition": "partition", "key": "primary_key"}[root] + "`"
}

// members puts a null-safe access around n for every step. In a condition over a record a step that is not there is
// undefined (P20), so there the access is strict, unless ?? stands to its right.
func (w *rewriter) members(n ast.Node, steps []ast.Node, p position) ast.Node {
	access := "member"
	if w.scope.slot != nil && !p.lenient {
		access = "must"
	}
	for _, s := range steps {
		n = invoke(s, access, n, w.rewrite(s, position{}))
	}
	return n
}

// guard makes a null in value position an error that names what was null.
func (w *rewriter) guard(n ast.Node, p position, name string) ast.Node {
	if !p.value {
		return n
	}
	// What cannot be null keeps its type for the check: a name alone whose type is known.
	if id, ok := n.(*ast.IdentifierNode); ok && w.typeOf(w.bound[id.Value]) != types.Any {
		return n
	}
	return required(n, name)
}

func required(n ast.Node, name string) ast.Node {
	return invoke(n, "required", n, &ast.StringNode{Value: name})
}

func invoke(at ast.Node, name string, args ...ast.Node) ast.Node {
	callee := &ast.IdentifierNode{Value: name}
	callee.SetLocation(at.Location())
	call := &ast.CallNode{Callee: callee, Arguments: args}
	call.SetLocation(at.Location())
	return call
}

// place plans record.a.b as a place of the record, so that the scanner finds it in its one walk (P20).
func (w *rewriter) place(root *ast.IdentifierNode, steps []ast.Node, p position) ast.Node {
	text, ok := constant(steps)
	path, err := record.ParsePath(text)
	if !ok || err != nil {
		return w.fail(root, "a place of the record is written out: record.name, record[\"name\"] or record.list[0]")
	}
	name := "place"
	if p.lenient {
		name = "maybe"
	}
	w.bound["record"] = binding{env: "record", root: "record"}
	return invoke(root, name, root, &ast.IntegerNode{Value: w.scope.slot(path)}, &ast.StringNode{Value: "record" + dotted(text)})
}

// body turns response.body.a.b into a look at that one place: a page is not decoded for the sake of its last member.
func (w *rewriter) body(root *ast.IdentifierNode, text string, p position) ast.Node {
	path, err := record.ParsePath(text)
	if err != nil {
		return w.fail(root, "not a place of the body: %v", err)
	}
	if !p.meant {
		w.spots = append(w.spots, spot{path: path})
	}
	w.bound["response"] = binding{env: "response", root: "response"}
	return invoke(root, "body", root, &ast.ConstantNode{Value: path})
}

// constant writes steps as a path, if every one of them is written out.
func constant(steps []ast.Node) (string, bool) {
	var b strings.Builder
	for _, s := range steps {
		switch s := s.(type) {
		case *ast.StringNode:
			if plain.MatchString(s.Value) {
				if b.Len() > 0 {
					b.WriteByte('.')
				}
				b.WriteString(s.Value)
			} else {
				quoted, _ := json.Marshal(s.Value) // a string always has a JSON form
				fmt.Fprintf(&b, "[%s]", quoted)
			}
		case *ast.IntegerNode:
			fmt.Fprintf(&b, "[%d]", s.Value)
		default:
			return "", false
		}
	}
	return b.String(), true
}

func dotted(path string) string {
	if path == "" || path[0] == '[' {
		return path
	}
	return "." + path
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// environment declares the types of the names in use.
func (w *rewriter) environment() types.Map {
	env := types.Map{}
	for name, b := range w.bound {
		env[name] = w.typeOf(b)
	}
	return env
}

func (w *rewriter) typeOf(b binding) types.Type {
	switch b.root {
	case "now":
		return types.TypeOf(time.Time{})
	case "page":
		return types.Int64
	case "record":
		return types.TypeOf(&view{})
	case "config":
		return w.scope.setting(b.member).checked()
	case "response":
		switch b.member {
		case "":
			return types.TypeOf(&response{})
		case "status":
			return types.Int64
		}
	}
	return types.Any
}

// eval returns nil, string, int64, float64, bool, []any, map[string]any, time.Time or time.Duration.
func (e *expression) eval(v *vars) (any, error) {
	env := make(map[string]any, len(e.bindings))
	for _, b := range e.bindings {
		env[b.env] = v.get(b)
	}
	machine := vm.VM{MemoryBudget: maxMemory}
	out, err := machine.Run(e.program, env)
	if err != nil {
		return nil, running(err)
	}
	if f, ok := out.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
		return nil, errors.New("the number is not finite: it divides by zero, or is too large")
	}
	return normal(out), nil
}

// get returns the value of a name; nil is null.
func (v *vars) get(b binding) any {
	switch b.root {
	case "cursor":
		return normal(v.cursor)
	case "anchor":
		return normal(v.anchor)
	case "start":
		return normal(v.start)
	case "cursor_end":
		return normal(v.cursorEnd)
	case "page_token":
		return normal(v.pageToken)
	case "offset":
		return orNull(v.offset)
	case "page":
		return v.page
	case "tie_page":
		return orNull(v.tiePage)
	case "last":
		return normal(v.last)
	case "now":
		return v.now
	case "partition":
		return normal(v.partition[b.member])
	case "config":
		return v.config[b.member]
	case "key":
		return normal(v.key[b.member])
	case "item":
		return normal(v.item)
	case "record":
		return v.view
	case "response":
		if b.member == "" {
			return v.response
		}
		return v.response.get(b.member)
	}
	return nil
}

func orNull(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func (r *response) get(member string) any {
	switch {
	case r == nil:
		return nil
	case member == "status":
		return int64(r.status)
	case member == "headers":
		out := map[string]any{}
		for name, values := range r.header {
			if len(values) > 0 {
				out[strings.ToLower(name)] = values[0]
			}
		}
		return out
	default:
		return r.content()
	}
}

// isJSON reports whether the body is one strict JSON value; only then are there places in it.
func (r *response) isJSON() bool {
	if !r.checked {
		r.checked, r.valid = true, record.Valid(r.body, record.Limits{}) == nil
	}
	return r.valid
}

// content returns the decoded body; one that is not JSON is its text.
func (r *response) content() any {
	if !r.decoded {
		r.decoded, r.value = true, string(r.body)
		if r.isJSON() {
			if v, err := record.Value(r.body, record.Span{Off: 0, End: int32(len(r.body))}); err == nil {
				r.value = v
			}
		}
	}
	return r.value
}

// normal gives a value one of the language's types: integers are int64, and larger ones keep their text.
func normal(x any) any {
	switch x := x.(type) {
	case int:
		return int64(x)
	case int32:
		return int64(x)
	case json.Number:
		return x.String()
	case cdc.Secret:
		return x.Reveal()
	case []string:
		out := make([]any, len(x))
		for i := range x {
			out[i] = x[i]
		}
		return out
	}
	return x
}
