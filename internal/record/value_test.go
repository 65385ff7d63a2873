package record

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValue(t *testing.T) {
	for text, want := range map[string]any{
		`null`:                               nil,
		`true`:                               true,
		`false`:                              false,
		`"a\u00e9\n\ud83d\ude00\/\"\\"`:      "aé\n😀/\"\\",
		`0`:                                  int64(0),
		`-0`:                                 int64(0),
		`1.0`:                                int64(1),
		`12e2`:                               int64(1200),
		`9223372036854775807`:                int64(9223372036854775807),
		`-9223372036854775808`:               int64(-9223372036854775808),
		`9223372036854775808`:                json.Number("9223372036854775808"),
		`1e30`:                               json.Number("1e30"),
		`0.5`:                                0.5,
		`0.1`:                                0.1,
		`-1.25e-3`:                           -0.00125,
		`0.10000000000000001`:                json.Number("0.10000000000000001"),
		`9007199254740993.5`:                 json.Number("9007199254740993.5"),
		`1e400`:                              json.Number("1e400"),
		`1e-400`:                             json.Number("1e-400"),
		`[1,"a",[],{}]`:                      []any{int64(1), "a", []any{}, map[string]any{}},
		`{ "a" : { "b\u0022" : [ null ] } }`: map[string]any{"a": map[string]any{`b"`: []any{nil}}},
	} {
		got, err := Value([]byte(text), All([]byte(text)))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	if v, err := Value(nil, Span{}); v != nil || err != nil {
		t.Errorf("absent: %v %v", v, err)
	}
	if _, err := Value([]byte(`[x]`), Span{0, 3}); err == nil {
		t.Error("rubbish decoded")
	}
}

func TestTextAndKind(t *testing.T) {
	for text, want := range map[string]struct {
		text string
		kind Kind
	}{
		`"a\tb"`:  {"a\tb", String},
		`""`:      {"", String},
		`12.50`:   {"12.50", Number},
		`-1`:      {"-1", Number},
		`null`:    {"null", Null},
		`true`:    {"true", True},
		`false`:   {"false", False},
		`[1, 2]`:  {"[1, 2]", Array},
		`{"a":1}`: {`{"a":1}`, Object},
		``:        {"", Absent},
	} {
		got, kind := Text([]byte("x"), []byte(text), All([]byte(text)))
		if string(got) != "x"+want.text || kind != want.kind {
			t.Errorf("%s: %q %v", text, got, kind)
		}
	}
}

func TestMembersAndElements(t *testing.T) {
	buf := []byte(` { "a" : 1 , "b\"":[ 2,{"c":3} ] } `)
	var got []string
	for name, value := range Members(buf, All(buf)) {
		got = append(got, string(name.Of(buf)), string(value.Of(buf)))
		for e := range Elements(buf, value) {
			got = append(got, string(e.Of(buf)))
		}
	}
	want := []string{`"a"`, "1", `"b\""`, `[ 2,{"c":3} ]`, "2", `{"c":3}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range Members(buf, All(buf)) {
		break
	}
}

// TestCanonicalNumbers proves the number rule: one text for one exact value.
func TestCanonicalNumbers(t *testing.T) {
	for lit, want := range map[string]string{
		"0": "0", "-0": "0", "0.000": "0", "-0e99999999999999999999": "0", "1": "1", "1.0": "1", "10e-1": "1", "1E0": "1",
		"-12.50": "-12.5", "0.001": "0.001", "1e-3": "0.001", "123e-2": "1.23", "100": "100", "1e2": "100", "12e1": "120",
		"9007199254740993": "9007199254740993",
		"1e39":             "1000000000000000000000000000000000000000",
		"1e40":             "1e40", "10e39": "1e40", "1.5e40": "15e39", "1e-40": "0." + strings.Repeat("0", 39) + "1", "1e-41": "1e-41",
		"1e00000000000000000000000000001": "10", "1e-0": "1",
		strings.Repeat("1", 50):        strings.Repeat("1", 50),
		strings.Repeat("1", 50) + "0":  strings.Repeat("1", 50) + "e1",
		"1." + strings.Repeat("1", 50): strings.Repeat("1", 51) + "e-50",
		"1e999999999999999999":         "1e999999999999999999",
		"1e99999999999999999":          "1e99999999999999999",
	} {
		if got := string(appendNumber([]byte("x"), []byte(lit))); got != "x"+want {
			t.Errorf("%s: %s, want %s", lit, got, want)
		}
	}
}

// TestNumberRule compares random numbers with exact fractions: equal values have equal texts and hashes, others others.
func TestNumberRule(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := scanner(t, Rules{}, 1)
	digits := func(n int) string {
		b := make([]byte, 1+r.IntN(n))
		for i := range b {
			b[i] = "0000123459"[r.IntN(10)]
		}
		return string(b)
	}
	texts := map[string]string{} // by exact value
	values := map[string]string{}
	hashes := map[string]uint64{}
	for range 50_000 {
		lit := strings.TrimLeft(digits(5), "0")
		if lit == "" {
			lit = "0"
		}
		if r.IntN(2) == 0 {
			lit = "-" + lit
		}
		if r.IntN(2) == 0 {
			lit += "." + digits(5)
		}
		if r.IntN(2) == 0 {
			lit += []string{"e", "E-", "e+", "e-0"}[r.IntN(4)] + digits(2)
		}
		exact, ok := new(big.Rat).SetString(lit)
		if !ok {
			t.Fatal(lit)
		}
		value, text, hash := exact.RatString(), string(appendNumber(nil, []byte(lit))), hashOf(t, s, lit)
		if old, ok := texts[value]; ok && old != text {
			t.Fatalf("%s is %s and %s", value, old, text)
		}
		if old, ok := values[text]; ok && old != value {
			t.Fatalf("%s is the text of %s and %s", text, old, value)
		}
		if old, ok := hashes[value]; ok && old != hash {
			t.Fatalf("%s has two hashes", value)
		}
		texts[value], values[text], hashes[value] = text, value, hash
		if again, ok := new(big.Rat).SetString(text); !ok || again.Cmp(exact) != 0 || !json.Valid([]byte(text)) {
			t.Fatalf("%s became %s", lit, text)
		}
	}
}

// TestCanonicalIsJSON proves that the canonical text is JSON with the same meaning, and its own canonical text.
func TestCanonicalIsJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 3000 {
		text := render(r, nil, generate(r, 4))
		out := AppendCanonical(nil, text, All(text), Rules{})
		if err := Valid(out, Limits{}); err != nil {
			t.Fatalf("%s became %s: %v", text, out, err)
		}
		if again := AppendCanonical(nil, out, All(out), Rules{}); !bytes.Equal(again, out) {
			t.Fatalf("%s became %s", out, again)
		}
		text = bytes.TrimSpace(text)
		a, errA := Value(text, All(text))
		b, errB := Value(out, All(out))
		exact := cmp.Transformer("number", func(n json.Number) string { return string(appendNumber(nil, []byte(n))) })
		if errA != nil || errB != nil || !cmp.Equal(a, b, exact) {
			t.Fatalf("%s became %s", text, out)
		}
	}
	if out := AppendCanonical(nil, nil, Span{}, Rules{}); len(out) != 0 {
		t.Errorf("no value: %s", out)
	}
}
