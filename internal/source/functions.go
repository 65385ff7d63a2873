package source

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/builtin"

	"tidemark/internal/record"
)

// builtins are those of expr that the language has; every other one is refused.
var builtins = []string{"split", "replace", "lower", "upper", "trim", "first", "last", "filter", "map"}

// public are the functions of ours that a definition may call.
func public() []string {
	return []string{"format_time", "parse_time", "duration", "unix", "iso", "join", "regex_find", "base64", "json", "hash",
		"hmac", "urlencode", "length"}
}

// functions returns ours: those of public, and those that only the rewriter calls.
func functions() []*builtin.Function {
	return []*builtin.Function{
		function("format_time", formatTime, new(func(time.Time, string) string), new(func(time.Time, string, string) string)),
		function("parse_time", parseTime, new(func(string) time.Time), new(func(string, string) time.Time),
			new(func(string, string, string) time.Time)),
		function("duration", func(p ...any) (any, error) { return arg(p, parseDuration) }, new(func(string) time.Duration)),
		function("unix", unixOf, new(func(time.Time) int64)),
		function("iso", func(p ...any) (any, error) { return arg(p, isoOf) }, new(func(time.Time) string)),
		function("join", join, new(func([]any) string), new(func([]any, string) string)),
		function("regex_find", regexFind, new(func(string, string) any), new(func(string, string, int) any)),
		function("base64", func(p ...any) (any, error) { return arg(p, base64Of) }, new(func(string) string)),
		function("json", jsonOf, new(func(any) string)),
		function("hash", hashOf, new(func(string) string), new(func(string, string) string)),
		function("hmac", hmacOf, new(func(string, string) string), new(func(string, string, string) string)),
		function("urlencode", urlencode, new(func(any) string)),
		function("length", length, new(func(any) int64)),
		function("required", notNull, new(func(any, string) any)),
		function("member", func(p ...any) (any, error) { x, _, err := access(p[0], p[1]); return x, err }, new(func(any, any) any)),
		function("must", must, new(func(any, any) any)),
		function("place", place, new(func(*view, int, string) any)),
		function("maybe", maybe, new(func(*view, int, string) any)),
		function("body", bodyAt, new(func(*response, record.Path) any)),
	}
}

func function(name string, f func(...any) (any, error), overloads ...any) *builtin.Function {
	out := &builtin.Function{Name: name, Func: f}
	for _, t := range overloads {
		out.Types = append(out.Types, reflect.TypeOf(t).Elem())
	}
	return out
}

// arg calls f with its only argument. The check at load cannot see the types inside `any`, so each call looks again.
func arg[T, R any](p []any, f func(T) (R, error)) (any, error) {
	x, err := as[T](p, 0)
	if err != nil {
		return nil, err
	}
	return f(x)
}

func as[T any](p []any, i int) (T, error) {
	x, ok := normal(p[i]).(T)
	if !ok {
		return x, fmt.Errorf("argument %d is %s, not %s", i+1, kindOf(normal(p[i])), kindOf(any(*new(T))))
	}
	return x, nil
}

