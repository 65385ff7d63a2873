package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/cdc"
)

const api = "http://api.test"

// pipe is a network of one server: what dials it is connected to its listener in memory, so that a synctest bubble can hold
// both ends.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client returns a client of a server with handler h, both inside the test's bubble. change may change its options.
func client(t *testing.T, h http.HandlerFunc, change func(*Options)) *Client {
	t.Helper()
	p := &pipe{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(p); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	o := Options{Dial: p.dial, Origins: []string{api + "/v2"}}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); srv.Close(); <-ended })
	return c
}

func get(path string) *Request { return &Request{URL: api + path} }

// want fails unless err is a *cdc.Error with that remedy and reach whose text holds all words, and with a hint if it halts.
func want(t *testing.T, err error, r cdc.Remedy, s cdc.Scope, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v of the %v", r, s)
	}
	var e *cdc.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %q (%T) has no remedy, want %v", err, err, r)
	}
	if gr, gs := cdc.Verdict(err); gr != r || gs != s {
		t.Errorf("error %q: %v of the %v, want %v of the %v", err, gr, gs, r, s)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if r == cdc.Halt && cdc.Hint(err) == "" {
		t.Errorf("error %q halts without a hint", err)
	}
}

func zip(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text) // a Buffer takes everything
	_ = z.Close()        // as above
	return b.Bytes()
}

// script answers the n-th request by the n-th step, and every later one by the last; it notes when they came.
type script struct {
	mu    sync.Mutex
	steps []http.HandlerFunc
	at    []time.Time
	seen  []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	n := min(len(s.at), len(s.steps)-1)
	s.at = append(s.at, time.Now())
	s.seen = append(s.seen, r.Method+" "+r.URL.String()+" "+r.Header.Get("X-Test")+" "+string(body))
	s.mu.Unlock()
	s.steps[n](w, r)
}

// gaps returns the times between the requests.
func (s *script) gaps() []time.Duration {
	var g []time.Duration
	for i := 1; i < len(s.at); i++ {
		g = append(g, s.at[i].Sub(s.at[i-1]))
	}
	return g
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		if code == http.StatusOK {
			fmt.Fprint(w, `{"data":[]}`)
		}
	}
}

var ok = status(http.StatusOK)
