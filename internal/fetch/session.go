package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tidemark/internal/cdc"
)

// Login is what the answer to a login holds.
type Login struct {
	Token   cdc.Secret // zero where the session is in cookies
	Expires string     // seconds from now, Unix time or a date; "" where the answer does not say
}

// SessionOptions are the settings of a Session.
type SessionOptions struct {
	Connection string // its name, for hints
	// Request writes the login, anew for each; its origin must be among Options.Origins. It is sent without cookies.
	Request func() (*Request, error)
	// Read takes the token out of an answer with a status of success; nil where the session is in Cookies.
	Read           func(*Response) (Login, error)
	Header, Prefix string // where the token goes, and what stands before it
	Cookies        bool   // the session is in the cookies that the login sets
	// Life is how long a session is used; 0: as long as Login.Expires says, or till a 401.
	Life    time.Duration
	Secrets []cdc.Secret // of the login, to be hidden
}

// Session is a credential that a login request gets: a token, or cookies. It is kept in memory alone.
type Session struct {
	options SessionOptions

	live   atomic.Pointer[visit] // what may be used now
	hiding atomic.Pointer[Veil]  // over the secrets of the login, of the present session and of the one before

	// busy is a lock that waits: one login is in flight. Whoever has its one element owns what follows.
	busy     chan struct{}
	failures int       // logins in a row that failed and may pass
	again    time.Time // before it there is none, who asks hears of the last one
	failed   error
	dead     error // the login was refused for good: it is not tried again
	marks    uint64
	latest   []cdc.Secret // of the present session
}

// visit is a session in use.
type visit struct {
	name   string // of the header; "" with cookies
	header []string
	jar    http.CookieJar // nil with a token
	until  time.Time      // zero: until it is rejected
	mark   uint64
}

// NewSession returns the credential; it asks nothing yet.
func NewSession(o SessionOptions) *Session {
	s := &Session{options: o, busy: make(chan struct{}, 1)}
	s.remember(nil)
	return s
}

// Apply implements Credential. It blocks during a login.
func (s *Session) Apply(ctx context.Context, c *Client, r *http.Request) (uint64, error) {
	v := s.usable(r.URL)
	if v == nil {
		var err error
		if v, err = s.renew(ctx, c, r.URL); err != nil {
			return 0, err
		}
	}
	if v.jar == nil {
		r.Header[v.name] = v.header
		return v.mark, nil
	}
	for _, cookie := range v.jar.Cookies(r.URL) {
		r.AddCookie(cookie)
	}
	return v.mark, nil
}

// usable returns the session in use; nil where it is about to expire, where its cookies have, or where there is none.
func (s *Session) usable(u *url.URL) *visit {
	v := s.live.Load()
	if v == nil || !v.until.IsZero() && !time.Now().Before(v.until) || v.jar != nil && len(v.jar.Cookies(u)) == 0 {
		return nil
	}
	return v
}

// Reject implements Credential. The session is given up, unless there is a newer one already.
func (s *Session) Reject(mark uint64) bool {
	if v := s.live.Load(); v != nil && v.mark == mark {
		s.live.CompareAndSwap(v, nil)
	}
	return true
}

func (s *Session) veil() *Veil { return s.hiding.Load() }

// Settle lifts a refused login: an ownership begins, and after a refusal that is the word of whoever restarted the connection.
func (s *Session) Settle(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	s.dead = nil
	return nil
}

func (s *Session) enter(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the login: %w", ctx.Err())
	}
}

func (s *Session) leave() { <-s.busy }

// renew returns a session that may be used, logging in where there is none.
func (s *Session) renew(ctx context.Context, c *Client, u *url.URL) (*visit, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if v := s.usable(u); v != nil {
		return v, nil // somebody else logged in while we waited for the lock
	}
	switch {
	case s.dead != nil:
		return nil, s.dead
	case time.Now().Before(s.again):
		return nil, s.failed // twenty that waited for one login are not twenty more
	}
	v, err := s.logIn(ctx, c, u)
	switch remedy, _ := cdc.Verdict(err); {
	case err == nil:
		s.failures, s.again = 0, time.Time{}
		s.live.Store(v)
	case ctx.Err() != nil: // given up, not failed
	case remedy == cdc.Retry:
		s.failures++
		s.failed, s.again = err, time.Now().Add(c.pause(s.failures)/2) // over before the pause of who asked (Client.pause) is
	default:
		s.dead = err
	}
	return v, err
}