// texts returns all arguments as texts; those that are not there are "".
func texts(p []any, n int) ([]string, error) {
	out := make([]string, n)
	for i := range p {
		var err error
		if out[i], err = as[string](p, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func formatTime(p ...any) (any, error) {
	t, err := as[time.Time](p, 0)
	if err != nil {
		return nil, err
	}
	names, err := texts(p[1:], 2)
	if err != nil {
		return nil, err
	}
	f, err := newLayout(names[0], names[1])
	if err != nil {
		return nil, err
	}
	return f.print(t), nil
}

func parseTime(p ...any) (any, error) {
	in, err := texts(p, 3)
	if err != nil {
		return nil, err
	}
	if in[1] == "" {
		in[1] = "rfc3339"
	}
	f, err := newFormat(in[1], in[2])
	if err != nil {
		return nil, err
	}
	return f.parse([]byte(in[0]))
}

func unixOf(p ...any) (any, error) {
	t, err := as[time.Time](p, 0)
	return t.Unix(), err
}

func isoOf(t time.Time) (string, error) { return t.UTC().Format(time.RFC3339Nano), nil }

func join(p ...any) (any, error) {
	list, err := as[[]any](p, 0)
	if err != nil {
		return nil, err
	}
	separator, err := texts(p[1:], 1)
	if err != nil {
		return nil, err
	}
	words := make([]string, len(list))
	for i, x := range list {
		if words[i], err = written(x); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return strings.Join(words, separator[0]), nil
}

// regexFind returns the first match, or group n of it; null where there is none.
func regexFind(p ...any) (any, error) {
	in, err := texts(p[:2], 2)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(in[1])
	if err != nil {
		return nil, err
	}
	group := int64(0)
	if len(p) > 2 {
		if group, err = as[int64](p, 2); err != nil {
			return nil, err
		}
	}
	m := re.FindStringSubmatchIndex(in[0])
	if group < 0 || group > int64(re.NumSubexp()) {
		return nil, fmt.Errorf("%q has no group %d", in[1], group)
	}
	if m == nil || m[2*group] < 0 {
		return nil, nil
	}
	return in[0][m[2*group]:m[2*group+1]], nil
}

func base64Of(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }

func jsonOf(p ...any) (any, error) {
	b, err := appendJSON(nil, p[0])
	return string(b), err
}

func algorithm(name string) (func() hash.Hash, error) {
	switch name {
	case "", "sha256":
		return sha256.New, nil
	case "sha512":
		return sha512.New, nil
	case "sha1":
		return sha1.New, nil // some APIs want it; nothing of ours rests on it
	case "md5":
		return md5.New, nil
	}
	return nil, fmt.Errorf("unknown algorithm %q: sha256, sha512, sha1, md5", name)
}

func hashOf(p ...any) (any, error) {
	in, err := texts(p, 2)
	if err != nil {
		return nil, err
	}
	h, err := algorithm(in[1])
	if err != nil {
		return nil, err
	}
	sum := h()
	sum.Write([]byte(in[0]))
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hmacOf is hmac(text, key, algorithm).
func hmacOf(p ...any) (any, error) {
	in, err := texts(p, 3)
	if err != nil {
		return nil, err
	}
	h, err := algorithm(in[2])
	if err != nil {
		return nil, err
	}
	sum := hmac.New(h, []byte(in[1]))
	sum.Write([]byte(in[0]))
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func urlencode(p ...any) (any, error) {
	s, err := written(p[0])
	return url.QueryEscape(s), err
}

func length(p ...any) (any, error) {
	switch x := p[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(x)), nil
	case []any:
		return int64(len(x)), nil
	case map[string]any:
		return int64(len(x)), nil
	}
	return nil, fmt.Errorf("%s has no length", kindOf(normal(p[0])))
}

// null is a value that may not be null and is.
type null struct{ name string }

func (n *null) Error() string { return n.name + " is null" }

func notNull(p ...any) (any, error) {
	if p[0] == nil {
		return nil, &null{fmt.Sprint(p[1])}
	}
	return p[0], nil
}

// access returns a member of a map or an element of a list, and whether it is there. Null has no members, and asking it
// for one is no error (null-safe).
func access(x, step any) (any, bool, error) {
	switch x := x.(type) {
	case map[string]any:
		name, ok := step.(string)
		if !ok {
			return nil, false, fmt.Errorf("a map has names, not %s", kindOf(step))
		}
		v, ok := x[name]
		return normal(v), ok, nil
	case []any:
		i, ok := normal(step).(int64)
		if !ok {
			return nil, false, fmt.Errorf("a list has numbers from 0, not %v", step)
		}
		if i < 0 {
			i += int64(len(x))
		}
		if i < 0 || i >= int64(len(x)) {
			return nil, false, nil
		}
		return normal(x[i]), true, nil
	}
	return nil, false, nil
}

// must is access in a condition: what is not there is undefined (P20).
func must(p ...any) (any, error) {
	x, ok, err := access(p[0], p[1])
	if err == nil && !ok {
		err = &undefined{fmt.Sprintf(".%v", p[1])}
	}
	return x, err
}

func place(p ...any) (any, error) {
	x, ok, err := p[0].(*view).at(p[1].(int))
	if err == nil && !ok {
		err = &undefined{p[2].(string)} // P20
	}
	return x, err
}

func maybe(p ...any) (any, error) {
	x, _, err := p[0].(*view).at(p[1].(int))
	return x, err
}

// bodyAt reads one place of an answer's body without decoding the rest of it.
func bodyAt(p ...any) (any, error) {
	r, _ := p[0].(*response)
	if r == nil || !r.isJSON() {
		return nil, nil
	}
	span, ok := p[1].(record.Path).Find(r.body, record.Span{Off: 0, End: int32(len(r.body))})
	if !ok {
		return nil, nil
	}
	x, err := record.Value(r.body, span)
	return normal(x), err
}

// appendJSON writes a value of the language as JSON; members of maps in the order of their names.
func appendJSON(dst []byte, x any) ([]byte, error) {
	switch x := x.(type) {
	case time.Time:
		return nil, errors.New("a time has no JSON form: write it with format_time, unix or iso")
	case time.Duration:
		return nil, errors.New("a duration has no JSON form")
	default:
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(x); err != nil {
			return nil, err
		}
		return append(dst, strings.TrimSuffix(b.String(), "\n")...), nil
	}
}
