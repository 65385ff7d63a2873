package fetch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"tidemark/internal/cdc"
)

// outcome says how Do goes on after one sending.
type outcome uint8

const (
	answered outcome = iota // accepted
	again                   // at once, as soon as the budget lets it: paused by the server (P22), or a new credential
	later                   // after a back-off, and counted
	failed                  // returned
)

// errand is a request on its way through Do.
type errand struct {
	*Request
	url     *url.URL
	own     bool // to an origin, hence with the credential
	place   string
	relogin bool
	sink    *sink // not nil: a good answer's body goes there
}

// Do sends r and returns the answer that r.Judge accepts. Passing errors are repeated with the identical request, up to
// Options.Attempts; a 429 is waited out, for hours if the server says so (P22), and fails only past a day. What is returned
// is a *cdc.Error, or the error of ctx.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	e, err := c.errand(r)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, e)
}

// Store sends r as Do does and streams the body of a good answer into folder: no more of it than most bytes, and never all of it
// in memory (10). Where r.Judge looks at a good answer there is no body yet. An error of the folder is ErrFolder.
func (c *Client) Store(ctx context.Context, r *Request, folder *Folder, most int64) (Stored, error) {
	e, err := c.errand(r)
	if err != nil {
		return Stored{}, err
	}
	e.sink = &sink{folder: folder, most: most}
	defer e.sink.discard()
	resp, err := c.do(ctx, e)
	if err != nil {
		return Stored{}, err
	}
	resp.Release()
	return e.sink.keep()
}

// do sends e till an answer is accepted.
func (c *Client) do(ctx context.Context, e *errand) (*Response, error) {
	for attempt := 1; ; { // bounded: later counts, a relogin comes once, and pauses end after a day
		resp, out, err := c.once(ctx, e)
		err = c.Veil(err, e.Secrets...)
		switch {
		case out == answered:
			return resp, nil
		case ctx.Err() != nil:
			return nil, ended(ctx, e.place)
		case out == again:
			continue
		case out == failed || attempt >= c.attempts:
			return nil, err
		}
		wait := c.pause(attempt)
		c.log.LogAttrs(ctx, slog.LevelWarn, "request repeated", slog.String("request", e.place), slog.Int("attempt", attempt),
			slog.Duration("after", wait), slog.Any("error", err))
		c.stats.repeats.Add(1)
		attempt++
		if err := sleep(ctx, wait); err != nil {
			return nil, ended(ctx, e.place)
		}
	}
}

// errand parses and checks the URL of r, once for all its repeats.
func (c *Client) errand(r *Request) (*errand, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		// The parser's error quotes the URL with its query, which may hold a secret.
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "request", "Mend the url of the source definition.", "the URL cannot be parsed")
	}
	e := &errand{Request: r, url: u, place: c.Hide(place(method(r), u), r.Secrets...)}
	if e.own, err = c.guard.check(u, r.Foreign, e.place); err != nil {
		return nil, err
	}
	return e, nil
}

