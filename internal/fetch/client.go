package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"tidemark/internal/cdc"
)

// Options are the settings of a Client. Only Origins must be given.
type Options struct {
	// Dial replaces the network; tests and the simulation use it. With it the check of addresses at dial time is off,
	// since there are none.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy is the URL of an http, https or socks5 proxy, user and password included; "" is none. The proxy then resolves
	// names, so that only literal addresses are checked.
	Proxy string
	// CAFile names a PEM file of certificates that are trusted beside the system's.
	CAFile string
	// AllowHosts are hosts ("name" or "name:port") outside Origins that may have private or link-local addresses.
	AllowHosts []string
	// Origins are the URLs whose scheme, host and port may be asked with the credential: base_url and token_url.
	Origins []string
	// Budget is the account's; nil is one without limits.
	Budget *Budget
	// Pages is the process's budget of page bytes; nil is one of this client alone.
	Pages *Pages
	// Credential goes on every request to an origin; nil is none.
	Credential Credential
	// Secrets are hidden in errors and logs, beside those of the Credential: settings that stand in paths or bodies.
	Secrets []cdc.Secret
	// Limits bound what a server sends (10); a zero field takes its default.
	Limits Limits
	// Attempts is how often a request is sent before a passing error is returned (default 6); waiting for a 429 is not counted.
	Attempts int
	// Backoff is the pause after the first passing error (default 1 s); it doubles up to BackoffMax (default 60 s), and half
	// of it is by chance.
	Backoff, BackoffMax time.Duration
	// UserAgent is sent as such (default "tidemark").
	UserAgent string
	// Log hears of repeats and pauses; nil is silence.
	Log *slog.Logger
}

// Limits bound what a server may send and how long it may take (10).
type Limits struct {
	HeaderBytes int64         // of an answer's header; default 64 KiB
	BodyBytes   int64         // of a body, as it comes and decompressed; default 64 MiB
	Ratio       int64         // decompressed ÷ compressed, once a body is beyond 1 MiB; default 200
	Connect     time.Duration // name, connection and TLS; default 15 s
	FirstByte   time.Duration // from there to the header; default 60 s
	Body        time.Duration // from the header to the end of the body; default 2 min
}

// withDefaults returns l with its zero fields filled.
func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.HeaderBytes, 64<<10)
	def(&l.BodyBytes, 64<<20)
	def(&l.Ratio, 200)
	wait(&l.Connect, 15*time.Second)
	wait(&l.FirstByte, 60*time.Second)
	wait(&l.Body, 2*time.Minute)
	return l
}

// Stats counts what a client did since it was made.
type Stats struct {
	Requests  int64 // sent, repeats included
	Repeats   int64 // sent again after a passing error
	Throttled int64 // answers that asked for a pause: 429, and 503 with Retry-After
	Relogins  int64 // 401s that a new credential was got for
	Bytes     int64 // of bodies, as they came
}

type counters struct{ requests, repeats, throttled, relogins, bytes atomic.Int64 }

// Client is the polite HTTP client of one connection. Its methods may be called from several goroutines.
type Client struct {
	transport  *http.Transport
	guard      guard
	budget     *Budget
	pages      *Pages
	credential Credential
	settings   *Veil
	made       atomic.Pointer[Veil] // over what requests are made of
	limits     Limits
	attempts   int
	backoff    time.Duration
	backoffMax time.Duration
	agent      []string // User-Agent, Accept and Accept-Encoding as a header's values, made once and never written to
	accept     []string
	encoding   []string
	log        *slog.Logger
	expect     atomic.Int64 // bytes of a page to come, from those that came
	stats      counters
}

// New returns the client of a connection. It opens no connection and asks nothing. Errors halt the connection.
func New(o Options) (*Client, error) {
	c := &Client{
		budget: o.Budget, pages: o.Pages, credential: o.Credential, limits: o.Limits.withDefaults(),
		attempts: o.Attempts, backoff: o.Backoff, backoffMax: o.BackoffMax, agent: []string{o.UserAgent}, log: o.Log,
		accept: []string{"application/json"}, encoding: []string{"gzip"},
	}
	if c.budget == nil {
		c.budget = NewBudget(BudgetOptions{})
	}
	if c.pages == nil {
		c.pages = NewPages(0)
	}
	if c.attempts <= 0 {
		c.attempts = 6
	}
	if c.backoff <= 0 {
		c.backoff = time.Second
	}
	if c.backoffMax <= 0 {
		c.backoffMax = time.Minute
	}
	if o.UserAgent == "" {
		c.agent = []string{"tidemark"}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.settings = NewVeil(o.Secrets...)
	c.made.Store(NewVeil())
	c.expect.Store(minPage)
	var err error
	if c.guard, err = newGuard(o.Origins, o.AllowHosts, o.Proxy); err != nil {
		return nil, err
	}
	if c.transport, err = newTransport(o, c.guard, c.limits); err != nil {
		return nil, err
	}
	return c, nil
}

// newTransport sets up net/http: no compression of its own (ours reuses its reader), no redirects (RoundTrip follows none),
// bounded headers (10).
func newTransport(o Options, g guard, l Limits) (*http.Transport, error) {
	roots, err := readRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:            g.dialer(o.Dial, l.Connect),
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    l.Connect,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: l.HeaderBytes,
		ReadBufferSize:         32 << 10,
		ForceAttemptHTTP2:      true,
	}
	if g.proxy != nil {
		t.Proxy = http.ProxyURL(g.proxy)
	}
	return t, nil
}

