package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/embedded"
)

func start(t *testing.T, o embedded.Options) *embedded.Cluster {
	t.Helper()
	c, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func client(t *testing.T, c *embedded.Cluster, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers()...)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// consume reads n records of a topic, read-committed, from the start.
func consume(ctx context.Context, t *testing.T, c *embedded.Cluster, topic string, n int) []string {
	t.Helper()
	cl := client(t, c, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var got []string
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("waited for %d records of %s, got %q: %v", n, topic, got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Key)+"="+string(r.Value)) })
	}
	return got
}

// transact produces one record of topic events in a transaction and commits it or not.
func transact(ctx context.Context, t *testing.T, cl *kgo.Client, key, value string, commit bool) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: "events", Key: []byte(key), Value: []byte(value)}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsOnLoopback(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := start(t, embedded.Options{})
	for _, address := range append(c.Brokers(), strings.TrimPrefix(c.RegistryURL(), "http://")) {
		if host, _, err := net.SplitHostPort(address); err != nil || host != "127.0.0.1" {
			t.Errorf("listens on %s, want 127.0.0.1", address)
		}
	}
	if _, err := kadm.NewClient(client(t, c)).CreateTopic(ctx, 1, 1, nil, "events"); err != nil {
		t.Fatal(err)
	}
	producer := client(t, c, kgo.TransactionalID("one"))
	transact(ctx, t, producer, "1", "a", true)
	transact(ctx, t, producer, "1", "aborted", false)
	transact(ctx, t, producer, "1", "b", true)
	if diff := cmp.Diff([]string{"1=a", "1=b"}, consume(ctx, t, c, "events", 2)); diff != "" {
		t.Errorf("read-committed reader: -want +got\n%s", diff)
	}
}

// A broker of three has three addresses; a fixed port is the one that is bound, and bound once.
func TestPorts(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	c := start(t, embedded.Options{KafkaPort: port})
	if diff := cmp.Diff([]string{fmt.Sprintf("127.0.0.1:%d", port)}, c.Brokers()); diff != "" {
		t.Errorf("brokers: -want +got\n%s", diff)
	}
	if _, err := embedded.Start(embedded.Options{KafkaPort: port}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("a taken port: got error %v, want one that names it", err)
	}
	if three := start(t, embedded.Options{Brokers: 3}); len(three.Brokers()) != 3 {
		t.Errorf("three brokers: got %q", three.Brokers())
	}
}

// A taken registry port leaves no broker behind.
func TestRegistryPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // the process is about to end
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = embedded.Start(embedded.Options{RegistryPort: port})
	if err == nil || !strings.Contains(err.Error(), "registry") || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("got error %v, want one that names the registry and the port", err)
	}
}

func TestCloseFreesPorts(t *testing.T) {
	c, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := append(c.Brokers(), strings.TrimPrefix(c.RegistryURL(), "http://"))
	c.Close()
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("after Close: %v", err)
			continue
		}
		_ = l.Close() // it served its purpose
	}
}

// The simulation runs both over kfake's in-memory network.
func TestVirtualNetwork(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var network kfake.VirtualNetwork
	c := start(t, embedded.Options{KafkaPort: 9092, RegistryPort: 8081, Listen: network.Listen})
	cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(network.DialContext))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil {
		t.Error(err)
	}
	transport := &http.Transport{DialContext: network.DialContext}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(c.RegistryURL() + "/subjects")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "[]" {
		t.Errorf("subjects: got %q, %v", body, err)
	}
}

// K18 and others need brokers that answer as told: the options reach kfake.
func TestExtraOptions(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := start(t, embedded.Options{
		Settings: map[string]string{"message.max.bytes": "2000"},
		Extra:    []kfake.Opt{kfake.SeedTopics(3, "seeded")},
	})
	cl := client(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	topics, err := kadm.NewClient(cl).ListTopics(ctx, "seeded")
	if err != nil || len(topics["seeded"].Partitions) != 3 {
		t.Errorf("seeded: got %v, %v, want 3 partitions", topics, err)
	}
	err = cl.ProduceSync(ctx, &kgo.Record{Topic: "seeded", Value: []byte(strings.Repeat("x", 9000))}).FirstErr()
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("9000 bytes under message.max.bytes 2000: got %v, want a refusal", err)
	}
}
