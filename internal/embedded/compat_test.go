package embedded

import (
	"strings"
	"testing"
)

// resolutions are pairs of a reader's and a writer's schema; want is the first reason, or nothing if the reader can read.
var resolutions = []struct{ name, reader, writer, want string }{
	{"same", `"int"`, `"int"`, ""},
	{"int to long", `"long"`, `"int"`, ""},
	{"int to float", `"float"`, `"int"`, ""},
	{"int to double", `"double"`, `"int"`, ""},
	{"long to float", `"float"`, `"long"`, ""},
	{"long to double", `"double"`, `"long"`, ""},
	{"float to double", `"double"`, `"float"`, ""},
	{"string to bytes", `"bytes"`, `"string"`, ""},
	{"bytes to string", `"string"`, `"bytes"`, ""},
	{"long to int", `"int"`, `"long"`, "TYPE_MISMATCH"},
	{"double to float", `"float"`, `"double"`, "TYPE_MISMATCH"},
	{"int to string", `"string"`, `"int"`, "TYPE_MISMATCH"},
	{"null to string", `"string"`, `"null"`, "TYPE_MISMATCH"},
	{"boolean to int", `"int"`, `"boolean"`, "TYPE_MISMATCH"},
	{"array of promoted", `{"type":"array","items":"long"}`, `{"type":"array","items":"int"}`, ""},
	{"array of others", `{"type":"array","items":"int"}`, `{"type":"array","items":"string"}`, "TYPE_MISMATCH"},
	{"map of promoted", `{"type":"map","values":"long"}`, `{"type":"map","values":"int"}`, ""},
	{"array to map", `{"type":"map","values":"int"}`, `{"type":"array","items":"int"}`, "TYPE_MISMATCH"},
	{"into a union", `["null","int"]`, `"int"`, ""},
	{"into a union, promoted", `["null","long"]`, `"int"`, ""},
	{"into a union without it", `["null","int"]`, `"string"`, "MISSING_UNION_BRANCH"},
	{"out of a union", `"int"`, `["null","int"]`, "TYPE_MISMATCH"},
	{"out of a union of one", `"long"`, `["int"]`, ""},
	{"union grows", `["null","int","string"]`, `["null","int"]`, ""},
	{"union shrinks", `["null","int"]`, `["null","int","string"]`, "MISSING_UNION_BRANCH"},
	{"fixed", `{"type":"fixed","name":"f","size":4}`, `{"type":"fixed","name":"f","size":4}`, ""},
	{"fixed size", `{"type":"fixed","name":"f","size":4}`, `{"type":"fixed","name":"f","size":5}`, "FIXED_SIZE_MISMATCH"},
	{"enum grows", `{"type":"enum","name":"e","symbols":["A","B"]}`, `{"type":"enum","name":"e","symbols":["A"]}`, ""},
	{"enum shrinks", `{"type":"enum","name":"e","symbols":["A"]}`, `{"type":"enum","name":"e","symbols":["A","B"]}`, "MISSING_ENUM_SYMBOLS"},
	{"enum shrinks with default", `{"type":"enum","name":"e","symbols":["A"],"default":"A"}`, `{"type":"enum","name":"e","symbols":["A","B"]}`, ""},
	{"renamed", rec("R", ``), rec("S", ``), "NAME_MISMATCH"},
	{"renamed with alias", `{"type":"record","name":"R","aliases":["S"],"fields":[]}`, rec("S", ``), ""},
	{"other namespace", rec("a.R", ``), rec("b.R", ``), ""},
	{"field goes", rec("R", ``), rec("R", `{"name":"x","type":"int"}`), ""},
	{"field comes without default", rec("R", `{"name":"x","type":"int"}`), rec("R", ``), "READER_FIELD_MISSING_DEFAULT_VALUE"},
	{"field comes with default", rec("R", `{"name":"x","type":"int","default":0}`), rec("R", ``), ""},
	{"field comes with default null", rec("R", `{"name":"x","type":["null","int"],"default":null}`), rec("R", ``), ""},
	{"nullable is no default", rec("R", `{"name":"x","type":["null","int"]}`), rec("R", ``), "READER_FIELD_MISSING_DEFAULT_VALUE"},
	{"field renamed by alias", rec("R", `{"name":"y","aliases":["x"],"type":"int"}`), rec("R", `{"name":"x","type":"int"}`), ""},
	{"field becomes nullable", rec("R", `{"name":"x","type":["null","int"]}`), rec("R", `{"name":"x","type":"int"}`), ""},
	{"field no longer nullable", rec("R", `{"name":"x","type":"int"}`), rec("R", `{"name":"x","type":["null","int"]}`), "TYPE_MISMATCH"},
	{"field changes type", rec("R", `{"name":"x","type":"int"}`), rec("R", `{"name":"x","type":"string"}`), "TYPE_MISMATCH"},
	{"logical types do not count", `{"type":"long","logicalType":"timestamp-millis"}`, `"long"`, ""},
	{"recursive", rec("R", `{"name":"next","type":["null","R"]}`), rec("R", `{"name":"next","type":["null","R"]}`), ""},
	{"recursive, field inside", rec("R", `{"name":"next","type":["null","R"]},{"name":"x","type":"int"}`), rec("R", `{"name":"next","type":["null","R"]}`), "MISSING_UNION_BRANCH|READER_FIELD_MISSING_DEFAULT_VALUE"},
}

