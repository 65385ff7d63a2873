package embedded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Registry is a schema registry in memory: the Confluent API, for Avro schemas, with real compatibility rules. It is an
// http.Handler, for whoever wants it without Start.
type Registry struct {
	mux *http.ServeMux

	mu         sync.Mutex // guards all below; never held across I/O
	schemas    []*schema  // by id less 1
	byIdentity map[string]*schema
	subjects   map[string]*subject
	level      string // global compatibility
	mode       string // global mode
}

// schema is a registered schema; its id is global, so that one text under two subjects is one schema.
type schema struct {
	ID         int
	Text       string
	References []reference
	parsed     *avro
}

// reference names a schema under another subject that a schema refers to.
type reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// subject holds the versions registered under one name, oldest first.
type subject struct {
	versions []*version
	level    string // "" follows the global one
	mode     string
}

// version is one version of a subject; deleted ones stay until they are deleted permanently.
type version struct {
	number  int
	schema  *schema
	deleted bool
}

// failure is an answer of the Confluent API that is no success.
type failure struct {
	status, code int
	message      string
}

// Error implements error.
func (f *failure) Error() string { return f.message }

func fail(code int, format string, args ...any) *failure {
	status := code
	for status > 999 {
		status /= 10
	}
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// NewRegistry returns an empty registry: compatibility BACKWARD, mode READWRITE.
func NewRegistry() *Registry {
	r := &Registry{byIdentity: map[string]*schema{}, subjects: map[string]*subject{}, level: "BACKWARD", mode: "READWRITE"}
	r.mux = r.routes()
	return r
}

// request is the body of a registration, a look-up or a compatibility check.
type request struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType"`
	References []reference `json:"references"`
	ID         int         `json:"id"`
	Version    int         `json:"version"`
}

// prepare parses what was sent, without an id yet. A schema that is known already is returned as it is known.
func (r *Registry) prepare(q request, strict bool) (*schema, error) {
	if q.SchemaType != "" && q.SchemaType != "AVRO" {
		return nil, fail(42201, "Invalid schema type %s: this registry holds AVRO only", q.SchemaType)
	}
	var texts []string
	for _, ref := range q.References {
		found, err := r.version(ref.Subject, ref.Version, false)
		if err != nil {
			return nil, fail(42201, "Invalid schema: no schema reference found for subject %q and version %d", ref.Subject, ref.Version)
		}
		texts = append(texts, found.schema.Text)
	}
	parsed, err := parseAvro(q.Schema, texts, strict)
	if err != nil {
		return nil, fail(42201, "Invalid schema %s, details: %v", q.Schema, err)
	}
	text := compact(q.Schema)
	if known := r.byIdentity[identity(text, q.References)]; known != nil {
		return known, nil
	}
	return &schema{Text: text, References: q.References, parsed: parsed}, nil
}

// compact removes white space between tokens.
func compact(text string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return fmt.Sprintf("%q", strings.TrimSpace(text)) // a bare name, the only text that parses and is no JSON
	}
	return b.String()
}

// identity is equal for schemas that differ only in the order of members; doc and other properties count.
func identity(text string, references []reference) string {
	var value any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return text
	}
	sorted, err := json.Marshal([]any{value, references}) // Marshal sorts the members of maps
	if err != nil {
		return text
	}
	return string(sorted)
}

// register adds a version, unless the subject has the schema already. It returns the schema's id.
func (r *Registry) register(name string, q request) (int, error) {
	if mode := r.modeOf(name); mode == "READONLY" || mode == "READONLY_OVERRIDE" {
		return 0, fail(42205, "Subject %s is in read-only mode", name)
	} else if q.ID > 0 && mode != "IMPORT" {
		return 0, fail(42205, "Subject %s is not in import mode", name)
	}
	next, err := r.prepare(q, true)
	if err != nil {
		return 0, err
	}
	s := r.subjects[name]
	if s == nil {
		s = &subject{}
	}
	live := s.live(false)
	for _, v := range live {
		if v.schema == next {
			return next.ID, nil
		}
	}
	messages := incompatible(r.levelOf(name), next.parsed, live)
	if len(messages) > 0 && r.modeOf(name) != "IMPORT" { // an import brings what was checked where it came from
		return 0, fail(409, "Schema being registered is incompatible with an earlier schema for subject %q, details: [%s]",
			name, strings.Join(messages, ", "))
	}
	if err := r.assign(next, q.ID); err != nil {
		return 0, err
	}
	number := 1
	if n := len(s.versions); n > 0 {
		number = s.versions[n-1].number + 1
	}
	s.versions = append(s.versions, &version{number: max(number, q.Version), schema: next})
	r.subjects[name] = s
	return next.ID, nil
}