// logIn asks once.
func (s *Session) logIn(ctx context.Context, c *Client, u *url.URL) (*visit, error) {
	request, err := s.options.Request()
	if err != nil {
		return nil, s.halt("Mend `login` of the authenticator, then restart connection %s.", err)
	}
	resp, err := c.send(ctx, request)
	if err != nil {
		return nil, err
	}
	defer resp.Release()
	if err := s.judge(c, resp); err != nil {
		return nil, err
	}
	s.marks++
	v := &visit{name: s.options.Header, mark: s.marks}
	var login Login
	if s.options.Read != nil {
		if login, err = s.options.Read(resp); err != nil {
			return nil, s.halt("Was the login refused with a status of success? Then mend the credentials in the connection's config, else `login`, "+
				"`token` and `expires` of the authenticator; and restart connection %s.", err)
		}
	}
	if s.options.Cookies {
		if err := s.take(v, request, u, resp); err != nil {
			return nil, err
		}
	} else {
		text := s.options.Prefix + login.Token.Reveal()
		if unsendable(text) {
			return nil, s.halt("Does `token` of the authenticator name the right place? Mend it, then restart connection %s.",
				errors.New("the token holds a control character"))
		}
		v.header = []string{text}
		s.remember(append([]cdc.Secret{login.Token}, request.Secrets...))
	}
	return v, s.bound(v, resp, login.Expires)
}

// take puts the cookies of the login's answer into v. Those that the server removes are none.
func (s *Session) take(v *visit, login *Request, u *url.URL, resp *Response) error {
	at, err := url.Parse(login.URL)
	if err != nil {
		return err // it was sent, so it can be parsed
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	cookies := (&http.Response{Header: resp.Header}).Cookies()
	jar.SetCookies(at, cookies)
	if v.jar = jar; len(jar.Cookies(u)) == 0 {
		return s.halt("Was the login refused with a status of success, or is it another request that begins a session? Mend `login` or the "+
			"credentials, then restart connection %s.",
			fmt.Errorf("the login answered %d and set no cookie for %s", resp.Status, u.Host))
	}
	secrets := slices.Clone(login.Secrets)
	for _, cookie := range cookies {
		secrets = append(secrets, cdc.NewSecret(cookie.Value))
	}
	s.remember(secrets)
	return nil
}

// remember hides the secrets of a new session, beside those of the one before: answers that quote it may be on their way.
func (s *Session) remember(secrets []cdc.Secret) {
	s.hiding.Store(NewVeil(slices.Concat(s.options.Secrets, secrets, s.latest)...))
	s.latest = secrets
}

// bound decides until when v is used: a little less long than it lives, since it may expire on the way.
func (s *Session) bound(v *visit, resp *Response, expires string) error {
	life := s.options.Life
	if expires != "" {
		var ok bool
		if life, ok = resetIn(expires, clock(resp)); !ok {
			return s.halt("Mend `expires` of the authenticator: a duration, or a place with seconds, Unix time or a date; then restart connection %s.",
				fmt.Errorf("the session's end %.40q cannot be read", expires))
		}
		if life <= 0 {
			return loginError("the new session has ended already")
		}
	}
	if life > 0 {
		v.until = resp.Sent.Add(life - min(time.Minute, life/4))
	}
	return nil
}

// judge decides on the status of a login's answer. What will not pass is not tried again, since many servers lock an account
// after a few refusals.
func (s *Session) judge(c *Client, resp *Response) error {
	code := resp.Status
	refused := code == http.StatusUnauthorized || code == http.StatusForbidden
	switch {
	case refused:
		return s.halt("The login is refused and is not tried again: put valid credentials into the connection's config, then restart connection %s.",
			fmt.Errorf("the login was answered %d: %s", code, resp.Excerpt()))
	case s.options.Cookies && (code == http.StatusFound || code == http.StatusSeeOther):
		return nil // as for a browser, which goes on from there; whether it is logged in, its cookies tell
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		if _, err := c.paused(nil, resp, "the login"); err != nil {
			return err
		}
	}
	err := DefaultJudge(resp)
	if err == nil {
		return nil
	}
	what := err
	if e := new(cdc.Error); errors.As(err, &e) {
		what = e.Err
	}
	if remedy, _ := cdc.Verdict(err); remedy == cdc.Retry {
		return loginError(what.Error())
	}
	return s.halt("Mend `login` of the authenticator, or base_url; then restart connection %s.", what)
}

func loginError(what string) error {
	return &cdc.Error{Op: "log in", Err: errors.New(what), Remedy: cdc.Retry, Scope: cdc.Connection}
}

// halt is an error that the connection stops at; hint has a place for its name.
func (s *Session) halt(hint string, err error) error {
	return &cdc.Error{Op: "log in", Where: s.options.Connection, Err: err, Hint: fmt.Sprintf(hint, s.options.Connection), Remedy: cdc.Halt, Scope: cdc.Connection}
}

// unsendable reports whether text cannot stand in a header.
func unsendable(text string) bool {
	return strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}
