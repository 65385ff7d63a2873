package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"tidemark/internal/cdc"
)

// errSlow is the cause with which an exchange is cancelled that took longer than its phase may.
var errSlow = errors.New("too slow")

// setBody gives req a body that net/http can send again on a new connection when the reused one was already closed.
func setBody(req *http.Request, body []byte) {
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Body, _ = req.GetBody()
}

// slowest is how many bytes of a file a server sends in a second at least.
const slowest = 64 << 10

// exchange sends req once and reads the answer into p, which it owns from here on: it becomes the Response's, or is released
// with an error. One timer serves the two phases (10): up to the header, and then to the end of the body.
func (c *Client) exchange(ctx context.Context, req *http.Request, p *page, e *errand) (*Response, error) {
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := c.limits.Connect + c.limits.FirstByte
	timer := time.AfterFunc(patience, func() { cancel(errSlow) })
	defer timer.Stop()

	resp := &Response{page: p, client: c, secrets: e.Secrets, Sent: time.Now()}
	c.stats.requests.Add(1)
	c.learn(e.Secrets)
	answer, err := c.transport.RoundTrip(req.WithContext(bounded))
	if err != nil {
		resp.Release()
		return nil, failure(ctx, bounded, e.place, "no answer", patience, err)
	}
	defer answer.Body.Close() // what could fail here was read already, or is given up
	resp.Began = time.Now()
	resp.Status, resp.Header = answer.StatusCode, answer.Header
	resp.ServerTime = serverTime(answer.Header, resp.Sent, resp.Began)
	patience = c.limits.Body
	if e.sink != nil {
		patience += time.Duration(e.sink.most/slowest) * time.Second
	}
	timer.Reset(patience) // the first phase may end it in this very moment: then the body is cancelled, which is as true

	var body []byte
	var wire int64
	if e.sink != nil && answer.StatusCode < 300 {
		wire, err = e.sink.fill(c, answer)
	} else {
		body, wire, err = c.read(p, answer)
	}
	resp.Body, resp.Wire, resp.Received = body, wire, time.Now()
	c.stats.bytes.Add(wire)
	// An answer that is an error already is judged by what it says, even where its text was cut.
	if err != nil && (answer.StatusCode < 300 || ctx.Err() != nil) {
		resp.Release()
		return nil, failure(ctx, bounded, e.place, "answer broke off", patience, err)
	}
	return resp, nil
}

// serverTime implements POLLING's "server time". The Date is stamped when the header is made, at the earliest when the data
// was looked at and at most (began − sent) after the request; so Date − (began − sent) is before the data, whatever the
// two clocks say and however long the request was under way. (A Date is cut to whole seconds, downwards.)
func serverTime(h http.Header, sent, began time.Time) time.Time {
	if d, ok := date(h, "Date"); ok {
		return d.Add(-began.Sub(sent))
	}
	return sent.Add(-time.Minute).UTC()
}

// date returns the HTTP date in the header called name.
func date(h http.Header, name string) (time.Time, bool) {
	v := h[name]
	if len(v) == 0 {
		return time.Time{}, false
	}
	t, err := http.ParseTime(v[0])
	return t, err == nil
}

// failure is the error of an exchange without a whole answer: the caller's own end, a limit or a place that is refused (an
// error that knows its remedy), or something that passes.
func failure(ctx, bounded context.Context, where, what string, patience time.Duration, err error) error {
	var known *cdc.Error
	var cert *tls.CertificateVerificationError
	var name *net.DNSError
	e := &cdc.Error{Op: "request", Where: where, Remedy: cdc.Retry, Scope: cdc.Stream}
	switch {
	case ctx.Err() != nil:
		return ended(ctx, where)
	case errors.As(err, &known):
		return located(known, where)
	case errors.Is(context.Cause(bounded), errSlow):
		return finish(e, "It is tried again; if it stays so, ask for smaller pages.", what+" within "+patience.String(), nil)
	case errors.As(err, &cert):
		return finish(e, "If the server's certificate is right, name its authority's file in ca_file.", what, err)
	case errors.As(err, &name):
		return finish(e, "Is base_url right, and does this machine reach the network?", what, err)
	default:
		return finish(e, "It is tried again; if it stays so, see whether the server, or a proxy on the way to it, is in order.", what, err)
	}
}

func finish(e *cdc.Error, hint, what string, err error) *cdc.Error {
	e.Hint = hint
	if e.Err = errors.New(what); err != nil {
		e.Err = fmt.Errorf("%s: %w", what, err)
	}
	return e
}
