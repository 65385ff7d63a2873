package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// bed is where a test runs: brokers, and a deployment of its own on them. newBed makes one, on kfake or, with the tag kafka, on
// a real Apache Kafka.
type bed struct {
	testing.TB
	Options
	wire *wire
	n    int
}

func startBed(t testing.TB, brokers []string) *bed {
	w := &wire{}
	b := &bed{TB: t, wire: w, Options: Options{
		Brokers: brokers, Name: fmt.Sprintf("t%d", time.Now().UnixNano()), Instance: "one", Shards: 3, Dial: w.dial,
		Alarm: func(where, what string) { t.Logf("alarm: %s: %s", where, what) },
	}}
	if _, err := EnsureTopics(b.ctx(), b.Options, b.SystemTopics()); err != nil {
		t.Fatalf("create the deployment's topics: %v", err)
	}
	return b
}

// ctx ends long after everything that a test waits for.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	b.Cleanup(cancel)
	return ctx
}

// topic creates an events topic and returns what a claim needs of it.
func (b *bed) topic(partitions int32) StreamTopic {
	b.Helper()
	b.n++
	t := Topic{Name: b.EventsTopic("c", fmt.Sprintf("s%d", b.n)), Partitions: partitions, Role: Events}
	infos, err := EnsureTopics(b.ctx(), b.Options, []Topic{t})
	if err != nil {
		b.Fatalf("create %s: %v", t.Name, err)
	}
	return StreamTopic{Topic: t.Name, ID: infos[0].ID, Partitions: partitions}
}

func (b *bed) own(connection string, streams ...StreamTopic) *Session {
	b.Helper()
	s, err := b.tryOwn(connection, streams...)
	if err != nil {
		b.Fatalf("own %s: %v", connection, err)
	}
	return s
}

func (b *bed) tryOwn(connection string, streams ...StreamTopic) (*Session, error) {
	s, err := Own(b.ctx(), b.Options, Claim{Connection: connection, Account: connection, Shard: 1, Streams: streams, Config: "cfg"})
	if err == nil {
		b.Cleanup(s.Close)
	}
	return s, err
}

// restored is what a Restore gave.
type restored struct {
	mark  Mark
	state map[string]string // of both topics; hashes under a leading #
	order []string
}

func (b *bed) restore(s *Session, from Mark) restored {
	b.Helper()
	r, err := b.tryRestore(s, from)
	if err != nil {
		b.Fatalf("restore: %v", err)
	}
	return r
}

func (b *bed) tryRestore(s *Session, from Mark) (restored, error) {
	r := restored{state: map[string]string{}}
	mark, err := s.Restore(b.ctx(), from, func(i Item) error {
		key := string(i.Key)
		if i.Hashes {
			key = "#" + key
		}
		r.order = append(r.order, key)
		if i.Value == nil {
			delete(r.state, key)
		} else {
			r.state[key] = string(i.Value)
		}
		return nil
	})
	r.mark = mark
	return r, err
}

// ready owns and restores.
func (b *bed) ready(connection string, streams ...StreamTopic) *Session {
	b.Helper()
	s := b.own(connection, streams...)
	b.restore(s, Mark{})
	return s
}

func (b *bed) commit(s *Session, batch *Batch) {
	b.Helper()
	if err := s.Commit(b.ctx(), batch); err != nil {
		b.Fatalf("commit: %v", err)
	}
}

// change is an event with all that belongs to it (K16).
func (b *bed) change(batch *Batch, connection string, t StreamTopic, key, value string) {
	batch.Event(t.Topic, t.Partitions, []byte(key), []byte(value), []cdc.Header{{Key: "ce_op", Value: []byte("c")}})
	batch.Hash(offsets.AppendHashKey(nil, connection, "s", []byte(key)), []byte("h-"+value))
	b.checkpoint(batch, connection, value)
}

func (b *bed) checkpoint(batch *Batch, connection, cursor string) {
	batch.Offset([]byte("stream/"+connection+"/s"), []byte("set-"+cursor))
	batch.Offset([]byte("cursor/"+connection+"/s/-"), []byte(cursor))
}

