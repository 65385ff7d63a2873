package capture_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/embedded"
	"tidemark/internal/fetch"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
	"tidemark/schemas"
)

// TestMain lets more tests run beside each other than there are cores: most of their time they wait for a back-off, or for
// the moment at which a partition is due.
func TestMain(m *testing.M) {
	flag.Parse()
	if job := os.Getenv(costJob); job != "" { // this is the process that TestCostOfReconciliation measures
		os.Exit(measured(job))
	}
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", "24"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for a condition; the machines are shared, by 24 tests of this package too.
const patience = 10 * time.Minute

// bed is a broker with a registry, and one deployment on it.
type bed struct {
	*testing.T
	cluster *embedded.Cluster
	wire    *wire
	kafka   kafka.Options
	alarms  *logbook
	expires bool // a cursor begins anew: it expires upstream (P17), or a new child needs what it has passed (P21)
}

// lay starts the broker. The test runs beside others.
func lay(t *testing.T, extra ...kfake.Opt) *bed {
	t.Helper()
	t.Parallel()
	cluster, err := embedded.Start(embedded.Options{Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &bed{T: t, cluster: cluster, wire: &wire{}, alarms: &logbook{}}
	b.kafka = kafka.Options{
		Brokers: cluster.Brokers(), Name: "test", Instance: "one", Shards: 2, Dial: b.wire.dial,
		Alarm: func(where, what string) { fmt.Fprintln(b.alarms, where+": "+what) },
	}
	b.system(b.kafka)
	return b
}

// system creates the deployment's own topics.
func (b *bed) system(o kafka.Options) {
	b.Helper()
	var err error
	b.until("the system's topics", func() bool { // the machines are shared
		_, err = kafka.EnsureTopics(b.Context(), o, o.SystemTopics())
		remedy, _ := cdc.Verdict(err)
		return err == nil || remedy == cdc.Halt
	}, func() any { return err })
	if err != nil {
		b.Fatal(err)
	}
}

// logbook keeps what is written to it.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// connector is one process with one connection.
type connector struct {
	*bed
	*capture.Connection
	log  *logbook
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, once done is closed
}

// settings are what a test gives a connection: its definition, and what differs from the usual.
type settings struct {
	definition string
	name       string // default: c
	config     map[string]any
	overrides  source.Overrides
	change     func(*capture.Options)
}

// options are the options of a connection.
func (b *bed) options(s settings) capture.Options {
	b.Helper()
	definition, err := source.Parse("test.yaml", []byte(s.definition))
	if err != nil {
		b.Fatal(err)
	}
	if s.name == "" {
		s.name = "c"
	}
	bound, err := definition.Bind(s.name, s.config, s.overrides)
	if err != nil {
		b.Fatal(err)
	}
	o := capture.Options{
		Source: bound, Kafka: b.kafka, Schema: schemas.Get, Config: "one",
		Fetch: fetch.Options{Attempts: 2, Backoff: time.Millisecond, BackoffMax: time.Millisecond},
	}
	if s.change != nil {
		s.change(&o)
	}
	return o
}

// start runs a connection until stop, or the end of the test.
func (b *bed) start(s settings) *connector {
	b.Helper()
	o := b.options(s)
	c := &connector{bed: b, log: &logbook{}, done: make(chan struct{})}
	o.Log = slog.New(slog.NewTextHandler(c.log, nil))
	o.Kafka.Log = o.Log
	var err error
	if c.Connection, err = capture.New(o); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() {
		defer close(c.done)
		c.err = c.Run(ctx, nil)
		c.Connection.Close()
	}()
	b.Cleanup(func() {
		stop()
		<-c.done
		if b.Failed() {
			b.Logf("log of the connection:\n%s", tail(c.log.String()))
		}
	})
	return c
}

func tail(s string) string {
	if len(s) > 8000 {
		return "…" + s[len(s)-8000:]
	}
	return s
}

// end stops the connection as SIGTERM does, and waits for it.
func (c *connector) end() {
	c.Helper()
	c.stop()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.Fatal("the connection did not end")
	}
	if c.err != nil {
		c.Fatalf("Run: %v", c.err)
	}
}

// look waits for a status from the loop, which may be busy with owning.
func (c *connector) look() capture.Status {
	c.Helper()
	return c.await("the loop", func(capture.Status) bool { return true })
}

// glance takes the status as it is: without the loop it holds the phase alone.
func (c *connector) glance() capture.Status { return c.Connection.Status(context.Background()) }

// await waits until the status is as wanted.
func (c *connector) await(what string, is func(capture.Status) bool) capture.Status {
	c.Helper()
	var st capture.Status
	c.until(what, func() bool {
		if st = c.glance(); len(st.Streams) > 0 && is(st) { // else its loop has not answered
			return true
		}
		select {
		case <-c.done:
			c.Fatalf("the connection ended (%v) while waiting for %s", c.err, what)
		default:
		}
		return false
	}, func() any { return st })
	return st
}

// until waits for a condition.
func (b *bed) until(what string, is func() bool, show ...func() any) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !is(); {
		select {
		case <-tick.C:
		case <-end:
			for _, f := range show {
				b.Logf("%+v", f())
			}
			b.Fatalf("waited for: %s", what)
		}
	}
}

// passes waits until every partition that is not halted has ended n more passes, the first of which began after now.
func (c *connector) passes(n int64) capture.Status {
	c.Helper()
	seen := map[string]int64{}
	st := c.await("the loop", func(s capture.Status) bool { return len(s.Partitions) > 0 })
	for _, p := range st.Partitions {
		seen[p.Stream+p.Name] = p.Passes
	}
	return c.await(fmt.Sprintf("%d passes more than %v", n, seen), func(s capture.Status) bool {
		for _, p := range s.Partitions {
			if p.Halted == "" && p.Passes < seen[p.Stream+p.Name]+n+1 {
				return false
			}
		}
		return len(s.Partitions) > 0
	})
}

// halted waits until the stream is halted, and checks what it says.
func (c *connector) halted(parts ...string) {
	c.Helper()
	st := c.await("a halt", func(s capture.Status) bool {
		return slices.ContainsFunc(s.Streams, func(s capture.StreamStatus) bool { return s.Halted != "" })
	})
	for _, s := range st.Streams {
		if s.Halted != "" {
			c.says(s.Halted+" "+s.Hint, parts...)
		}
	}
}

// says fails unless text holds every part.
func (b *bed) says(text string, parts ...string) {
	b.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			b.Errorf("%q does not say %q", text, p)
		}
	}
}

