//go:build unix

package capture_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/capture"
	"tidemark/internal/embedded"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

var (
	costKeys  = flag.Int("cost.keys", 50_000, "keys of the stream whose reconciliation is measured")
	costPage  = flag.Int("cost.page", 1000, "records of a page of it")
	costTurns = flag.Int("cost.turns", 2, "how many passes of either kind are measured")
)

const (
	costHidden = 1000     // keys that the last listing does not show
	costMemory = 64 << 20 // what one reconciliation may need above the table
	costJob    = "CAPTURE_COST_JOB"
)

// costDefinition reads the archive in two ways. Every ordinary pass asks for everything again, since its lookback covers
// everything; a listing is a reconciliation's. They read the same pages.
const costDefinition = `
source: archive
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  records:
    path: /records
    query: {since: "{{ anchor ?? start }}"}
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: updated, format: unix, granularity: 1s, order: asc, lookback: 100000h}
    interval: 100ms
    reconcile: {every: 100000h}
`

// archive lists records of about 110 bytes, each with a second of its own, from a second on. An ordinary pass begins only when it
// is let: what is measured has the process to itself.
type archive struct {
	keys, page int

	mu     sync.Mutex
	let    int // ordinary passes that may begin
	hidden int // records that are not shown, evenly spread
	served int // records
}

// costEpoch is the second of the first record; an ordinary pass begins before it.
const costEpoch = 1_600_000_000

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/let":
		a.let++
		return
	case "/hide":
		a.hidden = costHidden
		return
	case "/served":
		fmt.Fprint(w, a.served)
		return
	}
	first := 0
	if text := r.URL.Query().Get("since"); text != "" {
		since, _ := strconv.Atoi(text)
		if first = since - costEpoch; first < 0 {
			if a.let == 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			a.let--
			first = 0
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.body(first)) // the client sees a short one
}

