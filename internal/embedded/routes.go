package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// bodyLimit bounds what the registry reads of a request.
const bodyLimit = 16 << 20

const contentType = "application/vnd.schemaregistry.v1+json"

// answer is a value that becomes JSON, or a text that is sent as it is.
type answer any

// raw is an answer that is JSON already.
type raw string

// subjectVersion names a version of a subject.
type subjectVersion struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// described is a schema with where it stands.
type described struct {
	Subject    string      `json:"subject,omitempty"`
	Version    int         `json:"version,omitempty"`
	ID         int         `json:"id,omitempty"`
	SchemaType string      `json:"schemaType,omitempty"` // left out for AVRO, as Confluent's registry does
	References []reference `json:"references,omitempty"`
	Schema     string      `json:"schema"`
}

func describe(name string, v *version) described {
	return described{Subject: name, Version: v.number, ID: v.schema.ID, References: v.schema.References, Schema: v.schema.Text}
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) { r.mux.ServeHTTP(w, q) }

// handler answers a request under the lock; body is what was sent, read before the lock was taken.
type handler func(q *http.Request, body []byte) (answer, error)

// routes returns the paths of the Confluent API.
func (r *Registry) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]handler{
		"GET /{$}":                                                  r.getRoot,
		"GET /contexts":                                             func(*http.Request, []byte) (answer, error) { return []string{"."}, nil },
		"GET /v1/metadata/id":                                       func(*http.Request, []byte) (answer, error) { return map[string]any{"id": "tidemark-embedded"}, nil },
		"GET /schemas/types":                                        func(*http.Request, []byte) (answer, error) { return []string{"AVRO"}, nil },
		"GET /schemas":                                              r.getSchemas,
		"GET /schemas/ids/{id}":                                     r.getSchema,
		"GET /schemas/ids/{id}/schema":                              r.getSchemaText,
		"GET /schemas/ids/{id}/subjects":                            r.getSchemaSubjects,
		"GET /schemas/ids/{id}/versions":                            r.getSchemaVersions,
		"GET /subjects":                                             r.getSubjects,
		"POST /subjects/{subject}":                                  r.postSubject,
		"DELETE /subjects/{subject}":                                r.removeSubject,
		"GET /subjects/{subject}/versions":                          r.getVersions,
		"POST /subjects/{subject}/versions":                         r.postVersion,
		"GET /subjects/{subject}/versions/{version}":                r.getVersion,
		"GET /subjects/{subject}/versions/{version}/schema":         r.getVersionText,
		"GET /subjects/{subject}/versions/{version}/referencedby":   r.getReferrers,
		"DELETE /subjects/{subject}/versions/{version}":             r.removeVersion,
		"POST /compatibility/subjects/{subject}/versions/{version}": r.postCompatibility,
		"POST /compatibility/subjects/{subject}/versions":           r.postCompatibility,
		"GET /config":                                               r.getConfig,
		"PUT /config":                                               r.putConfig,
		"DELETE /config":                                            r.removeConfig,
		"GET /config/{subject}":                                     r.getConfig,
		"PUT /config/{subject}":                                     r.putConfig,
		"DELETE /config/{subject}":                                  r.removeConfig,
		"GET /mode":                                                 r.getMode,
		"PUT /mode":                                                 r.putMode,
		"DELETE /mode":                                              r.removeMode,
		"GET /mode/{subject}":                                       r.getMode,
		"PUT /mode/{subject}":                                       r.putMode,
		"DELETE /mode/{subject}":                                    r.removeMode,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) { r.serve(w, q, handle) })
	}
	return mux
}

// serve reads the body, runs the handler under the lock, and writes its answer after it.
func (r *Registry) serve(w http.ResponseWriter, q *http.Request, handle handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, bodyLimit))
	if err != nil {
		write(w, http.StatusBadRequest, map[string]any{"error_code": 400, "message": err.Error()})
		return
	}
	result, err := func() (answer, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return handle(q, body)
	}()
	var f *failure
	switch {
	case err == nil:
		write(w, http.StatusOK, result)
	case errors.As(err, &f):
		write(w, f.status, map[string]any{"error_code": f.code, "message": f.message})
	default:
		write(w, http.StatusInternalServerError, map[string]any{"error_code": 50001, "message": err.Error()})
	}
}

func write(w http.ResponseWriter, status int, result answer) {
	text, ok := result.(raw)
	if !ok {
		encoded, err := json.Marshal(result)
		if err != nil { // every answer is made of texts and numbers
			status, encoded = http.StatusInternalServerError, fmt.Appendf(nil, `{"error_code":50001,"message":%q}`, err)
		}
		text = raw(encoded)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, string(text)) // an error means that the client is gone
}

func (r *Registry) getRoot(*http.Request, []byte) (answer, error) { return struct{}{}, nil }

// flag reports whether a query parameter is true.
func flag(q *http.Request, name string) bool {
	set, err := strconv.ParseBool(q.URL.Query().Get(name))
	return err == nil && set
}

// number reads a version of a path: a positive number, -1, or latest, which is also what no version means.
func number(q *http.Request) (int, error) {
	text := q.PathValue("version")
	if text == "latest" || text == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 || n == 0 {
		return 0, fail(42202, "The specified version '%s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
	}
	return n, nil
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fail(400, "Invalid request: %v", err)
	}
	return nil
}

