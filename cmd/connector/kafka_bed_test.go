//go:build kafka

package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/simulator"
)

// These tests drive the built program as its user does, on a real Kafka: the brokers of KAFKA_BROKERS, or one that
// deploy/kafka/kafka starts for the test. CONNECTOR is the program to test; without it the test builds it. What they need
// beside Go lies under .cache, where `deploy/test-kafka prepare` puts it.

const (
	root       = "../.."
	script     = root + "/deploy/kafka/kafka"
	consumerPy = root + "/deploy/judge/consumer.py"
	patient    = 4 * time.Minute // for what takes seconds on a quiet machine
)

// bed is what a test of the whole program stands on.
type bed struct {
	*testing.T
	dir     string // of this test: files, logs
	binary  string
	name    string // DEPLOYMENT, the test's own, so that tests can share a cluster
	brokers string
	seal    string // SECRET_KEY
}

// newBed finds or starts a Kafka.
func newBed(t *testing.T) *bed {
	t.Helper()
	b := bareBed(t)
	if b.brokers = os.Getenv("KAFKA_BROKERS"); b.brokers == "" {
		b.brokers = b.startKafka(filepath.Join(b.dir, "kafka"), freePort(t))
	}
	return b
}

// bareBed has no Kafka yet.
func bareBed(t *testing.T) *bed {
	t.Helper()
	var key [32]byte
	rand.Read(key[:])
	b := &bed{T: t, dir: t.TempDir(), seal: base64.StdEncoding.EncodeToString(key[:])}
	b.name = "t" + strings.ToLower(rand.Text()[:10])
	if b.binary = os.Getenv("CONNECTOR"); b.binary == "" {
		b.binary = filepath.Join(b.dir, "connector")
		out, err := exec.Command("go", "build", "-o", b.binary, ".").CombinedOutput()
		if err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	return b
}

// startKafka starts one node in dir, and stops it with the test.
func (b *bed) startKafka(dir string, port int, settings ...string) string {
	b.Helper()
	b.Cleanup(func() { b.kafka(dir, "stop") })
	return strings.TrimSpace(b.kafkaWith(settings, dir, "start", "1", fmt.Sprint(port)))
}

// kafka runs a command of deploy/kafka/kafka.
func (b *bed) kafka(dir, command string, args ...string) {
	b.Helper()
	b.kafkaWith(nil, dir, command, args...)
}

func (b *bed) kafkaWith(settings []string, dir, command string, args ...string) string {
	b.Helper()
	c := exec.Command(script, append([]string{command, dir}, args...)...)
	c.Env = append(os.Environ(), "KAFKA_SETTINGS="+strings.Join(settings, "\n"))
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		b.Fatalf("kafka %s %s: %v\n%s", command, dir, err, &said)
	}
	return string(out)
}

// freePort returns a port that is free together with the one that its controller takes, 101 above.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close() // who binds it next will tell
		if c, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+101)); err == nil {
			_ = c.Close() // as above
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// process is a program that a test started.
type process struct {
	bed     *bed
	name    string
	cmd     *exec.Cmd
	done    chan struct{}
	log     string // the file that it writes to
	address string // of its status page, where it is a connector
}

// start runs a program with nothing of our environment but what it needs to be found.
func (b *bed) start(name string, env []string, command string, args ...string) *process {
	b.Helper()
	log, err := os.CreateTemp(b.dir, name+"-*.log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	p := &process{bed: b, name: name, cmd: exec.Command(command, args...), done: make(chan struct{}), log: log.Name()}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = b.dir, log, log
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is asked of ProcessState
	}()
	b.Cleanup(func() {
		p.kill()
		if b.Failed() {
			b.Logf("the end of the log of %s:\n%s", name, p.tail(6000))
		}
	})
	return p
}

// connector starts `connector run` on the bed's Kafka. Its status page has a port of its own; env comes on top.
func (b *bed) connector(instance string, env ...string) *process {
	b.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(b.T))
	settings := []string{
		"DEPLOYMENT=" + b.name, "INSTANCE=" + instance, "KAFKA_BROKERS=" + b.brokers, "ADMIN_ADDRESS=" + address, "SECRET_KEY=" + b.seal, "FILES_DIR=" + b.dir,
		"LOG_FORMAT=json", "CONNECTIONS=" + filepath.Join(b.dir, "connections.yaml"),
	}
	p := b.start(instance, append(settings, env...), b.binary, "run")
	p.address = address
	return p
}

