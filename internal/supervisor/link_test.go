//go:build synctests

package supervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// plan counts the requests of all instances and says which of them a fault strikes.
type plan struct {
	mu     sync.Mutex
	counts map[string]int // "instance/api"
	faults []wireFault
	fired  []string
	over   bool
	aim    func(api string, request []byte) *wireFault // nil, or it sees every request and says what strikes it
}

// strike counts a request and returns the fault that hits it, nil if there is none.
func (p *plan) strike(instance int, api string, request []byte) *wireFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aim != nil && !p.over {
		if f := p.aim(api, request); f != nil {
			p.fired = append(p.fired, fmt.Sprintf("%s: %s: %s", time.Now().Format(time.TimeOnly), api, f.Do))
			return f
		}
	}
	key := fmt.Sprint(instance, "/", api)
	p.counts[key]++
	for i, f := range p.faults {
		if !p.over && f.Instance == instance && f.API == api && f.N == p.counts[key] {
			p.fired = append(p.fired, fmt.Sprintf("%s: instance %d: %s %d: %s %v", time.Now().Format(time.TimeOnly), instance, api, f.N, f.Do, f.For))
			return &p.faults[i]
		}
	}
	return nil
}

// soon lets f strike the n-th request of its API from now on.
func (p *plan) soon(f wireFault, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.N = p.counts[fmt.Sprint(f.Instance, "/", f.API)] + n
	p.faults = append(p.faults, f)
}

func (p *plan) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// link is the cable of one instance between a start and its end: whatever it dials goes through it.
type link struct {
	network  *kfake.VirtualNetwork
	plan     *plan
	instance int
	trouble  chan wireFault // crashes and terminations, for who runs the instance

	mu    sync.Mutex // never held across I/O
	cut   bool
	conns map[*wire]bool
	thaw  chan struct{} // not nil: frozen until it closes
	froze bool          // it ever was
}

func newLink(n *kfake.VirtualNetwork, p *plan, instance int) *link {
	return &link{network: n, plan: p, instance: instance, trouble: make(chan wireFault, 100), conns: map[*wire]bool{}}
}

var errCut = errors.New("the cable is cut")

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := l.network.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: inner, link: l, kafka: strings.HasSuffix(address[:len(address)-1], ":909"), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		inner.Close()
		return nil, errCut
	}
	l.conns[w] = true
	return w, nil
}

// sever ends every connection; no new one comes about.
func (l *link) sever() {
	l.mu.Lock()
	l.cut = true
	all := make([]*wire, 0, len(l.conns))
	for w := range l.conns {
		all = append(all, w)
	}
	l.mu.Unlock()
	for _, w := range all {
		_ = w.Close() // nobody is left to tell
	}
}

// freeze holds everything up for a while, in both directions, and then lets it pass.
func (l *link) freeze(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.thaw != nil {
		return
	}
	thaw := make(chan struct{})
	l.thaw, l.froze = thaw, true
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.thaw = nil
		close(thaw)
	})
}

func (l *link) wasFrozen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.froze
}

func (l *link) frozen() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.thaw
}

// wire is one connection of an instance.
type wire struct {
	net.Conn
	link  *link
	kafka bool

	mu          sync.Mutex
	read, write time.Time // deadlines
	mute        bool      // the next answer is lost
	detached    bool      // closed for us; what was sent still arrives
	ended       bool
	closed      chan struct{}
}

// api names a request by its first bytes; "" where they begin none that a fault can name.
func (w *wire) api(p []byte) string {
	switch {
	case !w.kafka && bytes.HasPrefix(p, []byte("GET ")):
		return "GET"
	case !w.kafka && bytes.HasPrefix(p, []byte("POST ")):
		return "POST token"
	case !w.kafka || len(p) < 6:
		return ""
	}
	switch key := kmsg.Key(binary.BigEndian.Uint16(p[4:6])); key {
	case kmsg.ConsumerGroupHeartbeat, kmsg.Heartbeat:
		return "Heartbeat"
	default:
		return key.Name()
	}
}

// hold waits while the link is frozen.
func (w *wire) hold(deadline time.Time) error {
	for thaw := w.link.frozen(); thaw != nil; thaw = w.link.frozen() {
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-thaw:
		case <-w.closed:
			return net.ErrClosed
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

// Write implements net.Conn, with the faults of the plan.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	deadline := w.write
	w.mu.Unlock()
	if err := w.hold(deadline); err != nil {
		return 0, err
	}
	api := w.api(p)
	if api == "" {
		return w.Conn.Write(p)
	}
	f := w.link.plan.strike(w.link.instance, api, p)
	if f == nil {
		return w.Conn.Write(p)
	}
	switch f.Do {
	case loseRequest:
		_ = w.Close()      // as a network does, without a word
		return len(p), nil // it was given to the kernel, and never arrived
	case loseAnswer:
		w.mu.Lock()
		w.mute = true
		w.mu.Unlock()
	case deliverLate:
		w.deliver(bytes.Clone(p), f.For)
		return len(p), nil
	case freeze:
		w.link.freeze(f.For)
		if err := w.hold(deadline); err != nil {
			return 0, err
		}
	case swallow:
		time.AfterFunc(time.Duration(len(p)%20)*time.Second, func() {
			w.link.sever()
			w.link.trouble <- *f
		})
		return len(p), nil // it was given to the kernel, and whoever sent it waits for an answer
	case crashBefore:
		w.link.sever()
		w.link.trouble <- *f
		return 0, net.ErrClosed
	case crashAfter:
		n, err := w.Conn.Write(p)
		w.link.sever()
		w.link.trouble <- *f
		return n, err
	case terminate:
		w.link.trouble <- *f
	}
	return w.Conn.Write(p)
}

// deliver closes the connection for us and writes the request after d all the same, as a network may.
func (w *wire) deliver(p []byte, d time.Duration) {
	w.mu.Lock()
	w.detached = true
	w.mu.Unlock()
	_ = w.Close() // of a detached wire, it only wakes our reader
	go func() {
		defer w.Conn.Close()
		<-time.After(d)
		_ = w.Conn.SetDeadline(time.Now().Add(time.Minute)) // where it fails, so does the Write
		if _, err := w.Conn.Write(p); err == nil {
			_, _ = w.Conn.Read(make([]byte, 1)) // the broker has taken it, or not: both may happen
		}
	}()
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	mute, detached, deadline := w.mute && n > 0, w.detached, w.read
	w.mu.Unlock()
	switch {
	case detached:
		return 0, io.EOF
	case mute:
		_ = w.Close() // as above: without a word
		return 0, io.EOF
	}
	if e := w.hold(deadline); e != nil {
		return 0, e
	}
	return n, err
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.link.mu.Lock()
	delete(w.link.conns, w)
	w.link.mu.Unlock()
	w.mu.Lock()
	detached := w.detached
	if !w.ended {
		w.ended = true
		close(w.closed)
	}
	w.mu.Unlock()
	if detached {
		_ = w.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes our reader, unless it is gone; what was sent is on its way
		return nil
	}
	return w.Conn.Close()
}

// SetDeadline implements net.Conn.
func (w *wire) SetDeadline(t time.Time) error {
	w.mu.Lock()
	w.read, w.write = t, t
	w.mu.Unlock()
	return w.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	w.read = t
	w.mu.Unlock()
	return w.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	w.write = t
	w.mu.Unlock()
	return w.Conn.SetWriteDeadline(t)
}
