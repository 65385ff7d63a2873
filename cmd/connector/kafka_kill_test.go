//go:build kafka

package main_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestKillNine kills the connector with SIGKILL again and again, and now and then the broker, while 20,000 simulated people
// keep changing; then it lets everything come to rest, and a consumer that nobody here wrote, with rules of its own, compares
// the topic with everything that the API ever said: nothing missing, nothing twice, nothing out of order (1, 2, 3, K8, K13, K14).
//
// Every third kill falls into a commit: the proxy between connector and broker holds it at its end, in one of three ways.
// KILLS is how many, 10 by default, SEED repeats the moments of another run.
func TestKillNine(t *testing.T) {
	kills := number(t, "KILLS", 10)
	seed := uint64(number(t, "SEED", int(time.Now().UnixNano()&0xffffff)))
	fmt.Printf("kill-test: SEED=%d KILLS=%d\n", seed, kills)
	c := newChaos(t, rand.New(rand.NewPCG(seed, 9)))
	c.people(20_000)
	connector := c.run()
	// The first refresh token is used once only: a kill between its use and its commit would cost the grant, as it would in
	// earnest (DESIGN §9). After that the access token lives for hours.
	c.until("the first events", connector, func() bool { return c.ends(c.admin, c.topic) > 0 })
	broken := 0
	for n := 1; n <= kills; n++ {
		if n%10 == 5 {
			broken++
			c.breakBroker()
		}
		if n%3 == 0 {
			c.killInCommit(connector, cut(n/3%3))
		} else {
			c.pass(time.Duration(c.random.Int64N(int64(8 * time.Second))))
			connector.kill()
		}
		t.Logf("kill %d of %d, %d offsets in the topic", n, kills, c.ends(c.admin, c.topic))
		connector = c.run()
	}
	if err := c.send(http.MethodPost, c.url+"/_simulator/control", map[string]string{"action": "freeze"}, nil); err != nil {
		t.Fatal(err)
	}
	connector = c.living(connector)
	connector.rest(3)
	connector.terminate()
	c.brokers = c.direct
	line := c.judge(c.url, "people", c.topic)
	fmt.Printf("kills=%d broker_kills=%d %s\n", kills, broken, line)
	events, ok := clean(line)
	if !ok || events < 20_000 {
		t.Errorf("the judge found: %s", line)
	}
	for way, n := range c.held {
		t.Logf("%d commits were held: %s", n, [...]string{"the request was lost", "the answer was lost", "the broker was frozen"}[way])
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// chaos is a Kafka that can be killed behind a proxy that can hold commits, and a simulated SalesLoft.
type chaos struct {
	*bed
	random     *rand.Rand
	kafkaDir   string
	direct     string // past the proxy
	admin      *kadm.Client
	proxy      *proxy
	url, topic string
	held       [3]int
}

func newChaos(t *testing.T, random *rand.Rand) *chaos {
	t.Helper()
	c := &chaos{bed: bareBed(t), random: random}
	c.kafkaDir = filepath.Join(c.dir, "kafka")
	port, behind := freePort(t), freePort(t)
	c.proxy = newProxy(t, fmt.Sprintf("127.0.0.1:%d", behind))
	// A second listener, that says of itself that it is where the proxy is. The spaces around "=" keep these lines apart
	// from the ones that deploy/kafka/kafka reads again.
	c.direct = c.startKafka(c.kafkaDir, port,
		fmt.Sprintf("listeners = CLIENT://127.0.0.1:%d,PROXIED://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, behind, port+101),
		fmt.Sprintf("advertised.listeners = CLIENT://127.0.0.1:%d,PROXIED://%s,CONTROLLER://127.0.0.1:%d", port, c.proxy.address(), port+101),
		"listener.security.protocol.map = CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT")
	c.brokers = c.direct
	c.admin = kadm.NewClient(c.client())
	c.brokers = c.proxy.address()
	c.topic = c.name + ".crm.people"
	return c
}

// people starts a simulator with so many people that keep changing, in a process of its own, and configures the connection.
func (c *chaos) people(n int) {
	c.Helper()
	api := freePort(c.T)
	c.url = fmt.Sprintf("http://127.0.0.1:%d", api)
	sim := c.start("simulator", nil, c.binary, "simulate", "salesloft", "--records", fmt.Sprint(n), "--changes", "200", "--rate", "-1",
		"--port", fmt.Sprint(api), "--seed", fmt.Sprint(c.random.Int32()))
	c.until("the simulator to answer", sim, func() bool { return c.get(c.url+"/_simulator/stats", nil) == nil })
	c.connections(c.url, "{people: {interval: 1s, reconcile: false}}")
}

// pass lets time pass: a random moment is what is wanted here, there is no condition to wait for.
func (c *chaos) pass(d time.Duration) { <-time.After(d) }

// breakBroker kills the broker and starts it again on its data.
func (c *chaos) breakBroker() {
	c.Helper()
	c.pass(time.Duration(c.random.Int64N(int64(3 * time.Second))))
	c.kafka(c.kafkaDir, "kill", "1")
	c.kafka(c.kafkaDir, "restart", "1")
}

// run starts the connector.
func (c *chaos) run() *process {
	c.Helper()
	return c.connector("one", "VALUE_FORMAT=json", "LOG_LEVEL=warn")
}

// living returns the connector, or a new one where it ended by itself because the brokers could not be reached at its start:
// it says so and leaves the next try to whatever started it.
func (c *chaos) living(connector *process) *process {
	c.Helper()
	if !connector.ended() {
		return connector
	}
	if text := connector.text(); connector.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, "connector: ") {
		c.Fatalf("the connector ended by itself (%v):\n%s", connector.cmd.ProcessState, text)
	}
	c.Logf("started again after: %s", connector.tail(400))
	c.pass(time.Second)
	return c.run()
}

// hold holds the connector's next commit in the given way; the channel is closed when it is held.
func (c *chaos) hold(way cut) <-chan struct{} {
	return c.proxy.arm(way, func() { c.kafka(c.kafkaDir, "pause", "1") })
}

// killInCommit waits until the connector ends a transaction, holds that, and kills the connector.
func (c *chaos) killInCommit(connector *process, way cut) {
	c.Helper()
	held := c.hold(way)
	c.until("a commit to hold", nil, func() bool {
		connector = c.living(connector)
		select {
		case <-held:
			return true
		default:
			return false
		}
	})
	c.held[way]++
	connector.kill()
	if way == brokerFrozen {
		// The broker wakes with the end of a transaction in its hands whose producer is dead.
		c.kafka(c.kafkaDir, "resume", "1")
	}
}

// cut is a way to hold the end of a transaction.
type cut int

const (
	requestLost  cut = iota // EndTxn never reaches the broker
	answerLost              // the broker has done it, and the connector never hears of that
	brokerFrozen            // the broker is stopped, gets the request, and acts on it when the connector is dead
)

// endTxn is the API key of the request that ends a transaction.
const endTxn = 26

// proxy passes Kafka's protocol on, frame by frame.
type proxy struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	armed  bool
	way    cut
	freeze func()
	held   chan struct{}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	t.Cleanup(func() { _ = l.Close() }) // it ends the loop below
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// arm holds the next end of a transaction; the channel is closed when it is held.
func (p *proxy) arm(way cut, freeze func()) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.way, p.freeze, p.held = true, way, freeze, make(chan struct{})
	return p.held
}

// fire takes the order to hold, if there is one.
func (p *proxy) fire() (way cut, freeze func(), held chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok, p.armed = p.armed, false
	return p.way, p.freeze, p.held, ok
}

// serve passes one connection on, until either side ends it.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	broker, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = client.(*net.TCPConn).SetLinger(0) // the broker is down: a reset, not the polite end of a broker that hangs up
		return
	}
	defer broker.Close()
	mute := make(chan chan struct{}, 1) // an answer to be kept back, and whom to tell
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		answers(client, broker, mute)
		client.Close()
	}()
	p.requests(broker, client, mute)
	broker.Close()
	<-answered
}

