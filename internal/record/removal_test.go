package record

import (
	"slices"
	"testing"
)

func removal(t *testing.T, texts ...string) *Removal {
	t.Helper()
	var paths []Path
	for _, text := range texts {
		p, err := ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	r, err := NewRemoval(paths)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is left keeps its bytes, and is what hash rules with the same paths excluded would compare.
func TestRemoval(t *testing.T) {
	for _, c := range []struct {
		text, want string
		paths      []string
	}{
		{`{"a":1,"b":2}`, `{"b":2}`, []string{"a"}},
		{`{"a":1}`, `{}`, []string{"a"}},
		{`{}`, `{}`, []string{"a"}},
		{`{ "x": { "y" : 1.50, "z": [ 1 , 2 ] } , "a" : 0 }`, `{"x":{"z":[ 1 , 2 ]},"a":0}`, []string{"x.y"}},
		{`{"l":[{"p":1,"q":2},{"p":3},7,[{"p":1}]]}`, `{"l":[{"q":2},{},7,[{"p":1}]]}`, []string{"l[*].p"}},
		{`{"a\"b":1,"\u0063":2,"d":3}`, `{"d":3}`, []string{`["a\"b"]`, "c"}},
		{`{"a":{"b":1},"b":{"a":1}}`, `{"b":{"a":1}}`, []string{"a", "a.b"}},
		{`[1]`, `[1]`, []string{"a"}},
		{`{"a":[{"b":1}]}`, `{"a":[{"b":1}]}`, []string{"a.b"}},
		{`{"a":"{\"b\":1}"}`, `{"a":"{\"b\":1}"}`, []string{"a.b", "b"}},
	} {
		buf := []byte(c.text)
		got := removal(t, c.paths...).Append(nil, buf, All(buf))
		if string(got) != c.want {
			t.Errorf("%s without %v: %s, want %s", c.text, c.paths, got, c.want)
		}
		left, excluded := AppendCanonical(nil, got, All(got), Rules{}), AppendCanonical(nil, buf, All(buf), Rules{Exclude: c.paths})
		if !slices.Equal(left, excluded) {
			t.Errorf("%s without %v compares as %s, and what is left as %s", c.text, c.paths, excluded, left)
		}
	}
	for _, text := range []string{".", "a[0]", "a[*]", "a[0].b"} {
		p, err := ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewRemoval([]Path{p}); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// FuzzRemoval proves that what is left is JSON, and compares as if what was removed had been excluded.
func FuzzRemoval(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[{"c":1,"d":2}]},"b":null}`))
	f.Add([]byte(`{"\u0061":1,"b":[{"a":[]}],"c":1e3}`))
	f.Fuzz(func(t *testing.T, buf []byte) {
		if Valid(buf, Limits{}) != nil {
			return
		}
		paths := []string{"a.b[*].c", "b[*].a", "c"}
		got := removal(t, paths...).Append(nil, buf, All(buf))
		if err := Valid(got, Limits{}); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if a, b := AppendCanonical(nil, got, All(got), Rules{}), AppendCanonical(nil, buf, All(buf), Rules{Exclude: paths}); !slices.Equal(a, b) {
			t.Errorf("%q: %q and %q", buf, a, b)
		}
	})
}