// kill ends it with SIGKILL, if it still runs.
func (p *process) kill() {
	if !p.ended() {
		_ = p.cmd.Process.Kill() // it may have ended meanwhile
	}
	<-p.done
}

// terminate asks it to end and returns how long that took. It must end well.
func (p *process) terminate() time.Duration {
	p.bed.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.bed.Fatalf("%s: SIGTERM: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patient):
		p.bed.Fatalf("%s did not end within %v of SIGTERM", p.name, patient)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.bed.Errorf("%s: exit code %d (%v) after SIGTERM", p.name, code, p.cmd.ProcessState)
	}
	return time.Since(began)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// text is everything that it wrote.
func (p *process) text() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		p.bed.Fatal(err)
	}
	return string(data)
}

func (p *process) tail(n int) string {
	s := p.text()
	return s[max(0, len(s)-n):]
}

// until waits for a condition, and fails with what it waited for. A process that must live meanwhile is given with it.
func (b *bed) until(what string, alive *process, condition func() bool) {
	b.Helper()
	deadline := time.After(patient)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if alive != nil && alive.ended() {
			b.Fatalf("waited for %s, but %s ended: %v", what, alive.name, alive.cmd.ProcessState)
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("waited %v for %s", patient, what)
		}
	}
}

// state is what /status.json says, as far as the tests want it.
type state struct {
	Connections []struct {
		Connection string `json:"connection"`
		Alarm      string `json:"alarm"`
		Phase      struct {
			Name, Error, Hint string
		} `json:"phase"`
		Streams []struct {
			Name   string `json:"name"`
			Halted string `json:"halted"`
		} `json:"streams"`
		Partitions []struct {
			Stream  string `json:"stream"`
			Name    string `json:"name"`
			Cursor  string `json:"cursor"`
			Anchor  string `json:"anchor"`
			Passes  int64  `json:"passes"`
			Reading bool   `json:"reading"`
			Halted  string `json:"halted"`
			State   string `json:"state"`
			Listing struct {
				Asking   int       `json:"asking"`
				Complete time.Time `json:"complete"`
			} `json:"listing"`
		} `json:"partitions"`
	} `json:"connections"`
}

// status asks a connector for its state; false while it does not answer.
func (p *process) status() (state, bool) {
	var st state
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/status.json", nil)
	if err != nil {
		p.bed.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return st, false
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || resp.StatusCode != http.StatusOK {
		return st, false
	}
	return st, true
}

// passes counts the ended passes of every partition; nil while the connector does not own.
func (p *process) passes() map[string]int64 {
	st, ok := p.status()
	if !ok {
		return nil
	}
	var counts map[string]int64
	for _, c := range st.Connections {
		for _, q := range c.Partitions {
			if counts == nil {
				counts = map[string]int64{}
			}
			counts[c.Connection+"/"+q.Stream+"/"+q.Name] = q.Passes
		}
	}
	return counts
}

// rest waits until every partition has ended n passes more. With n = 3 the second of them began after the call, whatever was
// under way, and the third after everything that the second found was handed over.
func (p *process) rest(n int64) {
	p.bed.Helper()
	var first map[string]int64
	p.bed.until(fmt.Sprintf("%d passes of every partition", n), p, func() bool {
		now := p.passes()
		if first == nil {
			first = now
			return false
		}
		for name, passes := range now {
			if passes < first[name]+n {
				return false
			}
		}
		return len(now) >= len(first) && len(first) > 0
	})
}

// client is a client of the bed's Kafka.
func (b *bed) client(options ...kgo.Opt) *kgo.Client {
	b.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(b.brokers, ",")...), kgo.ClientID("test")}, options...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// ends are the last stable offsets of a topic, added up; 0 while it does not exist. Markers count as well, so that equal
