package source

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/expr-lang/expr/file"
)

// expr speaks to programmers of Go. What an author of a definition reads is in the language's words, and names no type of Go.

// phrase is how one message of expr reads in the language's words.
type phrase struct {
	theirs *regexp.Regexp
	ours   string // %s: a type in words, or what the group after it is
	groups string // what the groups are: t a type, w one that is wanted, f a function, o anything else
}

// phrases are the messages that the language can lead to. The first that matches holds.
var phrases = []phrase{
	{regexp.MustCompile(`^expected (\w+), but got (.*)$`), "this gives %[2]s where %[1]s is wanted", "wt"},
	{regexp.MustCompile(`^cannot use (.+) as argument \(type (.+)\) to call (\w+)`), "%[3]s takes %[2]s here, not %[1]s", "tto"},
	{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched types (.+) and (.+)\)`), "%s cannot stand between %s and %s", "ott"},
	{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched type (.+)\)`), "%s cannot stand before %s", "ot"},
	{regexp.MustCompile(`^invalid operation: ([^ ]+(?: \{\})?) (\S+) (.+)$`), "%[2]s cannot stand between %[1]s and %[3]s", "tot"},
	{regexp.MustCompile(`^invalid operation: - (.+)$`), "- cannot stand before %s", "t"},
	{regexp.MustCompile(`^invalid operation: \w+\((.+)\)$`), "a number is wanted, not %s", "t"},
	{regexp.MustCompile(`^(?:not enough|too many) arguments to call (\w+)`), "%s", "f"},
	{regexp.MustCompile(`^invalid number of arguments for (\w+)`), "%s", "f"},
	{regexp.MustCompile(`^cannot get (\w+) element from (.+)$`), "%s takes a list, not %s", "ot"},
	{regexp.MustCompile(`^builtin (\w+) takes only array \(got (.+)\)$`), "%s takes a list, not %s", "ot"},
	{regexp.MustCompile(`^predicate should return boolean \(got (.+)\)$`), "the condition gives %s where true or false is wanted", "t"},
	{regexp.MustCompile(`^cannot use (.+) as array$`), "a list is wanted, not %s", "t"},
	{regexp.MustCompile(`^cannot slice `), "only a text or a list has a part [from:to]", ""},
	{regexp.MustCompile(`^non-integer slice index (.+)$`), "a part [from:to] has whole numbers, not %s", "t"},
	{regexp.MustCompile(`^non-bool expression \(type (.+)\) used as condition$`), "true or false decides, not %s", "t"},
	{regexp.MustCompile(`^invalid \w+ literal: .*parsing "(.*?)"`), "%s is no number that the language can hold", "o"},
	{regexp.MustCompile(`interface conversion: interface \{\} is (.+), not (.+)$`), "a value is %s, and %s is wanted", "tt"},
	{regexp.MustCompile(`^operator "in" not defined on (.+)$`), "in looks into a list or a map, not into %s", "t"},
	{regexp.MustCompile(`^cannot use (.+) as field name of `), "a map has names, not %s", "t"},
	{regexp.MustCompile(`^reflect\.Value\.MapIndex: value of type (.+) is not assignable`), "a map has names, not %s", "t"},
	{regexp.MustCompile(`^reflect: call of \S+ on (.+) Value$`), "a list is wanted, not %s", "t"},
	{regexp.MustCompile(`integer divide by zero`), "a division by zero", ""},
	{regexp.MustCompile(`^unexpected token EOF`), "the expression ends too early", ""},
	{regexp.MustCompile(`^compilation failed: expression exceeds maximum allowed nodes`),
		fmt.Sprintf("the expression is too long: it has more than %d parts", maxNodes), ""},
}

// inWords says what expr says in the language's words.
func inWords(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	message = strings.TrimSuffix(message, ".")
	for _, p := range phrases {
		m := p.theirs.FindStringSubmatch(message)
		if m == nil {
			continue
		}
		var parts []any
		for i, is := range p.groups {
			switch text := m[i+1]; is {
			case 't':
				parts = append(parts, typeWord(text))
			case 'w':
				parts = append(parts, strings.TrimSuffix(typeWord(text), " with a fraction")) // which need not have one
			case 'f':
				parts = append(parts, usage(text))
			default:
				parts = append(parts, text)
			}
		}
		return fmt.Sprintf(p.ours, parts...)
	}
	return goType.ReplaceAllStringFunc(message, typeWord)
}

// usage says how a function is called.
func usage(name string) string {
	if f := functionNamed(name); f != nil {
		return fmt.Sprintf("%s is called as %[1]s(%s)", name, f.takes)
	}
	return name + " takes another number of arguments"
}

// located turns an error of expr into one in the language's words, at its place.
func located(err error) error {
	at, message := 0, err.Error()
	var fe *file.Error
	if errors.As(err, &fe) {
		at, message = fe.From, fe.Message
	}
	return &misuse{at, inWords(message)}
}

// running strips expr's picture of the expression from an error.
func running(err error) error {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return err
	}
	var u *undefined
	var n *null
	if errors.As(fe.Prev, &u) || errors.As(fe.Prev, &n) {
		return fe.Prev
	}
	return errors.New(inWords(fe.Message))
}

// goType finds what can only be a type of Go: what else is a word of English stays.
var goType = regexp.MustCompile(`(?:\[\]|map\[\w+\]|\*)*(?:interface \{\}|\bu?int(?:8|32|64)\b|\bfloat64\b|\btime\.(?:Time|Duration)\b|\bsource\.\w+|\bbuiltin\.\w+)|<nil>`)

// typeWord is the language's word for a type of Go.
func typeWord(t string) string {
	words := map[string]string{"string": "a text", "bool": "true or false", "int64": "a number", "int": "a number", "float64": "a number with a fraction",
		"time.Time": "a time", "time.Duration": "a duration", "nil": "null", "<nil>": "null", "zero": "null", "map": "a map", "slice": "a list",
		"[]uint8": "a text", "*source.view": "a record", "struct": "a time"}
	switch w, ok := words[t]; {
	case ok:
		return w
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "a map"
	}
	return "a value"
}
