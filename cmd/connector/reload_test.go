package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"tidemark/internal/simulator"
)

// owners are the nonces and accounts in the owner records of the stage's connections.
func (s *stage) owners() map[string]string {
	s.Helper()
	all, err := readHoldings(s.Context(), s.deployment().kafka)
	if err != nil {
		s.Fatal(err)
	}
	found := map[string]string{}
	for _, h := range all {
		if h.owner != nil {
			found[h.connection] = h.owner.Nonce
		}
	}
	return found
}

// declare writes the file of connections: their names, each with what follows its config.
func (s *stage) declare(connections ...string) {
	s.Helper()
	var text strings.Builder
	for _, c := range connections {
		name, more, _ := strings.Cut(c, " ")
		fmt.Fprintf(&text, "- {name: %s, source: ./team.yaml, account: sales, config: {base_url: %q, key: %q}%s}\n", name, s.url, simulator.APIKey, more)
	}
	s.write("connections.yaml", text.String())
}

// runs waits until the status shows exactly these connections, all of them running.
func (r *running) runs(names ...string) *shownStatus {
	r.Helper()
	var st *shownStatus
	r.until(fmt.Sprintf("%v to run", names), func() bool {
		var err error
		if st, err = askStatus(r.Context(), r.address()+"/status.json"); err != nil || len(st.Connections) != len(names) {
			return false
		}
		for _, name := range names {
			found := false
			for _, c := range st.Connections {
				found = found || c.Connection == name && c.Phase.Name == "running" && len(c.Streams) > 0 && c.Streams[0].Keys == 250
			}
			if !found {
				return false
			}
		}
		return true
	})
	return st
}

// TestReload: what did not change goes on without a pause, what is new starts, what changed starts anew alone, what is removed stops
// and gives back. A file that cannot be run changes nothing, and says why.
func TestReload(t *testing.T) {
	s := newStage(t)
	s.declare("crm", "old")
	r := s.run()
	r.runs("crm", "old")
	first := s.owners()

	s.declare("crm", "old , rate_limit: {budget: 100000}", "new") // the file changes
	r.runs("crm", "new", "old")
	second := s.owners()
	if second["crm"] != first["crm"] || second["old"] == first["old"] || second["new"] == "" {
		t.Errorf("owners %v, before %v", second, first)
	}

	s.write("connections.yaml", "- {name: crm, sauce: ./team.yaml}\n")
	refused := func(parts ...string) {
		t.Helper()
		s.until("the refusal", func() bool {
			st, err := askStatus(s.Context(), r.address()+"/status.json")
			return err == nil && strings.Contains(st.Refused, parts[0])
		})
		s.want(0, []string{"status", "--address", r.address()}, append(parts, "those that run go on as they were")...)
		if log := r.log.String(); !strings.Contains(log, "the connections are not reloaded") {
			t.Error(log)
		}
	}
	refused("sauce", "docs/connections.md")
	s.write("rotating.yaml", rotating)
	twin := "- {name: %s, source: ./rotating.yaml, config: {url: %q, refresh_token: same}}\n"
	s.write("connections.yaml", fmt.Sprintf(twin+twin, "a", s.url, "b", s.url))
	refused("have the same rotating refresh token", "Authorize each of them by itself")
	s.write("connections.yaml", "[]\n")
	refused("declares no connection")
	if got := s.owners(); got["crm"] != first["crm"] || got["old"] != second["old"] || got["new"] != second["new"] {
		t.Errorf("a refused file changed owners: %v, before %v", got, second)
	}
	r.runs("crm", "new", "old")

	s.declare("new", "crm") // in another order, which says nothing
	if st := r.runs("crm", "new"); st.Refused != "" {
		t.Errorf("still refused: %s", st.Refused)
	}
	if got := s.owners(); got["crm"] != first["crm"] || got["new"] != second["new"] {
		t.Errorf("owners %v, before %v", got, second)
	}

	text, err := os.ReadFile(s.dir + "/team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.write("team.yaml", string(text)+"# another definition\n")
	r.hangup <- syscall.SIGHUP // files beside it are looked at then
	s.until("both to be owned anew", func() bool {
		got := s.owners()
		return got["crm"] != first["crm"] && got["new"] != second["new"]
	})
	r.runs("crm", "new")
	if events, _, _ := s.events(); events != 250 {
		t.Errorf("%d events of 250 people", events)
	}
}

const rotating = `
source: rotating
config: {url: {}, refresh_token: {secret: true}}
base_url: "{{ config.url }}"
authenticator: {type: oauth2, grant_type: refresh_token, token_url: "{{ config.url }}/oauth/token", client_id: x, client_secret: y, refresh_token: "{{ config.refresh_token }}"}
streams:
  people: {path: /people, records: data, primary_key: id}
`
