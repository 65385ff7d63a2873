package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/simulator"
)

func (s *stage) admin() *kadm.Client {
	s.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.Brokers()...))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// check leaves no trace: no topic, no schema.
func TestCheckLooksAndTouchesNothing(t *testing.T) {
	s := newStage(t)
	s.want(0, []string{"check"}, "ok    environment", "deployment stage, 2 shards", "source team, 1 stream, bearer",
		"status 200, 100 records, the first has key", "topic stage.offsets", "will be created with 2 partitions", "topic stage.crm.people",
		"will be registered", "begins at the start", "connector run will work")
	out := s.want(0, []string{"check", "--commands"}, "--create --topic stage.crm.people --partitions 6")
	if n := strings.Count(out, "kafka-topics.sh"); n != 5 {
		t.Errorf("%d commands for 5 topics:\n%s", n, out)
	}
	topics, err := s.admin().ListTopics(context.Background())
	if err != nil || len(topics) != 0 {
		t.Errorf("check created topics: %v %v", topics.Names(), err)
	}
	if status, body, err := newRegistryProbe(s.deployment().settings).call(t.Context(), "GET", "/subjects", nil); err != nil || string(body) != "[]\n" && string(body) != "[]" {
		t.Errorf("check registered a schema: %d %s %v", status, body, err)
	}
}

// P23, K2, K10: what is stored is compared with the definition of today and with the topics.
func TestCheckComparesWithWhatIsStored(t *testing.T) {
	s := newStage(t)
	r := s.captured()
	r.stop()
	s.want(0, []string{"check"}, "goes on with 250 keys", "salesloft/person: registered", "6 partitions, cleanup.policy compact")
	definition := read(t, "testdata/team.yaml")
	s.write("team.yaml", strings.Replace(definition, "exclude: [updated_at, counts]", "exclude: [updated_at]", 1))
	s.want(0, []string{"check"}, "the content rules (value, fields, hash) changed")
	s.write("team.yaml", strings.Replace(definition, "per_page: 100", "per_page: 50", 1))
	s.want(0, []string{"check"}, "the request changed, so its cursor is void")
	s.write("team.yaml", strings.Replace(definition, "primary_key: id", "primary_key: [id, email_address]", 1))
	s.want(1, []string{"check"}, "another key than", "connector offsets reset crm/people --tombstone-old")
	s.write("team.yaml", definition)
	compact := "compact"
	_, err := s.admin().AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")}}, "stage.crm.people")
	if err != nil {
		t.Fatal(err)
	}
	s.want(1, []string{"check"}, `its cleanup.policy is "delete" and should be "`+compact+`"`, "--entity-name stage.crm.people --add-config cleanup.policy=compact")
	s.env["SHARDS"] = "8"
	s.want(1, []string{"check"}, "it has 2 partitions and should have 8", "Set SHARDS to the number of its partitions (2)")
}

// Every trouble is on the table with its fix, and one does not hide the next.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	s := newStage(t)
	s.connect("wrong-key")
	out := s.want(1, []string{"check"}, "FAIL  page crm/people", "401", "→ The credential is not accepted", "ok    kafka", "failed: mend what the arrows say")
	if strings.Contains(out, "wrong-key") {
		t.Error("the key is printed:\n" + out)
	}
	s.connect(simulator.APIKey)
	s.sim.Spoil("people", 3, simulator.NoKey)
	s.write("team.yaml", strings.Replace(read(t, "testdata/team.yaml"), "sort_direction: ASC", "sort_direction: DESC", 1))
	s.want(1, []string{"check"}, "FAIL  page crm/people", "order")
	s.write("team.yaml", strings.NewReplacer("ASC", "DESC", "anchor", "cursor", "order: asc", "order: desc", "{type: keyset, size_echo: metadata.paging.per_page}", "{type: page}", "tie_page", "page").Replace(read(t, "testdata/team.yaml")))
	s.want(0, []string{"check"}, "warn  page crm/people", "status 200, 100 records, 3 of them for the dead-letter topic")
	s.write("team.yaml", read(t, "testdata/team.yaml"))
	s.write("connections.yaml", "- name: crm\n  source: ./team.yaml\n  config: {base_url: \"http://127.0.0.1:1\", keys: x}\n- name: other\n  source: salesforce\n")
	s.want(1, []string{"check"}, "FAIL  connections", "source \"salesforce\" is not in the catalog")
	s.write("connections.yaml", "- name: crm\n  source: ./team.yaml\n  config: {base_url: \"http://127.0.0.1:1\", keys: x}\n")
	s.want(1, []string{"check"}, "FAIL  definition crm", "config.key is missing", "config.keys is no setting of team", "ok    kafka")
	s.connect("x")
	s.env["KAFKA_BROKERS"] = "127.0.0.1:1"
	s.want(1, []string{"check"}, "FAIL  kafka", "Check KAFKA_BROKERS")
	s.env["VALUE_FORMAT"] = "xml"
	s.want(1, []string{"check"}, "FAIL  environment", "Write avro or json")
	delete(s.env, "VALUE_FORMAT")
	delete(s.env, "KAFKA_BROKERS")
	s.want(1, []string{"check"}, "warn  kafka", "embedded broker")
}

