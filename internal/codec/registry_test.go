package codec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/cdc"
)

// stub is a registry as the Confluent API documents it: lookup, compatibility check, registration, schema by id. refuse
// makes every new schema incompatible; before, if set, sees each request first and answers it if it returns true.
type stub struct {
	mu       sync.Mutex
	schemas  []string
	subjects map[string][]int
	refuse   bool
	asked    []string
	before   func(w http.ResponseWriter, r *http.Request) bool
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.EscapedPath())
	before := s.before
	s.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var body struct{ Schema string }
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			fail(w, 422, 42201, "Invalid schema")
			return
		}
	}
	switch {
	case parts[0] == "schemas" && len(parts) == 3:
		s.byID(w, parts[2])
	case parts[0] == "compatibility":
		s.compatible(w, parts[2])
	case len(parts) == 2:
		s.lookup(w, parts[1], body.Schema)
	case len(parts) == 3 && s.refuse && len(s.subjects[parts[1]]) > 0:
		fail(w, 409, 409, "Schema being registered is incompatible with an earlier schema")
	case len(parts) == 3:
		s.schemas = append(s.schemas, body.Schema)
		s.subjects[parts[1]] = append(s.subjects[parts[1]], len(s.schemas))
		fmt.Fprintf(w, `{"id":%d}`, len(s.schemas))
	}
}

func fail(w http.ResponseWriter, status, code int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error_code": code, "message": message})
}

func (s *stub) byID(w http.ResponseWriter, id string) {
	for i, schema := range s.schemas {
		if fmt.Sprint(i+1) == id {
			_ = json.NewEncoder(w).Encode(map[string]any{"schema": schema})
			return
		}
	}
	fail(w, 404, 40403, "Schema not found")
}

func (s *stub) compatible(w http.ResponseWriter, subject string) {
	switch {
	case len(s.subjects[subject]) == 0:
		fail(w, 404, 40401, "Subject not found.")
	case s.refuse:
		fmt.Fprint(w, `{"is_compatible":false,"messages":["READER_FIELD_MISSING_DEFAULT_VALUE at /fields/3","{oldSchemaVersion: 1}"]}`)
	default:
		fmt.Fprint(w, `{"is_compatible":true}`)
	}
}

func (s *stub) lookup(w http.ResponseWriter, subject, schema string) {
	if len(s.subjects[subject]) == 0 {
		fail(w, 404, 40401, "Subject not found.")
		return
	}
	for version, id := range s.subjects[subject] {
		if s.schemas[id-1] == schema {
			_ = json.NewEncoder(w).Encode(map[string]any{"subject": subject, "id": id, "version": version + 1, "schema": schema})
			return
		}
	}
	fail(w, 404, 40403, "Schema not found")
}

