package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// gate is an API behind a login. It notes what happens in its order; its fields are changed while nothing is under way.
type gate struct {
	mu      sync.Mutex
	log     []string
	n       int
	valid   string           // the session that is let in
	login   http.HandlerFunc // answers instead of the login
	slow    time.Duration    // what a login takes
	expires func() string    // JSON, in the login's answer
	cookies bool
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/login" && g.slow > 0 {
		<-time.After(g.slow)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := r.Header.Get("X-Session")
	if cookie, err := r.Cookie("session"); err == nil {
		seen = cookie.Value
	}
	if r.URL.Path != "/login" {
		g.log = append(g.log, "get "+seen)
		if seen != g.valid {
			w.WriteHeader(401)
			fmt.Fprintf(w, "who is %s?", seen)
		}
		return
	}
	body, _ := io.ReadAll(r.Body)
	g.log = append(g.log, "login "+string(body)+r.Header.Get("Cookie")+seen)
	if g.login != nil {
		g.login(w, r)
		return
	}
	g.n++
	g.valid = fmt.Sprint("Token session-", g.n)
	if g.cookies {
		g.valid = fmt.Sprint("session-", g.n)
		http.SetCookie(w, &http.Cookie{Name: "old", MaxAge: -1})
		http.SetCookie(w, &http.Cookie{Name: "session", Value: g.valid, Path: "/", HttpOnly: true})
	}
	expires := "null"
	if g.expires != nil {
		expires = g.expires()
	}
	fmt.Fprintf(w, `{"token":"session-%d","expires":%s}`, g.n, expires)
}

func (g *gate) took(t *testing.T, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := cmp.Diff(want, g.log); d != "" {
		t.Error(d)
	}
	g.log = nil
}

// session is a credential for g; change may change its options.
func (g *gate) session(change func(*SessionOptions)) *Session {
	o := SessionOptions{
		Connection: "sales", Header: "X-Session", Prefix: "Token ", Secrets: []cdc.Secret{cdc.NewSecret("pa55word")},
		Request: func() (*Request, error) {
			return &Request{Method: "POST", URL: api + "/login?key=pa55word", Body: []byte("pa55word")}, nil
		},
		Read: func(r *Response) (Login, error) {
			var a struct{ Token, Expires any }
			if err := json.Unmarshal(r.Body, &a); err != nil || a.Token == nil {
				return Login{}, errors.New("the answer has no token")
			}
			l := Login{Token: cdc.NewSecret(fmt.Sprint(a.Token))}
			if a.Expires != nil {
				l.Expires = fmt.Sprint(a.Expires)
			}
			return l, nil
		},
	}
	if g.cookies {
		o.Cookies, o.Read = true, nil
	}
	if change != nil {
		change(&o)
	}
	return NewSession(o)
}

func (g *gate) client(t *testing.T, s *Session) *Client {
	return client(t, g.ServeHTTP, func(o *Options) { o.Credential, o.Attempts = s, 3 })
}

// A session is used till it is about to end; the login carries no cookies of the one before.
func TestSessionEnds(t *testing.T) {
	says := func(text string) func() string { return func() string { return text } }
	for _, c := range []struct {
		name          string
		expires       func() string
		life          time.Duration
		cookies       bool
		first, second time.Duration // the last moment of the old session, the first of the new one
	}{
		{name: "seconds", expires: says("3600"), first: 58 * time.Minute, second: 2 * time.Minute},
		{name: "text", expires: says(`"3600"`), first: 58 * time.Minute, second: 2 * time.Minute},
		{name: "instant", expires: func() string { return time.Now().Add(time.Hour).UTC().Format(`"` + time.RFC3339 + `"`) }, first: 58 * time.Minute, second: 2 * time.Minute},
		{name: "milliseconds", expires: func() string { return fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()) }, first: 58 * time.Minute, second: 2 * time.Minute},
		{name: "short", expires: says("100"), first: 70 * time.Second, second: 10 * time.Second},
		{name: "declared", life: time.Hour, first: 58 * time.Minute, second: 2 * time.Minute},
		{name: "cookies", life: time.Hour, cookies: true, first: 58 * time.Minute, second: 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{expires: c.expires, cookies: c.cookies}
				cl := g.client(t, g.session(func(o *SessionOptions) { o.Life = c.life }))
				for i, wait := range []time.Duration{0, c.first, c.second} {
					<-time.After(wait)
					resp, err := cl.Do(t.Context(), get("/people"))
					if err != nil {
						t.Fatal(i, err)
					}
					if resp.Relogin {
						t.Error("D2: a planned login is no login after a 401")
					}
					resp.Release()
				}
				prefix := "Token "
				if c.cookies {
					prefix = ""
				}
				g.took(t, "login pa55word", "get "+prefix+"session-1", "get "+prefix+"session-1", "login pa55word", "get "+prefix+"session-2")
			})
		})
	}
}

