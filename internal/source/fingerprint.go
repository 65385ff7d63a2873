package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fingerprint is a hash over named facts; 128 bits tell any two definitions apart.
func fingerprint(lines []string) string {
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintf(h, "%d:%s\n", len(l), l)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// facts are what the request sends, as text: its templates, and the settings that they use. A secret is no part of it:
// a renewed key reads the same listing, and the credential's identity is the caller's to add (P23).
func (r *Request) facts(secret func(string) bool) []string {
	s, c := r.source, &r.list
	lines := []string{"base " + s.BaseURL, "method " + c.method}
	settings := map[string]bool{}
	put := func(what string, t *template) {
		if t == nil {
			return
		}
		lines = append(lines, what+" "+t.canonical())
		t.bindings(func(b binding) {
			if b.root == "config" {
				settings[b.member] = true
			}
		})
	}
	put("path", c.path)
	put("url", c.url)
	for what, list := range map[string][]parameter{"query ": c.query, "form ": c.form, "header ": slices.Concat(s.headers, c.headers)} {
		for _, p := range list {
			put(what+p.name, p.value)
			for _, t := range p.list {
				put(what+p.name, t)
			}
		}
	}
	if c.body != nil {
		c.body.facts("body", put)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !secret(name) {
			lines = append(lines, fmt.Sprintf("config %s %v", name, s.config[name]))
		}
	}
	slices.Sort(lines) // the order of parameters says nothing
	return lines
}

func (b *body) facts(at string, put func(string, *template)) {
	if b.leaf != nil {
		put(at, b.leaf)
	}
	for i, c := range b.list {
		c.facts(fmt.Sprintf("%s[%d]", at, i), put)
	}
	for _, f := range b.fields {
		f.value.facts(at+"."+f.name, put)
	}
}

// prints sets the fingerprints of P23. Request: what makes the cursor mean something else. Listing: the request, where it
// begins, and what decides which records it holds. Key: the identity.
func (r *Request) prints(secret func(string) bool) {
	lines := append([]string{"request 1"}, r.facts(secret)...)
	for _, sel := range r.records {
		line := "records " + sel.path.String()
		if sel.stream.Name != r.Name {
			line += " " + sel.stream.Name // a stream that is added has seen nothing of what the cursor has passed
		}
		lines = append(lines, line)
	}
	for _, st := range r.Streams {
		if st.hydrate != nil {
			lines = append(lines, st.hydrate.facts(st.Name)...)
		}
	}
	if in := r.incremental; in != nil {
		lines = append(lines, "cursor "+string(in.kind))
		if in.cursorField != nil {
			lines = append(lines, "cursor_field "+in.cursorField.String())
		}
		if in.next != nil {
			lines = append(lines, "next "+in.next.String())
		}
		if in.record != nil {
			lines = append(lines, fmt.Sprint("format ", in.record.name, " ", in.request.name, " ", in.record.zone))
		}
	}
	r.RequestPrint = fingerprint(lines)
	listing := []string{"listing 1", r.RequestPrint}
	if in := r.incremental; in != nil {
		listing = append(listing, fmt.Sprintf("start %v", in.start)) // a later start lists less, which is not a deletion
	}
	if r.listing != nil {
		listing = append(append(listing, "declared"), r.listing.facts(secret)...)
	}
	for _, sel := range r.records {
		if sel.gone {
			listing = append(listing, "gone "+sel.path.String())
		}
	}
	for _, st := range r.Streams {
		listing = append(listing, "filter "+st.filter.canonical(), "delete "+st.delete.canonical())
		st.KeyPrint = st.keyPrint(r)
	}
	r.ListingPrint = fingerprint(listing)
	answer := []string{"answer 1", r.ListingPrint}
	for _, st := range r.Streams {
		answer = append(answer, st.KeyPrint, st.Rules.Fingerprint(), st.Schema, string(st.Avsc))
	}
	r.answerPrint = fingerprint(answer)
}

func (c *condition) canonical() string {
	if c == nil {
		return ""
	}
	return c.text
}

func (s *Stream) keyPrint(r *Request) string {
	lines := []string{"key 1"}
	for _, p := range s.primaryKey {
		lines = append(lines, "field "+p.String())
	}
	if s.contentKey {
		lines = append(lines, "content")
	}
	var names []string
	if !s.keyScope {
		for _, d := range r.partitions {
			names = append(names, d.identity())
		}
	}
	return fingerprint(append(lines, "partition "+strings.Join(names, ",")))
}
