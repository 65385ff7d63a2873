package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// loggingIn is what `login` is asked: a person agrees in the browser, the provider sends it back to us with a code, and the code
// is good for the first grant (RFC 6749, section 4.1; RFC 8252: on loopback).
type loggingIn struct {
	p        *program
	target   declared
	redirect string
	out      string
	patience time.Duration
	settings trialFlags // of SOURCE
}

// login gets a first grant.
func login(ctx context.Context, p *program, args []string) error {
	l := loggingIn{p: p}
	f := p.flags("login", "CONNECTION | SOURCE --config name=value ... --out FILE")
	f.StringVar(&l.redirect, "redirect", "http://127.0.0.1:8485/callback", "where the provider sends the browser back to, on this machine; many want it registered as it stands")
	f.DurationVar(&l.patience, "timeout", 10*time.Minute, "how long to wait for the person")
	f.Var(&l.settings.config, "config", "of a SOURCE: a setting, name=value; again for each. @FILE and ${VAR} stand for a content")
	f.StringVar(&l.out, "out", "", "of a SOURCE: the new file that gets the refresh token")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: connector login CONNECTION, or connector login SOURCE --config name=value ... --out FILE", errUsage)
	}
	if l.out != "" || len(l.settings.config) > 0 {
		return l.source(ctx, rest[0])
	}
	// What is needed to store the grant is looked at first: a person is not sent to the browser in vain.
	r := replacing{surgery: surgery{p: p}}
	if err := r.prepare(ctx, "login", rest[0]); err != nil {
		if _, e := source.Open(rest[0]); e == nil && r.target.Name == "" {
			return fmt.Errorf("%w: %s is no connection of the file; a source wants --config name=value ... and --out FILE", errUsage, rest[0])
		}
		return err
	}
	l.target = r.target
	r.plan()
	if r.grant, err = l.agree(ctx); err != nil {
		return err
	}
	return r.store(ctx)
}

// source gets the first grant for a connection that is not in the file yet.
func (l *loggingIn) source(ctx context.Context, name string) error {
	const later = "comes-later" // the refresh token itself, where the definition wants one
	if l.out == "" {
		return fmt.Errorf("%w: --out FILE says where the refresh token goes; it is printed nowhere", errUsage)
	}
	if _, err := os.Stat(l.out); err == nil {
		return fmt.Errorf("%w: --out %s: there is such a file already", errUsage, l.out)
	}
	d, err := source.Open(name)
	if err != nil {
		return err
	}
	config, err := l.settings.settings(l.p, d)
	if err != nil {
		return err
	}
	for _, s := range d.Settings() {
		if s.Secret && !s.Optional && config[s.Name] == nil {
			config[s.Name] = later
		}
	}
	bound, err := d.Bind("login", config, source.Overrides{})
	if err != nil {
		return err
	}
	if bound.Auth.ClientSecret.Reveal() == later {
		return fmt.Errorf("%w: the client's secret is missing: --config name=value (%s)", errUsage, needs(d))
	}
	l.target = declared{source.Connection{Name: name}, bound}
	grant, err := l.agree(ctx)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(l.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.WriteString(grant.Refresh.Reveal() + "\n"); err == nil {
		err = file.Close()
	}
	if err != nil {
		return fmt.Errorf("the refresh token could not be written, and is lost: %w", err)
	}
	fmt.Fprintf(l.p.out, "done: %s holds the refresh token; in the file of connections it is the setting's value {file: %s}\n", l.out, l.out)
	return nil
}

// agree sends a person to the provider and waits for what comes back.
func (l *loggingIn) agree(ctx context.Context) (fetch.Grant, error) {
	a := &l.target.bound.Auth
	if a.AuthorizeURL == "" {
		e := cdc.Errorf(cdc.Halt, cdc.Connection, "login", "Declare authorize_url in the definition's authenticator; or get a refresh token by the provider's own means and give it to `connector tokens replace`",
			"source %s does not say where a grant is asked for (its authenticator is %s)", l.target.bound.Name, authOf(l.target.bound))
		e.Where = l.target.Name
		return fetch.Grant{}, e
	}
	back, err := listenBack(l.redirect)
	if err != nil {
		return fetch.Grant{}, err
	}
	defer back.close()
	code := fetch.Code{Redirect: back.redirect}
	query := url.Values{"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {back.redirect}, "state": {back.state}}
	if len(a.Scopes) > 0 {
		query.Set("scope", strings.Join(a.Scopes, " "))
	}
	if a.PKCE { // who reads the code on its way cannot redeem it
		code.Verifier = cdc.NewSecret(random())
		sum := sha256.Sum256([]byte(code.Verifier.Reveal()))
		query.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
		query.Set("code_challenge_method", "S256")
	}
	join := "?"
	if strings.Contains(a.AuthorizeURL, "?") {
		join = "&"
	}
	fmt.Fprintf(l.p.out, "Open this page in a browser on this machine and agree; it comes back to %s (waiting %s):\n\n  %s\n\n", back.redirect, l.patience, a.AuthorizeURL+join+query.Encode())
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	if code.Code, err = back.wait(ctx); err != nil {
		return fetch.Grant{}, err
	}
	client, err := fetch.New(l.target.client(newBudget(source.RateLimit{}), nil))
	if err != nil {
		return fetch.Grant{}, err
	}
	defer client.Close()
	return fetch.Redeem(ctx, client, l.target.bound.OAuth2(nil), code)
}

// random is 256 bits as a text that a URL can hold.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// wayBack is the page on loopback that the provider sends the browser to.
type wayBack struct {
	redirect, path, state string
	server                *http.Server
	done                  chan struct{}
	came                  chan answered
}

// answered is what the browser brought.
type answered struct {
	code cdc.Secret
	err  error
}

// listenBack opens it; close ends it.
func listenBack(redirect string) (*wayBack, error) {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || !loopback(u.Hostname()) || u.Port() == "" {
		return nil, fmt.Errorf("%w: --redirect must be http://127.0.0.1:PORT/PATH or http://localhost:PORT/PATH: the code comes back to this machine and nowhere else", errUsage)
	}
	listener, err := net.Listen("tcp", u.Host)
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "login", "Name a free port with --redirect", "%w", err)
	}
	if u.Port() == "0" {
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	w := &wayBack{redirect: u.String(), path: u.Path, state: random(), done: make(chan struct{}), came: make(chan answered, 1)}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() { // serves the page that the browser comes back to
		defer close(w.done)
		if err := w.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.take(answered{err: err})
		}
	}()
	return w, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (w *wayBack) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = w.server.Shutdown(ctx) // so that the browser gets its page; what does not end in time is cut
	_ = w.server.Close()
	<-w.done
}

