package source

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/codec"
	"tidemark/schemas"
)

// settingsOf are what a connection needs for each shipped definition.
func settingsOf() map[string]map[string]any {
	return map[string]map[string]any{
		"couchdb":      {"url": "https://couch.test", "database": "db"},
		"crf-exchange": {"api_key": "k", "partner_id": "p"},
		"focus":        {"base_url": "https://eu.focus.test/api", "client_id": 1, "api_key": "k", "username": "u"},
		"givergy":      {"base_url": "https://give.test", "namespace": "ns", "username": "u", "password": "p"},
		"salesloft":    {"client_id": "a", "client_secret": "b", "refresh_token": "c"},
	}
}

func shipped(t *testing.T, name string, config map[string]any) *Source {
	t.Helper()
	d, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Bind("c", config, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCatalogSalesLoft: the fifteen lists that can be filtered are keysets, the nine others are read whole; each is compared without
// what moves by itself, and looked up where there is an address for it.
func TestCatalogSalesLoft(t *testing.T) {
	s := shipped(t, "salesloft", settingsOf()["salesloft"])
	keysets := []string{"people", "accounts", "calls", "emails", "cadences", "cadence_memberships", "notes", "account_stages", "actions",
		"activity_histories", "call_data_records", "crm_activities", "email_templates", "successes", "team_templates"}
	whole := []string{"users", "tasks", "steps", "tags", "groups", "custom_fields", "imports", "crm_users", "person_stages"}
	var names []string
	for i, st := range s.Streams {
		names = append(names, st.Name)
		r := s.Requests[i]
		keyset := slices.Contains(keysets, st.Name)
		if st.Snapshot == keyset || (r.paginator.kind == keysetPaginator) != keyset {
			t.Errorf("%s: snapshot %v, %s", st.Name, st.Snapshot, r.paginator.kind)
		}
		if paged := st.Name != "groups"; (r.paginator.sizeEcho != nil) != paged {
			t.Errorf("%s: its page size is echoed: %v", st.Name, r.paginator.sizeEcho)
		}
		if !slices.Equal(st.Rules.Exclude, []string{"counts", "updated_at"}) {
			t.Errorf("%s: %+v", st.Name, st.Rules)
		}
		alone := slices.Contains([]string{"activity_histories", "successes", "tags", "crm_users"}, st.Name)
		if st.HasLookup == alone {
			t.Errorf("%s: lookup %v", st.Name, st.HasLookup)
		}
		if alone {
			continue
		}
		v := r.vars(r.Partitions()[0], time.Time{})
		_, list, _, _, err := r.list.compose(s, &v)
		path, _, _ := strings.Cut(list, "?")
		if _, url, _, _, err2 := st.lookup.call.compose(s, &vars{key: st.keyNames(nil, []any{int64(5)})}); err != nil || err2 != nil || url != path+"/5" {
			t.Errorf("%s: lookup %s of %s, %v %v", st.Name, url, path, err, err2)
		}
	}
	if !slices.Equal(names, slices.Concat(keysets, whole)) {
		t.Errorf("streams %q", names)
	}
	if r := s.Requests[slices.Index(names, "tasks")]; true { // a page far down a list that is read whole costs more, too
		for page, want := range map[int64]int{1: 1, 100: 1, 101: 3, 151: 8, 251: 10, 501: 30} {
			if cost, err := r.cost(&vars{page: page}); err != nil || cost != want {
				t.Errorf("page %d costs %d, %v; want %d", page, cost, err, want)
			}
		}
	}
}

// TestCatalogSalesLoftAuthenticators: a grant that rotates, unless the settings say otherwise.
func TestCatalogSalesLoftAuthenticators(t *testing.T) {
	for name, c := range map[string]struct {
		config map[string]any
		kind   AuthKind
		grant  string
	}{
		"rotating":           {map[string]any{"client_id": "a", "client_secret": "b"}, AuthOAuth2, GrantRefresh},
		"client credentials": {map[string]any{"client_id": "a", "client_secret": "b", "grant_type": "client_credentials"}, AuthOAuth2, GrantClient},
		"API key":            {map[string]any{"api_key": "k"}, AuthBearer, ""},
	} {
		if a := shipped(t, "salesloft", c.config).Auth; a.Kind != c.kind || a.GrantType != c.grant {
			t.Errorf("%s: %s %s", name, a.Kind, a.GrantType)
		}
	}
	d, err := Open("salesloft")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Bind("c", map[string]any{"client_id": "a", "client_secret": "b", "grant_type": "password"}, Overrides{}); err == nil ||
		!strings.Contains(err.Error(), "client_credentials") {
		t.Errorf("another grant: %v", err)
	}
}

// TestCatalogGivergyCadence: an event is read every few minutes while it goes on, each hour for a day after it, else daily.
func TestCatalogGivergyCadence(t *testing.T) {
	s := shipped(t, "givergy", settingsOf()["givergy"])
	start, end := noon.Unix(), noon.Add(5*time.Hour).Unix()
	for after, want := range map[time.Duration]time.Duration{
		-time.Minute: 24 * time.Hour, 0: 3 * time.Minute, 5 * time.Hour: 3 * time.Minute, 6 * time.Hour: time.Hour, 28 * time.Hour: time.Hour, 30 * time.Hour: 24 * time.Hour,
	} {
		for _, r := range s.Requests[1:] {
			p := Partition{Values: map[string]any{"event": map[string]any{"id": "e", "startTime": start, "endTime": end}}}
			if every, err := r.Every(p, noon.Add(after)); err != nil || every != want {
				t.Errorf("%s %s after its beginning: every %s, %v; want %s", r.Name, after, every, err, want)
			}
		}
	}
	p := Partition{Values: map[string]any{"event": map[string]any{"id": "e"}}} // named by the configuration, and no more is known of it
	if every, err := s.Requests[1].Every(p, noon); err != nil || every != 24*time.Hour {
		t.Errorf("without times: every %s, %v", every, err)
	}
}

// TestCatalogSchemas: every stream of the catalog has a schema that can be used and that has the key's fields, which are never null;
// and there is no schema without a stream. That the simulated systems' records fit is proven where they are captured.
func TestCatalogSchemas(t *testing.T) {
	unused := map[string]bool{}
	for _, name := range schemas.Names() {
		unused[name] = true
	}
	for _, name := range Catalog() {
		for _, st := range shipped(t, name, settingsOf()[name]).Streams {
			if name == "couchdb" { // a database holds what it holds
				continue
			}
			if delete(unused, st.Schema); !strings.HasPrefix(st.Schema, name+"/") {
				t.Errorf("%s/%s: schema %s", name, st.Name, st.Schema)
				continue
			}
			text, err := schemas.Get(st.Schema)
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := codec.NewAvro(text, 1); err != nil {
				t.Errorf("%s: %v", st.Schema, err)
			}
			var schema struct {
				Fields []struct {
					Name string
					Type any
				}
			}
			if err := json.Unmarshal(text, &schema); err != nil {
				t.Fatal(err)
			}
			kinds := map[string]string{}
			for _, f := range schema.Fields {
				kinds[f.Name] = fmt.Sprint(f.Type)
			}
			for _, path := range st.keyPaths {
				if kind := kinds[path[0]]; kind == "" || strings.Contains(kind, "null") {
					t.Errorf("%s: %s of the key is %q", st.Schema, path, kind)
				}
			}
			if in := st.request.incremental; in != nil && in.cursorField != nil && kinds[in.cursorField.String()] == "" {
				t.Errorf("%s: the cursor %s is not in it", st.Schema, in.cursorField)
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("schemas that no stream has: %q", slices.Sorted(maps.Keys(unused)))
	}
}
