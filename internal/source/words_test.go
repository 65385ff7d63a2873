package source

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// TestFunctionsAreAsTheTableSays: every function has an example on the reference page, and it gives what stands there.
func TestFunctionsAreAsTheTableSays(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range language {
		if seen[f.name] || f.takes == "" || f.gives == "" || !strings.Contains(f.example, f.name+"(") {
			t.Errorf("%s is there twice, or not explained", f.name)
		}
		seen[f.name] = true
		c, err := compileTemplate("{{ "+f.example+" }}", everything())
		if err != nil {
			t.Errorf("%s: %v", f.example, err)
			continue
		}
		x, _, err := c.eval(&vars{})
		if err != nil {
			t.Errorf("%s: %v", f.example, err)
			continue
		}
		if got, err := appendJSON(nil, x); err != nil || string(got) != f.result {
			t.Errorf("%s gives %s, not %s: %v", f.example, got, f.result, err)
		}
		if !strings.Contains(string(Reference()), "| `"+f.name+"("+f.takes+")` |") {
			t.Errorf("%s is not in the reference", f.name)
		}
	}
}

// goWords are what an author of a definition must not meet in a message.
var goWords = []string{"interface {", "[]", "map[", "reflect", "time.Time", "time.Duration", "int64", "float64", "uint8", "strconv", "runtime error", "source.", "<nil>",
	"UTC m=", "builtin"}

// unspeakable returns the word of Go's that a message has, and the author's text has not.
func unspeakable(message, text string) string {
	text += " " + strings.Join(strings.Fields(text), "") // messages write an expression without its spaces
	i := slices.IndexFunc(goWords, func(word string) bool { return strings.Contains(message, word) && !strings.Contains(text, word) })
	if i < 0 {
		return ""
	}
	return goWords[i]
}

// TestMessagesAreInTheLanguagesWords: what is wrong in an expression is said without a type of Go's.
func TestMessagesAreInTheLanguagesWords(t *testing.T) {
	for text, want := range map[string]string{
		"lower(1)":                  "lower takes a text here, not a number",
		"lower(last.n)":             "a value is null, and a text is wanted",
		"last.id + 'a'":             "+ cannot stand between a number and a text",
		"last.n + 1":                "+ cannot stand between null and a number",
		"last.l + 1":                "+ cannot stand between a list and a number",
		"last > 1":                  "> cannot stand between a map and a number",
		"config.list + config.many": "+ cannot stand between a list and a number",
		"[1] == 1":                  "== cannot stand between a list and a number",
		"page % 1.5":                "% cannot stand between a number and a number with a fraction",
		"now > cursor":              "> cannot stand between a time and a text",
		"-cursor":                   "- cannot stand before a text",
		"!page":                     "! cannot stand before a number",
		"-now":                      "- cannot stand before a time",
		"2 ** last.l[0]":            "a number is wanted, not a text",
		"first('abc')":              "first takes a list, not a text",
		"filter('abc', true)":       "filter takes a list, not a text",
		"filter(last.id, true)":     "a list is wanted, not a number",
		"filter(last.n, true)":      "a list is wanted, not null",
		"map(last, #)":              "a list is wanted, not a map",
		"filter([1], 1)":            "the condition gives a number where true or false is wanted",
		"page[1:2]":                 "only a text or a list has a part [from:to]",
		"last.id[1:2]":              "only a text or a list has a part [from:to]",
		"'abc'[1.5:2]":              "a part [from:to] has whole numbers, not a number with a fraction",
		"page ? 1 : 2":              "true or false decides, not a number",
		"1 in last.id":              "in looks into a list or a map, not into a number",
		"page in last":              "a map has names, not a number",
		"last[now]":                 "a map has names, not a time",
		"last.l[now]":               "a list has numbers from 0, not a time",
		"format_time(last, 'x')":    "format_time: argument 1 is a map, not a time",
		"join(last.id)":             "join: argument 1 is a number, not a list",
		"format_time(now)":          "format_time is called as format_time(time, format[, zone])",
		"split('a')":                "split is called as split(text, separator[, most])",
		"upper('a', 'b')":           "upper is called as upper(text)",
		"replace('a', 'b')":         "replace is called as replace(text, old, new)",
		"split('a', 'b', 0)":        "split: argument 3 is 0",
		"last.id matches 'a'":       "a value is a number, and a text is wanted",
		"cursor contains 1":         "contains cannot stand between a value and a number",
		"page % 0":                  "this divides by zero",
		"99999999999999999999":      "99999999999999999999 is no number that the language can hold",
		"map([1], now > #)":         "",
		"json(now - now)":           "json: a duration has no JSON form",
		"base64(last.l)":            "base64: argument 1 is a list, not a text",
		"strftime(now)":             `unknown function "strftime": docs/reference.md has the list, under Functions`,
		"len(last.l)":               `unknown function "len" (did you mean "length"?)`,
		"to_json(last)":             `unknown function "to_json" (did you mean "json"?)`,
	} {
		c, err := compileTemplate("{{ "+text+" }}", everything())
		if err == nil {
			_, _, err = c.eval(values())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		} else if word := unspeakable(err.Error(), text); word != "" {
			t.Errorf("%s: %v speaks Go: %s", text, err, word)
		}
	}
}

