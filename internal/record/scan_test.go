package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScanFindsPlaces(t *testing.T) {
	const text = `  {"id": 7, "o": {"x": [10, {"y": "deep"}], "id": 8}, "@odata.etag": "e", "n": null} , `
	places := []string{"id", "o", "o.x", "o.x[1].y", "o.x[0]", `["@odata.etag"]`, "n", "none", "o.none.x", "id", ".", "o.x[2]", "id.x", "o[0]"}
	want := []string{"7", `{"x": [10, {"y": "deep"}], "id": 8}`, `[10, {"y": "deep"}]`, `"deep"`, "10", `"e"`, "null", "", "", "7",
		strings.TrimRight(strings.TrimSpace(text), " ,"), "", "", ""}
	s := scanner(t, Rules{}, 1, places...)
	for range 3 { // the second time names are predicted
		end, err := s.Scan([]byte(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, at := range s.Spans {
			got = append(got, string(at.Of([]byte(text))))
			// Find goes its own way and must find the same.
			found, ok := paths(t, places[i])[0].Find([]byte(text), Span{0, int32(len(text))})
			if found != at || ok == at.IsZero() {
				t.Errorf("%s: Find says %v %v, Scan %v", places[i], found, ok, at)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if rest := text[end:]; rest != " , " {
			t.Errorf("rest %q", rest)
		}
		if got := string(s.Record.Of([]byte(text))); got != want[10] {
			t.Errorf("record %q", got)
		}
	}
	// What one record has does not stay for the next.
	if _, err := s.Scan([]byte(`{"o":5}`), 0); err != nil {
		t.Fatal(err)
	}
	for i, at := range s.Spans {
		if has := places[i] == "o" || places[i] == "."; has == at.IsZero() {
			t.Errorf("%s: %v", places[i], at)
		}
	}
}

// levels returns n arrays in one another.
func levels(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// refused has the kind of fault and its offset.
var refused = []struct {
	text string
	kind error
	at   int
}{
	{``, ErrTruncated, 0},
	{` `, ErrTruncated, 1},
	{`{`, ErrTruncated, 1},
	{`{"a"`, ErrTruncated, 4},
	{`{"a":`, ErrTruncated, 5},
	{`{"a":1`, ErrTruncated, 6},
	{`{"a":1,`, ErrTruncated, 7},
	{`[1`, ErrTruncated, 2},
	{`[`, ErrTruncated, 1},
	{`[1,`, ErrTruncated, 3},
	{`"abc`, ErrTruncated, 4},
	{`"abc\`, ErrTruncated, 5},
	{`"\u12`, ErrTruncated, 5},
	{`"\ud83d`, ErrTruncated, 7},
	{`"\ud83d\`, ErrTruncated, 8},
	{`"\ud83d\ud`, ErrTruncated, 10},
	{`tru`, ErrTruncated, 3},
	{`-`, ErrTruncated, 1},
	{`1.`, ErrTruncated, 2},
	{`1e`, ErrTruncated, 2},
	{`1e+`, ErrTruncated, 3},
	{`nul!`, ErrMalformed, 3},
	{`<html>`, ErrMalformed, 0},
	{"\ufeff{}", ErrMalformed, 0},
	{`{a:1}`, ErrMalformed, 1},
	{`{"a" 1}`, ErrMalformed, 5},
	{`{"a":1 "b":2}`, ErrMalformed, 7},
	{`{"a":1,}`, ErrMalformed, 7},
	{`{,"a":1}`, ErrMalformed, 1},
	{`[1,]`, ErrMalformed, 3},
	{`[1 2]`, ErrMalformed, 3},
	{`[1}`, ErrMalformed, 2},
	{`{"a":1]`, ErrMalformed, 6},
	{`01`, ErrMalformed, 1},
	{`-01`, ErrMalformed, 2},
	{`+1`, ErrMalformed, 0},
	{`.5`, ErrMalformed, 0},
	{`1.x`, ErrMalformed, 2},
	{`1ex`, ErrMalformed, 2},
	{`NaN`, ErrMalformed, 0},
	{`"\x"`, ErrMalformed, 2},
	{`"\u12G4"`, ErrMalformed, 5},
	{"\"a\nb\"", ErrMalformed, 2},
	{"\"a longer text with a\x00\"", ErrMalformed, 21},
	{"\"\xff\"", ErrEncoding, 1},
	{"\"a longer text with \xc3\"", ErrEncoding, 20},
	{"\"\xed\xa0\x80\"", ErrEncoding, 1}, // a surrogate in UTF-8
	{`"\ud800"`, ErrEncoding, 1},
	{`"\udc00"`, ErrEncoding, 1},
	{`"\ud800\ud800"`, ErrEncoding, 1},
	{`"\ud800\n"`, ErrEncoding, 1},
	{`"\ud800x"`, ErrEncoding, 1},
	{`{"a":1,"a":1}`, ErrDuplicate, 7},
	{`{"a":1,"\u0061":1}`, ErrDuplicate, 7},
	{levels(257), ErrDepth, 256},
}

// TestScanRefuses gives every kind of fault, with the offset and the kind that the caller decides by (P18, P19).
func TestScanRefuses(t *testing.T) {
	for _, c := range refused {
		s := scanner(t, Rules{}, 1)
		for range 3 {
			end, err := s.Scan([]byte(c.text), 0)
			var fault *SyntaxError
			if !errors.As(err, &fault) || !errors.Is(err, c.kind) || end != 0 {
				t.Errorf("%.40q: %v, want %v", c.text, err, c.kind)
			} else if !errors.Is(err, ErrDuplicate) && fault.Offset != c.at {
				t.Errorf("%.40q: offset %d, want %d", c.text, fault.Offset, c.at)
			}
		}
	}
	if err := Valid([]byte(levels(256)), Limits{}); err != nil {
		t.Errorf("256 levels: %v", err)
	}
	if err := Valid([]byte(levels(256)), Limits{Depth: 255}); !errors.Is(err, ErrDepth) {
		t.Errorf("256 levels of 255: %v", err)
	}
}

// TestTruncatedIsTold cuts a page at every byte: what a broken connection leaves is never taken for another fault.
func TestTruncatedIsTold(t *testing.T) {
	text := append(append([]byte(`[{"e\u00e9\ud83d\ude00":-1.5e+10,"t":true,"f":false,"n":null},`), sample(1)...), ']')
	if err := Valid(text, Limits{}); err != nil {
		t.Fatal(err)
	}
	for end := range text {
		if err := Valid(text[:end], Limits{}); !errors.Is(err, ErrTruncated) {
			// A cut character is seen when its string ends, which is not there.
			t.Fatalf("cut at %d: %v", end, err)
		}
	}
}

// TestDuplicateNames proves that a name standing twice is seen at every depth, by names that are predicted, known, and not
// known for lack of room.
func TestDuplicateNames(t *testing.T) {
	var many, twice strings.Builder
	for i := range 3 * maxChildren {
		fmt.Fprintf(&many, `,"k%d":{"x":1,"y":2}`, i)
		fmt.Fprintf(&twice, `,"k%d":{"x":1,"y":2}`, i%(3*maxChildren-1))
	}
	bad := []string{
		`{"a":1,"a":1}`,
		`{"a":{"x":1,"b":{"x":2},"x":3}}`,
		`{"a":1,"b":2,"a":3}`,
		`{"q":{"a":[{"a":1},{"a":2}],"a":0}}`,
		`{"":1,"":2}`,
		`{"a\"b":1,"a\u0022b":2}`,
		`{"z":{"u":1,"v":2,"u":3}}`,
		`{` + twice.String()[1:] + `}`,
	}
	good := []string{
		`{"q":{"a":[{"a":1},{"a":2}],"b":{"a":0,"b":{"b":1}}},"a":1}`,
		`[{"a":1},[{"a":1},{"a":2}],{"a":{"a":{"a":1}}}]`,
		`{` + many.String()[1:] + `}`,
	}
	warm := scanner(t, Rules{}, 1)
	full := scanner(t, Rules{}, 1)
	full.names.known[root].children = maxChildren
	for range 3 {
		for _, s := range []*Scanner{warm, full, scanner(t, Rules{}, 1)} {
			for _, text := range bad {
				if _, err := s.Scan([]byte(text), 0); !errors.Is(err, ErrDuplicate) {
					t.Errorf("%.60s: %v", text, err)
				}
			}
			for _, text := range good {
				if _, err := s.Scan([]byte(text), 0); err != nil {
					t.Errorf("%.60s: %v", text, err)
				}
			}
		}
	}
}

// TestPredictionChecksText proves that a name which was learnt with escapes does not let the same bytes pass without them,
// and that rubbish at the place of a name is not taken for one.
func TestPredictionChecksText(t *testing.T) {
	s := scanner(t, Rules{}, 1)
	for range 2 {
		hashOf(t, s, `{"a\"b":1,"c\nd":2,"e\\f":3,"g\u0000":4}`)
	}
	for _, text := range []string{`{"a"b":1}`, "{\"c\nd\":2}", `{"e\f":3`, "{\"g\x00\":4}", "{\x00:1}", "{\x00\x00\x00\x00:1}", `{"a\"b":1,"c` + "\n" + `d":2}`} {
		if _, err := s.Scan([]byte(text), 0); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
}

// TestMemoryIsBounded proves (10): a record whose names are all new teaches a bounded number of them, and big ones are not slow
// in the square of their size.
func TestMemoryIsBounded(t *testing.T) {
	s := scanner(t, Rules{}, 1)
	for i := range 12 {
		var b strings.Builder
		b.WriteString(`{"id":1`)
		for k := range 2000 {
			fmt.Fprintf(&b, `,"m%d-%d":{"a%d":1}`, i, k, k)
		}
		hashOf(t, s, b.String()+"}")
	}
	if n := len(s.names.known); n > maxNames {
		t.Errorf("%d names known", n)
	}
	var b strings.Builder
	for k := range 1_000_000 {
		fmt.Fprintf(&b, `,"%x":0`, k)
	}
	hashOf(t, s, "{"+b.String()[1:]+"}")
}

func TestRecordSize(t *testing.T) {
	p, err := NewPlan(paths(t, "id"), Rules{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(p, Limits{RecordBytes: 20})
	const text = ` {"id":1,"text":"0123456789"},`
	end, err := s.Scan([]byte(text), 0)
	// The key of a record that is too large is needed to park it (P19).
	if !errors.Is(err, ErrSize) || end != len(text)-1 || string(s.Spans[0].Of([]byte(text))) != "1" {
		t.Errorf("end %d, key %v, %v", end, s.Spans[0], err)
	}
	if end, err = s.Scan([]byte(`{"id":1,"t":"01234"}`), 0); err != nil || end != 20 {
		t.Errorf("at the limit: %d %v", end, err)
	}
}

// TestSkipEndsWhereScanDoes proves that records which are refused can be stepped over, to be parked alone (P19).
func TestSkipEndsWhereScanDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := scanner(t, Rules{}, 1)
	for range 2000 {
		text := append(render(r, nil, generate(r, 4)), ", 1]"...)
		want, err := s.Scan(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := Skip(text, 0); !ok || got != want {
			t.Fatalf("%s: %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{`{"a":1,"a":"}"}`, "[\"\xff]\"]", `{"a":"\ud800"}`} {
		if end, ok := Skip([]byte(text+",{}"), 0); !ok || end != len(text) {
			t.Errorf("%q: %d %v", text, end, ok)
		}
	}
	for _, text := range []string{``, ` `, `{"a":1`, `"abc`, `,`, `]`, `{"a":"}`} {
		if end, ok := Skip([]byte(text), 0); ok {
			t.Errorf("%q: ends at %d", text, end)
		}
	}
}

// TestScanDoesNotAllocate proves the figure of DESIGN 12: no allocation for a record whose like was seen.
func TestScanDoesNotAllocate(t *testing.T) {
	s := scanner(t, Rules{Exclude: []string{"updated_at", "counts"}}, 1, "id", "updated_at", "account.id", "cadences[0].id")
	var page []byte
	var at []int
	for i := range 200 {
		at = append(at, len(page))
		page = append(page, sample(i)...)
	}
	page = append(page, `{"esc\u00e9":"\u00e9\n","big":1234567890123456789012345e-3,"order":[],"id":1}`...)
	at = append(at, len(page)-77)
	scan := func() {
		for _, pos := range at {
			if _, err := s.Scan(page, pos); err != nil {
				t.Fatal(err)
			}
		}
	}
	scan()
	if n := testing.AllocsPerRun(10, scan); n != 0 {
		t.Errorf("%v allocations for %d records", n, len(at))
	}
}

func TestEnvelope(t *testing.T) {
	const page = `{"meta":{"size":2,"next":null},"data":[ {"id":1} ,{"id":2}],"more":{"x":[[3],[4,5]]},"none":null}`
	e, err := NewEnvelope(paths(t, "meta.size", "meta.next", "none", "absent"), paths(t, "data", "more.x[*]", "none", "absent"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := scanner(t, Rules{}, 1, ".")
	for range 2 {
		var got []string
		err = e.Scan([]byte(page), func(list, pos int) (int, error) {
			end, err := s.Scan([]byte(page), pos)
			got = append(got, fmt.Sprintf("%d: %s", list, s.Spans[0].Of([]byte(page))))
			return end, err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range append(e.Spans, e.Lists...) {
			got = append(got, string(at.Of([]byte(page))))
		}
		want := []string{`0: {"id":1}`, `0: {"id":2}`, "1: 3", "1: 4", "1: 5", "2", "null", "null", "", `[ {"id":1} ,{"id":2}]`, "[4,5]", "null", ""}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestP18EnvelopeIsStrict proves that what stands around the records is checked as strictly as they are.
func TestP18EnvelopeIsStrict(t *testing.T) {
	e, err := NewEnvelope(nil, paths(t, "data"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := scanner(t, Rules{}, 1)
	stop := errors.New("stop")
	for _, c := range []struct {
		text string
		want error
	}{
		{`{"data":[{"a":1}],"data":[]}`, ErrDuplicate},
		{`{"data":[{"a":1}],"meta":{"x":1,"x":2}}`, ErrDuplicate},
		{`{"data":[{"a":1}`, ErrTruncated},
		{`{"data":[{"a":1},`, ErrTruncated},
		{`{"data":[`, ErrTruncated},
		{`{"data":[{"a":1}]`, ErrTruncated},
		{`{"data":[{"a":1}]}}`, ErrMalformed},
		{`{"data":[{"a":1}]} x`, ErrMalformed},
		{`{"data":[{"a":1} {"a":2}]}`, ErrMalformed},
		{`{"data":[{"a":1},]}`, ErrMalformed},
		{`{"data":[{"a":"stop"}]}`, stop},
		{`{"data":{"a":1,"a":2}}`, ErrDuplicate},
		{`{"data":[{"a":1}]} `, nil},
		{`{"data":[]}`, nil},
		{`{"data":"x"}`, nil},
		{`[{"data":[5]}]`, nil},
	} {
		err := e.Scan([]byte(c.text), func(_, pos int) (int, error) {
			if strings.Contains(c.text, "stop") {
				return 0, stop
			}
			return s.Scan([]byte(c.text), pos)
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.text, err, c.want)
		}
	}
	if err := e.Scan([]byte(`{"data":[1]}`), func(_, pos int) (int, error) { return pos, nil }); err == nil {
		t.Error("an element function that does not move must end the scan")
	}
}

func TestEnvelopeRefusesPlaces(t *testing.T) {
	for _, c := range []struct{ places, lists []string }{
		{[]string{"a[*]"}, nil},
		{[]string{"data[0].x"}, []string{"data"}},
		{nil, []string{"data", "data"}},
		{nil, []string{"data", "data[*].inner"}},
	} {
		if _, err := NewEnvelope(paths(t, c.places...), paths(t, c.lists...), Limits{}); err == nil {
			t.Errorf("%v accepted", c)
		}
	}
	for _, c := range []struct {
		rules  Rules
		places []string
	}{
		{Rules{Algorithm: 2}, nil},
		{Rules{Value: "a[*]"}, nil},
		{Rules{Value: "a b"}, nil},
		{Rules{Include: []string{"a"}, Exclude: []string{"b"}}, nil},
		{Rules{Include: []string{"a..b"}}, nil},
		{Rules{Exclude: []string{"."}}, nil},
		{Rules{}, []string{"a[*].b"}},
	} {
		if _, err := NewPlan(paths(t, c.places...), c.rules, 1); err == nil {
			t.Errorf("%v accepted", c)
		}
		if c.places == nil && c.rules.Check() == nil {
			t.Errorf("%v passes Check", c)
		}
	}
}

// TestP23Fingerprint proves that rules which mean the same have one fingerprint, and others another.
func TestP23Fingerprint(t *testing.T) {
	base := Rules{Algorithm: 1, Exclude: []string{"updated_at", "counts.x"}}
	for _, r := range []Rules{
		{Exclude: []string{"counts.x", "updated_at"}},
		{Value: ".", Exclude: []string{`counts["x"]`, "updated_at", "updated_at"}},
	} {
		if r.Fingerprint() != base.Fingerprint() {
			t.Errorf("%+v differs from %+v", r, base)
		}
	}
	for _, r := range []Rules{{}, {Include: base.Exclude}, {Value: "doc", Exclude: base.Exclude}, {Exclude: base.Exclude, Fields: "f"}, {Algorithm: 2, Exclude: base.Exclude}} {
		if r.Fingerprint() == base.Fingerprint() {
			t.Errorf("%+v equals %+v", r, base)
		}
	}
	if got, want := (Rules{}).Fingerprint(), "d26e89b811c00dac"; got != want {
		t.Errorf("the fingerprint of no rules is %s, was %s: it is stored in users' Kafka", got, want)
	}
}