func (r *Registry) getSchemas(q *http.Request, _ []byte) (answer, error) {
	all := []described{}
	for _, name := range slices.Sorted(maps.Keys(r.subjects)) {
		if !strings.HasPrefix(name, q.URL.Query().Get("subjectPrefix")) {
			continue
		}
		versions := r.subjects[name].live(flag(q, "deleted"))
		if flag(q, "latestOnly") && len(versions) > 0 {
			versions = versions[len(versions)-1:]
		}
		for _, v := range versions {
			all = append(all, describe(name, v))
		}
	}
	return all, nil
}

func (r *Registry) schemaOf(q *http.Request) (*schema, error) {
	id, err := strconv.Atoi(q.PathValue("id"))
	if err != nil {
		return nil, fail(404, "HTTP 404 Not Found")
	}
	return r.byID(id)
}

func (r *Registry) getSchema(q *http.Request, _ []byte) (answer, error) {
	s, err := r.schemaOf(q)
	if err != nil {
		return nil, err
	}
	return described{References: s.References, Schema: s.Text}, nil
}

func (r *Registry) getSchemaText(q *http.Request, _ []byte) (answer, error) {
	s, err := r.schemaOf(q)
	if err != nil {
		return nil, err
	}
	return raw(s.Text), nil
}

func (r *Registry) getSchemaVersions(q *http.Request, _ []byte) (answer, error) {
	s, err := r.schemaOf(q)
	if err != nil {
		return nil, err
	}
	return r.users(s.ID, flag(q, "deleted")), nil
}

func (r *Registry) getSchemaSubjects(q *http.Request, _ []byte) (answer, error) {
	s, err := r.schemaOf(q)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, user := range r.users(s.ID, flag(q, "deleted")) {
		if !slices.Contains(names, user.Subject) {
			names = append(names, user.Subject)
		}
	}
	return names, nil
}

func (r *Registry) getSubjects(q *http.Request, _ []byte) (answer, error) {
	names := []string{}
	for _, name := range slices.Sorted(maps.Keys(r.subjects)) {
		gone := len(r.subjects[name].live(false)) == 0
		shown := flag(q, "deletedOnly") && gone || !flag(q, "deletedOnly") && (!gone || flag(q, "deleted"))
		if shown && len(r.subjects[name].versions) > 0 && strings.HasPrefix(name, q.URL.Query().Get("subjectPrefix")) {
			names = append(names, name)
		}
	}
	return names, nil
}

// postSubject looks a schema up under a subject.
func (r *Registry) postSubject(q *http.Request, body []byte) (answer, error) {
	var wanted request
	if err := decode(body, &wanted); err != nil {
		return nil, err
	}
	name := q.PathValue("subject")
	versions, err := r.find(name, flag(q, "deleted"))
	if err != nil {
		return nil, err
	}
	s, err := r.prepare(wanted, false)
	if err != nil {
		return nil, err
	}
	for _, v := range slices.Backward(versions) {
		if v.schema == s {
			return describe(name, v), nil
		}
	}
	return nil, fail(40403, "Schema not found")
}

func (r *Registry) removeSubject(q *http.Request, _ []byte) (answer, error) {
	return r.deleteSubject(q.PathValue("subject"), flag(q, "permanent"))
}

func (r *Registry) getVersions(q *http.Request, _ []byte) (answer, error) {
	versions, err := r.find(q.PathValue("subject"), flag(q, "deleted") || flag(q, "deletedOnly"))
	if err != nil {
		return nil, err
	}
	numbers := []int{}
	for _, v := range versions {
		if v.deleted || !flag(q, "deletedOnly") {
			numbers = append(numbers, v.number)
		}
	}
	return numbers, nil
}

func (r *Registry) postVersion(q *http.Request, body []byte) (answer, error) {
	var sent request
	if err := decode(body, &sent); err != nil {
		return nil, err
	}
	id, err := r.register(q.PathValue("subject"), sent)
	if err != nil {
		return nil, err
	}
	return map[string]int{"id": id}, nil
}

func (r *Registry) versionOf(q *http.Request, deleted bool) (*version, error) {
	n, err := number(q)
	if err != nil {
		return nil, err
	}
	return r.version(q.PathValue("subject"), n, deleted)
}

func (r *Registry) getVersion(q *http.Request, _ []byte) (answer, error) {
	v, err := r.versionOf(q, flag(q, "deleted"))
	if err != nil {
		return nil, err
	}
	return describe(q.PathValue("subject"), v), nil
}

func (r *Registry) getVersionText(q *http.Request, _ []byte) (answer, error) {
	v, err := r.versionOf(q, flag(q, "deleted"))
	if err != nil {
		return nil, err
	}
	return raw(v.schema.Text), nil
}

func (r *Registry) getReferrers(q *http.Request, _ []byte) (answer, error) {
	v, err := r.versionOf(q, false)
	if err != nil {
		return nil, err
	}
	return r.referrers(q.PathValue("subject"), v.number), nil
}

func (r *Registry) removeVersion(q *http.Request, _ []byte) (answer, error) {
	n, err := number(q)
	if err != nil {
		return nil, err
	}
	if n == -1 { // the latest that is still there
		v, err := r.version(q.PathValue("subject"), n, flag(q, "permanent"))
		if err != nil {
			return nil, err
		}
		n = v.number
	}
	return r.deleteVersion(q.PathValue("subject"), n, flag(q, "permanent"))
}
