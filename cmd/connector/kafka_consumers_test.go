//go:build kafka

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"tidemark/internal/embedded"
	"tidemark/internal/simulator"
)

// Consumers that nobody here wrote: kcat, and Confluent's deserializer for Python.

// small is a team that is read within seconds.
func small() simulator.Options {
	o := simulator.Lively(7)
	o.ChangesPerSecond = 0
	return o
}

// capture runs the connector over a simulated team until it is at rest, changes some of it, and lets it come to rest again.
func (b *bed) capture(env ...string) (*simulator.SalesLoft, string) {
	b.Helper()
	sim, url := b.simulate(small())
	b.connections(url, "{people: {interval: 1s, reconcile: false}, accounts: {interval: 1s, reconcile: false}, users: {interval: 1s, reconcile: false}}")
	connector := b.connector("one", env...)
	connector.rest(1)
	sim.Change("people", 50)
	sim.Create("people", 5)
	sim.Change("accounts", 10)
	sim.Freeze()
	connector.rest(3)
	connector.terminate()
	return sim, url
}

// TestKcat: everything that we store and publish is readable with an operator's everyday tool (K5, and what kcat needs of
// headers and JSON).
func TestKcat(t *testing.T) {
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Fatal("kcat is missing: `deploy/test-kafka prepare` installs it where it may, or apt-get install kcat")
	}
	b := newBed(t)
	sim, url := b.capture("VALUE_FORMAT=json")
	b.offsets()
	people := b.events("people", sim)
	for _, resource := range []string{"people", "accounts", "users"} {
		line := b.judge(url, resource, b.name+".crm."+resource)
		t.Logf("%s: %s", resource, line)
		if _, ok := clean(line); !ok {
			t.Errorf("%s: the judge found %s", resource, line)
		}
	}
	t.Logf("kcat read %d events of people", people)
}

// kcat prints a topic from its beginning to its end: the fields of the format, separated by the unit separator.
func (b *bed) kcat(topic, format string) (rows [][]string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patient)
	defer cancel()
	c := exec.CommandContext(ctx, "kcat", "-C", "-b", b.brokers, "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed",
		"-f", strings.ReplaceAll(format, " ", "\x1f")+"\n")
	out, err := c.Output()
	if err != nil {
		b.Fatalf("kcat %s: %v", topic, err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		rows = append(rows, strings.Split(line, "\x1f"))
	}
	return rows
}

// offsets checks what kcat prints of the offsets topic: readable keys, and JSON.
func (b *bed) offsets() {
	b.Helper()
	seen := map[string]map[string]any{}
	for _, row := range b.kcat(b.name+".offsets", "%k %s") {
		if len(row) != 2 || !utf8.ValidString(row[0]) || strings.ContainsFunc(row[0], func(r rune) bool { return r < ' ' }) {
			b.Fatalf("a key that cannot be read: %q", row)
		}
		var value map[string]any
		if row[1] == "" { // a tombstone
			delete(seen, row[0])
			continue
		}
		if err := json.Unmarshal([]byte(row[1]), &value); err != nil {
			b.Fatalf("%s: %v: %s", row[0], err, row[1])
		}
		if value["v"] == nil {
			b.Errorf("%s: no version in %s", row[0], row[1])
		}
		seen[row[0]] = value
	}
	for _, key := range []string{"owner/crm", "token/crm", "stream/crm/people", "stream/crm/users", "cursor/crm/people/-", "cursor/crm/accounts/-", "cursor/crm/users/-"} {
		if seen[key] == nil {
			b.Errorf("the offsets topic has no %s", key)
		}
	}
	cursor, _ := seen["cursor/crm/people/-"]["cursor"].(string)
	if !strings.HasPrefix(cursor, "20") || !strings.Contains(cursor, "T") {
		b.Errorf("the checkpoint of people holds the cursor %q: %v", cursor, seen["cursor/crm/people/-"])
	}
	b.Logf("cursor/crm/people/- = %v", seen["cursor/crm/people/-"])
}

// events checks what kcat prints of an events topic: the key, the headers of CloudEvents, and JSON.
func (b *bed) events(resource string, sim *simulator.SalesLoft) (n int) {
	b.Helper()
	last := map[string]map[string]any{}
	for _, row := range b.kcat(b.name+".crm."+resource, "%k %h %s") {
		if len(row) != 3 {
			b.Fatalf("%q", row)
		}
		n++
		for _, header := range []string{"ce_specversion=1.0", "ce_id=", "ce_source=", "ce_type=", "ce_subject=", "ce_time=20", "content-type=application/json", "ce_op=", "ce_cursor="} {
			if !strings.Contains(","+row[1], ","+header) {
				b.Fatalf("%s: no %s in the headers: %s", row[0], header, row[1])
			}
		}
		var value map[string]any
		if err := json.Unmarshal([]byte(row[2]), &value); err != nil || fmt.Sprint(value["id"]) != row[0] {
			b.Fatalf("%s: %v: %s", row[0], err, row[2])
		}
		last[row[0]] = value
	}
	if live := sim.Stats().Live[resource]; len(last) != live || live == 0 {
		b.Errorf("%d keys in the topic of %s, %d records upstream", len(last), resource, live)
	}
	return n
}