// counts are the stream's counters.
func counts(s capture.Status) capture.Counts { return s.Streams[0].Counts }

// read gives the committed records of a topic.
func (b *bed) read(topic string) []kafka.Record {
	b.Helper()
	o := b.kafka
	o.Dial = nil
	var all []kafka.Record
	var err error
	b.until("an answer of the broker", func() bool { // a loaded machine may owe it for a while
		all = nil
		err = kafka.Read(b.Context(), o, kafka.Query{Topics: []string{topic}}, func(r kafka.Record) error {
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			for i := range r.Headers {
				r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
			}
			all = append(all, r)
			return nil
		})
		remedy, _ := cdc.Verdict(err)
		return err == nil || remedy != cdc.Retry
	}, func() any { return err })
	if err != nil {
		b.Fatalf("read %s: %v", topic, err)
	}
	return all
}

func header(r kafka.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// events are the events of a stream as the judge wants them.
func (b *bed) events(stream string) []judge.Event {
	b.Helper()
	var all []judge.Event
	for _, r := range b.read("test.c." + stream) {
		all = append(all, judge.Event{
			Key: string(r.Key), Op: header(r, "ce_op"), Value: r.Value, Partition: r.Partition, Offset: r.Offset,
			Cursor: header(r, "ce_cursor"), ID: header(r, "ce_id"), Reason: header(r, "ce_reason"),
		})
	}
	return all
}

// lines are events as short texts: key, operation, value.
func (b *bed) lines(stream string) []string {
	b.Helper()
	var all []string
	for _, e := range b.events(stream) {
		all = append(all, fmt.Sprintf("%s %s %s", e.Key, e.Op, e.Value))
	}
	return all
}

// state is the last value of each key of the offsets topic.
func (b *bed) state() map[string]string {
	b.Helper()
	last := map[string]string{}
	for _, r := range b.read("test.offsets") {
		if r.Value == nil {
			delete(last, string(r.Key))
		} else {
			last[string(r.Key)] = string(r.Value)
		}
	}
	return last
}

// checkpoint is the committed checkpoint of a stream without partitions.
func (b *bed) checkpoint(stream string) cdc.Checkpoint {
	b.Helper()
	var cp cdc.Checkpoint
	if text := b.state()["cursor/c/"+stream+"/-"]; text != "" {
		var err error
		if cp, err = offsets.Decode[cdc.Checkpoint]([]byte(text)); err != nil {
			b.Fatal(err)
		}
	}
	return cp
}

// past gives every value that a key of the offsets topic had; "" for a tombstone.
func (b *bed) past(key string) []string {
	b.Helper()
	var all []string
	for _, r := range b.read("test.offsets") {
		if string(r.Key) == key {
			all = append(all, string(r.Value))
		}
	}
	return all
}

// transaction is one committed transaction: its records by topic and key; "" is a tombstone.
type transaction struct {
	at      int64 // where it stands in the offsets topic
	records []*kgo.Record
}

// of returns the keys of the transaction's records of a topic that begin so.
func (t transaction) of(topic, prefix string) []string {
	var keys []string
	for _, r := range t.records {
		if r.Topic == topic && strings.HasPrefix(string(r.Key), prefix) {
			keys = append(keys, string(r.Key))
		}
	}
	return keys
}

// transactions reads everything with its markers, and puts the committed transactions together again. With
// transaction.version 2 each has an epoch of its own.
func (b *bed) transactions() []transaction {
	b.Helper()
	type id struct {
		producer int64
		epoch    int16
	}
	all, ended := map[id]*transaction{}, map[id]bool{}
	open := map[string]map[id]bool{}
	b.raw(func(r *kgo.Record) {
		place := fmt.Sprint(r.Topic, "/", r.Partition)
		if !r.Attrs.IsControl() {
			k := id{r.ProducerID, r.ProducerEpoch}
			if all[k] == nil {
				all[k] = &transaction{at: -1}
			}
			all[k].records = append(all[k].records, r)
			if r.Topic == "test.offsets" && all[k].at < 0 {
				all[k].at = r.Offset
			}
			if open[place] == nil {
				open[place] = map[id]bool{}
			}
			open[place][k] = true
			return
		}
		commit := binary.BigEndian.Uint16(r.Key[2:]) == 1
		for k := range open[place] {
			if k.producer == r.ProducerID {
				if before, seen := ended[k]; seen && before != commit {
					b.Errorf("transaction %v committed in one partition and aborted in another", k)
				}
				ended[k] = commit
				delete(open[place], k)
			}
		}
	})
	var out []transaction
	for k, t := range all {
		if ended[k] {
			out = append(out, *t)
		}
	}
	slices.SortFunc(out, func(x, y transaction) int { return int(x.at - y.at) })
	return out
}

// raw gives every record of every topic, uncommitted ones and markers too.
func (b *bed) raw(yield func(*kgo.Record)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := b.admin()
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		b.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics.Names()...)
	if err != nil {
		b.Fatal(err)
	}
	left := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[fmt.Sprint(o.Topic, "/", o.Partition)] = o.Offset
		}
	})
	client := b.client(kgo.ConsumeTopics(topics.Names()...), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	for len(left) > 0 && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) {
			place := fmt.Sprint(r.Topic, "/", r.Partition)
			yield(r)
			if r.Offset+1 >= left[place] {
				delete(left, place)
			}
		})
	}
	if ctx.Err() != nil {
		b.Fatalf("the topics were not read to their ends: %v", left)
	}
}