func rec(name, fields string) string {
	return `{"type":"record","name":"` + name + `","fields":[` + fields + `]}`
}

func TestResolution(t *testing.T) {
	for _, c := range resolutions {
		t.Run(c.name, func(t *testing.T) {
			reader, err := parseAvro(c.reader, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			writer, err := parseAvro(c.writer, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if found := resolve(reader, writer, "new", "old"); len(found) > 0 {
				got = found[0].typ
			}
			if got != c.want && (got == "" || !strings.Contains(c.want, got)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	a := rec("R", ``)
	b := rec("R", `{"name":"x","type":"int","default":0}`)
	c := rec("R", `{"name":"y","type":"int"}`)
	for _, k := range []struct {
		level   string
		earlier []string
		next    string
		ok      bool
	}{
		{"NONE", []string{a}, `"int"`, true},
		{"BACKWARD", []string{a}, b, true},
		{"BACKWARD", []string{a}, c, false},
		{"BACKWARD", []string{a, c}, rec("R", `{"name":"y","type":"long"}`), true}, // the latest alone
		{"BACKWARD_TRANSITIVE", []string{a, c}, rec("R", `{"name":"y","type":"long"}`), false},
		{"FORWARD", []string{a}, c, true}, // the old one ignores what it does not know
		{"FORWARD", []string{c}, a, false},
		{"FORWARD_TRANSITIVE", []string{c, a}, a, false},
		{"FORWARD", []string{c, a}, a, true},
		{"FULL", []string{a}, b, true},
		{"FULL", []string{a}, c, false},
		{"FULL", []string{c}, a, false},
		{"FULL_TRANSITIVE", []string{c, a}, b, false},
		{"FULL", nil, a, true},
	} {
		next, err := parseAvro(k.next, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		var earlier []*version
		for i, text := range k.earlier {
			parsed, err := parseAvro(text, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			earlier = append(earlier, &version{number: i + 1, schema: &schema{Text: text, parsed: parsed}})
		}
		if messages := incompatible(k.level, next, earlier); (len(messages) == 0) != k.ok {
			t.Errorf("%s %s after %s: got %q, want compatible: %v", k.level, k.next, k.earlier, messages, k.ok)
		}
	}
}

func TestParseAvroRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                             "EOF",
		`7`:                            "no type",
		`"strnig"`:                     "undefined name",
		`{"type":"array"}`:             "no type",
		`{"type":"record","name":"R"}`: "no fields",
		`{"type":"record","name":"1R","fields":[]}`:                                          "invalid name",
		`{"type":"record","name":"long","fields":[]}`:                                        "primitive",
		`{"type":"enum","name":"e"}`:                                                         "no symbols",
		`{"type":"enum","name":"e","symbols":["A","A"]}`:                                     "duplicate symbol",
		`{"type":"enum","name":"e","symbols":["A"],"default":"B"}`:                           "no symbol",
		`{"type":"fixed","name":"f"}`:                                                        "no size",
		`["int","int"]`:                                                                      "duplicate in union",
		`["int",["null"]]`:                                                                   "nested union",
		`"int" "int"`:                                                                        "after the schema",
		rec("R", `{"name":"x","type":"int"},{"name":"x","type":"int"}`):                      "duplicate field",
		rec("R", `{"name":"x","type":"int","default":"0"}`):                                  "invalid default",
		rec("R", `{"name":"x","type":"int","default":3000000000}`):                           "invalid default",
		rec("R", `{"name":"x","type":["null","int"],"default":0}`):                           "invalid default",
		rec("R", `{"name":"x","type":"int","default":null}`):                                 "invalid default",
		rec("R", `{"name":"x","type":{"type":"array","items":"int"},"default":["a"]}`):       "invalid default",
		rec("R", `{"name":"a","type":`+rec("R", ``)+`}`):                                     "redefine",
		strings.Repeat(`{"type":"array","items":`, 300) + `"int"` + strings.Repeat(`}`, 300): "too deep",
	} {
		if _, err := parseAvro(text, nil, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got error %v, want %q", text, err, want)
		}
	}
}

func TestParseAvroTakes(t *testing.T) {
	for _, text := range []string{
		`string`, `{"type":{"type":"string"}}`, `[]`,
		rec("a.b.R", `{"name":"x","type":["null","R"],"default":null}`), // names inside R are of its namespace
		rec("R", `{"name":"x","type":{"type":"map","values":"int"},"default":{"a":1}}`),
		rec("R", `{"name":"x","type":`+rec("S", `{"name":"y","type":"int","default":1}`)+`,"default":{}}`),
		rec("R", `{"name":"x","type":{"type":"fixed","name":"f","size":2},"default":"\u00ff0"}`),
		rec("R", `{"name":"x","type":"double","default":1},{"name":"t","type":{"type":"string","tidemark":"json"}}`),
	} {
		if _, err := parseAvro(text, nil, true); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