// (9): the refresh token of a grant that rotates is not spent, and its tokens need a key.
func TestCheckSpendsNoRefreshToken(t *testing.T) {
	s := newStage(t)
	s.write("connections.yaml", "- name: crm\n  source: salesloft\n  config: {client_id: simulated-client, client_secret: simulated-secret, "+
		"refresh_token: simulated-refresh-token-0, base_url: \""+s.url+"/v2\", token_url: \""+s.url+"/oauth/token\"}\n")
	s.want(1, []string{"check"}, "FAIL  secret key crm", "openssl rand -base64 32", "skip  pages crm", "good for one use")
	s.env["SECRET_KEY"] = base64.StdEncoding.EncodeToString(make([]byte, 32))
	s.want(0, []string{"check"}, "ok    secret key crm")
	if n := s.sim.Stats(); n.Refreshes != 0 || n.Requests != 0 {
		t.Errorf("check asked the API: %+v", n)
	}
}

// A registry that is down, is none, or refuses the schema is on the table.
func TestCheckAsksTheRegistry(t *testing.T) {
	s := newStage(t)
	body := `{"schema": "{\"type\":\"record\",\"name\":\"Person\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}]}"}`
	probe := newRegistryProbe(s.deployment().settings)
	if status, answer, err := probe.call(t.Context(), "POST", "/subjects/stage.crm.people-value/versions", []byte(body)); err != nil || status != 200 {
		t.Fatal(status, string(answer), err)
	}
	s.want(1, []string{"check"}, "FAIL  schema crm/people", "not compatible with the versions that are registered", "Whoever owns the registry decides")
	s.env["SCHEMA_REGISTRY_URL"] = s.url
	s.want(1, []string{"check"}, "FAIL  registry", "which no schema registry does")
	s.env["SCHEMA_REGISTRY_URL"] = "http://127.0.0.1:1"
	s.want(1, []string{"check"}, "FAIL  registry", "SCHEMA_REGISTRY_URL")
}

// TestCheckFiles: a definition with files needs a folder that can be written.
func TestCheckFiles(t *testing.T) {
	s := newStage(t)
	s.write("letters.yaml", `source: letters
config: {url: {}}
base_url: "{{ config.url }}"
streams:
  letters: {path: /v2/none, records: data, primary_key: id, files: {each: docs, request: {path: "/docs/{{ item.id }}"}}}
`)
	s.write("connections.yaml", fmt.Sprintf("- {name: crm, source: ./letters.yaml, config: {url: %q}}\n", s.url))
	s.want(1, []string{"check"}, "files crm", "no folder for the files of stream letters", "Set FILES_DIR")
	s.want(1, []string{"run"}, "no folder for the files of stream letters", "Set FILES_DIR")
	s.env["FILES_DIR"] = filepath.Join(s.dir, "letters.yaml")
	s.want(1, []string{"check"}, "the folder of files cannot be written")
	s.env["FILES_DIR"] = filepath.Join(s.dir, "a", "files")
	if out := s.want(1, []string{"check"}, "can be written"); strings.Contains(out, "files crm") {
		t.Error(out)
	}
}
