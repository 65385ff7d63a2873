package fetch

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Who quotes a secret spells it: a path and a query escape it, forms and JSON do, each library in its own way, HTML does, and an
// error of ours quotes the quotation. So a secret is looked for character by character, each in every spelling that it may have.
// Letters and digits have one, and most secrets have little else.

// spelt is a secret with the spellings of its characters, which are found once.
type spelt struct {
	text  string
	chars [][]string
	first [256]bool // the bytes that its spellings begin with
	most  int       // bytes of its longest spelling
}

func spell(text string) *spelt {
	s := &spelt{text: text}
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		var all []string
		if r < utf8.RuneSelf {
			all = ascii()[r]
		} else {
			all = spellings(rest[:size])
		}
		longest := 0
		for _, one := range all {
			longest = max(longest, len(one))
		}
		s.chars, s.most, rest = append(s.chars, all), s.most+longest, rest[size:]
	}
	for _, one := range s.chars[0] {
		s.first[one[0]] = true
	}
	return s
}

// ascii has the spellings of the characters that most secrets consist of.
var ascii = sync.OnceValue(func() [][]string {
	all := make([][]string, utf8.RuneSelf)
	for r := range all {
		all[r] = spellings(string(rune(r)))
	}
	return all
})

// spellings are the ways to write the character c, or a byte that belongs to none.
func spellings(c string) []string {
	r, _ := utf8.DecodeRuneInString(c)
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return []string{c}
	}
	percent, long := "", ""
	for _, b := range []byte(c) {
		percent += fmt.Sprintf("%%%02X", b)
		long += fmt.Sprintf("%%25%02X", b) // a URL within a URL
	}
	units := ""
	for _, u := range utf16.Encode([]rune{r}) {
		units += fmt.Sprintf(`\u%04x`, u)
	}
	upper := strings.ReplaceAll(strings.ToUpper(units), `\U`, `\u`)
	all := []string{c, string(r), percent, strings.ToLower(percent), long, strings.ToLower(long), units, upper, html.EscapeString(c),
		fmt.Sprintf("&#%d;", r), fmt.Sprintf("&#x%x;", r), fmt.Sprintf("&#x%X;", r), within(strconv.Quote(c)), within(strconv.QuoteToASCII(c))}
	switch r {
	case ' ':
		all = append(all, "+", "%2B", "%2b")
	case '"':
		all = append(all, "&quot;")
	case '\'':
		all = append(all, "&apos;")
	case '\b', '\f': // JSON has a letter for them, and Go's quotation another spelling
		all = append(all, map[rune]string{'\b': `\b`, '\f': `\f`}[r])
	}
	if r > ' ' && r < utf8.RuneSelf {
		all = append(all, `\`+c) // PHP writes \/
	}
	for _, one := range all { // quoted again, by an error
		all = append(all, within(strconv.Quote(one)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// within is what stands between the quotation marks.
func within(quoted string) string { return quoted[1 : len(quoted)-1] }

// read says how many bytes at the beginning of text spell the secret; 0 where they do not. cut says that text ends within it,
// behind so many characters that what is there could not be guessed.
func (s *spelt) read(text string) (end int, cut bool) {
	var room, spare [8]int
	at, next := append(room[:0], 0), spare[:0]
	for n, spellings := range s.chars {
		for _, i := range at { // text that is spelt in two ways has two ends: "%25" is a percent sign, or begins with one
			rest := text[i:]
			for _, one := range spellings {
				if strings.HasPrefix(rest, one) {
					if to := i + len(one); !slices.Contains(next, to) {
						next = append(next, to)
					}
				} else if n >= shortest && strings.HasPrefix(one, rest) {
					cut = true
				}
			}
		}
		if len(next) == 0 {
			return 0, cut
		}
		at, next = next, at[:0]
	}
	return slices.Max(at), cut
}

// find calls found with the places in text where the secret is.
func (s *spelt) find(text string, found func(from, to int)) {
	for i := 0; i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		if end, _ := s.read(text[i:]); end > 0 {
			found(i, i+end)
			i += end - 1
		}
	}
}

// findCut calls found where the secret begins at the end of text.
func (s *spelt) findCut(text string, found func(from, to int)) {
	for i := max(0, len(text)-s.most); i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		if _, cut := s.read(text[i:]); cut {
			found(i, len(text))
			return
		}
	}
}