// client is somebody else's client.
func (b *bed) client(opts ...kgo.Opt) *kgo.Client {
	b.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.cluster.Brokers()...)}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client
}

// forge writes a record into the offsets topic, as if the connection had.
func (b *bed) forge(key string, value []byte) {
	b.Helper()
	r := &kgo.Record{Topic: "test.offsets", Partition: b.kafka.ShardOf("c"), Key: []byte(key), Value: value}
	if err := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(b.Context(), r).FirstErr(); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) admin() *kadm.Client { return kadm.NewClient(b.client()) }

// audit looks at every transaction and at what the topics hold in the end: (1), K16, K19, (5), P3. It is for streams of JSON.
// rehashed says that hashes may change without an event (P23, --adopt).
func (b *bed) audit(s *source.Source, rehashed bool) {
	b.Helper()
	live := map[string]map[string]offsets.Hash{}
	for _, t := range b.transactions() {
		if tokens := t.of("test.offsets", "token/"); len(tokens) > 0 && len(t.records) != 1 {
			b.Errorf("K19: a token shares its transaction with %d records", len(t.records)-1)
		}
		parked := 0
		for _, r := range t.records {
			if r.Topic == "test.offsets" && strings.HasPrefix(string(r.Key), "parked/c/") && r.Value != nil {
				parked++
			}
		}
		if letters := t.of("test.dead-letters", ""); len(letters) != parked {
			b.Errorf("P19: %d dead letters and %d parked records in one transaction", len(letters), parked)
		}
		for _, st := range s.Streams {
			if live[st.Name] == nil {
				live[st.Name] = map[string]offsets.Hash{}
			}
			b.auditStream(t, st, live[st.Name], rehashed)
		}
	}
	for _, st := range s.Streams {
		b.auditEnd(st, live[st.Name])
	}
}