// take keeps the first answer.
func (w *wayBack) take(a answered) {
	select {
	case w.came <- a:
	default:
	}
}

// ServeHTTP implements http.Handler. Whatever does not bring our state was not sent by who we sent out, and changes nothing.
func (w *wayBack) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	out.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out.Header().Set("Cache-Control", "no-store")
	out.Header().Set("Referrer-Policy", "no-referrer")
	q := r.URL.Query()
	say := func(status int, text string) {
		out.WriteHeader(status)
		fmt.Fprintln(out, text)
	}
	switch {
	case r.Method != http.MethodGet || r.URL.Path != w.path:
		say(http.StatusNotFound, "There is nothing here.")
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(w.state)) != 1:
		say(http.StatusBadRequest, "This is no answer to the login that is under way. Open the page that the terminal shows.")
	case q.Get("error") != "":
		say(http.StatusOK, "The provider refused. The terminal says more.")
		w.take(answered{err: cdc.Errorf(cdc.Halt, cdc.Connection, "login", "Log in again and agree; is the client registered with these scopes and this redirect?",
			"the provider answered %.100q: %.300q", q.Get("error"), q.Get("error_description"))})
	case q.Get("code") == "":
		say(http.StatusBadRequest, "The provider sent no code.")
		w.take(answered{err: cdc.Errorf(cdc.Halt, cdc.Connection, "login", "Is authorize_url right?", "the provider sent the browser back without a code")})
	default:
		say(http.StatusOK, "Done. You can close this page and go back to the terminal.")
		w.take(answered{code: cdc.NewSecret(q.Get("code"))})
	}
}

// wait returns the code.
func (w *wayBack) wait(ctx context.Context) (cdc.Secret, error) {
	select {
	case a := <-w.came:
		return a.code, a.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return cdc.Secret{}, cdc.Errorf(cdc.Halt, cdc.Connection, "login", "Run it again (--timeout waits longer)", "nobody came back from the provider")
		}
		return cdc.Secret{}, ctx.Err()
	}
}
