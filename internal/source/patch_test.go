package source

import (
	"slices"
	"strings"
	"testing"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

const patchStream = `
    path: /things
    partition: {view: "{{ config.views }}"}
    records: data
    primary_key: id
    filter: "record.kind == 'a'"
    value: doc
    add_fields:
      view: "{{ partition.view }}"
      from: "since {{ config.start }}"
      full: "{{ record.doc.first + ' ' + (record.doc.last ?? '?') }}"
      kind: {of: "{{ record.kind }}", list: [1, "{{ record.no }}", x]}
      one: 1.5
      nick: "{{ record.doc.nick ?? record.none ?? config.start }}"
    remove_fields: [secret, "phones[*].number", first]
`

// splitOf reads one body as partition view=a and returns its records, with copies of what is published.
func splitOf(t *testing.T, src *Source, body string) (records []Record, contents []string, page *Page) {
	t.Helper()
	r := src.Requests[0]
	pos, err := r.Begin(r.Partitions()[0], cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	page = &Page{}
	if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(body), ServerTime: noon}, nil, page); err != nil {
		t.Fatal(err)
	}
	for i := range page.Records {
		contents = append(contents, string(page.Records[i].Content(page.Body)))
	}
	return page.Records, contents, page
}

// What is published is the value with fields added and removed: a null leaves a field out, an added one replaces, what stays
// keeps its bytes.
func TestFieldsAreAddedAndRemoved(t *testing.T) {
	src := bound(t, patchStream, map[string]any{"start": "2026"})
	body := `{"data":[{"id":1,"kind":"a","no":7,"doc":{"first":"A","last":"B","secret":1,"phones":[{"number":1,"at":"home"}],"price":1.50,"view":"other"}},` +
		`{"id":2,"kind":"b"},` +
		`{"id":3,"kind":"a","no":null,"doc":{"first":"C"}},` +
		`{"id":4,"kind":"a","no":1,"doc":{"last":"D"}},` +
		`{"id":5,"kind":"a","no":1,"doc":"text"}]}`
	records, contents, _ := splitOf(t, src, body)
	for i, want := range []string{
		`{"last":"B","phones":[{"at":"home"}],"price":1.50,"view":"a","from":"since 2026","full":"A B","kind":{"of":"a","list":[1,7,"x"]},"one":1.5,"nick":"2026"}`,
		``,
		`{"view":"a","from":"since 2026","full":"C ?","kind":{"of":"a","list":[1,"x"]},"one":1.5,"nick":"2026"}`,
	} {
		if i != 1 && (contents[i] != want || records[i].Err != nil) {
			t.Errorf("%s (%v), want %s", contents[i], records[i].Err, want)
		}
	}
	if records[1].Kind != Filtered || records[1].Err != nil {
		t.Errorf("a record outside of the filter is not patched: %+v", records[1])
	}
	want(t, records[3].Err, cdc.Park, "record.doc.first is not there")
	if cdc.Hint(records[3].Err) == "" || !strings.Contains(cdc.Hint(records[3].Err), "record.doc.first ?? VALUE") {
		t.Errorf("hint %q", cdc.Hint(records[3].Err))
	}
	want(t, records[4].Err, cdc.Park, "string") // P19

	plain, contents, _ := splitOf(t, bound(t, strings.Replace(patchStream, "    add_fields:", "    hash: {include: [view]}\n    add_fields:", 1), nil),
		`{"data":[{"id":1,"kind":"a","no":7,"doc":{"first":"A"}},{"id":2,"kind":"a","no":8,"doc":{"first":"B"}}]}`)
	if plain[0].Hash != plain[1].Hash || strings.Contains(contents[0], "from") || strings.Contains(contents[0], "nick") {
		t.Errorf("hash rules are of the published value, and a null leaves a field out: %q", contents)
	}
}

