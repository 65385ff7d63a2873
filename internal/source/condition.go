package source

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/expr-lang/expr/vm"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// view is the record that a condition looks at, by the places that were planned for it.
type view struct {
	buf   []byte
	spans []record.Span
}

// undefined is a place that is not there, where the expression did not say ?? (P20).
type undefined struct{ place string }

func (u *undefined) Error() string { return u.place + " is not there" }

// at returns the value of a planned place, and whether there is one.
func (v *view) at(slot int) (any, bool, error) {
	if slot >= len(v.spans) || v.spans[slot].IsZero() {
		return nil, false, nil
	}
	x, err := record.Value(v.buf, v.spans[slot])
	return normal(x), true, err
}

// condition is filter, delete or lookup.gone: an expression over a record's places. A place that is not there is undefined,
// which is an error (Park, Record) unless the expression says ?? (P20). It keeps its machine between evaluations, so one
// goroutine at a time uses it: the connection's loop.
type condition struct {
	*expression
	name    string // "filter", for messages
	machine vm.VM
	view    view
	env     map[string]any
}

func newCondition(name string, e *expression) *condition {
	c := &condition{expression: e, name: name, env: map[string]any{}}
	c.machine.MemoryBudget = maxMemory
	return c
}

// clone returns a condition that another connection may use.
func (c *condition) clone() *condition {
	if c == nil {
		return nil
	}
	return newCondition(c.name, c.expression)
}

// eval decides for one record: buf and spans are the scanner's, by the indexes of Stream.places. Whatever goes wrong is the
// record's fault and parks it: it is neither in nor out of the filter, neither live nor deleted (7).
func (c *condition) eval(buf []byte, spans []record.Span, v *vars) (bool, error) {
	c.view = view{buf, spans}
	for _, b := range c.bindings {
		if b.root == "record" {
			c.env[b.env] = &c.view
		} else {
			c.env[b.env] = v.get(b)
		}
	}
	out, err := c.machine.Run(c.program, c.env)
	c.view = view{} // the page's bytes belong to the page
	if err != nil {
		return false, parked(c.name, running(err))
	}
	yes, ok := out.(bool)
	if !ok {
		return false, parked(c.name, fmt.Errorf("the expression gave %s, and only true or false decide", kindOf(out)))
	}
	return yes, nil
}

// parked is the error of a record that an expression cannot decide on.
func parked(name string, err error) error {
	hint := "Correct the expression in the definition, or the record upstream"
	var u *undefined
	if errors.As(err, &u) {
		hint = fmt.Sprintf("If it may be absent, say so in the definition: %s ?? VALUE", u.place)
	}
	return &cdc.Error{Op: "evaluate", Where: name, Err: err, Hint: hint, Remedy: cdc.Park, Scope: cdc.Record}
}

// signal is a place of the body, or an expression over response: more, done, errors[].when.
type signal struct {
	name  string
	place *record.Path // nil: expr
	expr  *expression
}

// eval reports whether the signal is given: true, a number above 0, a text that is not empty. A place that is absent or
// null is not given. A list or a map says neither, and taking it for "no more" would end a pass early: it is an error.
func (s *signal) eval(resp *response, v *vars) (bool, error) {
	x, err := s.value(resp, v)
	if err == nil {
		var given bool
		if given, err = truth(x); err == nil {
			return given, nil
		}
	}
	return false, &cdc.Error{Op: "evaluate", Where: s.name, Err: err, Remedy: cdc.Halt, Scope: cdc.Stream,
		Hint: "Correct `" + s.name + "` in the definition: a place that holds true, a number or a text, or an expression"}
}

// text returns the text or number that the signal's place holds.
func (s *signal) text(resp *response, v *vars) (string, error) {
	value, err := s.value(resp, v)
	switch x := value.(type) {
	case string:
		if x != "" {
			return x, err
		}
	case int64:
		return written(x)
	}
	return "", cmp.Or(err, fmt.Errorf("it is %s, not a text or a whole number", kindOf(value)))
}

// value is what stands at the signal's place, or what its expression gives.
func (s *signal) value(resp *response, v *vars) (any, error) {
	if s.place != nil {
		x, err := bodyAt(resp, *s.place)
		return normal(x), err
	}
	in := *v
	in.response = resp
	x, err := s.expr.eval(&in)
	return normal(x), err
}

func truth(x any) (bool, error) {
	switch x := x.(type) {
	case nil:
		return false, nil
	case bool:
		return x, nil
	case int64:
		return x > 0, nil
	case float64:
		return x > 0, nil
	case string:
		return x != "", nil
	}
	return false, fmt.Errorf("%s is neither yes nor no", kindOf(x))
}

// kindOf names a value's type in the language's words.
func kindOf(x any) string {
	switch x.(type) {
	case nil:
		return "null"
	case bool:
		return "a truth value"
	case int, int64, float64:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	case time.Time:
		return "a time"
	case time.Duration:
		return "a duration"
	}
	return "a value"
}

// nested puts value into tree under the names of path, for key.a.b.
func nested(tree map[string]any, path []string, value any) {
	for _, name := range path[:len(path)-1] {
		inner, ok := tree[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			tree[name] = inner
		}
		tree = inner
	}
	tree[path[len(path)-1]] = value
}

// keyNames returns vars.key for a lookup: fields by the names of primary_key, nested by their paths, and the partition's
// values by their names.
func (s *Stream) keyNames(partition map[string]any, fields []any) map[string]any {
	out := map[string]any{}
	if !s.keyScope {
		maps.Copy(out, partition)
	}
	for i, f := range fields {
		if i < len(s.keyPaths) {
			nested(out, s.keyPaths[i], f)
		}
	}
	return out
}
