package codec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func learnt(t *testing.T, key []string, samples ...string) (string, []string) {
	t.Helper()
	var l Learner
	for _, s := range samples {
		l.Add([]byte(s))
	}
	schema, extras, err := l.Schema("tidemark.shop", "order_lines", "", key)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewAvro(schema, 1)
	if err != nil {
		t.Fatalf("%v\n%s", err, schema)
	}
	d, err := NewDecoder(schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		value, err := e.Append(nil, []byte(s))
		if err != nil {
			t.Fatalf("%s does not fit the schema that was learnt from it: %v\n%s", s, err, schema)
		}
		if back, err := d.Append(nil, value); err != nil {
			t.Fatalf("%v: %s", err, back)
		}
	}
	return string(schema), extras
}

// TestLearn: types, nullability, and what is left to _extra.
func TestLearn(t *testing.T) {
	schema, extras := learnt(t, []string{"id"},
		`{"id": 1, "name": "a", "price": 10, "big": 1, "paid": true, "gone": null, "tags": ["x", null], "empty": [], "mixed": 1,
		  "custom": {"a": 1}, "owner": {"id": 7, "@type": "person"}, "lines": [{"sku": "x", "n": 1}], "odd-name": 1, "_extra": {"x": 1}, "none": {}, "deep": {"er": {"est": 0.5}}}`,
		`{"id": 2, "name": null, "price": 10.5, "big": 9223372036854775808, "gone": null, "tags": [], "empty": [], "mixed": "x",
		  "custom": {"b": 1}, "owner": null, "lines": [{"sku": "y"}], "none": {}, "deep": {"er": {"est": 1}}}`,
		`{"id": 3, "custom": {"c": 1}}`)
	want := `{
  "type": "record",
  "name": "OrderLines",
  "namespace": "tidemark.shop",
  "fields": [
    {"name": "id", "type": "long"},
    {"name": "name", "type": ["null", "string"], "default": null},
    {"name": "price", "type": ["null", "double"], "default": null},
    {"name": "big", "type": ["null", "double"], "default": null},
    {"name": "paid", "type": ["null", "boolean"], "default": null},
    {"name": "tags", "type": ["null", {"type": "array", "items": ["null", "string"]}], "default": null},
    {"name": "owner", "type": ["null", {"type": "record", "name": "OrderLinesOwner", "fields": [{"name": "id", "type": ["null", "long"], "default": null}]}], "default": null},
    {"name": "lines", "type": ["null", {"type": "array", "items": {"type": "record", "name": "OrderLinesLines", "fields": [{"name": "sku", "type": ["null", "string"], "default": null}, {"name": "n", "type": ["null", "long"], "default": null}]}}], "default": null},
    {"name": "deep", "type": ["null", {"type": "record", "name": "OrderLinesDeep", "fields": [{"name": "er", "type": ["null", {"type": "record", "name": "OrderLinesDeepEr", "fields": [{"name": "est", "type": ["null", "double"], "default": null}]}], "default": null}]}], "default": null},
    {"name": "_extra", "type": ["null", {"type": "string", "tidemark": "json"}], "default": null, "doc": "What the API sends beyond this schema, as the text of a JSON object."}
  ]
}
`
	if diff := cmp.Diff(want, schema); diff != "" {
		t.Error(diff)
	}
	wantExtras := []string{
		"gone (only null was seen, or nothing)", "empty (a list: only null was seen, or nothing)", "mixed (several types were seen)",
		"custom (an object whose members differ: 3 names in 3 objects)", "owner.@type (Avro has no such name)", "odd-name (Avro has no such name)", "none (an object that was empty)",
	}
	if diff := cmp.Diff(wantExtras, extras); diff != "" {
		t.Error(diff)
	}
}

// TestLearnIsSureAfterManySamples: what each of so many has is not nullable; what one of them lacks is.
func TestLearnIsSureAfterManySamples(t *testing.T) {
	var samples []string
	for i := range Sure {
		samples = append(samples, fmt.Sprintf(`{"id": "%d", "n": {"x": %d}}`, i, i))
	}
	schema, _ := learnt(t, nil, samples...)
	for _, text := range []string{`{"name": "id", "type": "string"}`, `{"name": "n", "type": {"type": "record"`, `{"name": "x", "type": "long"}`} {
		if !strings.Contains(schema, text) {
			t.Errorf("no %s in\n%s", text, schema)
		}
	}
	if schema, _ = learnt(t, nil, append(samples, `{"id": "x", "n": {}}`)...); !strings.Contains(schema, `{"name": "x", "type": ["null", "long"]`) {
		t.Error(schema)
	}
}

// TestLearnRefusesWhatIsNoRecord: a list of texts has no schema of ours.
func TestLearnRefusesWhatIsNoRecord(t *testing.T) {
	for _, text := range []string{`"x"`, `null`, `{}`, `[1]`} {
		var l Learner
		l.Add([]byte(text))
		if schema, _, err := l.Schema("a", "b", "", nil); err == nil {
			t.Errorf("%s: %s", text, schema)
		}
	}
}