func (s *stub) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func newStub(t *testing.T, o RegistryOptions) (*stub, *Registry) {
	t.Helper()
	s := &stub{subjects: map[string][]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	r, err := NewRegistry(server.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return s, r
}

func personSchema(t *testing.T, more string) []byte {
	t.Helper()
	schema, err := Schema([]byte(recordOf(`{"name":"id","type":"long"}`+more)), Plain)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestRegister(t *testing.T) {
	s, r := newStub(t, RegistryOptions{})
	subject := Subject("acme.sales.people")
	first, second := personSchema(t, ""), personSchema(t, `,{"name":"a","type":["null","string"],"default":null}`)
	one, err := r.Register(t.Context(), subject, first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Register(t.Context(), subject, second)
	if err != nil || one == two {
		t.Fatal(one, two, err)
	}
	before := s.requests()
	if again, err := r.Register(t.Context(), subject, first); err != nil || again != one || s.requests() != before {
		t.Errorf("asked again: %d, %v", again, err)
	}
	// Another process finds it there, and does not ask whether it is compatible with itself: the subject's level, or the
	// registry's mode, may have changed since.
	s.refuse = true
	fresh, err := NewRegistry(strings.TrimSuffix(serverURL(r), "/"), RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := fresh.Register(t.Context(), subject, first); err != nil || again != one {
		t.Errorf("%d, %v", again, err)
	}
	if got, want := s.asked[len(s.asked)-1], "POST /subjects/acme.sales.people-value"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func serverURL(r *Registry) string { return r.client.OptValue("URLs").([]string)[0] }

// TestIncompatible: the registry's refusal halts the stream, with its reasons, before anything is registered.
func TestIncompatible(t *testing.T) {
	s, r := newStub(t, RegistryOptions{})
	if _, err := r.Register(t.Context(), "people-value", personSchema(t, "")); err != nil {
		t.Fatal(err)
	}
	s.refuse = true
	_, err := r.Register(t.Context(), "people-value", personSchema(t, `,{"name":"a","type":"string"}`))
	halts(t, err, "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/3", "people-value")
	for _, asked := range s.asked[3:] {
		if strings.HasSuffix(asked, "/subjects/people-value/versions") && !strings.Contains(asked, "compatibility") {
			t.Errorf("it was registered all the same: %s", asked)
		}
	}
	// A registry without the check refuses when registering.
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/compatibility") {
			fail(w, 405, 405, "Method not allowed")
			return true
		}
		return false
	}
	_, err = r.Register(t.Context(), "people-value", personSchema(t, `,{"name":"a","type":"string"}`))
	halts(t, err, "409", "incompatible with an earlier schema")
}

func halts(t *testing.T, err error, wants ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if remedy, scope := cdc.Verdict(err); remedy != cdc.Halt || scope != cdc.Stream || cdc.Hint(err) == "" {
		t.Errorf("%v %v, hint %q: %v", remedy, scope, cdc.Hint(err), err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
}

func retries(t *testing.T, err error, wants ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if remedy, scope := cdc.Verdict(err); remedy != cdc.Retry || scope != cdc.Stream || cdc.Hint(err) == "" {
		t.Errorf("%v %v, hint %q: %v", remedy, scope, cdc.Hint(err), err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
}

// TestWhatTheRegistryAnswers: down and failing is tried again; what only people can mend halts the stream, with a hint.
func TestWhatTheRegistryAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		check  func(*testing.T, error, ...string)
		wants  []string
	}{
		{"failing", 500, `{"error_code":50001,"message":"Error in the backend data store"}`, retries, []string{"500", "backend data store"}},
		{"no leader", 503, ``, retries, []string{"503"}},
		{"gateway's page", 502, `<html>bad gateway</html>`, retries, []string{"502", "bad gateway"}},
		{"too many requests", 429, ``, retries, []string{"429"}},
		{"without credentials", 401, `{"error_code":401,"message":"Unauthorized"}`, halts, []string{"Unauthorized", "password or token"}},
		{"without the right", 403, `{"error_code":40301,"message":"User is denied operation Write"}`, halts, []string{"denied operation", "right to this subject"}},
		{"invalid schema", 422, `{"error_code":42201,"message":"Invalid schema"}`, halts, []string{"422", "Invalid schema"}},
		{"read-only", 422, `{"error_code":42205,"message":"Subject is in read-only mode"}`, halts, []string{"read-only"}},
		{"elsewhere", 302, ``, halts, []string{"302", "/apis/ccompat/v7"}},
		{"login page", 200, `<html>please log in</html>`, halts, []string{"no schema registry"}},
		{"not found", 404, `<html>nothing here</html>`, halts, []string{"404", "/apis/ccompat/v7"}},
		{"endless", 200, `{"schema":"` + strings.Repeat("x", responseBytes) + `"}`, halts, []string{"no schema registry"}},
		{"long", 422, strings.Repeat("é", 5000), halts, []string{"…"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, r := newStub(t, RegistryOptions{})
			s.before = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				return true
			}
			_, err := r.Register(t.Context(), "people-value", personSchema(t, ""))
			c.check(t, err, append(c.wants, "people-value")...)
			if len(err.Error()) > 2000 {
				t.Errorf("%d bytes of message", len(err.Error()))
			}
		})
	}
}

func TestRegistryDown(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	r, err := NewRegistry(server.URL, RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	_, err = r.Register(t.Context(), "people-value", personSchema(t, ""))
	retries(t, err, "Is the registry up")
	_, err = r.Schema(t.Context(), 1)
	retries(t, err)
}

// TestRegistryNeverAnswers: a request ends by its own timeout, or by its context, whichever is first.
func TestRegistryNeverAnswers(t *testing.T) {
	hang := func(s *stub, asked func()) {
		s.before = func(_ http.ResponseWriter, r *http.Request) bool {
			asked()
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client is gone
			<-r.Context().Done()
			return true
		}
	}
	s, r := newStub(t, RegistryOptions{Timeout: time.Millisecond})
	hang(s, func() {})
	_, err := r.Register(t.Context(), "people-value", personSchema(t, ""))
	retries(t, err)
	s, r = newStub(t, RegistryOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	hang(s, cancel)
	_, err = r.Register(ctx, "people-value", personSchema(t, ""))
	if remedy, scope := cdc.Verdict(err); !errors.Is(err, context.Canceled) || remedy != cdc.Retry || scope != cdc.Connection {
		t.Errorf("%v: %v %v", err, remedy, scope)
	}
}

func TestRegistryCredentials(t *testing.T) {
	var got string
	see := func(_ http.ResponseWriter, r *http.Request) bool {
		got = r.Header.Get("Authorization")
		return false
	}
	for _, c := range []struct {
		options RegistryOptions
		user    string
		want    string
	}{
		{RegistryOptions{}, "", ""},
		{RegistryOptions{User: "u", Password: cdc.NewSecret("p")}, "", "Basic dTpw"},
		{RegistryOptions{Token: cdc.NewSecret("t")}, "", "Bearer t"},
		{RegistryOptions{}, "u:p@", "Basic dTpw"},
	} {
		s, r := newStub(t, c.options)
		s.before = see
		r, err := NewRegistry(strings.Replace(serverURL(r), "//", "//"+c.user, 1), c.options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Register(t.Context(), "people-value", personSchema(t, "")); err != nil || got != c.want {
			t.Errorf("%q, want %q, %v", got, c.want, err)
		}
	}
	// A password in a URL is in no message.
	for _, bad := range []string{"ftp://u:secret@host", "http://u:secret@", "u:secret@host:80", "http://u:secret@ho st"} {
		if _, err := NewRegistry(bad, RegistryOptions{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	r, err := NewRegistry("http://u:secret@127.0.0.1:1,http://127.0.0.1:2/base", RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Schema(t.Context(), 1); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// TestDecoders: a reader that knows only the registry's address reads values of every version.
func TestDecoders(t *testing.T) {
	s, r := newStub(t, RegistryOptions{})
	var values [][]byte
	for i, more := range []string{"", `,{"name":"a","type":["null","string"],"default":null}`} {
		schema := personSchema(t, more)
		id, err := r.Register(t.Context(), "people-value", schema)
		if err != nil {
			t.Fatal(err)
		}
		e, err := NewAvro(schema, id)
		if err != nil {
			t.Fatal(err)
		}
		value, err := e.Append(nil, fmt.Appendf(nil, `{"id":%d,"a":"x"}`, i))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value, value)
	}
	d := r.Decoders()
	before := s.requests()
	for i, value := range values {
		got, err := d.Append(t.Context(), nil, value)
		if want := fmt.Sprintf(`{"id":%d,"a":"x"}`, i/2); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if n := s.requests() - before; n != 2 {
		t.Errorf("%d requests for 2 schemas", n)
	}
	if _, err := d.Append(t.Context(), nil, []byte("\x00\x00\x00\x00\x63x")); err == nil || !strings.Contains(err.Error(), "id 99") {
		t.Error(err)
	}
	if _, err := d.Append(t.Context(), nil, []byte("{}")); err == nil {
		t.Error("JSON was decoded as Avro")
	}
}
