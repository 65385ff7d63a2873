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
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/builtin"

	"tidemark/internal/record"
)

// function is one function that an expression may call. The parser knows no others, the messages name them, and the reference page is
// made of their table, so the three cannot differ.
type function struct {
	name    string
	takes   string // its arguments, for people: those in brackets may be left out
	gives   string
	example string
	result  string // of the example, as JSON
	call    func(...any) (any, error)
	types   []any // pointers to Go functions: what the check at load knows of it; nil: it is one of expr's own
}

// language are the functions of the language, in the order of the reference page.
var language = []function{
	{"format_time", "time, format[, zone]", "the time as text, in a format of [times](#times)",
		`format_time(parse_time("2024-02-29T23:30:00Z"), "%d.%m.%Y", "Europe/Berlin")`, `"01.03.2024"`,
		formatTime, []any{new(func(time.Time, string) string), new(func(time.Time, string, string) string)}},
	{"parse_time", "text[, format[, zone]]", "the time that a text says; without a format it is `rfc3339`",
		`iso(parse_time("29.02.2024", "%d.%m.%Y"))`, `"2024-02-29T00:00:00Z"`,
		parseTime, []any{new(func(string) time.Time), new(func(string, string) time.Time), new(func(string, string, string) time.Time)}},
	{"duration", "text", "a stretch of time, such as `90s`, `1h30m` or `7d`, to add to a time or to take from it",
		`iso(parse_time("2024-02-29T12:00:00Z") - duration("1d"))`, `"2024-02-28T12:00:00Z"`,
		func(p ...any) (any, error) { return arg(p, parseDuration) }, []any{new(func(string) time.Duration)}},
	{"unix", "time", "its seconds since 1970", `unix(parse_time("2024-02-29T12:00:00Z"))`, `1709208000`,
		unixOf, []any{new(func(time.Time) int64)}},
	{"iso", "time", "the time as `rfc3339` has it, in UTC; a time alone in `{{ }}` is written so", `iso(parse_time("2024-02-29T13:00:00+01:00"))`, `"2024-02-29T12:00:00Z"`,
		func(p ...any) (any, error) { return arg(p, isoOf) }, []any{new(func(time.Time) string)}},
	{"split", "text, separator[, most]", "the pieces of a text, a list; at the most so many", `split("de-DE", "-")[0]`, `"de"`,
		split, []any{new(func(string, string) []any), new(func(string, string, int64) []any)}},
	{"join", "list[, separator]", "the elements as one text", `join(["a", "b", 3], ",")`, `"a,b,3"`,
		join, []any{new(func([]any) string), new(func([]any, string) string)}},
	{"replace", "text, old, new", "the text with each `old` replaced", `replace("2024-02-29", "-", "")`, `"20240229"`, nil, nil},
	{"lower", "text", "in small letters", `lower("ID")`, `"id"`, nil, nil},
	{"upper", "text", "in capital letters", `upper("id")`, `"ID"`, nil, nil},
	{"trim", "text[, characters]", "without blanks, or these characters, at both ends", `trim(" id ")`, `"id"`, nil, nil},
	{"regex_find", "text, expression[, group]", "the first match of a regular expression (RE2), or the group of it; null where there is none",
		`regex_find("page=42;", "page=([0-9]+)", 1)`, `"42"`,
		regexFind, []any{new(func(string, string) any), new(func(string, string, int64) any)}},
	{"length", "value", "the characters of a text, the elements of a list, the members of a map", `length(["a", "b"])`, `2`,
		length, []any{new(func(any) int64)}},
	{"first", "list", "its first element; null where there is none", `first(["a", "b"])`, `"a"`, nil, nil},
	{"last", "list", "its last element; null where there is none", `last(["a", "b"])`, `"b"`, nil, nil},
	{"filter", "list, condition", "the elements for which a condition holds; `#` is the element, `.name` a member of it",
		`filter([{"id": 1, "live": true}, {"id": 2, "live": false}], .live)`, `[{"id":1,"live":true}]`, nil, nil},
	{"map", "list, expression", "what an expression gives for each element; `#` is the element, `.name` a member of it",
		`map([{"id": 1}, {"id": 2}], .id)`, `[1,2]`, nil, nil},
	{"json", "value", "the value as JSON text, the members of maps in the order of their names", `json({"b": 1, "a": [true]})`, `"{\"a\":[true],\"b\":1}"`,
		jsonOf, []any{new(func(any) string)}},
	{"base64", "text", "the text in base64", `base64("user:key")`, `"dXNlcjprZXk="`,
		func(p ...any) (any, error) { return arg(p, base64Of) }, []any{new(func(string) string)}},
	{"urlencode", "value", "the text as a query or a form has it; what `path`, `query` and `form` send is encoded anyway", `urlencode("a b/c")`, `"a+b%2Fc"`,
		urlencode, []any{new(func(any) string)}},
	{"hash", "text[, algorithm]", "its hash in hexadecimal: `sha256`, `sha512`, `sha1` or `md5`; without an algorithm `sha256`",
		`hash("a", "md5")`, `"0cc175b9c0f1b6a831c399e269772661"`, hashOf, []any{new(func(string) string), new(func(string, string) string)}},
	{"hmac", "text, key[, algorithm]", "its HMAC with a key, likewise", `hmac("a", "k", "sha1")`, `"40e7d441cadb17b07f050341aa23a6820ed81c8b"`,
		hmacOf, []any{new(func(string, string) string), new(func(string, string, string) string)}},
}

// functionNamed returns the function of that name; nil where the language has none.
func functionNamed(name string) *function {
	if i := slices.IndexFunc(language, func(f function) bool { return f.name == name }); i >= 0 {
		return &language[i]
	}
	return nil
}

// functions returns ours, for expr: those of the language that are not its own, and those that only the rewriter calls.
func functions() []*builtin.Function {
	var out []*builtin.Function
	for _, f := range language {
		if f.types != nil {
			out = append(out, native(f.name, f.called, f.types...))
		}
	}
	return append(out,
		native("required", notNull, new(func(any, string) any)),
		native("member", func(p ...any) (any, error) { x, _, err := access(p[0], p[1]); return x, err }, new(func(any, any) any)),
		native("must", must, new(func(any, any) any)),
		native("place", place, new(func(*view, int, string) any)),
		native("maybe", maybe, new(func(*view, int, string) any)),
		native("body", bodyAt, new(func(*response, record.Path) any)))
}

func native(name string, f func(...any) (any, error), overloads ...any) *builtin.Function {
	out := &builtin.Function{Name: name, Func: f}
	for _, t := range overloads {
		out.Types = append(out.Types, reflect.TypeOf(t).Elem())
	}
	return out
}

// called calls f. What goes wrong says of which function it is.
func (f *function) called(p ...any) (any, error) {
	x, err := f.call(p...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return x, nil
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

// split returns a list of the language, where expr's own returns one of Go's.
func split(p ...any) (any, error) {
	in, err := texts(p[:2], 2)
	if err != nil {
		return nil, err
	}
	most := int64(maxMemory + 1)
	if len(p) > 2 {
		if most, err = as[int64](p, 2); err != nil {
			return nil, err
		}
	}
	if most < 1 {
		return nil, fmt.Errorf("argument 3 is %d, and there is at least one piece", most)
	}
	pieces := strings.SplitN(in[0], in[1], int(min(most, maxMemory+1)))
	if len(pieces) > maxMemory {
		return nil, fmt.Errorf("the text has more than %d pieces", maxMemory) // (10)
	}
	return normal(pieces), nil
}

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
			return nil, false, fmt.Errorf("a list has numbers from 0, not %s", kindOf(step))
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