// auditStream looks at what one transaction says of one stream.
func (b *bed) auditStream(t transaction, st *source.Stream, live map[string]offsets.Hash, rehashed bool) {
	b.Helper()
	prefix := "c/" + st.Name + "/"
	var events, hashes []string
	for _, r := range t.records {
		switch {
		case r.Topic == "test.c."+st.Name:
			events = append(events, string(r.Key))
		case r.Topic == "test.hashes" && strings.HasPrefix(string(r.Key), prefix):
			key := strings.TrimPrefix(string(r.Key), prefix)
			hashes = append(hashes, key)
			if delete(live, key); r.Value != nil {
				h, err := offsets.ParseHash(r.Value)
				if err != nil {
					b.Fatal(err)
				}
				live[key] = h
			}
		}
	}
	slices.Sort(events)
	slices.Sort(hashes)
	if !rehashed && !slices.Equal(slices.Compact(events), slices.Compact(hashes)) {
		b.Errorf("(1): the events of one transaction are %q and its hashes %q", events, hashes)
	}
	if len(hashes) == 0 {
		return
	}
	n := int64(0)
	for _, h := range live {
		if h.Flags&offsets.HashGrave == 0 {
			n++
		}
	}
	for _, r := range t.records {
		if r.Topic == "test.offsets" && string(r.Key) == "stream/c/"+st.Name {
			promised, err := offsets.Decode[offsets.Stream](r.Value)
			if err != nil || promised.Count != n {
				b.Errorf("K16: the stream record promises %d keys, there are %d (%v)", promised.Count, n, err)
			}
			return
		}
	}
	b.Errorf("K16: a transaction changes hashes of %s without its stream record", st.Name)
}

// auditEnd compares hashes with events, and looks at the checkpoints' order.
func (b *bed) auditEnd(st *source.Stream, hashes map[string]offsets.Hash) {
	b.Helper()
	if text := b.state()["stream/c/"+st.Name]; text != "" {
		s, err := offsets.Decode[offsets.Stream]([]byte(text))
		if err != nil {
			b.Fatal(err)
		}
		found, err := judge.Hashes(st.Rules, uint64(s.Seed), b.events(st.Name), hashes)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range found {
			b.Errorf("(5): %s", f)
		}
	}
	var checkpoints []cdc.Checkpoint
	for _, text := range b.past("cursor/c/" + st.Name + "/-") {
		cp, err := offsets.Decode[cdc.Checkpoint]([]byte(text))
		if err != nil {
			b.Fatal(err)
		}
		checkpoints = append(checkpoints, cp)
	}
	for _, some := range b.stretches(checkpoints) {
		for _, f := range judge.Cursors(some) {
			b.Errorf("P3: %s", f)
		}
	}
}

// stretches cuts checkpoints where the cursor begins anew, in tests that have it do so.
func (b *bed) stretches(all []cdc.Checkpoint) [][]cdc.Checkpoint {
	if !b.expires {
		return [][]cdc.Checkpoint{all}
	}
	var out [][]cdc.Checkpoint
	begin := 0
	for i := 1; i < len(all); i++ {
		if all[i].Cursor == "" && all[i].Sequence == all[i-1].Sequence+1 {
			out, begin = append(out, all[begin:i]), i
		}
	}
	return append(out, all[begin:])
}

