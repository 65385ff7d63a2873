package supervisor_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/embedded"
	"tidemark/internal/kafka"
	"tidemark/internal/source"
	"tidemark/internal/supervisor"
)

const strangerDefinition = `
source: tiny
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things: {path: /things, records: data, primary_key: id, paginator: {type: none}, interval: 1s}
`

// runTiny runs a supervisor of one connection until ready says so, and returns its status then.
func runTiny(t *testing.T, brokers []string, url, connection, instance string, ready func(capture.FleetStatus) bool) capture.FleetStatus {
	t.Helper()
	definition, err := source.Parse("tiny.yaml", []byte(strangerDefinition))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := definition.Bind(connection, map[string]any{"url": url}, source.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	o := kafka.Options{Brokers: brokers, Name: "shared", Instance: instance}
	c, err := capture.New(capture.Options{Source: bound, Kafka: o, Log: log, Config: "of " + connection})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := supervisor.New(supervisor.Options{Kafka: o, Connections: []*capture.Connection{c}, Log: log})
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		st := s.Status(ctx)
		if ready(st) {
			stop()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			return st
		}
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the supervisor of %s ended before it was ready: %v; %+v", connection, err, st)
		}
	}
}

// TestK10ConnectionThatNobodyConfigures: state of a connection that this configuration does not have is shown loudly; a second
// deployment of the same name is found by it although the two never fence each other.
func TestK10ConnectionThatNobodyConfigures(t *testing.T) {
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"data":[{"id":1}]}`) //nolint:errcheck // the client sees a short body
	}))
	defer api.Close()
	first := runTiny(t, cluster.Brokers(), api.URL, "theirs", "one", func(st capture.FleetStatus) bool { return st.Connections[0].Commits > 0 })
	if len(first.Foreign) > 0 {
		t.Errorf("alone under its name, and yet: %v", first.Foreign)
	}
	second := runTiny(t, cluster.Brokers(), api.URL, "ours", "two", func(st capture.FleetStatus) bool { return len(st.Foreign) > 0 })
	for _, want := range []string{"connection theirs", "instance one", "DEPLOYMENT"} {
		if !strings.Contains(second.Foreign[0], want) {
			t.Errorf("the alarm does not name %q: %s", want, second.Foreign[0])
		}
	}
}