// readRoots returns the system's certificates with those of file; nil, which means the system's, where there is no file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	const hint = "ca_file must name a readable PEM file with at least one certificate"
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, &cdc.Error{Op: "read ca_file", Where: file, Err: err, Hint: hint, Remedy: cdc.Halt, Scope: cdc.Connection}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without certificates of its own: ours are all there is
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &cdc.Error{Op: "read ca_file", Where: file, Err: errors.New("no certificate in it"), Hint: hint, Remedy: cdc.Halt, Scope: cdc.Connection}
	}
	return roots, nil
}

// Close ends the idle connections. Requests under way end with their context.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Stats returns what the client did so far.
func (c *Client) Stats() Stats {
	return Stats{
		Requests: c.stats.requests.Load(), Repeats: c.stats.repeats.Load(), Throttled: c.stats.throttled.Load(),
		Relogins: c.stats.relogins.Load(), Bytes: c.stats.bytes.Load(),
	}
}

// Budget returns the account's budget, for the status page: whether it is paused, until when and why.
func (c *Client) Budget() *Budget { return c.budget }

// Settle makes the token in hand and the stored one agree (K19): after a restore, before anything is polled, and before the
// ownership is given up. It waits for a refresh in flight, stores a token that Kafka does not have yet, or adopts the one
// that was read back. A login that was refused may be tried again. For credentials that never change it does nothing.
func (c *Client) Settle(ctx context.Context) error {
	if s, ok := c.credential.(interface{ Settle(context.Context) error }); ok {
		return s.Settle(ctx)
	}
	return nil
}

// Request is one request, as it is to be sent.
type Request struct {
	Method string      // "" is GET
	URL    string      // absolute
	Header http.Header // sent as it is, beside User-Agent, Accept (where not given) and Accept-Encoding; not changed
	Body   []byte      // not changed; may be sent several times
	// Secrets are hidden in whatever is said of the request and of its answer: what it was made of settings that are secret.
	Secrets []cdc.Secret
	// Cost is what the request takes of the account's budget; below 1 is 1.
	Cost float64
	// Flow names the stream, so that streams share a budget fairly: one with a thousand partitions does not keep another waiting.
	Flow string
	// Background requests (reconciliation, a deep lookback) go only while more than a tenth of the budget is left.
	Background bool
	// Foreign says that an answer named the URL (a file's, say) and that it may lie outside the origins: it is then asked
	// without the credential, and its host may not be private or link-local unless it is in AllowHosts.
	Foreign bool
	// Judge says whether an answer is one; nil is DefaultJudge. Its error decides: Retry repeats the identical request
	// (after Retry-After where the answer has one), everything else is returned. It is called once per answer and must keep
	// nothing of it.
	Judge func(*Response) error
}

// Response is an answer that its request's Judge accepted. It has one owner; Release ends it.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // decompressed, whole; valid until Release
	// Sent, Began and Received are our clock when the request went out, when the header was there, and the body.
	Sent, Began, Received time.Time
	// ServerTime is a moment by the server's clock before it looked at its data (POLLING, "server time"): its Date less the
	// time from Sent to the header, in which it made the answer; without a Date our clock less one minute.
	ServerTime time.Time
	// Wire is the length of the body as it came, before decompression.
	Wire int64
	// Relogin says that a 401 came first and a new credential was got: a listing that goes on repeats its last page and
	// compares (D2).
	Relogin bool
	// Logins counts those new credentials, whichever request met the 401, up to the one that this request was sent with: where
	// requests run side by side only some see the 401, and the pages of a listing that differ in it were seen by two logins (D2).
	Logins int64

	page    *page
	client  *Client
	secrets []cdc.Secret // of its request
}

// Release gives the body's buffer back. Body and all that points into it are gone then. A second call does nothing.
func (r *Response) Release() {
	if r == nil || r.page == nil {
		return
	}
	p := r.page
	r.page, r.Body = nil, nil
	p.release()
}

// Excerpt returns the first 200 bytes of the body for a message: printable, with the credential's secrets hidden.
func (r *Response) Excerpt() string { return excerpt(r.Body, r.hide) }

func (r *Response) hide(text string) string { return r.client.Hide(text, r.secrets...) }

// place names a request for a message: without its query, which may hold a credential.
func place(method string, u *url.URL) string {
	return method + " " + u.Scheme + "://" + u.Host + u.EscapedPath()
}