// A 401 is answered by one login, which D2 hears of; a second one halts the connection.
func TestSessionAfter401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		cl := g.client(t, g.session(nil))
		if err := ask(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		g.valid = "other"
		resp, err := cl.Do(t.Context(), get("/people"))
		if err != nil || !resp.Relogin || cl.Stats().Relogins != 1 {
			t.Errorf("%+v %v", resp, err)
		}
		resp.Release()
		g.took(t, "login pa55word", "get Token session-1", "get Token session-1", "login pa55word", "get Token session-2")
		g.login = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"session-x"}`) }
		g.valid = "other"
		err = ask(t.Context(), cl)
		want(t, err, cdc.Halt, cdc.Connection, "401", "who is Token ***?")
		if text := cl.Hide("session-2 and session-x, not session-1"); text != "*** and ***, not session-1" {
			t.Errorf("the session before is quoted: %s", text)
		}
		g.took(t, "get Token session-2", "login pa55word", "get Token session-x")
	})
}

// D2: whoever is answered after a new login can tell, also who did not meet the 401; a planned login is none of those.
func TestD2LoginsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{slow: 10 * time.Second}
		cl := g.client(t, g.session(func(o *SessionOptions) { o.Life = time.Hour }))
		do := func() (logins int64, relogin bool) {
			resp, err := cl.Do(t.Context(), get("/people"))
			if err != nil {
				t.Error(err)
				return 0, false
			}
			defer resp.Release()
			return resp.Logins, resp.Relogin
		}
		for range 2 {
			if logins, relogin := do(); logins != 0 || relogin {
				t.Errorf("%d logins, %v", logins, relogin)
			}
			<-time.After(time.Hour)
		}
		do()
		g.valid = "other"
		var wg sync.WaitGroup
		wg.Go(func() {
			if logins, relogin := do(); logins != 1 || !relogin {
				t.Errorf("who met the 401: %d logins, %v", logins, relogin)
			}
		})
		<-time.After(5 * time.Second) // the login is under way
		if logins, relogin := do(); logins != 1 || relogin {
			t.Errorf("who waited for it: %d logins, %v", logins, relogin)
		}
		wg.Wait()
	})
}

// One login is in flight, whoever finds the session ended or refused.
func TestSessionOneLoginInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{slow: 10 * time.Second, cookies: true}
		cl := g.client(t, g.session(func(o *SessionOptions) { o.Life = time.Hour }))
		for range 2 {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if err := ask(t.Context(), cl); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			g.valid = "other"
		}
		if g.n != 2 {
			t.Errorf("%d logins", g.n)
		}
	})
}

// A refused login halts the connection with a hint and is not tried again, whoever asks, until somebody restarts it.
func TestSessionRefusedIsNotRepeated(t *testing.T) {
	answer := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { status(code, header...)(w, r); fmt.Fprint(w, body) }
	}
	for _, c := range []struct {
		name    string
		login   http.HandlerFunc
		cookies bool
		words   []string
	}{
		{"401", answer(401, "pa55word is wrong"), false, []string{"answered 401", "*** is wrong", "put valid credentials", "restart connection sales"}},
		{"403", answer(403, ""), true, []string{"answered 403", "put valid credentials"}},
		{"404", answer(404, ""), false, []string{"404", "Mend `login`"}},
		{"422", answer(422, ""), false, []string{"422"}},
		{"no token", answer(202, `{"error":"locked"}`), false, []string{"no token", "mend the credentials"}},
		{"page", answer(202, "<html>", "Content-Type", "text/html"), true, []string{"web page"}},
		{"no cookie", answer(202, `{}`), true, []string{"set no cookie for api.test"}},
		{"cookie of elsewhere", answer(202, `{}`, "Set-Cookie", "a=b; Domain=other.test"), true, []string{"set no cookie"}},
		{"redirect", answer(302, "", "Location", "/"), false, []string{"302"}},
		{"redirect without a cookie", answer(302, "", "Location", "/"), true, []string{"set no cookie"}},
		{"control", answer(202, `{"token":"a\nb"}`), false, []string{"control character"}},
		{"expiry", answer(202, `{"token":"a","expires":"soon"}`), false, []string{`"soon" cannot be read`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{login: c.login, cookies: c.cookies}
				cl := g.client(t, g.session(nil))
				for range 3 {
					err := ask(t.Context(), cl)
					want(t, err, cdc.Halt, cdc.Connection, c.words...)
					if strings.Contains(err.Error(), "pa55word") {
						t.Errorf("error %q shows the password", err)
					}
				}
				g.took(t, "login pa55word")
				if err := cl.Settle(t.Context()); err != nil { // another ownership: it was restarted
					t.Error(err)
				}
				g.login = nil
				if err := ask(t.Context(), cl); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A browser's login answers with a redirect; its cookie goes where its domain, path and security allow.
func TestSessionCookiesGoWhereTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{cookies: true, valid: "abcd"}
		g.login = status(303, "Location", "/home", "Set-Cookie", "session=abcd; Path=/people; Max-Age=60")
		cl := g.client(t, g.session(nil))
		for range 2 {
			if err := ask(t.Context(), cl); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute) // the cookie is over, and a new one is got without a 401
		if err := ask(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		g.took(t, "login pa55word", "get abcd", "get abcd", "login pa55word", "get abcd")
	})
}

// Trouble that passes is repeated, with the pauses that are asked for (P22); who waited for a login that failed does not ask
// for one more each.
func TestSessionTroublePasses(t *testing.T) {
	for _, c := range []struct {
		name   string
		login  http.HandlerFunc
		least  time.Duration
		words  string
		logins int
	}{
		{"500", status(500), 0, "500", 3},
		{"over", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"a","expires":0}`) }, 0, "has ended already", 3},
		{"503", status(503, "Retry-After", "600"), 20 * time.Minute, "503", 3},
		{"429", status(429), 3 * time.Minute, "429", 3}, // a minute, and then two
		{"broken", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "no answer", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{login: c.login}
				cl := g.client(t, g.session(nil))
				began := time.Now()
				err := ask(t.Context(), cl)
				if remedy, _ := cdc.Verdict(err); remedy != cdc.Retry || !strings.Contains(err.Error(), c.words) {
					t.Errorf("error %v", err)
				}
				if d := time.Since(began); d < c.least || d > c.least+10*time.Minute {
					t.Errorf("took %v", d)
				}
				if len(g.log) != c.logins {
					t.Errorf("%q", g.log)
				}
				g.login = nil
				<-time.After(time.Hour)
				if err := ask(t.Context(), cl); err != nil {
					t.Error(err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		g := &gate{login: status(500), slow: time.Second}
		cl := g.client(t, g.session(nil))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := ask(t.Context(), cl); err == nil {
					t.Error("no error")
				}
			})
		}
		wg.Wait()
		if len(g.log) > 6 {
			t.Errorf("%d logins for twenty requests with three attempts each", len(g.log))
		}
	})
}

// The login goes to an origin and nowhere else.
func TestSessionLoginIsAnOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		cl := client(t, g.ServeHTTP, func(o *Options) { o.Credential, o.Origins = g.session(nil), []string{"http://other.test"} })
		_, err := cl.Do(t.Context(), &Request{URL: "http://other.test/people"})
		want(t, err, cdc.Halt, cdc.Stream, "foreign URL", api+"/login")
		if strings.Contains(err.Error(), "pa55word") {
			t.Errorf("error %q shows the password", err)
		}
	})
}

// A secret setting in a path is shown nowhere.
func TestSecretsInPathsAreHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := client(t, status(404), func(o *Options) { o.Secrets = []cdc.Secret{cdc.NewSecret("se cret/1")} })
		_, err := cl.Do(t.Context(), get("/bot/se%20cret%2F1/updates"))
		want(t, err, cdc.Halt, cdc.Stream, "404", "/bot/***/updates")
	})
}