// requests passes requests on.
func (p *proxy) requests(broker, client net.Conn, mute chan<- chan struct{}) {
	for {
		frame, err := readFrame(client)
		if err != nil {
			return
		}
		if len(frame) < 6 || binary.BigEndian.Uint16(frame[4:]) != endTxn {
			if _, err := broker.Write(frame); err != nil {
				return
			}
			continue
		}
		way, freeze, held, ok := p.fire()
		switch {
		case ok && way == requestLost:
			close(held)
			continue
		case ok && way == answerLost:
			mute <- held
		case ok && way == brokerFrozen:
			freeze()
		}
		_, err = broker.Write(frame)
		if ok && way == brokerFrozen {
			close(held)
		}
		if err != nil {
			return
		}
	}
}

// answers passes answers on. The one to be kept back is the next: a connection for transactions has one request in flight.
func answers(client, broker net.Conn, mute <-chan chan struct{}) {
	for {
		frame, err := readFrame(broker)
		if err != nil {
			return
		}
		select {
		case held := <-mute:
			close(held)
			continue
		default:
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

// readFrame reads a request or an answer, with its length before it.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(frame)
	if n > 1<<28 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame = append(frame, make([]byte, n)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// TestProxyPassesOn keeps the proxy honest: what it is not told to hold goes through, both ways.
func TestProxyPassesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nobody dials it any more
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			f, err := readFrame(c)
			if err != nil {
				return
			}
			if _, err := c.Write(f); err != nil {
				return
			}
		}
	}()
	p := newProxy(t, l.Addr().String())
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, text := range []string{"\x00\x00 one", "\x00\x1a two", "\x00\x03" + strings.Repeat("x", 1<<20)} {
		if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(c)
		if err != nil || string(f[4:]) != text {
			t.Fatalf("%.10q came back as %.10q, %v", text, f, err)
		}
	}
}