// events reads a topic as a read-committed consumer does, to its end.
func (b *bed) events(topic string) []Record {
	b.Helper()
	b.marked(topic)
	var all []Record
	o := b.Options
	o.Dial = nil
	if err := Read(b.ctx(), o, Query{Topics: []string{topic}}, func(r Record) error {
		all = append(all, r)
		return nil
	}); err != nil {
		b.Fatalf("read %s: %v", topic, err)
	}
	return all
}

// marked waits until every transaction on topic has its marker: a broker answers EndTxn when it has decided, and readers see the
// outcome when the marker is written. A transaction that stays open is waited for in vain, but not for ever.
func (b *bed) marked(topic string) {
	admin := kadm.NewClient(b.client())
	end := time.After(20 * time.Second)
	for {
		ends, err := admin.ListEndOffsets(b.ctx(), topic)
		stable, e := admin.ListCommittedOffsets(b.ctx(), topic)
		open := err != nil || e != nil
		ends.Each(func(o kadm.ListedOffset) {
			lso, _ := stable.Lookup(o.Topic, o.Partition)
			open = open || lso.Offset != o.Offset
		})
		if !open {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			return
		}
	}
}

func (b *bed) values(topic string) []string {
	b.Helper()
	var all []string
	for _, r := range b.events(topic) {
		all = append(all, string(r.Value))
	}
	return all
}

// client is somebody else's client on the same brokers.
func (b *bed) client(opts ...kgo.Opt) *kgo.Client {
	b.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// until waits for a condition, and fails with what was waited for.
func (b *bed) until(what string, is func() bool) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(10 * time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-end:
			b.Fatalf("waited for: %s", what)
		}
	}
}

// verdict fails unless err has a remedy, a scope and, if it halts, a hint.
func verdict(t testing.TB, err error, remedy cdc.Remedy, scope cdc.Scope) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	if r, s := cdc.Verdict(err); r != remedy || s != scope {
		t.Fatalf("got %v %v, want %v %v: %v", r, s, remedy, scope, err)
	}
	if remedy == cdc.Halt && cdc.Hint(err) == "" {
		t.Fatalf("nobody says what to do: %v", err)
	}
}

// wire is the network between a session and the brokers. It loses EndTxn requests or their answers on command.
type wire struct {
	mu          sync.Mutex
	loseRequest int // so many EndTxn requests do not arrive
	loseAnswer  int // so many EndTxn requests arrive and are carried out, but their answers are lost
	ends        int // EndTxn requests that were sent
	fences      int // InitProducerID requests that were sent
	conns       map[net.Conn]bool
	down        bool
	beforeEnd   func() // called before an EndTxn request is sent
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// sent counts the EndTxn requests.
func (w *wire) sent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends
}

// fenced counts the InitProducerID requests.
func (w *wire) fenced() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fences
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	down := w.down
	w.mu.Unlock()
	if down {
		return nil, net.ErrClosed
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.set(func(w *wire) {
		if w.conns == nil {
			w.conns = map[net.Conn]bool{}
		}
		w.conns[c] = true
	})
	return &lossy{Conn: c, wire: w}, nil
}

// cut ends every connection; no new one comes about.
func (w *wire) cut() {
	w.set(func(w *wire) {
		w.down = true
		for c := range w.conns {
			c.Close()
		}
	})
}

type lossy struct {
	net.Conn
	wire *wire
	mute bool
	mu   sync.Mutex
}

func (c *lossy) Write(p []byte) (int, error) {
	if len(p) >= 6 && int16(binary.BigEndian.Uint16(p[4:6])) == int16(kmsg.InitProducerID) {
		c.wire.set(func(w *wire) { w.fences++ })
	}
	if len(p) >= 6 && int16(binary.BigEndian.Uint16(p[4:6])) == int16(kmsg.EndTxn) {
		lose, mute := false, false
		var before func()
		c.wire.set(func(w *wire) {
			w.ends++
			before, w.beforeEnd = w.beforeEnd, nil
			switch {
			case w.loseRequest > 0:
				w.loseRequest--
				lose = true
			case w.loseAnswer > 0:
				w.loseAnswer--
				mute = true
			}
		})
		if before != nil {
			before()
		}
		if lose {
			c.Close()
			return 0, io.ErrClosedPipe
		}
		c.mu.Lock()
		c.mute = mute
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

func (c *lossy) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	mute := c.mute && n > 0
	c.mu.Unlock()
	if mute {
		c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
