package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/linkedin/goavro/v2"
)

// every is a schema with every type that the plan knows, unions in both orders, a recursive type, a record with an _extra
// of its own, and a field behind _extra, as a schema that grew has one.
const every = `{"type":"record","name":"Every","namespace":"test","fields":[
	{"name":"id","type":"long"},
	{"name":"small","type":["null","int"],"default":null},
	{"name":"first","type":["null","string"],"default":null},
	{"name":"last","type":["string","null"],"default":""},
	{"name":"single","type":["null","float"],"default":null},
	{"name":"double","type":["null","double"],"default":null},
	{"name":"flag","type":["null","boolean"],"default":null},
	{"name":"color","type":["null",{"type":"enum","name":"Color","symbols":["RED","GREEN"]}],"default":null},
	{"name":"free","type":["null",{"type":"string","tidemark":"json"}],"default":null},
	{"name":"tags","type":["null",{"type":"array","items":"string"}],"default":null},
	{"name":"tree","type":["null",{"type":"record","name":"Node","fields":[
		{"name":"id","type":"long"},
		{"name":"weight","type":["null","double"],"default":null},
		{"name":"children","type":["null",{"type":"array","items":"Node"}],"default":null},
		{"name":"by name","type":["null",{"type":"map","values":"Node"}],"default":null}]}],"default":null},
	{"name":"scores","type":["null",{"type":"map","values":["null","double"]}],"default":null},
	{"name":"role","type":["null","long","string"],"default":null},
	{"name":"mixed","type":["double","null","long","boolean",{"type":"array","items":"long"}],"default":0},
	{"name":"own","type":["null",{"type":"record","name":"Own","fields":[
		{"name":"_extra","type":["null","string"],"default":null},
		{"name":"value","type":["null","double"],"default":null}]}],"default":null},
	{"name":"nothing","type":"null"},
	{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
	{"name":"_extra","type":["null","string"],"default":null},
	{"name":"behind","type":["null","test.Node"],"default":null}]}`

// everySchema is every as goavro takes it: it refuses names that are no identifiers.
var everySchema = strings.ReplaceAll(every, "by name", "by_name")

