package source

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// P23: the name of a field that no record has would make all records equal, and suppress every change.
func TestP23IncludeThatIsNowhereHalts(t *testing.T) {
	stream := func(keys string) string {
		return "\n    path: /things\n    records: data\n    primary_key: id\n    " + strings.ReplaceAll(keys, "; ", "\n    ") + "\n"
	}
	answer := func(asked) any {
		return `{"data":[{"id":1,"name":"a","doc":{"title":"x"}},{"id":2,"name":"b","doc":{"title":"y"},"closed":null}]}`
	}
	for keys, lacks := range map[string]string{
		"hash: {include: [naem]}":                                            `there is no "naem" (did you mean "name"?); there are id, name, doc, closed`,
		"hash: {include: [naem, doc.titel]}":                                 `there is no`,
		"value: doc; hash: {include: [titel]}":                               `there is no "titel" (did you mean "title"?); there are title`,
		"hash: {include: [name]}; remove_fields: [name]":                     `there is no "name"`,
		"add_fields: {kind: x}; hash: {include: [knid]}":                     `(did you mean "kind"?)`,
		"hash: {include: [name]}":                                            "",
		"hash: {include: [naem, closed]}":                                    "", // one record has one of them
		"hash: {include: [kind]}; add_fields: {kind: \"{{ record.name }}\"}": "",
		"value: doc; hash: {include: [title]}":                               "",
		"filter: record.id == 7; hash: {include: [naem]}":                    "", // nothing is published of them
	} {
		t.Run(keys, func(t *testing.T) {
			got := newDriver(t, bound(t, stream(keys), nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, answer)
			if lacks != "" {
				want(t, got.err, cdc.Halt, lacks)
				if hint := cdc.Hint(got.err); !strings.Contains(hint, "hash.include") {
					t.Errorf("hint %q", hint)
				}
				return
			}
			if got.err != nil || len(got.keys) != 2 {
				t.Errorf("%v %q", got.err, got.keys)
			}
		})
	}
	// What one record had is not looked for again: a field may be absent in most.
	d := newDriver(t, bound(t, stream("hash: {include: [closed]}"), nil))
	if got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, answer); got.err != nil {
		t.Fatal(got.err)
	}
	if got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{Passes: 1}, 0, func(asked) any { return `{"data":[{"id":3,"name":"c"}]}` }); got.err != nil {
		t.Error(got.err)
	}
	// A page whose records are known by their bytes is asked, too.
	d = newDriver(t, bound(t, stream("value: doc; hash: {include: [title]}"), nil))
	for _, text := range []string{`{"id":1,"doc":{"title":"x"}}`, `{"id":2,"doc":{}}`} {
		d.table[text[6:7]] = record.RawHint{Hash: record.RawHash([]byte(text)), Len: uint32(len(text))}
	}
	if got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{Passes: 1}, 0, func(asked) any {
		return `{"data":[{"id":1,"doc":{"title":"x"}},{"id":2,"doc":{}},{"id":3,"doc":{}}]}`
	}); got.err != nil || len(got.keys) != 3 {
		t.Error(got.err, got.keys)
	}
}

// A review names what a definition has and the API has not.
func TestReviewNamesWhatIsNowhere(t *testing.T) {
	page := func(more string) string {
		return `{"data":[{"id":1,"at":"2026-03-10T11:00:00Z","rev":7},{"id":2,"at":"2026-03-10T11:00:01Z"}]` + more + `}`
	}
	base := "\n    path: /things\n    records: data\n    primary_key: id\n    "
	for _, c := range []struct {
		name, stream, answer string
		want                 []string
	}{
		{"version", "version: revv", page(""), []string{"true `version` is in none of the 2 records", `did you mean "rev"`}},
		{"version of one record", "version: rev", page(""), nil},
		{"include", "hash: {include: [rev, nome]}", page(""), []string{"true `hash.include` is in none of the 2 records", `"nome"`}},
		{"cursor_field", "query: {since: '{{ cursor }}'}\n    incremental: {cursor_field: at, format: rfc3339}", page(""), nil},
		{"more", "query: {page: '{{ page }}'}\n    paginator: {type: page, more: moer}", page(`,"more":true`),
			[]string{"true `paginator.more` is in none of the 1 answers", `did you mean "more"`, "moer ?? false"}},
		{"done", "query: {page: '{{ page }}'}\n    paginator: {type: page, done: edn}", page(`,"end":false`),
			[]string{"false nothing shows that `paginator.done` is right", `did you mean "end"`}},
		{"incremental.more", "query: {since: '{{ cursor }}'}\n    incremental: {type: opaque, next: c, more: moer}", page(`,"c":"x","more":true`),
			[]string{"true `incremental.more` is in none of the 1 answers"}},
		{"next", "query: {limit: 2, token: '{{ page_token }}'}\n    paginator: {type: token, next: nxt}", page(`,"next":"t"`),
			[]string{"false nothing shows that `paginator.next` is right: no answer had it", "has 2 records", `did you mean "next"`}},
		{"next, and there was room", "query: {limit: 3, token: '{{ page_token }}'}\n    paginator: {type: token, next: nxt}", page(""), nil},
		{"Link header", "query: {limit: 2}\n    paginator: {type: link}", page(""), []string{"false nothing shows that `paginator.header` is right"}},
		{"cap", "query: {token: '{{ page_token }}'}\n    paginator: {type: token, next: nxt}\n    reconcile: {cap: 2}", page(""), []string{"false nothing shows that `paginator.next`"}},
		{"nothing", "version: revv\n    hash: {include: [nome]}", `{"data":[]}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := bound(t, base+c.stream+"\n", nil)
			r := src.Requests[0]
			v := r.Review()
			pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
			if err != nil {
				t.Fatal(err)
			}
			d := newDriver(t, src)
			req, err := r.Compose(&pos)
			if err != nil {
				t.Fatal(err)
			}
			var got Page
			resp := d.respond(req, 1, func(asked) any { return &fetch.Response{Status: 200, Body: []byte(c.answer)} })
			if err := r.Split(&pos, resp, nil, &got); err != nil {
				t.Fatal(err)
			}
			v.Note(&pos, resp, &got)
			text := ""
			for _, m := range v.Remarks() {
				text += fmt.Sprintf("%t %s\n", m.Wrong, m.Text)
			}
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q is not in:\n%s", w, text)
				}
			}
			if len(c.want) == 0 && text != "" {
				t.Errorf("remarks:\n%s", text)
			}
		})
	}
}
