package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/embedded"
	"tidemark/internal/kafka"
	"tidemark/internal/source"
	"tidemark/internal/supervisor"
)

// TestReplaceTakesTheRefusalBackAtOnce: a configuration that is taken is not shown as refused while a connection that goes still
// commits what it began.
func TestReplaceTakesTheRefusalBackAtOnce(t *testing.T) {
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var asked atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"data":[{"id":1,"n":%d}]}`, asked.Add(1)) // there is always something to commit
	}))
	defer api.Close()
	definition, err := source.Parse("tiny.yaml", []byte(strangerDefinition))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := definition.Bind("old", map[string]any{"url": api.URL}, source.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := kafka.Options{Brokers: cluster.Brokers(), Name: "shared", Instance: "one"}
	old, err := capture.New(capture.Options{Source: bound, Kafka: o, Log: log, Config: "of old"})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	s := supervisor.New(supervisor.Options{Kafka: o, Connections: []*capture.Connection{old}, Log: log})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()
	until := func(what string, is func(capture.FleetStatus) bool) (st capture.FleetStatus) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for end := time.After(10 * time.Minute); ; {
			if st = s.Status(ctx); is(st) {
				return st
			}
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("waited for %s: %+v", what, st)
			}
		}
	}
	until("a commit", func(st capture.FleetStatus) bool { return st.Connections[0].Commits > 2 })
	held, let := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(let) })
	defer release()
	cluster.Kafka().ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(held)
		cluster.Kafka().SleepControl(func() { <-let })
		return nil, nil, false
	})
	<-held
	s.Refuse(errors.New("another file was no good"))
	running.Go(func() { s.Replace(ctx, []string{"old"}, nil) })
	if st := until("the old one to go", func(st capture.FleetStatus) bool { return len(st.Connections) == 0 }); st.Refused != "" {
		t.Errorf("still refused: %s", st.Refused)
	}
	release()
}
