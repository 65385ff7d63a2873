package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/embedded"
	"tidemark/internal/kafka"
	"tidemark/internal/simulator"
)

// stage is what commands are tried on: an embedded broker with its registry, a simulated API, a file of connections.
type stage struct {
	*testing.T
	cluster *embedded.Cluster
	sim     *simulator.SalesLoft
	url     string
	dir     string
	env     map[string]string
}

// newStage has a connection crm with the stream people of testdata/team.yaml, and 250 people at rest.
func newStage(t *testing.T) *stage {
	t.Helper()
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	sim := simulator.New(simulator.Options{Seed: 1, People: 250, Users: 5, RateBudget: -1, Tokens: true})
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	s := &stage{T: t, cluster: cluster, sim: sim, url: server.URL, dir: t.TempDir()}
	s.env = map[string]string{
		"DEPLOYMENT": "stage", "KAFKA_BROKERS": strings.Join(cluster.Brokers(), ","), "SCHEMA_REGISTRY_URL": cluster.RegistryURL(),
		"CONNECTIONS": filepath.Join(s.dir, "connections.yaml"), "ADMIN_ADDRESS": "127.0.0.1:0", "LOG_FORMAT": "json", "SHARDS": "2",
	}
	definition, err := os.ReadFile("testdata/team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.write("team.yaml", string(definition))
	s.connect(simulator.APIKey)
	return s
}

func (s *stage) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// connect writes the file of connections.
func (s *stage) connect(key string) {
	s.Helper()
	s.write("connections.yaml", fmt.Sprintf("- name: crm\n  source: ./team.yaml\n  account: sales\n  config: {base_url: %q, key: %q}\n", s.url, key))
}

// shared is an output that a running command writes and the test reads.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (w *shared) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String is what was written so far.
func (w *shared) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// main runs a command to its end.
func (s *stage) main(args ...string) (code int, out, errs string) {
	s.Helper()
	var o, e shared
	ctx, cancel := context.WithTimeout(s.Context(), stageWaits)
	defer cancel()
	p := &program{out: &o, err: &e, env: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }}
	code = p.main(ctx, args)
	return code, o.String(), e.String()
}

// want runs a command and looks for its exit code and for texts in what it printed.
func (s *stage) want(code int, args []string, texts ...string) string {
	s.Helper()
	got, out, errs := s.main(args...)
	if got != code {
		s.Fatalf("connector %v: exit code %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(out+errs, text) {
			s.Errorf("connector %v does not say %q:\n%s%s", args, text, out, errs)
		}
	}
	return out + errs
}

// running is `connector run` in this process.
type running struct {
	*stage
	log    shared
	hangup chan os.Signal
	stop   func()
}

// run starts the connector and waits until it serves its status.
func (s *stage) run(args ...string) *running {
	s.Helper()
	r := &running{stage: s, hangup: make(chan os.Signal, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{out: &shared{}, err: &r.log, hangup: r.hangup, env: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if code := p.main(ctx, append([]string{"run"}, args...)); code != 0 {
			s.Errorf("connector run: exit code %d: %s", code, r.log.String())
		}
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	s.Cleanup(r.stop)
	s.until("the connector starts", func() bool { return address.MatchString(r.log.String()) })
	return r
}

var address = regexp.MustCompile(`"status":"(http://[^"]+)"`)

// address is where the connector's admin server listens.
func (r *running) address() string { return address.FindStringSubmatch(r.log.String())[1] }

// stageWaits is how long a test waits for a condition, or for a command; the machines are shared.
const stageWaits = 10 * time.Minute

// until waits for a condition.
func (s *stage) until(what string, condition func() bool) {
	s.Helper()
	for deadline := time.Now().Add(stageWaits); !condition(); {
		if time.Now().After(deadline) {
			s.Fatalf("waited for: %s", what)
		}
		select {
		case <-s.Context().Done():
			s.Fatal("the test ended")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// deployment is the stage as commands see it.
func (s *stage) deployment() *deployment {
	s.Helper()
	p := &program{out: &shared{}, err: &shared{}, env: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }}
	d, err := p.distant("test")
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// holdings is what the offsets topic holds of crm.
func (s *stage) holdings() *holdings {
	s.Helper()
	all, err := readHoldings(s.Context(), s.deployment().kafka)
	if err != nil {
		s.Fatal(err)
	}
	for _, h := range all {
		if h.connection == "crm" {
			return h
		}
	}
	return &holdings{}
}

// events counts the events and the tombstones of people.
func (s *stage) events() (events, tombstones int, reasons map[string]int) {
	s.Helper()
	reasons = map[string]int{}
	d := s.deployment()
	err := kafka.Read(s.Context(), d.kafka, kafka.Query{Topics: []string{d.kafka.EventsTopic("crm", "people")}}, func(r kafka.Record) error {
		if r.Value != nil {
			events++
			return nil
		}
		tombstones++
		for _, h := range r.Headers {
			if h.Key == "ce_reason" {
				reasons[string(h.Value)]++
			}
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return events, tombstones, reasons
}

// captured runs the connector until all people are published and it has ended a pass.
func (s *stage) captured() *running {
	s.Helper()
	r := s.run()
	s.until("all people are published", func() bool {
		h := s.holdings()
		return h.streams["people"].Count == 250 && h.cursors["people"]["-"].Passes > 0
	})
	return r
}
