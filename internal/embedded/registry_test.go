package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/sr"

	"tidemark/internal/embedded"
)

const (
	person   = `{"type":"record","name":"Person","namespace":"x","fields":[{"name":"id","type":"long"}]}`
	personV2 = `{"type":"record","name":"Person","namespace":"x","fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"],"default":null}]}`
	personV3 = `{"type":"record","name":"Person","namespace":"x","fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"],"default":null},{"name":"must","type":"string"}]}`
)

// registry returns a client of a new registry, and its URL.
func registry(t *testing.T) (*sr.Client, string) {
	t.Helper()
	server := httptest.NewServer(embedded.NewRegistry())
	t.Cleanup(server.Close)
	cl, err := sr.NewClient(sr.URLs(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	return cl, server.URL
}

// wantCode fails unless err is an answer of the registry with a Confluent error code.
func wantCode(t *testing.T, what string, err error, code int) {
	t.Helper()
	var response *sr.ResponseError
	if !errors.As(err, &response) || response.ErrorCode != code {
		t.Errorf("%s: got error %v, want code %d", what, err, code)
		return
	}
	want := code
	for want > 999 {
		want /= 10
	}
	if response.StatusCode != want {
		t.Errorf("%s: got HTTP status %d, want %d", what, response.StatusCode, want)
	}
	if response.Message == "" {
		t.Errorf("%s: no message", what)
	}
}

func register(t *testing.T, cl *sr.Client, subject, text string) sr.SubjectSchema {
	t.Helper()
	s, err := cl.CreateSchema(t.Context(), subject, sr.Schema{Schema: text})
	if err != nil {
		t.Fatalf("register %s: %v", subject, err)
	}
	return s
}

func TestRegisterAndRead(t *testing.T) {
	ctx := t.Context()
	cl, _ := registry(t)
	first := register(t, cl, "people-value", person)
	again := register(t, cl, "people-value", "\n"+strings.ReplaceAll(person, ",", ", "))
	other := register(t, cl, "copies/of people-value", person)
	second := register(t, cl, "people-value", personV2)
	type place struct{ ID, Version int }
	got := []place{{first.ID, first.Version}, {again.ID, again.Version}, {other.ID, other.Version}, {second.ID, second.Version}}
	if diff := cmp.Diff([]place{{1, 1}, {1, 1}, {1, 1}, {2, 2}}, got); diff != "" {
		t.Errorf("ids are global, versions the subject's: -want +got\n%s", diff)
	}
	if s, err := cl.SchemaByID(ctx, 2); err != nil || s.Schema != personV2 || s.Type != sr.TypeAvro {
		t.Errorf("schema by id: got %+v, %v", s, err)
	}
	if text, err := cl.SchemaTextByID(ctx, 1); err != nil || text != person {
		t.Errorf("text by id: got %q, %v", text, err)
	}
	if s, err := cl.SchemaByVersion(ctx, "people-value", -1); err != nil || s.Version != 2 || s.ID != 2 || s.Subject != "people-value" {
		t.Errorf("latest: got %+v, %v", s, err)
	}
	if text, err := cl.SchemaTextByVersion(ctx, "people-value", 1); err != nil || text != person {
		t.Errorf("text by version: got %q, %v", text, err)
	}
	if s, err := cl.LookupSchema(ctx, "people-value", sr.Schema{Schema: person}); err != nil || s.ID != 1 || s.Version != 1 {
		t.Errorf("lookup: got %+v, %v", s, err)
	}
	if names, err := cl.Subjects(ctx); err != nil || cmp.Diff([]string{"copies/of people-value", "people-value"}, names) != "" {
		t.Errorf("subjects: got %q, %v", names, err)
	}
	if names, err := cl.SubjectsByID(ctx, 1); err != nil || cmp.Diff([]string{"copies/of people-value", "people-value"}, names) != "" {
		t.Errorf("subjects by id: got %q, %v", names, err)
	}
	if all, err := cl.AllSchemas(ctx); err != nil || len(all) != 3 {
		t.Errorf("all schemas: got %v, %v", all, err)
	}
	if types, err := cl.SupportedTypes(ctx); err != nil || len(types) != 1 || types[0] != sr.TypeAvro {
		t.Errorf("types: got %v, %v", types, err)
	}
	if versions, err := cl.SubjectVersions(ctx, "people-value"); err != nil || cmp.Diff([]int{1, 2}, versions) != "" {
		t.Errorf("versions: got %v, %v", versions, err)
	}
}

func TestErrorCodes(t *testing.T) {
	ctx := t.Context()
	cl, _ := registry(t)
	register(t, cl, "s", person)
	code := func(what string, code int, do func() error) {
		t.Helper()
		wantCode(t, what, do(), code)
	}
	code("unknown subject", 40401, func() error { _, err := cl.SubjectVersions(ctx, "none"); return err })
	code("unknown subject, latest", 40401, func() error { _, err := cl.SchemaByVersion(ctx, "none", -1); return err })
	code("unknown version", 40402, func() error { _, err := cl.SchemaByVersion(ctx, "s", 7); return err })
	code("version 0", 42202, func() error { _, err := cl.SchemaByVersion(ctx, "s", 0); return err })
	code("unknown id", 40403, func() error { _, err := cl.SchemaByID(ctx, 7); return err })
	code("lookup under no subject", 40401, func() error { _, err := cl.LookupSchema(ctx, "none", sr.Schema{Schema: person}); return err })
	code("lookup of another schema", 40403, func() error { _, err := cl.LookupSchema(ctx, "s", sr.Schema{Schema: `"string"`}); return err })
	code("incompatible", 409, func() error { _, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: personV3}); return err })
	code("not JSON", 42201, func() error { _, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: `{"type":`}); return err })
	code("no Avro", 42201, func() error { _, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: `{"type":"entry"}`}); return err })
	code("another type", 42201, func() error {
		_, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: `{}`, Type: sr.TypeJSON})
		return err
	})
	code("check against an unknown version", 40402, func() error {
		_, err := cl.CheckCompatibility(ctx, "s", 7, sr.Schema{Schema: person})
		return err
	})
	code("no level of its own", 40408, func() error { return cl.Compatibility(ctx, "s")[0].Err })
	code("no mode of its own", 40409, func() error { return cl.Mode(ctx, "s")[0].Err })
	code("an id without import", 42205, func() error {
		_, err := cl.RegisterSchema(ctx, "s", sr.Schema{Schema: personV2}, 9, -1)
		return err
	})
	code("import over what is there", 42205, func() error { return cl.SetMode(ctx, sr.ModeImport, "s")[0].Err })
}

