package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

var seeds = []string{
	`{"a":1,"b":[1,2,{"x":null}]}`,
	`{"b":[1,2,{"x":null}],"a":1.0}`,
	`{"a":"\ud83d\ude00\n\u00e9","b":-1.5e+10}`,
	`{"a":[[],{},"",0.0],"a\u0022":true}`,
	` [ false , -0 , 1e-3, 12345678901234567890 ] `,
	`{"a":{"b":{"c":[{"a":1},{"a":2}]}},"é":"é"}`,
	`{"a":1,"a":2}`,
	`"\ud800"`,
	"\"\xff\"",
	`[1,`,
	`01`,
	`null`,
	`0A0`,
}

// FuzzScan compares what is accepted with jsontext, and a scanner that has learnt other texts with one that has not.
func FuzzScan(f *testing.F) {
	for _, text := range seeds {
		f.Add([]byte(text))
	}
	f.Add(sample(1))
	limits := Limits{Depth: maxDepth}
	places := paths(f, "a", "a.b", "a[1]", "b[0].x")
	p, err := NewPlan(places, Rules{Exclude: []string{"a.b", "c[*].d"}}, 1)
	if err != nil {
		f.Fatal(err)
	}
	warm := NewScanner(p, limits)
	f.Fuzz(func(t *testing.T, text []byte) {
		err := Valid(text, limits)
		if want := jsontext.Value(text).IsValid(); (err == nil) != want {
			t.Fatalf("%q: %v, jsontext says %v", text, err, want)
		}
		cold := NewScanner(p, limits)
		end, errWarm := warm.Scan(text, 0)
		endCold, errCold := cold.Scan(text, 0)
		if end != endCold || fmt.Sprint(errWarm) != fmt.Sprint(errCold) {
			t.Fatalf("%q: %d %v, without knowledge %d %v", text, end, errWarm, endCold, errCold)
		}
		if errWarm != nil {
			var fault *SyntaxError
			if !errors.As(errWarm, &fault) || fault.Offset < 0 || fault.Offset > len(text) {
				t.Fatalf("%q: %v", text, errWarm)
			}
			return
		}
		if warm.Hash != cold.Hash || warm.ValueSpan != cold.ValueSpan {
			t.Fatalf("%q: hash %#x, without knowledge %#x", text, warm.Hash, cold.Hash)
		}
		// A number can be followed by anything here; what follows is the caller's to check.
		if skipped, ok := Skip(text, 0); !ok || skipped != end && err == nil {
			t.Fatalf("%q: Skip ends at %d, Scan at %d", text, skipped, end)
		}
		for i, path := range places {
			if at, _ := path.Find(text, Span{0, int32(end)}); at != warm.Spans[i] || at != cold.Spans[i] {
				t.Fatalf("%q: %s is %v, %v, %v", text, path, at, warm.Spans[i], cold.Spans[i])
			}
		}
	})
}

// FuzzHash proves that two texts have the same hash if and only if an independent reading of them is equal, and if and only if
// their canonical texts are; under exclusions as without.
func FuzzHash(f *testing.F) {
	for i, text := range seeds {
		f.Add([]byte(text), []byte(seeds[(i+1)%len(seeds)]))
	}
	f.Add(sample(1), sample(2))
	var scanners []*Scanner
	for _, rules := range []Rules{{}, {Exclude: []string{"a.b", "b[*].x", "b[1]"}}, {Include: []string{"a", "b[*].x", "b[0]"}}, {Value: "a"}} {
		scanners = append(scanners, scanner(f, rules, 1, "b"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if Valid(a, Limits{}) != nil || Valid(b, Limits{}) != nil {
			return
		}
		for i, s := range scanners {
			canonicalOf := func(text []byte) (uint64, string) {
				h := hashOf(t, s, string(text))
				return h, string(s.plan.AppendCanonical(nil, text, s.ValueSpan))
			}
			ha, ca := canonicalOf(a)
			hb, cb := canonicalOf(b)
			if (ha == hb) != (ca == cb) {
				t.Fatalf("rules %d: %#x %#x\n%s\n%s\n%s\n%s", i, ha, hb, a, b, ca, cb)
			}
			if i > 0 {
				continue
			}
			ra, okA := reference(a)
			rb, okB := reference(b)
			if okA && okB && (ra == rb) != (ca == cb) {
				t.Fatalf("the reference disagrees\n%s\n%s", ca, cb)
			}
			if again := string(AppendCanonical(nil, []byte(ca), All([]byte(ca)), Rules{})); again != ca || !json.Valid([]byte(ca)) {
				t.Fatalf("canonical text is not its own: %s, %s", ca, again)
			}
		}
	})
}

// reference reads text with encoding/json and exact fractions; false where numbers are too large for fractions.
func reference(text []byte) (string, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return "", false
	}
	var b strings.Builder
	ok := writeReference(&b, v)
	return b.String(), ok
}

func writeReference(b *strings.Builder, v any) bool {
	switch v := v.(type) {
	case json.Number:
		if _, e, found := strings.Cut(strings.ToLower(string(v)), "e"); found && len(e) > 4 {
			return false
		}
		r, ok := new(big.Rat).SetString(string(v))
		if ok {
			b.WriteString(r.RatString())
		}
		return ok
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			if !writeReference(b, e) {
				return false
			}
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case map[string]any:
		names, _ := json.Marshal(mapOfNames(v)) // sorts them
		b.Write(names)
		var sorted []string
		d := json.NewDecoder(bytes.NewReader(names))
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return false
			}
			if name, ok := token.(string); ok {
				sorted = append(sorted, name)
			}
		}
		for _, name := range sorted {
			if !writeReference(b, v[name]) {
				return false
			}
			b.WriteByte(',')
		}
	default:
		text, _ := json.Marshal(v)
		b.Write(text)
	}
	return true
}

func mapOfNames(object map[string]any) map[string]bool {
	names := map[string]bool{}
	for name := range object {
		names[name] = true
	}
	return names
}

// FuzzFind proves that places are looked up in text that nobody has checked without a panic and inside its bounds, and that
// a path has one spelling.
func FuzzFind(f *testing.F) {
	for i, path := range []string{"a", "a.b", "a[0]", "a[*].b", `["@odata.nextLink"]`, ".", `a["x\"]`, "[*][1]"} {
		f.Add(path, []byte(seeds[i]))
	}
	f.Fuzz(func(t *testing.T, path string, text []byte) {
		p, err := ParsePath(path)
		if err != nil {
			return
		}
		if again, err := ParsePath(p.String()); err != nil || !again.Equal(p) {
			t.Fatalf("%q became %q: %v", path, p, err)
		}
		for pos := range min(len(text), 20) {
			at := Span{int32(pos), int32(len(text))}
			if s, ok := p.Find(text, at); ok && (s.Off < at.Off || s.End <= s.Off || s.End > at.End) {
				t.Fatalf("%v in %v", s, at)
			}
			p.Each(text, at, func(s Span) bool {
				got, _ := Text(nil, text, s)
				_ = KeyHash(got)
				return true
			})
		}
	})
}
