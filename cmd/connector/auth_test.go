package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/source"
)

// counter is an API behind a login or a token endpoint; it counts the logins and the pages.
type counter struct {
	mu            sync.Mutex
	logins, pages int
	refuse, ended bool // logins are refused; the session is over till the next one
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/login" || r.URL.Path == "/token":
		if c.logins++; c.refuse {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		c.ended = false
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "sess10n"})
		fmt.Fprint(w, `{"token": "sess10n", "access_token": "sess10n", "expires_in": 600}`)
	case c.ended:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("Authorization") == "Bearer sess10n" || r.Header.Get("X-Session") == "Token sess10n" || r.Header.Get("Cookie") == "sid=sess10n":
		c.pages++
		fmt.Fprint(w, `[{"id": 1, "echo": "sess10n swordfish"}]`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// seen is how often it was logged in, and how many pages were read.
func (c *counter) seen() (logins, pages int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins, c.pages
}

// end ends the session; from now on logins are refused, or are not. It returns how many pages were read.
func (c *counter) end(refuse bool) (pages int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.refuse = true, refuse
	return c.pages
}

// The tests of a definition and the check of a connection log in as the connector does, and say what is wrong with a login. No
// secret is printed.
func TestCommandsLogIn(t *testing.T) {
	for name, c := range map[string]struct{ auth, proof string }{
		"token":   {"{type: session, login: {path: /login, method: POST, form: {key: '{{ config.key }}'}}, token: token, header: x-session, prefix: 'Token ', expires: expires_in}", "X-Session: Token ***"},
		"cookies": {"{type: session, login: {path: /login, query: {key: '{{ config.key }}'}}, cookies: true}", "Cookie: ***"},
		"client":  {"{type: oauth2, grant_type: client_credentials, token_url: '{{ config.url }}/token', client_id: me, client_secret: '{{ config.key }}'}", "Authorization: Bearer ***"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			api := &counter{}
			server := httptest.NewServer(api)
			defer server.Close()
			s.write("shop.yaml", "source: shop\nconfig: {url: {}, key: {secret: true}}\nbase_url: \"{{ config.url }}\"\nauthenticator: "+c.auth+
				"\nstreams:\n  things: {path: /things, records: ., primary_key: id}\n")
			s.write("connections.yaml", fmt.Sprintf("- {name: crm, source: ./shop.yaml, config: {url: %q, key: swordfish}}\n", server.URL))
			file, golden := filepath.Join(s.dir, "shop.yaml"), filepath.Join(s.dir, "golden")
			s.want(0, []string{"sources", "check", file}, "ok: source shop")
			test := []string{"sources", "test", file, "--config", "url=" + server.URL}
			out := s.want(0, append(test, "--config", "key=swordfish", "--record", golden), c.proof, "1 would be published")
			s.want(0, append(test, "--replay", golden), c.proof, "1 would be published")
			out += s.want(0, []string{"check"}, "status 200, 1 record")
			if logins, _ := api.seen(); logins != 2 {
				t.Errorf("%d logins for one test and one check", logins)
			}
			api.end(true)
			out += s.want(1, []string{"check"}, "FAIL  page crm/things", "403", "restart connection crm")
			if logins, _ := api.seen(); logins != 3 {
				t.Errorf("a refused login was tried %d times", logins-2)
			}
			if strings.Contains(out, "swordfish") || strings.Contains(out, "sess10n") {
				t.Error("a secret is printed:\n" + out)
			}
		})
	}
}

// The connector logs in, and again when the session is over; when that is refused it halts, says what to do, and asks no more.
func TestRunLogsInAgain(t *testing.T) {
	s := newStage(t)
	api := &counter{}
	server := httptest.NewServer(api)
	defer server.Close()
	s.env["VALUE_FORMAT"] = "json"
	s.write("shop.yaml", `source: shop
config: {url: {}, key: {secret: true}}
base_url: "{{ config.url }}"
authenticator: {type: session, login: {path: /login, method: POST, body: {key: "{{ config.key }}"}}, token: token, header: X-Session, prefix: "Token "}
streams:
  things: {path: /things, records: ., primary_key: id, interval: 1s}
  others: {path: /others, records: ., primary_key: id, interval: 1s}
`)
	s.write("connections.yaml", fmt.Sprintf("- {name: crm, source: ./shop.yaml, config: {url: %q, key: swordfish}}\n", server.URL))
	r := s.run()
	s.until("both streams are captured", func() bool {
		h := s.holdings()
		return h.streams["things"].Count == 1 && h.streams["others"].Count == 1
	})
	if logins, _ := api.seen(); logins != 1 {
		t.Errorf("%d logins", logins)
	}
	before := api.end(false)
	s.until("it goes on after a new login", func() bool { logins, pages := api.seen(); return logins == 2 && pages > before+2 })
	api.end(true)
	s.until("it halts", func() bool { return strings.Contains(r.log.String(), "connection halted") })
	if logins, _ := api.seen(); logins != 3 {
		t.Errorf("a refused login was tried %d times", logins-2)
	}
	if log := r.log.String(); !strings.Contains(log, "put valid credentials into the connection's config, then restart connection crm") || strings.Contains(log, "swordfish") || strings.Contains(log, "sess10n") {
		t.Errorf("%s", log)
	}
}

// SalesLoft by an API key needs neither a client nor a place where tokens are sealed.
func TestCheckSalesLoftByKey(t *testing.T) {
	s := newStage(t)
	s.write("connections.yaml", fmt.Sprintf("- {name: crm, source: salesloft, streams: [users], config: {api_key: %q, base_url: \"%s/v2\"}}\n", "simulated-api-key", s.url))
	s.want(0, []string{"check"}, "source salesloft, 1 stream, bearer", "status 200, 5 records")
}

// P22: an account has one budget, and the strictest of what its connections declare holds.
func TestP22StrictestLimitOfAnAccount(t *testing.T) {
	of := func(account string, r source.RateLimit) declared {
		return declared{source.Connection{Account: account}, &source.Source{Rate: r}}
	}
	limited := limits([]declared{
		of("a", source.RateLimit{Budget: 600, Per: time.Minute, RemainingHeader: "left"}),
		of("a", source.RateLimit{Per: time.Minute, MaxConcurrent: 4, ResetHeader: "reset"}),
		of("b", source.RateLimit{Budget: 5, Per: time.Minute}),
		of("a", source.RateLimit{Budget: 30, Per: time.Second, MaxConcurrent: 9}),
		of("a", source.RateLimit{Budget: 18000, Per: time.Hour, RemainingHeader: "other"}),
	})
	if len(limited) != 2 || limited["a"].Budget != 18000 || limited["b"].Budget != 5 {
		t.Errorf("%+v", limited)
	}
	got := strictest(source.RateLimit{Per: time.Minute, MaxConcurrent: 4, ResetHeader: "reset"}, source.RateLimit{Budget: 600, Per: time.Minute, MaxConcurrent: 9, RemainingHeader: "left"})
	if want := (source.RateLimit{Budget: 600, Per: time.Minute, MaxConcurrent: 4, RemainingHeader: "left", ResetHeader: "reset"}); got != want {
		t.Errorf("%+v", got)
	}
}
