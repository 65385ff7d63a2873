package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Handler serves the API under /v2, tokens at /oauth/token, and, for tests and tools, /_simulator/history, /_simulator/stats
// and /_simulator/control.
func (s *SalesLoft) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{path...}", s.api)
	mux.HandleFunc("POST /oauth/token", s.token)
	mux.HandleFunc("GET /_simulator/history", s.getHistory)
	mux.HandleFunc("GET /_simulator/stats", s.getStats)
	mux.HandleFunc("POST /_simulator/control", s.postControl)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.send(w, nil, reply{status: http.StatusNotFound, body: []byte(`{"error":"Not Found"}`)})
	})
	return mux
}

// reply is an answer that is ready to be sent.
type reply struct {
	status int
	body   []byte
	html   bool
	fault  Kind
}

// api answers everything under /v2. The answer is made under the lock and sent after it.
func (s *SalesLoft) api(w http.ResponseWriter, q *http.Request) {
	buffer, _ := s.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	answer := s.answer(w.Header(), q, (*buffer)[:0])
	s.send(w, q, answer)
	if cap(answer.body) > cap(*buffer) {
		*buffer = answer.body
	}
	s.buffers.Put(buffer)
}

// answer makes the answer of the API.
func (s *SalesLoft) answer(header http.Header, q *http.Request, dst []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.surface(micros(now))
	now = now.Add(s.o.Skew)
	s.stats.Requests++
	path := strings.TrimSuffix(q.PathValue("path"), ".json")
	r, id := s.resource(path), ""
	if cut := strings.LastIndexByte(path, '/'); r == nil && cut >= 0 {
		r, id = s.resource(path[:cut]), path[cut+1:]
	}
	name := path
	if r != nil {
		name = r.path
	}
	fault := s.hit(name)
	switch fault.Kind {
	case Status:
		return reply{status: fault.Status, body: failure(dst, fault.Status)}
	case HTML:
		return reply{status: http.StatusOK, body: append(dst, loginPage...), html: true}
	}
	token, bearer := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	if !bearer || !s.authorized(token, now) {
		return reply{status: http.StatusUnauthorized, body: failure(dst, http.StatusUnauthorized), fault: fault.Kind}
	}
	if r == nil {
		return reply{status: http.StatusNotFound, body: failure(dst, http.StatusNotFound), fault: fault.Kind}
	}
	var list query
	var bad map[string][]string
	page := 1
	if id == "" {
		list, bad = s.parse(r, q.URL.Query())
		page = list.page
	}
	switch {
	case !s.take(header, page, now):
		return reply{status: http.StatusTooManyRequests, body: failure(dst, http.StatusTooManyRequests)}
	case len(bad) > 0:
		return reply{status: http.StatusUnprocessableEntity, body: invalid(dst, bad)}
	case id != "":
		body, status := s.single(dst, r, id)
		return reply{status: status, body: body, fault: fault.Kind}
	default:
		return reply{status: http.StatusOK, body: s.list(dst, r, list, fault.Kind), fault: fault.Kind}
	}
}

const loginPage = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form action=\"/login\">Please log in.</form></body></html>\n"

// failure is the documented body of an error.
func failure(dst []byte, status int) []byte {
	text := "Internal Server Error"
	switch status {
	case http.StatusUnauthorized:
		text = "Invalid Bearer token"
	case http.StatusForbidden:
		text = "required scope access not included"
	case http.StatusNotFound:
		text = "Resource not found"
	case http.StatusUnprocessableEntity:
		return invalid(dst, map[string][]string{"updated_at": {"must be an iso8601 timestamp"}})
	case http.StatusTooManyRequests:
		text = "API rate limit exceeded"
	}
	return fmt.Appendf(dst, `{"error":%q}`, text)
}

func invalid(dst []byte, fields map[string][]string) []byte {
	body, err := json.Marshal(map[string]any{"errors": fields})
	if err != nil {
		panic(err) // texts
	}
	return append(dst, body...)
}

// hit takes a planted fault that matches the name, if its turn has come. The lock is held.
func (s *SalesLoft) hit(name string) Fault {
	for i := range s.faults {
		f := &s.faults[i]
		if f.Resource != "" && f.Resource != name {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		taken := *f
		if f.Times--; f.Times == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		s.stats.Failed++
		return taken
	}
	return Fault{}
}

// Fail plants a fault. Of several that match a request, the first planted is taken.
func (s *SalesLoft) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Kind = orElse(f.Kind, Status)
	f.Times = orElse(f.Times, 1)
	f.Status = orElse(f.Status, http.StatusInternalServerError)
	s.faults = append(s.faults, f)
}

// Heal removes every planted fault.
func (s *SalesLoft) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// send writes an answer, after the latency, as the fault says. The Date header is of the time of sending: an answer that
// was long under way is older than its date, and the client has to know (POLLING.md, server time).
func (s *SalesLoft) send(w http.ResponseWriter, q *http.Request, r reply) {
	if q != nil && s.o.Latency > 0 {
		timer := time.NewTimer(s.o.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-q.Context().Done():
		}
	}
	body := r.body
	if r.fault == Truncated {
		body = body[:len(body)/2]
	}
	header := w.Header()
	header.Set("Date", time.Now().Add(s.o.Skew).UTC().Format(http.TimeFormat))
	header.Set("Content-Type", "application/json; charset=utf-8")
	if r.html {
		header.Set("Content-Type", "text/html; charset=utf-8")
	}
	if q != nil && s.o.Gzip && strings.Contains(q.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		body = deflate(body)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	switch r.fault {
	case Hang:
		<-q.Context().Done()
		panic(http.ErrAbortHandler)
	case Reset:
		panic(http.ErrAbortHandler) // the server closes the connection without an answer
	case Cut:
		w.WriteHeader(r.status)
		_, _ = w.Write(body[:len(body)/2]) // the client learns of the rest from Content-Length
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // an error means that the client is gone
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

// token answers POST /oauth/token; without Options.Tokens there is no such thing.
func (s *SalesLoft) token(w http.ResponseWriter, q *http.Request) {
	q.Body = http.MaxBytesReader(w, q.Body, 1<<16)
	if err := q.ParseForm(); err != nil {
		s.send(w, q, reply{status: http.StatusBadRequest, body: []byte(`{"error":"invalid_request"}`)})
		return
	}
	s.send(w, q, func() reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now().Add(s.o.Skew)
		fault := s.hit("oauth/token")
		switch {
		case !s.o.Tokens:
			return reply{status: http.StatusNotFound, body: failure(nil, http.StatusNotFound)}
		case fault.Kind == Status:
			return reply{status: fault.Status, body: failure(nil, fault.Status)}
		}
		// The other faults come after the exchange: the token is used up and the answer is lost (K19).
		status, body := s.tokens(q, now)
		return reply{status: status, body: body, fault: fault.Kind}
	}())
}
