package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/capture"
	"tidemark/internal/codec"
	"tidemark/internal/embedded"
	"tidemark/internal/kafka"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
	"tidemark/schemas"
)

const (
	benchRecords = 100_000
	benchPage    = 1000
)

const benchDefinition = `
source: bench
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  people:
    path: /people
    query: {token: "{{ page_token }}"}
    records: data
    primary_key: id
    schema: salesloft/person
    paginator: {type: token, next: next}
    hash: {exclude: [updated_at, counts]}
    interval: 100ms
`

// library serves the same records again and again; while lively, every listing differs from the one before.
type library struct {
	pages  [2][][]byte // by revision
	lively atomic.Bool
	rev    atomic.Int64
	served atomic.Int64
}

func newLibrary(tb testing.TB) *library {
	sim := simulator.New(simulator.Options{Seed: 1, People: benchRecords})
	l := &library{}
	var bodies [2][][]byte
	for rev := range bodies {
		for s := range sim.History("people") {
			if n := len(bodies[rev]); rev == 0 || s.Key == strconv.Itoa(n+1) {
				v := s.Value
				if rev == 1 {
					v = bytes.Replace(v, []byte(`"title":`), []byte(`"title":"changed","was":`), 1)
				}
				bodies[rev] = append(bodies[rev], v)
			}
		}
		if len(bodies[rev]) != benchRecords {
			tb.Fatalf("%d records, want %d", len(bodies[rev]), benchRecords)
		}
		for i := 0; i < benchRecords; i += benchPage {
			next := "null"
			if i+benchPage < benchRecords {
				next = fmt.Sprintf("%q", strconv.Itoa(i/benchPage+1))
			}
			l.pages[rev] = append(l.pages[rev], fmt.Appendf(nil, `{"next":%s,"data":[%s]}`, next, bytes.Join(bodies[rev][i:i+benchPage], []byte(","))))
		}
	}
	return l
}

func (l *library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("token"))
	if n == 0 && l.lively.Load() {
		l.rev.Add(1)
	}
	page := l.pages[l.rev.Load()%2][n]
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.Write(page) //nolint:errcheck // the client sees a short body
	l.served.Add(benchPage)
}

// download reads every page and throws it away: the limit on the way in.
func (l *library) download(b *testing.B, url string) float64 {
	buffer := make([]byte, 256<<10)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, ReadBufferSize: 32 << 10}}
	defer client.CloseIdleConnections()
	return rate(b, func() int64 {
		for n := range l.pages[0] {
			resp, err := client.Get(url + "/people?token=" + strconv.Itoa(n))
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = resp.Body.Read(buffer)
			}
			resp.Body.Close()
			if !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
		}
		return benchRecords
	})
}

// rate is how many a second f does, over about two seconds.
func rate(_ *testing.B, f func() int64) float64 {
	began, n := time.Now(), int64(0)
	for time.Since(began) < 2*time.Second {
		n += f()
	}
	return float64(n) / time.Since(began).Seconds()
}

// produce sends the very records that the path published, the limit on the way out.
func produce(b *testing.B, o kafka.Options, cluster *embedded.Cluster, topic string) float64 {
	if err := cluster.Kafka().CreateTopic("limit", 6, nil); err != nil {
		b.Fatal(err)
	}
	var records []kgo.Record
	err := kafka.Read(b.Context(), o, kafka.Query{Topics: []string{topic}}, func(r kafka.Record) error {
		if len(records) == benchRecords {
			return io.EOF
		}
		out := kgo.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		records = append(records, out)
		return nil
	})
	if !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers()...), kgo.DefaultProduceTopic("limit"),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	return rate(b, func() int64 {
		for i := range records {
			r := records[i] // the client writes into what it is given
			client.Produce(context.Background(), &r, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
		if err := client.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		return benchRecords
	})
}

// BenchmarkPath measures the whole path beside its limits, in one run, and reports the ratios (DESIGN §12).
func BenchmarkPath(b *testing.B) {
	l := newLibrary(b)
	server := httptest.NewServer(l)
	defer server.Close()
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	c := benchConnection(b, cluster, server.URL)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, nil) }()
	status := func() capture.Status {
		for {
			st := c.Status(ctx)
			if len(st.Partitions) > 0 {
				return st
			}
			if st.Phase.Name == "halted" {
				b.Fatal(st.Phase.Error)
			}
			select {
			case err := <-done:
				b.Fatal("the connection ended: ", err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	passRate(b, status) // the first pass publishes, the second learns the raw bytes
	unchanged := passRate(b, status)
	l.lively.Store(true)
	changed := passRate(b, status)
	stop() // the limits are measured on a machine that does nothing else
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	down := l.download(b, server.URL)
	out := produce(b, kafka.Options{Brokers: cluster.Brokers(), Name: "bench"}, cluster, "bench.bench.people")
	b.ReportMetric(unchanged, "unchanged/s")
	b.ReportMetric(changed, "changed/s")
	b.ReportMetric(down, "download/s")
	b.ReportMetric(out, "produce/s")
	b.ReportMetric(unchanged/down, "unchanged÷download")
	b.ReportMetric(changed/min(down, out), "changed÷limit")
}

// passRate is how many records a second the passes of some seconds read, by the time that they took.
func passRate(b *testing.B, status func() capture.Status) float64 {
	first := status().Partitions[0].Passes
	var took time.Duration
	for n := 0; n < 4; {
		<-time.After(5 * time.Millisecond)
		p := status().Partitions[0]
		if p.LastError+p.Halted != "" {
			b.Fatal(p.LastError, p.Halted)
		}
		if p.Passes > first {
			if n++; n > 1 { // the first one may have begun before
				took += p.PassTook
			}
			first = p.Passes
		}
	}
	return 3 * benchRecords / took.Seconds()
}

func benchConnection(b *testing.B, cluster *embedded.Cluster, url string) *capture.Connection {
	definition, err := source.Parse("bench.yaml", []byte(benchDefinition))
	if err != nil {
		b.Fatal(err)
	}
	bound, err := definition.Bind("bench", map[string]any{"url": url}, source.Overrides{})
	if err != nil {
		b.Fatal(err)
	}
	registry, err := codec.NewRegistry(cluster.RegistryURL(), codec.RegistryOptions{})
	if err != nil {
		b.Fatal(err)
	}
	o := kafka.Options{Brokers: cluster.Brokers(), Name: "bench"}
	if _, err := kafka.EnsureTopics(b.Context(), o, o.SystemTopics()); err != nil {
		b.Fatal(err)
	}
	c, err := capture.New(capture.Options{
		Source: bound, Kafka: o, Schema: schemas.Get, Registry: registry, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}
