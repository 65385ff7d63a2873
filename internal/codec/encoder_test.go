package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/schemas"

	"github.com/google/go-cmp/cmp"
	"github.com/linkedin/goavro/v2"
)

// roundTrip encodes and decodes; the result has null for what was left out, so it is compared member by member.
func roundTrip(t *testing.T, schema, text string) string {
	t.Helper()
	e, err := NewAvro([]byte(schema), 1)
	if err != nil {
		t.Fatal(err)
	}
	value, err := e.Append(nil, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	back, err := d.Append(nil, value)
	if err != nil {
		t.Fatal(err)
	}
	return string(back)
}

func recordOf(fields string) string {
	return `{"type":"record","name":"R","fields":[` + fields + `,{"name":"_extra","type":["null","string"],"default":null}]}`
}

func TestFraming(t *testing.T) {
	e, err := NewAvro([]byte(recordOf(`{"name":"n","type":["null","long"]}`)), 0x01020304)
	if err != nil {
		t.Fatal(err)
	}
	value, err := e.Append([]byte("before"), []byte(`{"n":-2}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]byte("before\x00\x01\x02\x03\x04\x02\x03\x00"), value); diff != "" {
		t.Error(diff)
	}
	if id, ok := SchemaID(value[len("before"):]); !ok || id != 0x01020304 {
		t.Error(id, ok)
	}
	for _, bad := range []string{"", "\x00\x00", "{\"n\":1}"} {
		if id, ok := SchemaID([]byte(bad)); ok {
			t.Errorf("%q has the id %d", bad, id)
		}
	}
	if e.ContentType() != ContentAvro || NewJSON().ContentType() != ContentJSON {
		t.Error("content type")
	}
}

// TestNothingIsLost (7): what the schema does not know comes back where it was.
func TestNothingIsLost(t *testing.T) {
	ref := `{"type":"record","name":"Ref","fields":[{"name":"id","type":"long"}]}`
	schema := recordOf(`{"name":"id","type":"long"},{"name":"account","type":["null",` + ref + `]},` +
		`{"name":"steps","type":["null",{"type":"array","items":"Ref"}]},{"name":"score","type":["null","double"]},` +
		`{"name":"free","type":["null",{"type":"string","tidemark":"json"}]}`)
	for _, c := range []struct{ name, in, out string }{
		{"nothing", `{"id":1}`, `{"id":1,"account":null,"steps":null,"score":null,"free":null}`},
		{"members", `{"new":[1, 2],"id":1,"old":{"a":"\u00e9"}}`, `{"id":1,"account":null,"steps":null,"score":null,"free":null,"new":[1, 2],"old":{"a":"\u00e9"}}`},
		{"null", `{"id":1,"new":null}`, `{"id":1,"account":null,"steps":null,"score":null,"free":null,"new":null}`},
		{"of that name", `{"id":1,"_extra":{"x":1}}`, `{"id":1,"account":null,"steps":null,"score":null,"free":null,"_extra":{"x":1}}`},
		{"nested", `{"id":1,"account":{"plan":"gold","id":2},"z":1}`, `{"id":1,"account":{"id":2,"plan":"gold"},"steps":null,"score":null,"free":null,"z":1}`},
		{"in an array", `{"id":1,"steps":[{"id":1},{"id":2,"day":3},{"id":4,"day":5}]}`, `{"id":1,"account":null,"steps":[{"id":1},{"id":2,"day":3},{"id":4,"day":5}],"score":null,"free":null}`},
		{"digits", `{"id":1,"score":9007199254740993}`, `{"id":1,"account":null,"steps":null,"score":9007199254740993,"free":null}`},
		{"lines", "{\"id\":1,\"x\":[\n1,\r\n\t\"a b\"]}", `{"id":1,"account":null,"steps":null,"score":null,"free":null,"x":[1,"a b"]}`},
		{"half a pair in free text", `{"id":1,"x":"\ud800","free":"\udc00"}`, `{"id":1,"account":null,"steps":null,"score":null,"free":"\udc00","x":"\ud800"}`},
		{"free objects", `{"id":1,"free":{"b":[1.0,{"a":null}],"a":1}}`, `{"id":1,"account":null,"steps":null,"score":null,"free":{"b":[1.0,{"a":null}],"a":1}}`},
		{"escaped names", `{"\u0069d":1,"acc\u006funt":{"i\u0064":2,"\u0070":1}}`, `{"id":1,"account":{"id":2,"\u0070":1},"steps":null,"score":null,"free":null}`},
	} {
		if diff := cmp.Diff(c.out, roundTrip(t, schema, c.in)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestExtraInTheSchemasMiddle: a schema that grew has fields behind _extra, and they have their share in it.
func TestExtraInTheSchemasMiddle(t *testing.T) {
	schema := `{"type":"record","name":"R","fields":[{"name":"a","type":["null","string"]},{"name":"_extra","type":["string","null"]},` +
		`{"name":"b","type":["null",{"type":"record","name":"Ref","fields":[{"name":"id","type":"long"}]}]},{"name":"c","type":["null","string"]}]}`
	long := strings.Repeat("x", 300)
	in := `{"z":"` + long + `","a":"1","b":{"id":5,"more":true},"c":"2"}`
	if diff := cmp.Diff(`{"a":"1","b":{"id":5,"more":true},"c":"2","z":"`+long+`"}`, roundTrip(t, schema, in)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(`{"a":null,"b":null,"c":"2"}`, roundTrip(t, schema, `{"c":"2"}`)); diff != "" {
		t.Error(diff)
	}
}

// TestP19TypeErrors: a record that does not fit is parked, and the error says where, what was wanted and what was there.
func TestP19TypeErrors(t *testing.T) {
	e, _ := newEvery(t)
	for _, c := range []struct{ in, field, wanted, got string }{
		{`{"id":"x"}`, "id", "long", "string"},
		{`{}`, "id", "long", "nothing"},
		{`{"id":null}`, "id", "long", "null"},
		{`{"id":9223372036854775808}`, "id", "long", "number 9223372036854775808"},
		{`{"id":-9223372036854775809}`, "id", "long", "number -9223372036854775809"},
		{`{"id":1.5}`, "id", "long", "number 1.5"},
		{`{"id":1e19}`, "id", "long", "number 1e19"},
		{`{"id":1e99999999999999999999}`, "id", "long", "number 1e99999999999999999999"},
		{`{"id":1,"small":2147483648}`, "small", "int", "number 2147483648"},
		{`{"id":1,"first":1}`, "first", "string", "number 1"},
		{`{"id":1,"last":[]}`, "last", "string", "array"},
		{`{"id":1,"first":"\ud800"}`, "first", "string", "a string with half a surrogate pair"},
		{`{"id":1,"first":"\udc00\ud800"}`, "first", "string", "a string with half a surrogate pair"},
		{`{"id":1,"double":"1"}`, "double", "double", "string"},
		{`{"id":1,"double":1e309}`, "double", "double", "number 1e309"},
		{`{"id":1,"single":1e39}`, "single", "float", "number 1e39"},
		{`{"id":1,"flag":0}`, "flag", "boolean", "number 0"},
		{`{"id":1,"color":"BLUE"}`, "color", "test.Color", "a string that is none of its symbols"},
		{`{"id":1,"tags":{}}`, "tags", "array", "object"},
		{`{"id":1,"tags":["a",null]}`, "tags[1]", "string", "null"},
		{`{"id":1,"tree":{"id":1,"children":[{"id":1},{"id":false}]}}`, "tree.children[1].id", "long", "false"},
		{`{"id":1,"tree":{"id":1,"by_name":{"a":1}}}`, `tree.by_name["a"]`, "test.Node", "number 1"},
		{`{"id":1,"scores":[1]}`, "scores", "map", "array"},
		{`{"id":1,"role":true}`, "role", "null or long or string", "true"},
		{`{"id":1,"role":1.5}`, "role", "long", "number 1.5"},
		{`{"id":1,"mixed":"x"}`, "mixed", "double or null or long or boolean or array", "string"},
		{`{"id":1,"nothing":1}`, "nothing", "null", "number 1"},
		{`[1]`, "", "test.Every", "array"},
		{`null`, "", "test.Every", "null"},
	} {
		// `last` may be left out, `mixed` too: unions with null, whichever way round.
		out, err := e.Append([]byte("before"), []byte(c.in))
		var got *TypeError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if diff := cmp.Diff(&TypeError{c.field, c.wanted, c.got}, got); diff != "" {
			t.Errorf("%s: %s", c.in, diff)
		}
		if remedy, scope := cdc.Verdict(err); remedy != cdc.Park || scope != cdc.Record || cdc.Hint(err) == "" {
			t.Errorf("%s: %v %v, hint %q", c.in, remedy, scope, cdc.Hint(err))
		}
		if string(out) != "before" {
			t.Errorf("%s: left %q", c.in, out)
		}
		// The encoder is as good as before.
		if _, err := e.Append(nil, []byte(`{"id":1}`)); err != nil {
			t.Errorf("after %s: %v", c.in, err)
		}
	}
}

// TestErrorsQuoteNoText: errors are logged, and texts are people's data.
func TestErrorsQuoteNoText(t *testing.T) {
	e, _ := newEvery(t)
	for _, in := range []string{`{"id":"secret"}`, `{"id":1,"color":"secret"}`, `{"id":1,"tags":"secret"}`, `"secret"`} {
		if _, err := e.Append(nil, []byte(in)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestIntegersByExactValue(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "-0": 0, "0.000": 0, "0e10": 0, "1.0": 1, "10e-1": 1, "1e3": 1000, "1.5e1": 15, "-1E+2": -100, "123456789012345678": 123456789012345678,
		"9223372036854775807": 9223372036854775807, "-9223372036854775808": -9223372036854775808, "922337203685477580700e-2": 9223372036854775807, "9.223372036854775807e18": 9223372036854775807,
		"1000000000000000000000000000e-27": 1,
	} {
		if got, ok := parseLong([]byte(in)); !ok || got != want {
			t.Errorf("%s is %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"0.1", "1e-1", "9223372036854775808", "-9223372036854775809", "1e19", "1e2147483647", "1e2147483648", "1e-2147483648", "99999999999999999999"} {
		if got, ok := parseLong([]byte(in)); ok {
			t.Errorf("%s is %d", in, got)
		}
	}
}

func TestSchemasThatHalt(t *testing.T) {
	extra := `{"name":"_extra","type":["null","string"]}`
	for schema, want := range map[string]string{
		`{`:        "not JSON",
		`"string"`: "values are records",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}`:                                                 `add {"name": "_extra"`,
		`{"type":"record","name":"R","fields":[{"name":"_extra","type":"string"}]}`:                                          "must be",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"bytes"},` + extra + `]}`:                                  "bytes has no counterpart",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":1}},` + extra + `]}`:     "fixed has no counterpart",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"Unknown"},` + extra + `]}`:                                `"Unknown" is not defined`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":["int","long"]},` + extra + `]}`:                           "two types for number values",
		`{"type":"record","name":"R","fields":[{"name":"a","type":["float","double"]},` + extra + `]}`:                       "two types for number values",
		`{"type":"record","name":"R","fields":[{"name":"a","type":["null",["null","int"]]},` + extra + `]}`:                  "inside a union",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"long","tidemark":"json"}},` + extra + `]}`:        "only \"json\" on string",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array"}},` + extra + `]}`:                         "field a of R",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"enum","name":"E","symbols":[]}},` + extra + `]}`:  "symbols",
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"record","name":"R","fields":[]}},` + extra + `]}`: "twice",
		`{"type":"record","fields":[]}`:                          "has no name",
		`{"type":"record","name":"R"}`:                           "no fields",
		`{"type":"record","name":"R","fields":[{"type":"int"}]}`: "field 1 of R has no name",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"a","type":"long"},` + extra + `]}`: "",
	} {
		_, err := NewAvro([]byte(schema), 1)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", schema, err, want)
			continue
		}
		if remedy, scope := cdc.Verdict(err); remedy != cdc.Halt || scope != cdc.Stream || cdc.Hint(err) == "" {
			t.Errorf("%s: %v %v, hint %q", schema, remedy, scope, cdc.Hint(err))
		}
	}
	if _, err := NewAvro([]byte(recordOf(`{"name":"a","type":"long"}`)), -1); err == nil {
		t.Error("a negative id was taken")
	}
}

// TestJSONInOneLine: kcat prints one value a line.
func TestJSONInOneLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": 1, "b":"x y"}`:                         `{"a": 1, "b":"x y"}`,
		"{\n\t\"a\":\t1,\r\n \"b\": \"x y\\n\\\"\" }": `{"a":1,"b":"x y\n\""}`,
		"[1.0,1e2]": "[1.0,1e2]",
	} {
		got, err := NewJSON().Append([]byte("before "), []byte(in))
		if err != nil || string(got) != "before "+want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func testEvent() *Event {
	return &Event{
		Origin: NewOrigin("acme", "sales", "salesloft", "people"), Owner: "b7f1", Number: 42, Key: []byte("17"),
		Time: time.Date(2026, 3, 13, 0, 41, 41, 550510000, time.FixedZone("", -4*3600)), Op: cdc.Updated, Cursor: []byte("2026-03-13T00:41:41.550510-04:00"), ContentType: ContentJSON,
	}
}

// TestEnvelope: VALUE_SHAPE=envelope puts op, source and record into the value, in both formats alike.
func TestEnvelope(t *testing.T) {
	record := `{"id":1,"first":"a"}`
	want := `{"op":"u","source":{"connection":"sales","stream":"people","id":"b7f1-42","time":"2026-03-13T04:41:41.55051Z","cursor":"2026-03-13T00:41:41.550510-04:00","reason":null},"record":` + record + `}`
	got, err := NewJSON(WithShape(Envelope)).AppendEvent(nil, testEvent(), []byte(record))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	e, d := newEvery(t, WithShape(Envelope))
	for _, ev := range []*Event{testEvent(), {Origin: NewOrigin("d", "c", "s", `"t"`), Op: cdc.Created, Reason: cdc.Rollback, Cursor: []byte("\xff")}} {
		text, err := NewJSON(WithShape(Envelope)).AppendEvent(nil, ev, []byte(record))
		if err != nil {
			t.Fatal(err)
		}
		value, err := e.AppendEvent(nil, ev, []byte(record))
		if err != nil {
			t.Fatal(err)
		}
		back, err := d.Append(nil, value)
		if err != nil || !same(parse(t, text), parse(t, back)) {
			t.Errorf("%v: %s, want %s", err, back, text)
		}
	}
	for _, e := range []*Encoder{e, NewJSON(WithShape(Envelope))} {
		if _, err := e.Append(nil, []byte(record)); err == nil {
			t.Error("an envelope without an event")
		}
	}
	if _, err := ParseShape("flat"); err == nil {
		t.Error("shape flat")
	}
	for text, want := range map[string]Shape{"": Plain, "plain": Plain, "envelope": Envelope} {
		if got, err := ParseShape(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestNormal: the form in which the judge compares.
func TestNormal(t *testing.T) {
	e, err := NewAvro([]byte(recordOf(`{"name":"a","type":["null","string"]},{"name":"b","type":["null","double"]}`)), 3, WithShape(Envelope))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := e.Normal(nil, []byte(`{"x":1,"b":1.50}`))
		if err != nil || string(got) != `{"a":null,"b":1.5,"x":1}` {
			t.Errorf("%s, %v", got, err)
		}
	}
	if _, err := e.Normal(nil, []byte(`{"a":1}`)); err == nil {
		t.Error("a wrong type")
	}
	if got, _ := NewJSON().Normal(nil, []byte(`{"b":1.50}`)); string(got) != `{"b":1.50}` {
		t.Errorf("%s", got)
	}
}

// TestDecoderRefuses: values that nobody here wrote are errors, never half an answer.
func TestDecoderRefuses(t *testing.T) {
	e, d := newEvery(t)
	value, err := e.Append(nil, []byte(`{"id":1,"x":2}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"none": nil, "short": value[:4], "cut": value[:len(value)-1], "long": append(bytes.Clone(value), 0), "unframed": value[5:],
		"extra": bytes.Replace(value, []byte(`{"x":2}`), []byte(`{"x":2{`), 1),
	} {
		if got, err := d.Append([]byte("before"), bad); err == nil || string(got) != "before" {
			t.Errorf("%s: %s", name, got)
		}
	}
	d, err = NewDecoder([]byte(`{"type":"record","name":"R","fields":[{"name":"d","type":"double"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	nan := binary.LittleEndian.AppendUint64(make([]byte, 5), 0x7FF8000000000001)
	if got, err := d.Append(nil, nan); err == nil {
		t.Errorf("%s", got)
	}
	if got, err := d.Append(nil, make([]byte, 13)); err != nil || string(got) != `{"d":0}` {
		t.Errorf("%s, %v", got, err)
	}
}

// bareRecord has what identifies it, and nothing else.
func bareRecord(t *testing.T, schema []byte) []byte {
	t.Helper()
	var s struct {
		Fields []struct {
			Name    string
			Type    any
			Default any
		}
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	record := map[string]any{}
	for _, f := range s.Fields {
		switch {
		case f.Type == "string":
			record[f.Name] = "x"
		case f.Type == "long", fmt.Sprint(f.Type) == "[long string]":
			record[f.Name] = 1
		}
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestShippedSchemas: every schema can be used in both shapes, by us and by goavro, and takes a record that has its identity alone.
func TestShippedSchemas(t *testing.T) {
	for _, name := range schemas.Names() {
		schema, err := schemas.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, shape := range []Shape{Plain, Envelope} {
			text, err := Schema(schema, shape)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := goavro.NewCodec(string(text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			e, err := NewAvro(schema, 1, WithShape(shape))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			// All but the id may be missing or null.
			if _, err := e.AppendEvent(nil, testEvent(), bareRecord(t, schema)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := schemas.Get("salesloft/persons"); err == nil || !strings.Contains(err.Error(), "salesloft/person,") {
		t.Error(err)
	}
}

func TestShippedPerson(t *testing.T) {
	schema, err := schemas.Get("salesloft/person")
	if err != nil {
		t.Fatal(err)
	}
	person := appendPerson(nil, 7)
	got := roundTrip(t, string(schema), string(person))
	if !same(parse(t, person), parse(t, []byte(got))) {
		t.Errorf("came back as %s, went in as %s", got, person)
	}
	user, err := schemas.Get("salesloft/user")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{`{"id":1,"role":{"id":"Admin"}}`, `{"id":1,"role":{"id":3,"_href":"x"}}`, `{"id":1,"role":null}`} {
		if got := roundTrip(t, string(user), in); !same(parse(t, []byte(in)), parse(t, []byte(got))) {
			t.Errorf("%s came back as %s", in, got)
		}
	}
}