// TestSplitGivesAListOfTheLanguage: its elements can be taken, joined, filtered and counted.
func TestSplitGivesAListOfTheLanguage(t *testing.T) {
	for text, want := range map[string]any{
		"split('a-b-c', '-')":                              []any{"a", "b", "c"},
		"split('a-b-c', '-')[0]":                           "a",
		"split('a-b-c', '-')[-1]":                          "c",
		"split('a-b-c', '-', 2)[1]":                        "b-c",
		"join(split('a-b-c', '-'), '+')":                   "a+b+c",
		"join(map(split('a-b-c', '-'), upper(#)))":         "ABC",
		"length(filter(split('a-b-c', '-'), # != 'b'))":    int64(2),
		"last(split(cursor, '-'))":                         "01T00:00:00Z",
		"split('a', '-')[5] ?? 'none'":                     "none",
		"'b' in split('a-b', '-')":                         true,
		"split('a-b', '-')[0] == 'a' ? cursor : last.l[0]": "2024-01-01T00:00:00Z",
	} {
		got, ok, err := mustTemplate(t, "{{ "+text+" }}").eval(values())
		if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	v := values()
	v.cursor = strings.Repeat("x", maxMemory+1) // (10)
	if _, _, err := mustTemplate(t, "{{ split(cursor, '')[0] }}").eval(v); err == nil || !strings.Contains(err.Error(), "pieces") {
		t.Error(err)
	}
}

// TestNullIsNamedByItsExpression: the hint can be written down as it stands.
func TestNullIsNamedByItsExpression(t *testing.T) {
	for text, want := range map[string]string{
		"split('a', '-')[1]":   `split("a", "-")[1]`,
		"first([])":            `first([])`,
		"regex_find('a', 'b')": `regex_find("a", "b")`,
		"partition.view":       "partition.view",
	} {
		c, err := compileTemplate("x{{ "+text+" }}", everything())
		if err == nil {
			_, _, err = c.eval(&vars{})
		}
		var n *null
		if hint := cdc.Hint(err); !errors.As(err, &n) || n.name != want || !strings.Contains(hint, "give it a value, or say "+want+" ?? VALUE") {
			t.Errorf("%s: %v → %s", text, err, hint)
		}
		if _, err := compileTemplate("{{ "+want+" ?? 'x' }}", everything()); err != nil {
			t.Errorf("what the hint says is no expression: %v", err)
		}
	}
	b := &body{leaf: mustTemplate(t, "{{ cursor }}"), text: true}
	if _, _, err := b.render(&vars{}); err == nil || strings.Contains(cdc.Hint(err), "the body ??") {
		t.Errorf("%v → %s", err, cdc.Hint(err))
	}
}