// ends mean that nothing was written.
func (b *bed) ends(admin *kadm.Client, topic string) (sum int64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil { // the broker was killed a moment ago, and the client finds its connection dead
		if ends, err = admin.ListCommittedOffsets(ctx, topic); err != nil {
			return 0
		}
	}
	ends.Each(func(o kadm.ListedOffset) { sum += max(o.Offset, 0) })
	return sum
}

// read calls each with every committed record of a topic, from its beginning, until each says that it is enough.
func (b *bed) read(topic, what string, each func(*kgo.Record) (enough bool)) {
	b.Helper()
	c := b.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.Context(), patient)
	defer cancel()
	for {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			b.Fatalf("waited %v for %s in %s", patient, what, topic)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			if each(iter.Next()) {
				return
			}
		}
	}
}

// all reads a topic that nobody writes to any more, from its beginning to its end.
func (b *bed) all(topic string) (records []*kgo.Record) {
	b.Helper()
	admin := kadm.NewClient(b.client())
	ends, err := admin.ListCommittedOffsets(b.Context(), topic)
	if err != nil {
		b.Fatal(err)
	}
	parts := map[int32]kgo.Offset{}
	open := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			parts[o.Partition], open[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	if len(open) == 0 {
		return nil
	}
	// Markers are records too, of no interest but for where a partition ends.
	c := b.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.Context(), patient)
	defer cancel()
	for len(open) > 0 {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			b.Fatalf("%s was not read to its end in %v: partitions %v are open", topic, patient, open)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
		}
	}
	return records
}

// simulate serves a simulated SalesLoft in the test's process.
func (b *bed) simulate(o simulator.Options) (*simulator.SalesLoft, string) {
	b.Helper()
	o.Tokens, o.RateBudget = true, -1
	sim := simulator.New(o)
	server := httptest.NewServer(sim.Handler())
	b.Cleanup(server.Close)
	return sim, server.URL
}

// connections writes the file of connections: SalesLoft at url, its streams as YAML says.
func (b *bed) connections(url, streams string) {
	b.Helper()
	b.write("connections.yaml", salesloft("crm", url, streams))
}

func salesloft(name, url, streams string) string {
	return fmt.Sprintf(`- name: %s
  source: salesloft
  config: {client_id: %s, client_secret: %s, refresh_token: %s, base_url: "%s/v2", token_url: "%s/oauth/token"}
  rate_limit: {budget: 1000000, per: 1m}
  streams: %s
`, name, simulator.ClientID, simulator.ClientSecret, simulator.RefreshToken, url, url, streams)
}

func (b *bed) write(name, text string) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// python is the interpreter that has confluent-kafka and fastavro: the one that deploy/test-kafka prepares, or the system's.
func python() string {
	if path, err := filepath.Abs(root + "/.cache/venv/bin/python3"); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "python3"
}

// judge runs the judge in Python over a topic, and returns its last line. Its other lines and its complaints go to the log.
func (b *bed) judge(url, resource, topic string, args ...string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*patient)
	defer cancel()
	c := exec.CommandContext(ctx, python(), append([]string{
		consumerPy, "--brokers", b.brokers, "--topic", topic, "--history", url + "/_simulator/history?resource=" + resource,
		"--exclude", "updated_at,counts", "--ops", "--cursors",
	}, args...)...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		b.Fatalf("the judge could not judge: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, l := range lines[:len(lines)-1] {
		b.Log(l)
	}
	return lines[len(lines)-1]
}

// clean reports whether a judge's last line finds no fault, and how many events it saw.
func clean(line string) (events int, ok bool) {
	var missing, duplicate, disorder, wrong int
	_, err := fmt.Sscanf(line, "events=%d missing=%d duplicate=%d out_of_order=%d wrong=%d", &events, &missing, &duplicate, &disorder, &wrong)
	return events, err == nil && missing+duplicate+disorder+wrong == 0
}

// get fetches a JSON document.
func (b *bed) get(url string, into any) error {
	return b.send(http.MethodGet, url, nil, into)
}

// send sends a JSON document and parses the answer; every status above 299 is an error.
func (b *bed) send(method, url string, body, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	q, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode > 299:
		return fmt.Errorf("%s %s: %s: %.300s", method, url, resp.Status, data)
	case into == nil:
		return nil
	}
	return json.Unmarshal(data, into)
}