// The refusal of a registration says which field, as Confluent's registry does.
func TestIncompatibleSaysWhy(t *testing.T) {
	cl, _ := registry(t)
	register(t, cl, "people-value", person)
	_, err := cl.CreateSchema(t.Context(), "people-value", sr.Schema{Schema: personV3})
	for _, want := range []string{"people-value", "READER_FIELD_MISSING_DEFAULT_VALUE", "'must'", "/fields/2", "BACKWARD", "oldSchemaVersion: 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
	ctx := sr.WithParams(t.Context(), sr.Verbose)
	result, err := cl.CheckCompatibility(ctx, "people-value", -1, sr.Schema{Schema: personV3})
	if err != nil || result.Is || !strings.Contains(strings.Join(result.Messages, " "), "must") {
		t.Errorf("verbose check: got %+v, %v", result, err)
	}
	result, err = cl.CheckCompatibility(t.Context(), "people-value", -1, sr.Schema{Schema: personV3})
	if err != nil || result.Is || len(result.Messages) > 0 {
		t.Errorf("check: got %+v, %v", result, err)
	}
	if result, err = cl.CheckCompatibility(t.Context(), "people-value", -1, sr.Schema{Schema: personV2}); err != nil || !result.Is {
		t.Errorf("check of a good one: got %+v, %v", result, err)
	}
	if result, err = cl.CheckCompatibility(t.Context(), "unknown", -1, sr.Schema{Schema: person}); err != nil || !result.Is {
		t.Errorf("check under an unknown subject: got %+v, %v", result, err)
	}
	if versions, err := cl.SubjectVersions(t.Context(), "people-value"); err != nil || len(versions) != 1 {
		t.Errorf("a refused schema left versions %v, %v", versions, err)
	}
}

func TestLevelsRuleRegistration(t *testing.T) {
	ctx := t.Context()
	cl, _ := registry(t)
	if got := cl.Compatibility(ctx)[0]; got.Err != nil || got.Level != sr.CompatBackward {
		t.Errorf("default level: got %v, %v", got.Level, got.Err)
	}
	register(t, cl, "s", person)
	if got := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatNone}, "s")[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	register(t, cl, "s", personV3)
	if got := cl.ResetCompatibility(ctx, "s")[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	inherited := cl.Compatibility(sr.WithParams(ctx, sr.DefaultToGlobal), "s")[0]
	if inherited.Err != nil || inherited.Level != sr.CompatBackward {
		t.Errorf("after the reset: got %v, %v", inherited.Level, inherited.Err)
	}
	// BACKWARD looks at the latest only, BACKWARD_TRANSITIVE at all: string (v2) is what person (v1) has not.
	next := `{"type":"record","name":"Person","namespace":"x","fields":[{"name":"must","type":"string"}]}`
	register(t, cl, "latest only", person)
	if got := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatBackwardTransitive})[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	_, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: next})
	wantCode(t, "transitive", err, 409)
	if got := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatBackward})[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	if s := register(t, cl, "s", next); s.Version != 3 {
		t.Errorf("latest only: got version %d", s.Version)
	}
}