// (5): the hash is that of the published value: what was removed changes nothing, what was added does.
func TestHashOfAddedAndRemovedFields(t *testing.T) {
	src := bound(t, patchStream, nil)
	hash := func(no, secret string) uint64 {
		records, contents, page := splitOf(t, src, `{"data":[{"id":1,"kind":"a","no":`+no+`,"doc":{"first":"A","secret":`+secret+`,"x":1}}]}`)
		plan, err := record.NewPlan(nil, record.Rules{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		sc := record.NewScanner(plan, record.Limits{})
		if _, err := sc.Scan([]byte(contents[0]), 0); err != nil || sc.Hash != records[0].Hash {
			t.Errorf("%s has the hash %x, not %x (%v)", contents[0], sc.Hash, records[0].Hash, err)
		}
		again, err := src.Requests[0].Rescan(src.Requests[0].Partitions()[0], 0, page.Body, &records[0], src.Streams[0].Rules, 0)
		if err != nil || again != records[0].Hash {
			t.Errorf("P23: %x under its own rules, %x again, %v", records[0].Hash, again, err)
		}
		return records[0].Hash
	}
	if hash("1", "1") != hash("1", "2") || hash("1", "1") == hash("2", "1") {
		t.Error("the hash is not that of the published value")
	}
}

// P23: a rule set says how fields were added, with the settings that were used; what was published under it is compared under
// it, and only what upstream changed differs.
func TestP23FieldsOfThePast(t *testing.T) {
	before := bound(t, patchStream, map[string]any{"start": "2025"})
	old := before.Streams[0].Rules
	row := func(no string) string {
		return `{"data":[{"id":1,"kind":"a","no":` + no + `,"doc":{"first":"A","secret":1}}]}`
	}
	was, _, _ := splitOf(t, before, row("7"))
	for name, now := range map[string]*Source{
		"a setting":    bound(t, patchStream, map[string]any{"start": "2026"}),
		"no fields":    bound(t, without(strings.Replace(patchStream, "    path:", "    filter: record.kind == 'a'\n    path:", 1), "filter: \"", "add_fields", "view: \"{{ part", "from:", "full:", "kind:", "one:", "nick:", "remove_"), nil),
		"other fields": bound(t, strings.NewReplacer("one: 1.5", "two: 2", "secret, ", "").Replace(patchStream), nil),
	} {
		rules := now.Streams[0].Rules
		if rules.Fields == old.Fields || rules.Fingerprint() == old.Fingerprint() {
			t.Errorf("%s: the rules are the same: %s", name, rules.Fields)
		}
		for no, same := range map[string]bool{"7": true, "8": false} {
			records, _, page := splitOf(t, now, row(no))
			then, err := now.Requests[0].Rescan(now.Requests[0].Partitions()[0], 0, page.Body, &records[0], old, 0)
			if err != nil || (then == was[0].Hash) != same || records[0].Hash == was[0].Hash {
				t.Errorf("%s, no %s: %x under the old rules, was %x (%v)", name, no, then, was[0].Hash, err)
			}
		}
	}
	if again := bound(t, patchStream, map[string]any{"start": "2025", "views": []any{"a", "c"}}); again.Streams[0].Rules.Fields != old.Fields {
		t.Error("a setting that no field uses changes the rules")
	}
	old.Fields = `{"add":{"x":"{{ sum(record.a) }}"}}`
	records, _, page := splitOf(t, before, row("7"))
	_, err := before.Requests[0].Rescan(Partition{}, 0, page.Body, &records[0], old, 0)
	want(t, err, cdc.Halt, "unknown function")
}

// A record that is known by its bytes alone is not patched, and so costs nothing: its bytes, and its partition, decide its value.
func TestPatchedRecordsKeepTheFastPath(t *testing.T) {
	src := bound(t, patchStream, nil)
	text := `{"id":1,"kind":"a","no":7,"doc":{"first":"A"}}`
	r := src.Requests[0]
	known := table{`["a",1]`: {Len: uint32(len(text)), Hash: record.RawHash([]byte(text))}}
	pos, _ := r.Begin(r.Partitions()[0], cdc.Checkpoint{}, noon)
	var page Page
	body := `{"data":[` + text + `,` + strings.Replace(text, "7", "8", 1) + `]}`
	if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(body), ServerTime: noon}, func(int) record.Known { return known }, &page); err != nil {
		t.Fatal(err)
	}
	var same []bool
	for _, rec := range page.Records {
		same = append(same, rec.Same)
	}
	if !slices.Equal(same, []bool{true, false}) || !strings.Contains(string(page.Records[1].Content(page.Body)), `"view":"a"`) {
		t.Error(same)
	}
}
