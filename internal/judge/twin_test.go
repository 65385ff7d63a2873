//go:build kafka

package judge_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/codec"
	"tidemark/internal/embedded"
	"tidemark/internal/simulator"
	"tidemark/schemas"
)

const twin = "../../deploy/judge/consumer.py"

// python runs the twin and returns its exit code and what it printed.
func python(t *testing.T, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "python3", append([]string{twin}, args...)...)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(out)
}

// The judge and its twin were written apart from the same rules; here they must say the same.
func TestTwinAgrees(t *testing.T) {
	code, out := python(t, "--cases", "testdata/cases.json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	all := scenarios(t)
	if code != 0 || len(lines) != len(all) {
		t.Fatalf("exit %d, %d lines for %d cases\n%s", code, len(lines), len(all), out)
	}
	for i, s := range all {
		if lines[i] != s.Want {
			t.Errorf("%s: got %s, want %s", s.Name, lines[i], s.Want)
		}
	}
}

// bench is a simulated API, a broker, and a topic that holds what a faultless connector would have published.
type bench struct {
	api      *simulator.SalesLoft
	url      string
	cluster  *embedded.Cluster
	producer *kgo.Client
	encoder  *codec.Encoder
	topic    string
	number   int
}

func newBench(ctx context.Context, t *testing.T, avro bool) *bench {
	t.Helper()
	b := &bench{api: simulator.New(simulator.Lively(7)), topic: "demo.salesloft.people", encoder: codec.NewJSON()}
	server := httptest.NewServer(b.api.Handler())
	t.Cleanup(server.Close)
	b.url = server.URL + "/_simulator/history?resource=people"
	var err error
	if b.cluster, err = embedded.Start(embedded.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cluster.Close)
	if b.producer, err = kgo.NewClient(kgo.SeedBrokers(b.cluster.Brokers()...), kgo.TransactionalID("bench"), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.producer.Close)
	if _, err := kadm.NewClient(b.producer).CreateTopic(ctx, 3, 1, nil, b.topic); err != nil {
		t.Fatal(err)
	}
	if avro {
		schema, err := schemas.Get("salesloft/person")
		if err != nil {
			t.Fatal(err)
		}
		registry, err := codec.NewRegistry(b.cluster.RegistryURL(), codec.RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		id, err := registry.Register(ctx, b.topic+"-value", schema)
		if err != nil {
			t.Fatal(err)
		}
		if b.encoder, err = codec.NewAvro(schema, id); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// produce puts states into the topic, in one transaction.
func (b *bench) produce(ctx context.Context, t *testing.T, commit bool, states ...simulator.State) {
	t.Helper()
	if err := b.producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		b.number++
		h := fnv.New32a()
		h.Write([]byte(s.Key))
		r := &kgo.Record{Topic: b.topic, Key: []byte(s.Key), Partition: int32(h.Sum32() % 3), Headers: []kgo.RecordHeader{
			{Key: "ce_id", Value: fmt.Appendf(nil, "%d", b.number)}, {Key: "ce_cursor", Value: []byte(s.Updated.Format(time.RFC3339Nano))}}}
		if s.Value != nil {
			var err error
			if r.Value, err = b.encoder.Append(nil, s.Value); err != nil {
				t.Fatal(err)
			}
		}
		b.producer.Produce(ctx, r, nil)
	}
	if err := b.producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.producer.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}

// visible returns the history less the states whose content is that of the state before.
func (b *bench) visible() []simulator.State {
	content := func(value []byte) string { // what the rules leave: nothing of updated_at and counts
		text := string(value)
		for _, member := range []string{`"updated_at":`, `"counts":`} {
			if i := strings.Index(text, member); i >= 0 {
				end := strings.IndexAny(text[i:], "}")
				if member == `"updated_at":` {
					end = strings.Index(text[i:], ",")
				}
				text = text[:i] + text[i+end:]
			}
		}
		return text
	}
	var states []simulator.State
	last := map[string]string{}
	for s := range b.api.History("people") {
		if c := content(s.Value); last[s.Key] != c {
			last[s.Key] = c
			states = append(states, s)
		}
	}
	return states
}

func testTwinReads(t *testing.T, avro bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b := newBench(ctx, t, avro)
	args := []string{"--brokers", b.cluster.Brokers()[0], "--topic", b.topic, "--history", b.url, "--exclude", "updated_at,counts", "--cursors"}
	if avro {
		args = append(args, "--registry", b.cluster.RegistryURL())
	}
	b.api.Step(3000)
	b.api.Freeze()
	states := b.visible()
	b.produce(ctx, t, true, states[:len(states)-1]...)
	b.produce(ctx, t, false, states[:50]...) // aborted: no read-committed reader sees it
	want := func(code int, line string) {
		t.Helper()
		got, out := python(t, args...)
		if lines := strings.Split(strings.TrimSpace(out), "\n"); got != code || lines[len(lines)-1] != line {
			t.Errorf("exit %d\n%swant %s, exit %d", got, out, line, code)
		}
	}
	n := len(states)
	want(1, fmt.Sprintf("events=%d missing=1 duplicate=0 out_of_order=0 wrong=0", n-1))
	b.produce(ctx, t, true, states[n-1])
	want(0, fmt.Sprintf("events=%d missing=0 duplicate=0 out_of_order=0 wrong=0", n))
	b.produce(ctx, t, true, states[n-1])
	want(1, fmt.Sprintf("events=%d missing=0 duplicate=1 out_of_order=0 wrong=0", n+1))
	wrong := states[0]
	wrong.Key = "none"
	b.produce(ctx, t, true, wrong)
	want(1, fmt.Sprintf("events=%d missing=0 duplicate=1 out_of_order=0 wrong=1", n+2))
}

func TestTwinReadsJSON(t *testing.T) { testTwinReads(t, false) }

func TestTwinReadsAvro(t *testing.T) { testTwinReads(t, true) }

// Without a verdict the exit code is neither that of a clean nor that of a bad topic.
func TestTwinSaysWhatItCannotRead(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b := newBench(ctx, t, false)
	if code, out := python(t, "--brokers", b.cluster.Brokers()[0], "--topic", "none", "--history", b.url); code != 2 || !strings.Contains(out, "topic none") {
		t.Errorf("no topic: exit %d\n%s", code, out)
	}
	if code, out := python(t, "--brokers", b.cluster.Brokers()[0], "--topic", b.topic, "--history", b.url+"x"); code != 2 || !bytes.Contains([]byte(out), []byte("404")) {
		t.Errorf("no history: exit %d\n%s", code, out)
	}
}
