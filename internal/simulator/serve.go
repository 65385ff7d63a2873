package simulator

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Handler serves the system under its own addresses and, for tests and tools, /_simulator/history, /_simulator/stats and
// /_simulator/control.
func (u *Upstream) Handler() http.Handler {
	mux := http.NewServeMux()
	u.routes(mux)
	mux.HandleFunc("GET /_simulator/history", u.getHistory)
	mux.HandleFunc("GET /_simulator/stats", u.getStats)
	mux.HandleFunc("POST /_simulator/control", u.postControl)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		u.send(w, nil, reply{status: http.StatusNotFound, body: []byte(`{"error":"Not Found"}`)})
	})
	return mux
}

// call is a request while it is answered.
type call struct {
	*http.Request
	form   []byte      // its body
	header http.Header // of the answer
	dst    []byte      // where the body of the answer may go
	now    time.Time   // by the server's clock
	hit    strikes
}

// reply is an answer that is ready to be sent.
type reply struct {
	status int
	body   []byte
	kind   string // the content type; empty: JSON
	hit    strikes
}

// reply is an answer as the call's faults spoil it.
func (c *call) reply(status int, body []byte) reply {
	return reply{status: status, body: body, hit: c.hit}
}

// refusal is an answer with the system's own body of an error. The lock is held.
func (u *Upstream) refusal(c *call, status int) reply {
	return c.reply(status, u.failure(c.dst, status))
}

// serve answers with what f makes under the lock, and sends it after that.
func (u *Upstream) serve(f func(*call) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		form, err := io.ReadAll(http.MaxBytesReader(w, q.Body, 1<<16))
		if err != nil {
			return // the client is gone, or none of ours
		}
		buffer, _ := u.buffers.Get().(*[]byte)
		if buffer == nil {
			buffer = new([]byte)
		}
		answer := func() reply {
			u.mu.Lock()
			defer u.mu.Unlock()
			now := time.Now()
			u.surface(micros(now))
			return f(&call{Request: q, form: form, header: w.Header(), dst: (*buffer)[:0], now: now.Add(u.o.Skew)})
		}()
		u.send(w, q, answer)
		if cap(answer.body) > cap(*buffer) {
			*buffer = answer.body
		}
		u.buffers.Put(buffer)
	}
}

// errorBody is {"error":"…"}, as three of the four systems have it.
func errorBody(dst []byte, text string) []byte { return fmt.Appendf(dst, `{"error":%q}`, text) }

// encoded appends v as JSON.
func encoded(dst []byte, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers
	}
	return append(dst, body...)
}

// firstName is the first name of the first record of a list, or else of the body.
var firstName = regexp.MustCompile(`\[\{("[^"]*":)|^\{("[^"]*":)`)

// doubled repeats that name, with null.
func doubled(body []byte) []byte {
	all := firstName.FindAllSubmatchIndex(body, -1)
	if all == nil {
		return body
	}
	at := all[len(all)-1]
	for _, found := range all {
		if found[2] >= 0 { // in a list
			at = found
			break
		}
	}
	from, to := max(at[2], at[4]), max(at[3], at[5])
	return bytes.Join([][]byte{body[:to], []byte("null,"), body[from:]}, nil)
}

// send writes an answer, after the latency, as the faults say. The Date header is of the time of sending: an answer that
// was long under way is older than its date, and the client has to know (POLLING.md, server time).
func (u *Upstream) send(w http.ResponseWriter, q *http.Request, r reply) {
	if q != nil {
		pause(q, u.o.Latency)
	}
	body := r.body
	if r.hit.has(Duplicate) {
		body = doubled(body)
	}
	if r.hit.has(Truncated) {
		body = body[:len(body)/2]
	}
	header := w.Header()
	header.Set("Date", time.Now().Add(u.o.Skew).UTC().Format(http.TimeFormat))
	header.Set("Content-Type", cmp.Or(r.kind, "application/json; charset=utf-8"))
	if r.hit.has(Gzip) || q != nil && u.o.Gzip && strings.Contains(q.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		body = deflate(body)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	slow, isSlow := r.hit.of(Slow)
	switch {
	case r.hit.has(Hang):
		<-q.Context().Done()
		panic(http.ErrAbortHandler)
	case r.hit.has(Reset):
		panic(http.ErrAbortHandler) // the server closes the connection without an answer
	case r.hit.has(Cut):
		w.WriteHeader(r.status)
		_, _ = w.Write(body[:len(body)/2]) // the client learns of the rest from Content-Length
		panic(http.ErrAbortHandler)
	case isSlow:
		w.WriteHeader(r.status)
		trickle(w, q, body, time.Duration(slow.N)*time.Second)
		return
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // an error means that the client is gone
}

// pause waits while the client does.
func pause(q *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.Context().Done():
	}
}

// trickle writes the body in ten parts over the given time.
func trickle(w http.ResponseWriter, q *http.Request, body []byte, over time.Duration) {
	const parts = 10
	for i := range parts {
		pause(q, over/parts)
		if _, err := w.Write(body[len(body)*i/parts : len(body)*(i+1)/parts]); err != nil {
			return // the client is gone
		}
		_ = http.NewResponseController(w).Flush() // as above
	}
}

func deflate(body []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one of gzip's
	}
	_, _ = z.Write(body) // a buffer takes everything
	_ = z.Close()
	return b.Bytes()
}