func (a *archive) body(first int) []byte {
	b := append(make([]byte, 0, 128*a.page), `{"size":`...)
	b = append(strconv.AppendInt(b, int64(a.page), 10), `,"data":[`...)
	step := a.keys / costHidden
	for i, n := first, 0; i < a.keys && n < a.page; i++ {
		if a.hidden > 0 && i%step == step/2 {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		a.served++
		b = strconv.AppendInt(append(b, `{"id":`...), int64(100_000_000+i), 10)
		b = strconv.AppendInt(append(b, `,"updated":`...), int64(costEpoch+i), 10)
		b = append(b, `,"name":"somebody","email":"somebody@example.org","plan":"standard","active":true}`...)
	}
	return append(b, `]}`...)
}

// TestCostOfReconciliation measures what a reconciliation of an unchanged stream costs beside an ordinary pass over the same
// pages, by turns and in one run, in a process that does nothing else: broker and API are the test's. Of time it asserts nothing;
// of memory, that a reconciliation stays below 64 MiB above the table; and that the keys which it did not show are found, all and
// no others. `make cost` gives the figures of a large table.
func TestCostOfReconciliation(t *testing.T) {
	t.Parallel()
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	server := httptest.NewServer(&archive{keys: *costKeys, page: *costPage})
	defer server.Close()
	job, err := json.Marshal(costing{URL: server.URL, Brokers: cluster.Brokers(), Turns: *costTurns})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env, c.Stderr = append(os.Environ(), costJob+"="+string(job)), &said
	out, err := c.Output()
	var found costs
	if err != nil || json.Unmarshal(out, &found) != nil {
		t.Fatalf("%v\n%s\n%s", err, out, tail(said.String()))
	}
	t.Logf("%d keys, %d a page; the table has %d MiB", *costKeys, *costPage, found.Table>>20)
	for i := range found.Ordinary {
		a, b := found.Ordinary[i], found.Listing[i]
		t.Logf("CPU per record: ordinary %.0f ns, reconciliation %.0f ns; above the table at most %.1f and %.1f MiB (as the system counts %.1f and %.1f)",
			a.perRecord(), b.perRecord(), mib(a.Memory), mib(b.Memory), mib(a.Resident), mib(b.Resident))
		if b.Memory > costMemory {
			t.Errorf("a reconciliation needed %.1f MiB above the table", mib(b.Memory))
		}
		if a.Records < *costKeys || b.Records < *costKeys {
			t.Errorf("%d and %d records were read of %d", a.Records, b.Records, *costKeys)
		}
	}
	all, least := found.ratios()
	t.Logf("reconciliation ÷ ordinary: %.3f of all, %.3f of the cheapest; %d missing keys were found in %v", all, least, found.Missing, found.Took)
	if found.Missing != costHidden || found.Candidates != costHidden {
		t.Errorf("%d keys are missing and %d are candidates, of %d", found.Missing, found.Candidates, costHidden)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// costing is what the measured process is to do.
type costing struct {
	URL     string
	Brokers []string
	Turns   int
}

// costs is what it found.
type costs struct {
	Ordinary, Listing []cost
	Table             int64 // bytes
	Missing           int64
	Candidates        int
	Took              time.Duration // to find the missing
}

// ratios are those of the listings to the ordinary passes: of all together, and of the cheapest ones, since who else uses the
// machine makes both dearer.
func (c costs) ratios() (all, least float64) {
	sum := func(of []cost) (all, least float64) {
		for _, one := range of {
			all += one.perRecord()
		}
		return all, slices.MinFunc(of, func(a, b cost) int { return cmp.Compare(a.perRecord(), b.perRecord()) }).perRecord()
	}
	listings, cheapest := sum(c.Listing)
	passes, cheap := sum(c.Ordinary)
	return listings / passes, cheapest / cheap
}

// cost is that of one pass.
type cost struct {
	Records  int
	CPU      time.Duration
	Memory   int64 // at most, of the Go runtime: all but the table, which is mapped
	Resident int64 // at most, of the process as the system counts it, less the table; 0 where it does not say
}

func (c cost) perRecord() float64 { return float64(c.CPU) / float64(c.Records) }

// measured is the measured process.
func measured(job string) int {
	found, err := measureCosts(job)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func measureCosts(text string) (costs, error) {
	var job costing
	var found costs
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return found, err
	}
	m, err := newMeter(job)
	if err != nil {
		return found, err
	}
	if _, err := m.await("the first pass", func(p capture.PartitionStatus) bool { return p.Passes == 1 }); err != nil {
		return found, err
	}
	for range job.Turns {
		for _, kind := range []struct {
			costs *[]cost
			run   func() error
		}{{&found.Ordinary, m.ordinary}, {&found.Listing, m.listing}} {
			c, err := m.measure(kind.run)
			if err != nil {
				return found, err
			}
			*kind.costs = append(*kind.costs, c)
		}
	}
	if _, err := m.get("/hide"); err != nil {
		return found, err
	}
	if err := m.listing(); err != nil {
		return found, err
	}
	st := m.connection.Status(context.Background())
	found.Candidates, found.Table = st.Streams[0].Candidates, st.Memory
	m.stop()
	if err := <-m.done; err != nil {
		return found, err
	}
	found.Missing, found.Took = m.connection.Unseen()
	return found, nil
}

// meter is a connection whose passes are measured.
type meter struct {
	costing
	connection *capture.Connection
	stop       context.CancelFunc
	done       chan error
	orders     int
}

func newMeter(job costing) (*meter, error) {
	definition, err := source.Parse("archive.yaml", []byte(costDefinition))
	if err != nil {
		return nil, err
	}
	bound, err := definition.Bind("c", map[string]any{"url": job.URL}, source.Overrides{})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &meter{costing: job, stop: stop, done: make(chan error, 1)}
	o := kafka.Options{Brokers: job.Brokers, Name: "cost"}
	if _, err := kafka.EnsureTopics(ctx, o, o.SystemTopics()); err != nil {
		return nil, err
	}
	m.connection, err = capture.New(capture.Options{
		Source: bound, Kafka: o, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Fetch: fetch.Options{Attempts: 1},
	})
	if err != nil {
		return nil, err
	}
	go func() { m.done <- m.connection.Run(ctx, nil) }()
	return m, nil
}

// await looks at the connection's partition now and then, seldom enough for that to cost nothing.
func (m *meter) await(what string, is func(capture.PartitionStatus) bool) (capture.PartitionStatus, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Hour); ; {
		select {
		case <-tick.C:
			if st := m.connection.Status(context.Background()); len(st.Partitions) > 0 && is(st.Partitions[0]) {
				return st.Partitions[0], nil
			}
		case err := <-m.done:
			return capture.PartitionStatus{}, fmt.Errorf("the connection ended: %w", err)
		case <-end:
			return capture.PartitionStatus{}, errors.New("waited for " + what)
		}
	}
}

func (m *meter) get(path string) (n int, err error) {
	resp, err := http.Get(m.URL + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = fmt.Fscan(resp.Body, &n) // 0 where it says nothing
	return n, nil
}

// ordinary lets one ordinary pass begin, and waits for its end.
func (m *meter) ordinary() error {
	before, err := m.await("a status", func(capture.PartitionStatus) bool { return true })
	if err != nil {
		return err
	}
	if _, err := m.get("/let"); err != nil {
		return err
	}
	_, err = m.await("an ordinary pass", func(p capture.PartitionStatus) bool { return p.LastPass.After(before.LastPass) && !p.Reading })
	return err
}

// listing orders a listing, and waits for its end.
func (m *meter) listing() error {
	before, err := m.await("a status", func(capture.PartitionStatus) bool { return true })
	if err != nil {
		return err
	}
	m.orders++
	now := time.Now().UTC()
	m.connection.Order(strconv.Itoa(m.orders), offsets.Command{
		Do: offsets.List, Connection: "c", Stream: "records", Author: "me", At: now, Expires: now.Add(time.Hour),
	})
	_, err = m.await("a listing", func(p capture.PartitionStatus) bool { return p.Listing.Complete.After(before.Listing.Complete) })
	return err
}

// measure says what a pass costs.
func (m *meter) measure(pass func() error) (c cost, err error) {
	before, err := m.get("/served")
	if err != nil {
		return c, err
	}
	debug.FreeOSMemory() // what is left of something else is not of this pass
	forgetPeak()
	stop, peak := make(chan struct{}), make(chan int64)
	go watchMemory(stop, peak)
	began := spent()
	err = pass()
	c.CPU = spent() - began
	close(stop)
	c.Memory = <-peak
	if err != nil {
		return c, err
	}
	if resident := residentPeak(); resident > 0 {
		c.Resident = resident - m.connection.Status(context.Background()).Memory
	}
	after, err := m.get("/served")
	c.Records = after - before
	return c, err
}

// spent is the time that this process has had of the processors.
func spent() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchMemory sends, in the end, the most that the Go runtime had of the system.
func watchMemory(stop <-chan struct{}, peak chan<- int64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	most := int64(0)
	for {
		metrics.Read(samples)
		most = max(most, int64(samples[0].Value.Uint64()-samples[1].Value.Uint64()))
		select {
		case <-tick.C:
		case <-stop:
			peak <- most
			return
		}
	}
}

// forgetPeak lets Linux begin anew to note the largest size of this process, and residentPeak reads it.
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func residentPeak() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib) // 0 on other systems
	return kib << 10
}