func TestModes(t *testing.T) {
	ctx := t.Context()
	cl, _ := registry(t)
	if got := cl.Mode(ctx)[0]; got.Err != nil || got.Mode != sr.ModeReadWrite {
		t.Errorf("default mode: got %v, %v", got.Mode, got.Err)
	}
	if got := cl.SetMode(ctx, sr.ModeImport, "imported")[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	if id, err := cl.RegisterSchema(ctx, "imported", sr.Schema{Schema: person}, 40, 5); err != nil || id != 40 {
		t.Errorf("import: got id %d, %v", id, err)
	}
	if s, err := cl.SchemaByVersion(ctx, "imported", 5); err != nil || s.ID != 40 {
		t.Errorf("imported: got %+v, %v", s, err)
	}
	if got := cl.SetMode(ctx, sr.ModeReadOnly)[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	_, err := cl.CreateSchema(ctx, "s", sr.Schema{Schema: personV2})
	wantCode(t, "read-only", err, 42205)
	if got := cl.ResetMode(ctx)[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	if s := register(t, cl, "s", personV2); s.ID != 41 {
		t.Errorf("the id after an imported 40: got %d", s.ID)
	}
}

func TestDeletion(t *testing.T) {
	ctx := t.Context()
	all := sr.WithParams(ctx, sr.ShowDeleted)
	cl, _ := registry(t)
	register(t, cl, "s", person)
	register(t, cl, "s", personV2)
	wantCode(t, "hard before soft, version", cl.DeleteSchema(ctx, "s", 1, sr.HardDelete), 40407)
	if err := cl.DeleteSchema(ctx, "s", 1, sr.SoftDelete); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "soft twice, version", cl.DeleteSchema(ctx, "s", 1, sr.SoftDelete), 40406)
	if versions, err := cl.SubjectVersions(ctx, "s"); err != nil || cmp.Diff([]int{2}, versions) != "" {
		t.Errorf("versions: got %v, %v", versions, err)
	}
	if versions, err := cl.SubjectVersions(all, "s"); err != nil || cmp.Diff([]int{1, 2}, versions) != "" {
		t.Errorf("with deleted: got %v, %v", versions, err)
	}
	if s, err := cl.SchemaByID(ctx, 1); err != nil || s.Schema != person {
		t.Errorf("a deleted version's schema stays readable by id: got %+v, %v", s, err)
	}
	if err := cl.DeleteSchema(ctx, "s", 1, sr.HardDelete); err != nil {
		t.Fatal(err)
	}
	_, err := cl.DeleteSubject(ctx, "s", sr.HardDelete)
	wantCode(t, "hard before soft, subject", err, 40405)
	if versions, err := cl.DeleteSubject(ctx, "s", sr.SoftDelete); err != nil || cmp.Diff([]int{2}, versions) != "" {
		t.Errorf("soft: got %v, %v", versions, err)
	}
	_, err = cl.DeleteSubject(ctx, "s", sr.SoftDelete)
	wantCode(t, "soft twice, subject", err, 40404)
	if names, err := cl.Subjects(ctx); err != nil || len(names) != 0 {
		t.Errorf("subjects: got %q, %v", names, err)
	}
	if names, err := cl.Subjects(all); err != nil || cmp.Diff([]string{"s"}, names) != "" {
		t.Errorf("with deleted: got %q, %v", names, err)
	}
	if s := register(t, cl, "s", person); s.Version != 3 || s.ID != 1 {
		t.Errorf("again: got version %d id %d, want the same id under a new version", s.Version, s.ID)
	}
}

func TestReferences(t *testing.T) {
	ctx := t.Context()
	cl, _ := registry(t)
	register(t, cl, "person", person)
	list := sr.Schema{
		Schema:     `{"type":"record","name":"List","fields":[{"name":"all","type":{"type":"array","items":"x.Person"}}]}`,
		References: []sr.SchemaReference{{Name: "x.Person", Subject: "person", Version: 1}},
	}
	_, err := cl.CreateSchema(ctx, "list", sr.Schema{Schema: list.Schema})
	wantCode(t, "without its reference", err, 42201)
	made, err := cl.CreateSchema(ctx, "list", list)
	if err != nil {
		t.Fatal(err)
	}
	read, err := cl.SchemaByID(ctx, made.ID)
	if err != nil || cmp.Diff(list.References, read.References) != "" {
		t.Errorf("read back: got %+v, %v", read, err)
	}
	if users, err := cl.SchemaReferences(ctx, "person", 1); err != nil || len(users) != 1 || users[0].Subject != "list" {
		t.Errorf("referenced by: got %v, %v", users, err)
	}
	_, err = cl.DeleteSubject(ctx, "person", sr.SoftDelete)
	wantCode(t, "delete what is referred to", err, 42206)
}

// What other clients look at: content type, members left out for Avro, an unknown path.
func TestWire(t *testing.T) {
	cl, url := registry(t)
	register(t, cl, "s", person)
	get := func(path string) (int, string, map[string]any) {
		answer, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		var value map[string]any
		if err := json.Unmarshal(body, &value); err != nil && answer.StatusCode != http.StatusNotFound {
			t.Fatalf("%s: %q: %v", path, body, err)
		}
		return answer.StatusCode, answer.Header.Get("Content-Type"), value
	}
	status, kind, value := get("/schemas/ids/1")
	if status != 200 || kind != "application/vnd.schemaregistry.v1+json" {
		t.Errorf("got status %d, content type %q", status, kind)
	}
	if diff := cmp.Diff(map[string]any{"schema": person}, value); diff != "" {
		t.Errorf("schema by id: -want +got\n%s", diff)
	}
	if status, _, value = get("/"); status != 200 || len(value) != 0 {
		t.Errorf("root: got %d %v", status, value)
	}
	if status, _, _ = get("/nothing/here"); status != 404 {
		t.Errorf("unknown path: got %d", status)
	}
	send := func(method, path, body string) int {
		q, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if status := send("POST", "/subjects/s/versions", "{"); status != 400 {
		t.Errorf("a body that is no JSON: got %d", status)
	}
	if status := send("PUT", "/config", `{"compatibility":"SIDEWAYS"}`); status != 422 {
		t.Errorf("a level that is none: got %d", status)
	}
	if status := send("PUT", "/mode/s", `{"mode":"SIDEWAYS"}`); status != 422 {
		t.Errorf("a mode that is none: got %d", status)
	}
}

func TestConcurrentRegistration(t *testing.T) {
	cl, _ := registry(t)
	ids := make(chan int)
	for range 8 {
		go func() {
			id, err := cl.RegisterSchema(context.WithoutCancel(t.Context()), "s", sr.Schema{Schema: person}, -1, -1)
			if err != nil {
				id = -1
			}
			ids <- id
		}()
	}
	for range 8 {
		if id := <-ids; id != 1 {
			t.Errorf("got id %d, want 1", id)
		}
	}
}