// assign gives a new schema an id: the next one, or the one that an import names.
func (r *Registry) assign(s *schema, id int) error {
	switch {
	case s.ID != 0 && id != 0 && s.ID != id, id > 0 && s.ID == 0 && id <= len(r.schemas) && r.schemas[id-1] != nil:
		return fail(42207, "Schema ID %d is taken or does not match", id)
	case s.ID != 0:
		return nil
	case id == 0:
		id = len(r.schemas) + 1
	case id > 1<<20:
		return fail(42207, "Schema ID %d is too large for a registry in memory", id)
	}
	for len(r.schemas) < id {
		r.schemas = append(r.schemas, nil)
	}
	s.ID = id
	r.schemas[id-1] = s
	r.byIdentity[identity(s.Text, s.References)] = s
	return nil
}

// live returns the versions that are not deleted, oldest first; with deleted, all.
func (s *subject) live(deleted bool) []*version {
	if s == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.versions), func(v *version) bool { return v.deleted && !deleted })
}

// find returns the versions of a subject, or error 40401.
func (r *Registry) find(name string, deleted bool) ([]*version, error) {
	versions := r.subjects[name].live(deleted)
	if len(versions) == 0 {
		return nil, fail(40401, "Subject '%s' not found.", name)
	}
	return versions, nil
}

// version returns one version of a subject; -1 is the latest.
func (r *Registry) version(name string, number int, deleted bool) (*version, error) {
	versions, err := r.find(name, deleted)
	if err != nil {
		return nil, err
	}
	if number == -1 {
		return versions[len(versions)-1], nil
	}
	for _, v := range versions {
		if v.number == number {
			return v, nil
		}
	}
	return nil, fail(40402, "Version %d not found.", number)
}

// byID returns the schema with an id, or error 40403.
func (r *Registry) byID(id int) (*schema, error) {
	if id < 1 || id > len(r.schemas) || r.schemas[id-1] == nil {
		return nil, fail(40403, "Schema %d not found", id)
	}
	return r.schemas[id-1], nil
}

// users returns the versions that use a schema, by subject.
func (r *Registry) users(id int, deleted bool) []subjectVersion {
	users := []subjectVersion{}
	for _, name := range slices.Sorted(maps.Keys(r.subjects)) {
		for _, v := range r.subjects[name].live(deleted) {
			if v.schema.ID == id {
				users = append(users, subjectVersion{Subject: name, Version: v.number})
			}
		}
	}
	return users
}

// referrers returns the ids of the schemas that refer to a version.
func (r *Registry) referrers(name string, number int) []int {
	ids := []int{}
	for _, s := range r.schemas {
		if s != nil && slices.ContainsFunc(s.References, func(ref reference) bool {
			return ref.Subject == name && ref.Version == number
		}) && len(r.users(s.ID, false)) > 0 {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// deleteSubject deletes all versions; permanently only what was deleted before.
func (r *Registry) deleteSubject(name string, permanent bool) ([]int, error) {
	s := r.subjects[name]
	if s == nil || len(s.versions) == 0 {
		return nil, fail(40401, "Subject '%s' not found.", name)
	}
	live := s.live(false)
	switch {
	case permanent && len(live) > 0:
		return nil, fail(40405, "Subject '%s' was not deleted first before being permanently deleted", name)
	case !permanent && len(live) == 0:
		return nil, fail(40404, "Subject '%s' was soft deleted.Set permanent=true to delete permanently", name)
	}
	numbers := []int{}
	for _, v := range s.versions {
		if !permanent && len(r.referrers(name, v.number)) > 0 {
			return nil, fail(42206, "One or more references exist to the schema {subject=%s,version=%d}", name, v.number)
		}
	}
	for _, v := range s.versions {
		if permanent || !v.deleted {
			numbers = append(numbers, v.number)
		}
		v.deleted = true
	}
	if permanent {
		s.versions = nil // its settings stay
	}
	return numbers, nil
}

// deleteVersion deletes one version; permanently only if it was deleted before.
func (r *Registry) deleteVersion(name string, number int, permanent bool) (int, error) {
	v, err := r.version(name, number, true)
	if err != nil {
		return 0, err
	}
	switch {
	case permanent && !v.deleted:
		return 0, fail(40407, "Subject '%s' Version %d was not deleted first before being permanently deleted", name, v.number)
	case !permanent && v.deleted:
		return 0, fail(40406, "Subject '%s' Version %d was soft deleted.Set permanent=true to delete permanently", name, v.number)
	case !permanent && len(r.referrers(name, v.number)) > 0:
		return 0, fail(42206, "One or more references exist to the schema {subject=%s,version=%d}", name, v.number)
	}
	v.deleted = true
	if permanent {
		s := r.subjects[name]
		s.versions = slices.DeleteFunc(s.versions, func(other *version) bool { return other == v })
	}
	return v.number, nil
}

// levelOf returns the compatibility level that rules a subject.
func (r *Registry) levelOf(name string) string {
	if s := r.subjects[name]; s != nil && s.level != "" {
		return s.level
	}
	return r.level
}

// modeOf returns the mode that rules a subject.
func (r *Registry) modeOf(name string) string {
	if s := r.subjects[name]; s != nil && s.mode != "" && r.mode != "READONLY_OVERRIDE" {
		return s.mode
	}
	return r.mode
}
