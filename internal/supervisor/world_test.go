//go:build synctests

package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/internal/capture"
	"tidemark/internal/kafka"
)

// world is what the bubble of every simulation holds: brokers and the servers of APIs on a virtual network, the faults of the wire,
// and a log.
type world struct {
	t       testing.TB
	network *kfake.VirtualNetwork
	cluster *kfake.Cluster
	plan    *plan
	log     *logbook
	servers []*http.Server
	stopped []chan struct{}
}

// newWorld begins a world with so many brokers.
func newWorld(t testing.TB, brokers int, faults []wireFault, more ...kfake.Opt) *world {
	w := &world{t: t, network: &kfake.VirtualNetwork{}, plan: &plan{counts: map[string]int{}, faults: faults}, log: &logbook{}}
	var ports []int
	for i := range brokers {
		ports = append(ports, 9092+i)
	}
	var err error
	w.cluster, err = kfake.NewCluster(append(more, kfake.NumBrokers(brokers), kfake.Ports(ports...), kfake.ListenFn(w.network.Listen),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "315360000000"}))...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) serve(h http.Handler, port int) {
	listener, err := w.network.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = server.Serve(listener) // it ends with the server
	}()
	w.servers, w.stopped = append(w.servers, server), append(w.stopped, stopped)
}

// kafka are the options of an only instance.
func (w *world) kafka(dial func(context.Context, string, string) (net.Conn, error)) kafka.Options {
	return kafka.Options{
		Brokers: w.cluster.ListenAddrs(), Name: "sim", Instance: "one", Shards: 1, Dial: dial, Log: w.log.logger("kafka"), Restores: kafka.NewRestorer(0),
	}
}

// topics makes those that the instance wants.
func (w *world) topics() {
	o := w.kafka(w.network.DialContext)
	if _, err := kafka.EnsureTopics(context.Background(), o, o.SystemTopics()); err != nil {
		w.t.Fatal(err)
	}
}

// close ends the world.
func (w *world) close() {
	for i, server := range w.servers {
		server.Close()
		<-w.stopped[i]
	}
	w.cluster.Close()
	<-time.After(5 * time.Minute) // requests that are still under way arrive nowhere; what has a deadline meets it
}

// process is the one process of a world, with one connection, and whoever starts it again.
type process struct {
	*world
	end, ended chan struct{}
	again      chan struct{} // the process is started again, in order

	mu      sync.Mutex
	now     *capture.Connection // nil: down
	crashes int
}

func newProcess(w *world) *process {
	return &process{world: w, end: make(chan struct{}), ended: make(chan struct{}), again: make(chan struct{}, 1)}
}

// keep runs the process, and starts it again when it crashes, is told to end or halts.
func (p *process) keep(live func(life int) (down time.Duration, over bool)) {
	defer close(p.ended)
	for life := 1; ; life++ {
		down, over := live(life)
		if over {
			return
		}
		select {
		case <-time.After(down):
		case <-p.end:
			return
		}
	}
}

// watching is how a life is looked at.
type watching struct {
	every time.Duration
	reset func()                              // with the lock: what was counted begins anew
	look  func(n int, st capture.Status) bool // the life is over
}

// run is one life, until a fault, its own end, whoever looks at it or the end of everything ends it: a crash is cut, cancel, wait.
func (p *process) run(c *capture.Connection, link *link, w watching) (down time.Duration, over bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, nil) }()
	p.running(c, w.reset)
	down, over = p.watch(c, link, done, w)
	p.running(nil, w.reset)
	cancel()
	err = <-done
	link.sever()
	c.Close()
	return down, over, err
}

func (p *process) running(c *capture.Connection, reset func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = c
	reset()
}

func (p *process) watch(c *capture.Connection, link *link, done chan error, w watching) (down time.Duration, over bool) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case f := <-link.trouble:
			if f.Do != terminate {
				link.sever()
			}
			p.crashes++
			return f.For, false
		case err := <-done:
			done <- err
			return 10 * time.Second, false
		case <-ticker.C:
			if w.look(n, look(c)) {
				return time.Second, false
			}
		case <-p.again:
			return time.Second, false
		case <-p.end:
			return 0, true
		}
	}
}

// status is that of the connection that runs now, and the zero Status where none does.
func (p *process) status() capture.Status {
	p.mu.Lock()
	c := p.now
	p.mu.Unlock()
	if c == nil {
		return capture.Status{}
	}
	return look(c)
}

func look(c *capture.Connection) capture.Status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.Status(ctx)
}

// standstill is what stands still until a person comes; empty: nothing does.
func standstill(st capture.Status) (halted string) {
	for _, s := range st.Streams {
		halted += s.Halted
	}
	for _, p := range st.Partitions {
		halted += p.Halted
	}
	return halted
}

// within asks at every step whether something is so, until it is or the time is over.
func within(most, step time.Duration, is func() bool) bool {
	for deadline := time.Now().Add(most); time.Now().Before(deadline); <-time.After(step) {
		if is() {
			return true
		}
	}
	return false
}

// save keeps what a simulation is judged by.
func save(path string, history any) error {
	data, err := json.MarshalIndent(history, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// load reads what was saved.
func load[T any](path string) (*T, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h := new(T)
	return h, json.Unmarshal(data, h)
}