// team is a simulated SalesLoft with its server.
type team struct {
	*simulator.SalesLoft
	url string
}

func (b *bed) team(o simulator.Options, wrap ...func(http.Handler) http.Handler) *team {
	b.Helper()
	if o.RateBudget == 0 {
		o.RateBudget = -1
	}
	s := simulator.New(o)
	h := s.Handler()
	for _, w := range wrap {
		h = w(h)
	}
	return &team{s, b.serve(h)}
}

func (b *bed) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	b.Cleanup(server.Close)
	return server.URL
}

// config is the connection's, for the definition people.
func (t *team) config() map[string]any {
	return map[string]any{"url": t.url + "/v2", "token": simulator.APIKey}
}

// people is the shipped stream of that name with a bearer token, polled more often.
const people = `
source: team
config: {url: {}, token: {secret: true}}
base_url: "{{ config.url }}"
authenticator: {type: bearer, token: "{{ config.token }}"}
streams:
  people:
    path: /people
    query:
      sort_by: updated_at
      sort_direction: ASC
      updated_at[gte]: "{{ anchor ?? start }}"
      per_page: 100
      page: "{{ tie_page }}"
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: metadata.paging.per_page}
    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, inclusive: true, order: asc, lookback: 5m}
    hash: {exclude: [updated_at, counts]}
    interval: 200ms
    reconcile: {every: 24h, lookup: {path: "/people/{{ key.id }}"}}
`

// trial is the truth of the team's people beside what was published.
func (b *bed) trial(t *team, o judge.Options) judge.Verdict {
	b.Helper()
	return b.try(t, b.events("people"), o)
}

func (b *bed) try(t *team, events []judge.Event, o judge.Options) judge.Verdict {
	b.Helper()
	var history []judge.State
	for s := range t.History("people") {
		history = append(history, judge.State{Key: s.Key, At: s.At, Value: s.Value, Optional: s.Spoil != simulator.Sound})
	}
	v, err := judge.Judge(record.Rules{Algorithm: 1, Exclude: []string{"counts", "updated_at"}}, history, events, o)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// clean fails unless the topic equals the truth.
func (b *bed) clean(t *team) {
	b.Helper()
	if v := b.trial(t, judge.Options{AtRest: true, Ops: true}); !v.Clean() {
		b.Errorf("%v\n%s", v, strings.Join(v.Examples, "\n"))
	}
}

// shelf is an API that lists what stands on it: GET /things lists everything, with ?since= from there on in order of "at";
// GET /things/ID is one.
type shelf struct {
	mu    sync.Mutex
	rows  []map[string]any
	asked int
	spoil func(w http.ResponseWriter, r *http.Request, n int) bool // answers itself and says true
}

// put sets a row, by its id.
func (s *shelf) put(rows ...map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		i := slices.IndexFunc(s.rows, func(r map[string]any) bool { return r["id"] == row["id"] })
		if i < 0 {
			s.rows = append(s.rows, row)
		} else {
			s.rows[i] = row
		}
	}
}

// drop takes rows away, all of them between two answers.
func (s *shelf) drop(ids ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = slices.DeleteFunc(s.rows, func(r map[string]any) bool { return slices.Contains(ids, r["id"]) })
}

// locked reads or writes what answers are made of.
func (s *shelf) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shelf) break_(f func(w http.ResponseWriter, r *http.Request, n int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = f
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.spoil != nil && s.spoil(w, r, s.asked) {
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/things/"); ok {
		for _, row := range s.rows {
			if fmt.Sprint(row["id"]) == id {
				answer(w, http.StatusOK, map[string]any{"data": row})
				return
			}
		}
		answer(w, http.StatusNotFound, map[string]any{"error": "no such thing"})
		return
	}
	rows := []map[string]any{}
	since := r.URL.Query().Get("since")
	for _, row := range s.rows {
		if at, _ := row["at"].(string); at >= since {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]any) int {
		x, _ := a["at"].(string)
		y, _ := b["at"].(string)
		return strings.Compare(x, y)
	})
	answer(w, http.StatusOK, map[string]any{"data": rows, "size": 100})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client sees a short body
}

// things is the shelf as a snapshot; more lines may follow, at the stream's indent.
const things = `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: /things
    records: data
    primary_key: id
    interval: 200ms
`

