package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/codec"
	"tidemark/internal/simulator"
)

// TestSourcesSchema: what is learnt of a simulated system's records compiles, and encodes records that it was not learnt from.
func TestSourcesSchema(t *testing.T) {
	s := &stage{T: t, env: map[string]string{}}
	o := simulator.Lively(3)
	o.RateBudget, o.Records = -1, map[string]int{"loans": 120, "client/recording": 80, "events": 3, "guests": 60}
	file := filepath.Join(t.TempDir(), "quick.yaml")
	if err := os.WriteFile(file, []byte("extends: givergy\nrate_limit: {budget: 1000}\n"), 0o600); err != nil { // a request a second is slow
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, stream, resource string
		up                     *simulator.Upstream
		config                 func(url string) []string
		fields                 []string
	}{
		{"salesloft", "people", "people", simulator.New(o).Upstream, func(url string) []string {
			return []string{"api_key=" + simulator.APIKey, "base_url=" + url + "/v2"}
		}, []string{`{"name": "id", "type": "long"}`, `{"name": "tags"`, `{"name": "account", "type": ["null", {"type": "record"`}},
		{"crf-exchange", "loans", "loans", simulator.NewCRF(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url + "/api", "api_key=" + simulator.APIKey, "partner_id=" + simulator.PartnerID}
		}, []string{`{"name": "id", "type": "string"}`}},
		{"focus", "recordings", "client/recording", simulator.NewFocus(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url + "/api", fmt.Sprint("client_id=", simulator.FocusClientID), "api_key=" + simulator.APIKey, "username=" + simulator.FocusUsername}
		}, []string{`{"name": "interactionId", "type": "long"}`}},
		{file, "guests", "guests", simulator.NewGivergy(o).Upstream, func(url string) []string {
			return []string{"base_url=" + url, "namespace=" + simulator.GivergyNamespace, "username=" + simulator.GivergyUsername, "password=" + simulator.GivergyPassword}
		}, []string{`{"name": "id", "type": "string"}`}},
	} {
		server := httptest.NewServer(c.up.Handler())
		defer server.Close()
		c.up.Freeze()
		args := []string{"sources", "schema", c.name, "--stream", c.stream, "--pages", "20"}
		for _, setting := range c.config(server.URL) {
			args = append(args, "--config", setting)
		}
		code, out, errs := s.main(args...)
		if code != 0 {
			t.Fatalf("%s: %d %s", c.name, code, errs)
		}
		for _, field := range append(c.fields, `{"name": "_extra"`) {
			if !strings.Contains(out, field) {
				t.Errorf("%s: no %s in\n%s", c.name, field, out)
			}
		}
		if !json.Valid([]byte(out)) || strings.Contains(errs, simulator.APIKey) || !strings.Contains(errs, "look at what is not nullable") {
			t.Errorf("%s: %s", c.name, errs)
		}
		encoder, err := codec.NewAvro([]byte(out), 1)
		if err != nil {
			t.Fatal(err)
		}
		fit := 0
		for state := range c.up.History(c.resource) {
			if state.Value == nil {
				continue
			}
			if _, err := encoder.Append(nil, state.Value); err != nil {
				t.Errorf("%s: %v", c.name, err)
				break
			}
			fit++
		}
		if fit < 10 {
			t.Errorf("%s: only %d records", c.name, fit)
		}
	}
	s.want(2, []string{"sources", "schema", "givergy", "--stream", "items"}, "givergy has no stream items", "buy_now_items")
	s.want(2, []string{"sources", "schema", "salesloft"}, "--stream S")
}