// TestConfluentDecodesAvro: Confluent's AvroDeserializer decodes the values, with the embedded registry and with Apicurio's,
// and the judge in Python, through fastavro, finds them right.
func TestConfluentDecodesAvro(t *testing.T) {
	b := newBed(t)
	apicurio := b.apicurio() // takes its time to start
	t.Run("embedded", func(t *testing.T) {
		server := httptest.NewServer(embedded.NewRegistry())
		defer server.Close()
		b.on(t).avro(server.URL)
	})
	t.Run("apicurio", func(t *testing.T) {
		url := apicurio()
		b.on(t).avro(url)
	})
}

// on is the bed for a subtest: the same Kafka, another deployment.
func (b *bed) on(t *testing.T) *bed {
	t.Helper()
	c := bareBed(t)
	c.brokers = b.brokers
	return c
}

// avro captures with a registry, and compares what the deserializer makes of the events with the API.
func (b *bed) avro(registry string) {
	b.Helper()
	sim, url := b.capture("SCHEMA_REGISTRY_URL=" + registry)
	for _, resource := range []string{"people", "accounts", "users"} {
		topic := b.name + ".crm." + resource
		want := map[string]map[string]any{}
		for s := range sim.History(resource) {
			var value map[string]any
			if err := json.Unmarshal(s.Value, &value); err != nil {
				b.Fatal(err)
			}
			want[s.Key] = value
		}
		got, events := b.deserialize(topic, registry)
		if len(got) != len(want) {
			b.Errorf("%s: %d keys decoded, %d upstream", resource, len(got), len(want))
		}
		for key, value := range want {
			for _, field := range []string{"id", "name", "first_name", "email_address", "domain", "email", "created_at", "owner"} {
				a, _ := json.Marshal(value[field])
				c, _ := json.Marshal(got[key][field])
				if !bytes.Equal(a, c) {
					b.Errorf("%s %s: %s is %s, upstream %s", resource, key, field, c, a)
				}
			}
		}
		line := b.judge(url, resource, topic, "--registry", registry)
		b.Logf("%s: Confluent's deserializer decoded %d events of %d keys; the judge: %s", resource, events, len(got), line)
		if n, ok := clean(line); !ok || n != events {
			b.Errorf("%s: the judge found %s", resource, line)
		}
	}
}

// deserialize returns the last value of every key as Confluent's deserializer sees it, and how many events there were.
func (b *bed) deserialize(topic, registry string) (last map[string]map[string]any, events int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patient)
	defer cancel()
	out, err := exec.CommandContext(ctx, python(), "testdata/deserialize.py", b.brokers, topic, registry).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			b.Logf("%s", exit.Stderr)
		}
		b.Fatalf("deserialize %s: %v", topic, err)
	}
	last = map[string]map[string]any{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e struct {
			Key   string
			Value map[string]any
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			b.Fatal(err)
		}
		last[e.Key] = e.Value
		events++
	}
	return last, events
}

// apicurio starts a registry that nobody here wrote; the function waits until it answers and returns its URL.
func (b *bed) apicurio() func() string {
	b.Helper()
	jars, err := filepath.Glob(root + "/.cache/apicurio/*-runner.jar")
	if err != nil || len(jars) == 0 {
		b.Fatal("Apicurio Registry is not in .cache/apicurio: `deploy/test-kafka prepare` fetches it from Maven Central")
	}
	slices.Sort(jars)
	jar, err := filepath.Abs(jars[len(jars)-1])
	if err != nil {
		b.Fatal(err)
	}
	port := freePort(b.T)
	p := b.start("apicurio", nil, "java", "-Xmx512m", fmt.Sprintf("-Dquarkus.http.port=%d", port), "-Dquarkus.http.host=127.0.0.1", "-jar", jar)
	url := fmt.Sprintf("http://127.0.0.1:%d/apis/ccompat/v7", port)
	return func() string {
		b.Helper()
		b.until("Apicurio Registry to answer", p, func() bool { return b.get(url+"/subjects", nil) == nil })
		return url
	}
}
