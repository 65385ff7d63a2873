package record

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePath(t *testing.T) {
	for text, want := range map[string]string{
		"":                       ".",
		".":                      ".",
		"a":                      "a",
		"a.b":                    "a.b",
		"a[0]":                   "a[0]",
		"a[*].b":                 "a[*].b",
		"[2][*]":                 "[2][*]",
		`["@odata.nextLink"]`:    `["@odata.nextLink"]`,
		`["plain"].b`:            `plain.b`,
		`a["b c"][1]`:            `a["b c"][1]`,
		`a["\u00e9"]`:            `a.é`,
		`a["x\"]y"]`:             `a["x\"]y"]`,
		"@type":                  "@type",
		"metadata.paging.per-pg": "metadata.paging.per-pg",
		`[""]`:                   `[""]`,
		"größe.x":                "größe.x",
		"_links.next[0].href":    "_links.next[0].href",
		`["a.b"]["c"]`:           `["a.b"].c`,
		`["007"]`:                "007",
	} {
		p, err := ParsePath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		again, err := ParsePath(p.String())
		if err != nil || !again.Equal(p) {
			t.Errorf("%s: its own spelling %s is another path: %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"a..b":           "name at 3",
		".a":             "name at 1",
		"a.":             "name at 3",
		"a[":             "at 3",
		"a[x]":           "at 3",
		"a[-1]":          "at 3",
		"a[1":            "at 3",
		"a[99999999999]": "at 3",
		"a[]":            "at 3",
		"a['b']":         "double quotes",
		`a["b]`:          "at 2",
		`a["b"`:          "at 2",
		`a["\x"]`:        "not a JSON string",
		"a b":            ". or [ at 2",
		"a.b ?? false":   ". or [ at 4",
		"a[0]b":          ". or [ at 5",
		"a\xff":          ". or [ at 2",
	} {
		if p, err := ParsePath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v, want an error with %q", text, p, err, want)
		}
	}
}

func TestPathParts(t *testing.T) {
	p := paths(t, "a[*].b", "a.b", ".", "c")
	if !p[0].Wild() || p[1].Wild() || p[2].Wild() {
		t.Error("Wild")
	}
	if !p[2].IsRoot() || p[1].IsRoot() || p[0].Depth() != 3 {
		t.Error("IsRoot, Depth")
	}
	if got := p[1].Join(p[0]).String(); got != "a.b.a[*].b" {
		t.Error(got)
	}
	if got := p[2].Join(p[3]).String(); got != "c" {
		t.Error(got)
	}
}

func TestEach(t *testing.T) {
	const text = `{"a":[{"b":1},{"c":2},{"b":[3,4]},5],"o":{"a":[[{"b":6}],[],[{"b":7},{"b":8}]]},"b\u0022":9}`
	buf := []byte(text)
	for path, want := range map[string][]string{
		"a[*].b":      {"1", "[3,4]"},
		"a[*].b[*]":   {"3", "4"},
		"o.a[*][*].b": {"6", "7", "8"},
		"a[3]":        {"5"},
		"a[*]":        {`{"b":1}`, `{"c":2}`, `{"b":[3,4]}`, "5"},
		"o[*]":        nil,
		"x[*].b":      nil,
		"x":           nil,
		`["b\""]`:     {"9"},
		"o.a[2][1].b": {"8"},
		".":           {text},
	} {
		p := paths(t, path)[0]
		var got []string
		p.Each(buf, All(buf), func(s Span) bool {
			got = append(got, string(s.Of(buf)))
			return true
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		first, ok := p.Find(buf, All(buf))
		if ok != (len(want) > 0) || ok && string(first.Of(buf)) != want[0] {
			t.Errorf("%s: Find says %v %v", path, first, ok)
		}
		n := 0
		p.Each(buf, All(buf), func(Span) bool { n++; return false })
		if n > 1 {
			t.Errorf("%s: Each goes on after false", path)
		}
	}
}