// feed is the shelf by its order.
const feed = `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: /things
    query: {since: "{{ anchor ?? start }}"}
    records: data
    primary_key: id
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: at, format: rfc3339, granularity: 1s, order: asc, lookback: 5m}
    interval: 200ms
`

func (b *bed) shelf(rows ...map[string]any) (*shelf, map[string]any) {
	s := &shelf{}
	s.put(rows...)
	return s, map[string]any{"url": b.serve(s)}
}

func row(id any, pairs ...any) map[string]any {
	r := map[string]any{"id": id}
	for i := 0; i < len(pairs); i += 2 {
		r[pairs[i].(string)] = pairs[i+1]
	}
	return r
}

// wire is the cable to the broker, on which requests and answers get lost.
type wire struct {
	mu     sync.Mutex
	cut    bool
	conns  map[*wired]bool
	struck int
	plan   func(api kmsg.Key, request []byte) strike // nil: nothing happens
}

// strike says what happens to a request.
type strike struct {
	lose string        // "request" or "answer"; the connection breaks
	hold chan struct{} // not nil: the request waits for its end
}

// wired is one connection of the cable.
type wired struct {
	net.Conn
	wire *wire
	mute bool // guarded by wire.mu: the next answer is lost
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: the cable is cut", address)}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &wired{Conn: conn, wire: w}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = map[*wired]bool{}
	}
	w.conns[c] = true
	return c, nil
}

// sever breaks every connection and lets no new one come about, until it is mended.
func (w *wire) sever(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		for c := range w.conns {
			c.Conn.Close()
		}
	}
}

// strikes sets what happens to requests; struck counts those that something happened to.
func (w *wire) strikes(plan func(api kmsg.Key, request []byte) strike) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan, w.struck = plan, 0
}

func (w *wire) hits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.struck
}

// Write implements net.Conn. kgo writes a request at once, so its API stands behind the four bytes of its length.
func (c *wired) Write(p []byte) (int, error) {
	var s strike
	c.wire.mu.Lock()
	if c.wire.plan != nil && len(p) > 6 {
		if s = c.wire.plan(kmsg.Key(binary.BigEndian.Uint16(p[4:])), p); s.lose != "" || s.hold != nil {
			c.wire.struck++
		}
		c.mute = c.mute || s.lose == "answer"
	}
	c.wire.mu.Unlock()
	if s.hold != nil {
		<-s.hold
	}
	if s.lose == "request" {
		c.Conn.Close()
		return len(p), nil // it was given to the kernel, and never arrived
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *wired) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.mu.Lock()
	mute := c.mute
	c.wire.mu.Unlock()
	if mute {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// nth lets what happen to the n-th request of an API from now on.
func nth(api kmsg.Key, what strike, numbers ...int) func(kmsg.Key, []byte) strike {
	seen := 0
	return func(k kmsg.Key, _ []byte) strike {
		if k != api {
			return strike{}
		}
		if seen++; slices.Contains(numbers, seen) {
			return what
		}
		return strike{}
	}
}

func isTombstone(r kafka.Record) bool { return r.Value == nil }

// avro makes the stream people one of Avro, with the embedded registry.
func avro(b *bed, s settings) settings {
	b.Helper()
	registry, err := codec.NewRegistry(b.cluster.RegistryURL(), codec.RegistryOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(registry.Close)
	before := s.change
	s.definition = strings.Replace(s.definition, "    primary_key: id\n", "    primary_key: id\n    schema: salesloft/person\n", 1)
	s.change = func(o *capture.Options) {
		if before != nil {
			before(o)
		}
		o.Registry = registry
	}
	return s
}

// lost loses the n-th transactions' EndTxn with all its repetitions, until the connection is owned anew.
func lost(what string, numbers ...int) func(kmsg.Key, []byte) strike {
	seen, losing := 0, false
	return func(k kmsg.Key, _ []byte) strike {
		switch {
		case k == kmsg.InitProducerID:
			losing = false
		case k == kmsg.EndTxn && losing:
			return strike{lose: what}
		case k == kmsg.EndTxn:
			if seen++; slices.Contains(numbers, seen) {
				losing = true
				return strike{lose: what}
			}
		}
		return strike{}
	}
}