func method(r *Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// once sends e one time: budget, bytes, credential, exchange, judge. The ticket is held until the verdict is in, so that no
// request of the account slips out between a 429 and the pause that it asks for.
func (c *Client) once(ctx context.Context, e *errand) (*Response, outcome, error) {
	t, err := c.budget.Take(ctx, Claim{owner: c, Flow: e.Flow, Cost: e.Cost, Background: e.Background})
	if err != nil {
		return nil, failed, err
	}
	defer c.budget.Done(t)
	p, err := c.room(ctx, e)
	if err != nil {
		return nil, failed, err
	}
	req := c.compose(e)
	var mark uint64
	if e.own && c.credential != nil {
		if mark, err = c.credential.Apply(ctx, c, req); err != nil {
			p.release()
			return nil, passing(err), err
		}
	}
	logins := c.stats.relogins.Load()
	resp, err := c.exchange(ctx, req, p, e)
	if err != nil {
		return nil, passing(err), err
	}
	resp.Relogin, resp.Logins = e.relogin, logins
	if e.sink == nil {
		c.expected(len(resp.Body))
	}
	c.budget.Observe(t, resp)
	judge := e.Judge
	if judge == nil {
		judge = DefaultJudge
	}
	if err := judge(resp); err != nil {
		out, err := c.refused(e, t, mark, resp, err)
		resp.Release()
		return nil, out, err
	}
	return resp, answered, nil
}

// room takes the bytes of the answer's page. A file's answer needs next to none, and does not wait for them: whoever asks for it
// may hold a page meanwhile.
func (c *Client) room(ctx context.Context, e *errand) (*page, error) {
	if e.sink != nil {
		return c.pages.loose(), nil
	}
	return c.pages.take(ctx, c.expect.Load())
}

// refused decides what an answer that was not accepted asks for: a pause, a new credential, a repeat, or the error.
func (c *Client) refused(e *errand, t Ticket, mark uint64, resp *Response, err error) (outcome, error) {
	err = located(err, e.place)
	out := passing(err)
	switch {
	case out == later:
		// P22: the identical request again, after the pause that the server asks for; nothing was moved by this one.
		if paused, err := c.paused(&t, resp, e.place); err != nil {
			return failed, located(err, e.place)
		} else if paused {
			return again, nil
		}
	case resp.Status == http.StatusUnauthorized && e.own && c.credential != nil && !e.relogin:
		if c.credential.Reject(mark) {
			e.relogin = true // once a request: a second 401 is the server's last word
			c.stats.relogins.Add(1)
			return again, nil
		}
	}
	return out, err
}

// waits returns how long an answer asks to wait, and whether it says so: by Retry-After, or a 429 by the budget's reset header.
func (c *Client) waits(resp *Response) (time.Duration, bool) {
	if wait, told := retryAfter(resp); told || resp.Status != http.StatusTooManyRequests {
		return wait, told
	}
	return c.budget.resetOf(resp)
}

// paused pauses the account where an answer asks for it (P22), and reports whether it does. t is the ticket of its request, nil for a
// login or the refresh of a token. The error is that of a pause beyond a day.
func (c *Client) paused(t *Ticket, resp *Response, who string) (bool, error) {
	wait, told := c.waits(resp)
	s := resp.Status
	// RFC 9110 has Retry-After with 429 and 503; below 500 it is a definition that calls a status passing.
	if s != http.StatusTooManyRequests && (!told || s >= 500 && s != http.StatusServiceUnavailable) {
		return false, nil
	}
	c.stats.throttled.Add(1)
	until, err := c.budget.Throttled(t, wait, told, fmt.Sprintf("%s answered %d", who, s))
	if err != nil {
		return false, err
	}
	c.log.Warn("paused by the server", "request", who, "status", s, "until", until)
	return true, nil
}

// passing returns later for errors that a repeat may mend, failed for the others.
func passing(err error) outcome {
	var e *cdc.Error
	if errors.As(err, &e) && e.Remedy == cdc.Retry {
		return later
	}
	return failed
}

// located fills in where err happened, if nobody said it yet. The error is copied: a Judge may return the same one twice.
func located(err error, where string) error {
	e, ok := err.(*cdc.Error) //nolint:errorlint // only the outermost one is ours to complete
	if !ok || e.Where != "" {
		return err
	}
	at := *e
	at.Where = where
	return &at
}

// compose builds net/http's request, without its context.
func (c *Client) compose(e *errand) *http.Request {
	u := *e.url // the credential may add to the query
	u.Fragment, u.RawFragment = "", ""
	h := make(http.Header, len(e.Header)+4)
	for k, v := range e.Header {
		h[http.CanonicalHeaderKey(k)] = v
	}
	h["User-Agent"] = c.agent
	if h["Accept"] == nil {
		h["Accept"] = c.accept
	}
	h["Accept-Encoding"] = c.encoding
	if e.sink != nil {
		h["Accept-Encoding"] = []string{"identity"} // the digest is that of the bytes as upstream keeps them
	}
	req := &http.Request{Method: method(e.Request), URL: &u, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if len(e.Body) > 0 {
		setBody(req, e.Body)
	}
	return req
}

// expected remembers the length of a page for the next one's bytes: at once up, slowly down, so that a short last page does
// not make the next first one grow its buffer again.
func (c *Client) expected(n int) {
	old := c.expect.Load()
	c.expect.CompareAndSwap(old, max(int64(n)+512, old-old/8, minPage)) // losing the race costs a hint
}

// pause returns the back-off after the attempt-th attempt: exponential, with a ceiling, the upper half of it by chance so
// that clients that failed together do not come back together.
func (c *Client) pause(attempt int) time.Duration {
	d := c.backoffMax
	if attempt < 20 {
		d = min(d, c.backoff<<(attempt-1))
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is the error of a request that its caller gave up: plain where the context was cancelled, so that errors.Is finds
// that, and a Retry where it ran out of time.
func ended(ctx context.Context, where string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &cdc.Error{Op: "request", Where: where, Err: ctx.Err(), Remedy: cdc.Retry, Scope: cdc.Stream}
	}
	return fmt.Errorf("request %s: %w", where, ctx.Err())
}