func newEvery(t testing.TB, options ...Option) (*Encoder, *Decoder) {
	t.Helper()
	e, err := NewAvro([]byte(everySchema), 7, options...)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := Schema([]byte(everySchema), e.shape)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(schema)
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func parse(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// same reports whether got is want but for members that want leaves out, which got may have as null. Numbers are compared
// exactly.
func same(want, got any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for k := range g {
			if _, there := w[k]; !there && g[k] != nil {
				return false
			}
		}
		for k := range w {
			if v, there := g[k]; !there || !same(w[k], v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		return ok && slices.EqualFunc(w, g, same)
	case json.Number:
		g, ok := got.(json.Number)
		return ok && (w == g || equalNumbers(string(w), string(g)))
	}
	return want == got
}

func equalNumbers(a, b string) bool {
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

// oracle encodes through goavro: JSON to maps, maps to binary. It reads the schema anew, by maps, and knows nothing of plans.
type oracle struct {
	named map[string]map[string]any
	codec *goavro.Codec
	root  any
}

func newOracle(t testing.TB) *oracle {
	t.Helper()
	o := &oracle{named: map[string]map[string]any{}, root: parse(t, []byte(everySchema))}
	o.name(o.root)
	codec, err := goavro.NewCodec(strings.ReplaceAll(everySchema, `,"logicalType":"timestamp-millis"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	o.codec = codec
	return o
}

func (o *oracle) name(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if n, ok := s["name"].(string); ok && (s["type"] == "record" || s["type"] == "enum") {
			o.named["test."+n], o.named[n] = s, s
		}
		for _, v := range s {
			o.name(v)
		}
	case []any:
		for _, v := range s {
			o.name(v)
		}
	}
}

var errNoFit = errors.New("does not fit")

// native returns the value for goavro, and what is left over for _extra (nil: nothing).
func (o *oracle) native(schema, v any) (any, any, error) {
	switch s := schema.(type) {
	case string:
		if n := o.named[s]; n != nil {
			return o.native(n, v)
		}
		return o.simple(s, v)
	case []any:
		return o.union(s, v)
	case map[string]any:
		switch s["type"] {
		case "record":
			return o.record(s, v)
		case "enum":
			if text, ok := v.(string); ok && slices.Contains(s["symbols"].([]any), any(text)) {
				return text, nil, nil
			}
			return nil, nil, errNoFit
		case "array":
			return o.array(s["items"], v)
		case "map":
			return o.members(s["values"], v)
		}
		if s["tidemark"] == "json" {
			text, err := json.Marshal(v)
			return string(text), nil, err
		}
		return o.native(s["type"], v)
	}
	return nil, nil, errNoFit
}

func (o *oracle) simple(name string, v any) (any, any, error) {
	switch x := v.(type) {
	case nil:
		if name == "null" {
			return nil, nil, nil
		}
	case bool:
		if name == "boolean" {
			return x, nil, nil
		}
	case string:
		if name == "string" {
			return x, nil, nil
		}
	case json.Number:
		return o.number(name, string(x))
	}
	return nil, nil, errNoFit
}

func (o *oracle) number(name, text string) (any, any, error) {
	switch name {
	case "int", "long":
		r, ok := new(big.Rat).SetString(text)
		if !ok || !r.IsInt() || !r.Num().IsInt64() {
			return nil, nil, errNoFit
		}
		if i := r.Num().Int64(); name == "long" {
			return i, nil, nil
		} else if i >= math.MinInt32 && i <= math.MaxInt32 {
			return int32(i), nil, nil
		}
	case "float", "double":
		bits := map[string]int{"float": 32, "double": 64}[name]
		f, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return nil, nil, errNoFit
		}
		var extra any
		if !equalNumbers(strconv.FormatFloat(f, 'e', -1, bits), text) {
			extra = json.Number(text)
		}
		if bits == 32 {
			return float32(f), extra, nil
		}
		return f, extra, nil
	}
	return nil, nil, errNoFit
}

// union takes the first branch that fits, integers before floating numbers.
func (o *oracle) union(branches []any, v any) (any, any, error) {
	order := slices.Clone(branches)
	slices.SortStableFunc(order, func(a, b any) int {
		float := func(x any) int {
			if x == "double" || x == "float" {
				return 1
			}
			return 0
		}
		return float(a) - float(b)
	})
	err := errNoFit
	for _, b := range order {
		native, extra, e := o.native(b, v)
		if e != nil {
			if len(branches) == 2 && b != "null" {
				err = e
			}
			continue
		}
		if native == nil {
			return nil, nil, nil
		}
		return map[string]any{branchName(o, b): native}, extra, nil
	}
	return nil, nil, err
}

func branchName(o *oracle, b any) string {
	switch s := b.(type) {
	case string:
		if n := o.named[s]; n != nil {
			return "test." + n["name"].(string)
		}
		return s
	case map[string]any:
		if n, ok := s["name"].(string); ok {
			return "test." + n
		}
		return s["type"].(string)
	}
	return ""
}

func (o *oracle) record(s map[string]any, v any) (any, any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, nil, errNoFit
	}
	native, rest, own := map[string]any{}, map[string]any{}, false
	known := map[string]bool{}
	for _, each := range s["fields"].([]any) {
		f := each.(map[string]any)
		name := f["name"].(string)
		if name == "_extra" {
			own = true
			continue
		}
		known[name] = true
		value, extra, err := o.native(f["type"], m[name])
		if err != nil {
			return nil, nil, err
		}
		if native[name] = value; extra != nil {
			rest[name] = extra
		}
	}
	for k, x := range m {
		if !known[k] {
			rest[k] = x
		}
	}
	if !own {
		if len(rest) == 0 {
			return native, nil, nil
		}
		return native, rest, nil
	}
	if native["_extra"] = nil; len(rest) > 0 {
		native["_extra"] = rest
	}
	return native, nil, nil
}

func (o *oracle) array(items, v any) (any, any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, nil, errNoFit
	}
	out, rest := []any{}, map[string]any{}
	for i, x := range list {
		native, extra, err := o.native(items, x)
		if err != nil {
			return nil, nil, err
		}
		if out = append(out, native); extra != nil {
			rest[strconv.Itoa(i)] = extra
		}
	}
	if len(rest) == 0 {
		return out, nil, nil
	}
	return out, rest, nil
}

func (o *oracle) members(values, v any) (any, any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, nil, errNoFit
	}
	out, rest := map[string]any{}, map[string]any{}
	for k, x := range m {
		native, extra, err := o.native(values, x)
		if err != nil {
			return nil, nil, err
		}
		if out[k] = native; extra != nil {
			rest[k] = extra
		}
	}
	if len(rest) == 0 {
		return out, nil, nil
	}
	return out, rest, nil
}

// adopt puts into want, made by the oracle, the JSON texts of got, decoded from our bytes by goavro, after it has compared
// what they say: their spelling is ours to choose, all else is not.
func adopt(t *testing.T, want, got any) {
	w, ok := want.(map[string]any)
	g, _ := got.(map[string]any)
	if !ok {
		if list, ok := want.([]any); ok {
			other, _ := got.([]any)
			for i := range min(len(list), len(other)) {
				adopt(t, list[i], other[i])
			}
		}
		return
	}
	for k := range w {
		branch, _ := g[k].(map[string]any)
		text, ok := branch["string"].(string)
		if !ok || k != "_extra" && k != "free" || w[k] == nil { // a map's entry can have these names too
			adopt(t, w[k], g[k])
			continue
		}
		said := w[k]
		if k == "free" {
			said = parse(t, []byte(said.(map[string]any)["string"].(string)))
		}
		if diff := parse(t, []byte(text)); !identical(said, diff) {
			t.Fatalf("%s says %s, want %v", k, text, said)
		}
		w[k] = map[string]any{"string": text}
	}
}

// identical compares JSON values member by member, numbers by their text.
func identical(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// check runs one record through our encoder, goavro's encoder, goavro's decoder and ours.
func check(t *testing.T, o *oracle, e *Encoder, d *Decoder, text []byte) {
	t.Helper()
	want, _, wantErr := o.native(o.root, parse(t, text))
	got, err := e.Append([]byte("before"), text)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, the oracle's %v, for %s", err, wantErr, text)
	}
	if err != nil {
		var typed *TypeError
		if string(got) != "before" || !errors.As(err, &typed) || typed.Wanted == "" || typed.Got == "" {
			t.Fatalf("left %q and the error %v", got, err)
		}
		return
	}
	value := got[len("before"):]
	native, rest, err := o.codec.NativeFromBinary(value[5:])
	if err != nil || len(rest) > 0 {
		t.Fatalf("goavro cannot read it: %v, %d bytes left, for %s", err, len(rest), text)
	}
	adopt(t, want, native)
	theirs, err := o.codec.BinaryFromNative(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	again, _, _ := o.codec.NativeFromBinary(theirs)
	if fmt.Sprint(again) != fmt.Sprint(native) { // maps print sorted
		t.Fatalf("read back as\n%v, not\n%v, for\n%s", native, again, text)
	}
	if len(theirs) != len(value)-5 || !hasMaps(want) && !bytes.Equal(theirs, value[5:]) {
		t.Fatalf("ours\n%x\ngoavro's\n%x\nfor %s", value[5:], theirs, text)
	}
	back, err := d.Append(nil, value)
	if err != nil || !same(parse(t, text), parse(t, back)) {
		t.Fatalf("%v: came back as\n%s, went in as\n%s", err, back, text)
	}
}

// hasMaps reports whether an Avro map has several entries, which goavro writes in any order.
func hasMaps(native any) bool {
	switch v := native.(type) {
	case map[string]any:
		for k, x := range v {
			if m, ok := x.(map[string]any); ok && k == "map" && len(m) > 1 || hasMaps(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasMaps)
	}
	return false
}

// writer makes random records for every, most of which fit.
type writer struct {
	*rand.Rand
	b []byte
}

func (w *writer) space() {
	for w.IntN(8) == 0 {
		w.b = append(w.b, " \n\t\r"[w.IntN(4)])
	}
}

func (w *writer) pick(list ...string) { w.b = append(w.b, list[w.IntN(len(list))]...) }

func (w *writer) text() {
	w.pick(`""`, `"a"`, `"Zoë"`, `"RED"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\ud83d\ude00x"`, `"a longer text, of more than sixty-four bytes, so that its length takes two"`, `"日本語\u0000"`)
}

func (w *writer) number() {
	switch w.IntN(4) {
	case 0:
		w.b = strconv.AppendInt(w.b, int64(w.Uint64()>>w.IntN(64)), 10)
	case 1:
		w.b = append(w.b, strconv.FormatFloat(w.NormFloat64()*1e6, 'f', w.IntN(20), 64)...)
	default:
		w.pick("0", "-0", "1", "-1", "63", "64", "-64", "-65", "1.0", "10e-1", "1.5", "1e3", "0.1", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
			"9007199254740993", "0.1000000000000000055511151231257827", "1e400", "1e-400", "0e5", "0.0", "123456.789e3", "1E+2", "16777217", "3.4e39", "100000000000000000000e-2", "12345678901234567890e-1")
	}
}

func (w *writer) any(depth int) {
	switch n := w.IntN(8); {
	case n < 3:
		w.text()
	case n < 5:
		w.number()
	case n < 6 || depth > 3:
		w.pick("null", "true", "false")
	case n < 7:
		w.list(func() { w.any(depth + 1) })
	default:
		w.object(nil, func(string) { w.any(depth + 1) })
	}
}

func (w *writer) list(element func()) {
	w.b = append(w.b, '[')
	for i := range w.IntN(4) * w.IntN(2) {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.space()
		element()
		w.space()
	}
	w.b = append(w.b, ']')
}

// object writes members with these names, some left out, in a random order now and then, and a few more.
func (w *writer) object(names []string, value func(name string)) {
	names = slices.Clone(names)
	if w.IntN(3) == 0 {
		w.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	if len(names) == 0 || w.IntN(4) == 0 {
		for _, more := range []string{"x", "_extra", "new", "a b", "ü", "0"}[:w.IntN(7)] {
			names = slices.Insert(names, w.IntN(len(names)+1), more)
		}
	}
	w.b = append(w.b, '{')
	first := true
	for _, name := range names {
		if name != "id" && w.IntN(10) == 0 {
			continue
		}
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.space()
		if w.IntN(20) == 0 {
			w.b = append(w.b, fmt.Sprintf(`"\u%04x%s"`, []rune(name)[0], string([]rune(name)[1:]))...)
		} else {
			w.b = append(w.b, `"`+name+`"`...)
		}
		w.space()
		w.b = append(w.b, ':')
		w.space()
		value(name)
		w.space()
	}
	w.b = append(w.b, '}')
}

func (w *writer) node(depth int) {
	w.object([]string{"id", "weight", "children", "by_name"}, func(name string) {
		switch {
		case name == "id":
			w.pick("1", "-5", "700")
		case name == "weight":
			w.pick("1", "0.5", "null", "0.30000000000000000001")
		case depth > 2 && (name == "children" || name == "by_name"):
			w.pick("null")
		case name == "children":
			w.list(func() { w.node(depth + 1) })
		case name == "by_name":
			w.object(nil, func(string) { w.node(depth + 1) })
		default:
			w.any(2)
		}
	})
}

func (w *writer) record(wrong int) []byte {
	w.b = w.b[:0]
	w.object([]string{"id", "small", "first", "last", "single", "double", "flag", "color", "free", "tags", "tree", "scores", "role", "mixed", "own", "nothing", "at", "behind"}, func(name string) {
		if wrong > 0 && w.IntN(wrong) == 0 {
			w.any(0)
			return
		}
		if n := name; n != "id" && n != "mixed" && w.IntN(5) == 0 {
			w.pick("null")
			return
		}
		w.field(name)
	})
	return w.b
}

func (w *writer) field(name string) {
	switch name {
	case "id", "at":
		w.pick("0", "1", "-1", "9223372036854775807", "1.0", "10e1", "123456789012345678")
	case "small":
		w.pick("1", "-2147483648", "3e2")
	case "first", "last":
		w.text()
	case "single", "double":
		w.pick("1.5", "0.1", "3", "-0", "16777217", "9007199254740993", "1e30", "2.50")
	case "flag":
		w.pick("true", "false")
	case "color":
		w.pick(`"RED"`, `"GREEN"`, `"\u0052ED"`)
	case "tags":
		w.list(w.text)
	case "tree", "behind":
		w.node(0)
	case "scores":
		w.object(nil, func(string) { w.pick("1", "0.25", "null", "0.123456789012345678901") })
	case "role":
		w.pick("1", `"admin"`)
	case "mixed":
		w.pick("1", "1.5", "true", "[1,2]", "9223372036854775808", "null")
	case "own":
		w.object([]string{"value"}, func(string) { w.pick("1", "null", "0.123456789012345678901") })
	case "nothing":
		w.pick("null")
	default:
		w.any(0)
	}
}

// TestAvroAgainstGoavro is the differential test of the plan on records of which about half fit the schema.
func TestAvroAgainstGoavro(t *testing.T) {
	o := newOracle(t)
	e, d := newEvery(t)
	w := &writer{Rand: rand.New(rand.NewPCG(1, 2))}
	parked := 0
	for i := range 2000 {
		text := w.record([]int{0, 0, 0, 40}[i%4])
		if _, err := e.Append(nil, text); err != nil {
			parked++
		}
		check(t, o, e, d, text)
	}
	if parked < 100 || parked > 1500 {
		t.Errorf("%d of 2000 were parked: the records test little", parked)
	}
}

// FuzzAvro is the same on texts that nobody thought of.
func FuzzAvro(f *testing.F) {
	w := &writer{Rand: rand.New(rand.NewPCG(3, 4))}
	for range 100 {
		f.Add(slices.Clone(w.record(20)))
	}
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"id":1,"x":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !jsontext.Value(text).IsValid() || hugeExponent(text) {
			return
		}
		o := newOracle(t)
		e, d := newEvery(t)
		check(t, o, e, d, bytes.TrimSpace(text))
	})
}

// hugeExponent spares the oracle numbers that big.Rat would write out.
func hugeExponent(text []byte) bool {
	run := 0
	for i, c := range text {
		if c-'0' > 9 {
			run = 0
			continue
		}
		if run++; run > 4 && bytes.ContainsAny(text[max(0, i-8):i], "eE") {
			return true
		}
	}
	return false
}
