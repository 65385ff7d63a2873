package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// world is an API with an authorization server whose refresh tokens are single-use, and the place where grants are stored. It
// notes what happens in their order. Its fields are changed while nothing is under way.
type world struct {
	mu      sync.Mutex
	log     []string
	refresh string // the refresh token that is valid
	access  string // the access token that is valid
	n       int
	token   http.HandlerFunc            // answers instead of the token endpoint
	before  func(*http.Request)         // runs when the token endpoint is asked
	after   func(w http.ResponseWriter) // runs when the tokens were changed, before they are sent; true is done

	vault  Grant
	filled bool
	// fail is what a commit of that kind ("intend", "store") returns; lost says that it did not happen all the same.
	fail string
	lost bool
}

var errCommit = errors.New("commit of unknown outcome")

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) Grant() (Grant, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vault, w.filled
}

func (w *world) commit(ctx context.Context, kind string, g Grant) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s %d %s", kind, g.Generation, g.Refresh.Reveal())
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.fail != kind || !w.lost {
		w.vault, w.filled = g, true
	}
	if w.fail == kind {
		return errCommit
	}
	return nil
}

func (w *world) Intend(ctx context.Context, g Grant) error {
	if !g.Intent {
		panic("an intent that is none")
	}
	return w.commit(ctx, "intend", g)
}

func (w *world) Store(ctx context.Context, g Grant) error {
	if g.Intent {
		panic("a stored grant that is an intent")
	}
	return w.commit(ctx, "store", g)
}

func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/oauth/token" {
		w.mu.Lock()
		defer w.mu.Unlock()
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.note("get %s", token)
		if token != w.access {
			out.WriteHeader(401)
			fmt.Fprintf(out, "what is %s?", token)
		}
		return
	}
	form, _ := url.ParseQuery(string(body))
	if w.before != nil {
		w.before(r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("call %s%s", form.Get("grant_type")[:7], form.Get("refresh_token"))
	switch {
	case w.token != nil:
		w.token(out, r)
		return
	case form.Get("grant_type") == "refresh_token" && form.Get("refresh_token") != w.refresh:
		out.WriteHeader(400)
		fmt.Fprintf(out, `{"error":"invalid_grant","error_description":"%s is revoked"}`, form.Get("refresh_token"))
		return
	}
	w.n++
	w.refresh, w.access = fmt.Sprint("refresh-", w.n), fmt.Sprint("access-", w.n)
	if w.after != nil {
		w.after(out)
	}
	fmt.Fprintf(out, `{"access_token":%q,"refresh_token":%q,"expires_in":7200,"token_type":"Bearer"}`, w.access, w.refresh)
}

// rotating returns a credential that stands at the beginning, or after a crash, of a connection to w.
func (w *world) rotating(t *testing.T) *OAuth2 {
	t.Helper()
	o, err := NewOAuth2(OAuth2Options{Connection: "sales", GrantType: "refresh_token", TokenURL: api + "/oauth/token", ClientID: "me",
		ClientSecret: cdc.NewSecret("cl1ent"), RefreshToken: cdc.NewSecret("refresh-0"), Vault: w})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func newWorld() *world { return &world{refresh: "refresh-0"} }

// ask sends one request to the API and returns its error.
func ask(ctx context.Context, c *Client) error {
	resp, err := c.Do(ctx, get("/people"))
	resp.Release()
	return err
}

// took fails unless the log is that, and empties it.
func (w *world) took(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := cmp.Diff(want, w.log); d != "" {
		t.Error(d)
	}
	w.log = nil
}

// K19, invariant 9: intent, call, record, and only then use; a stored grant is used after a restart without asking.
func TestK19StoredBeforeUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
		for range 2 {
			if err := ask(t.Context(), cl); err != nil {
				t.Fatal(err)
			}
		}
		w.took(t, "intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1", "get access-1", "get access-1")
		if w.vault.Generation != 1 || !near(time.Until(w.vault.Expires), 2*time.Hour-time.Second) {
			t.Errorf("stored %+v", w.vault)
		}
		cl.credential = w.rotating(t)
		if err := ask(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		w.took(t, "get access-1")
		<-time.After(2*time.Hour - 30*time.Second) // about to expire
		if err := ask(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		w.took(t, "intend 1 refresh-1", "call refreshrefresh-1", "store 2 refresh-2", "get access-2")
	})
}

// K19: after a crash at any point there is the old token to try, once, or the new one.
func TestK19Crash(t *testing.T) {
	for _, c := range []struct {
		name  string
		crash func(*world)
		first []string // what the crashed process did
		then  []string // what the next one does
		ok    bool
	}{
		{"before the intent is committed", func(w *world) { w.fail, w.lost = "intend", true },
			[]string{"intend 0 refresh-0"},
			[]string{"intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1", "get access-1"}, true},
		{"after the intent is committed", func(w *world) { w.fail = "intend" },
			[]string{"intend 0 refresh-0"},
			[]string{"call refreshrefresh-0", "store 1 refresh-1", "get access-1"}, true},
		{"before the call arrives", func(w *world) { w.before = func(*http.Request) { panic(http.ErrAbortHandler) } },
			[]string{"intend 0 refresh-0"},
			[]string{"call refreshrefresh-0", "store 1 refresh-1", "get access-1"}, true},
		{"after the call was answered", func(w *world) {
			w.after = func(http.ResponseWriter) {
				w.after = nil
				w.mu.Unlock()
				defer w.mu.Lock()
				panic(http.ErrAbortHandler)
			}
		},
			[]string{"intend 0 refresh-0", "call refreshrefresh-0"},
			[]string{"call refreshrefresh-0"}, false},
		{"before the token is committed", func(w *world) { w.fail, w.lost = "store", true },
			[]string{"intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1"},
			[]string{"call refreshrefresh-0"}, false},
		{"after the token is committed", func(w *world) { w.fail = "store" },
			[]string{"intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1"},
			[]string{"get access-1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential, o.Attempts = w.rotating(t), 1 })
				c.crash(w)
				if err := ask(t.Context(), cl); err == nil {
					t.Fatal("no crash")
				}
				w.took(t, c.first...)
				w.fail, w.lost, w.before, w.after = "", false, nil, nil
				cl.credential = w.rotating(t) // all that was in hand is gone
				err := ask(t.Context(), cl)
				if (err == nil) != c.ok {
					t.Error(err)
				}
				w.took(t, c.then...)
				if c.ok {
					return
				}
				// Refused once, it is not tried again, in this process, whoever asks; nothing is polled.
				want(t, err, cdc.Halt, cdc.Connection, "invalid_grant", "connector tokens replace sales")
				if strings.Contains(err.Error(), "refresh-0") {
					t.Errorf("error %q shows the token", err)
				}
				want(t, ask(t.Context(), cl), cdc.Halt, cdc.Connection, "connector tokens replace sales")
				w.took(t)
				// A token that is put in its place lifts it.
				w.vault = Grant{Refresh: cdc.NewSecret("refresh-1"), Generation: w.vault.Generation + 1}
				if err := ask(t.Context(), cl); err != nil {
					t.Error(err)
				}
				w.took(t, "intend 1 refresh-1", "call refreshrefresh-1", "store 2 refresh-2", "get access-2")
			})
		})
	}
}

// K19: a token in hand survives a reopen until it is read back or stored again; nothing is polled meanwhile. The session's
// trouble reopens the connection (K14).
func TestK19TokenInHandSurvivesReopen(t *testing.T) {
	for _, c := range []struct {
		name string
		lost bool
		then []string
	}{
		{"lost", true, []string{"store 1 refresh-1", "get access-1"}},
		{"committed", false, []string{"get access-1"}},
	} {
		for _, settle := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, " settle ", settle), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
					w.fail, w.lost = "store", true
					for range 2 { // no second call, no request
						want := errCommit
						err := ask(t.Context(), cl)
						if r, _ := cdc.Verdict(err); r != cdc.Reopen || !errors.Is(err, want) {
							t.Errorf("error %v asks for %v", err, r)
						}
						w.lost = w.lost && c.lost
					}
					w.took(t, "intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1", "store 1 refresh-1")
					w.fail = ""
					if settle {
						if err := cl.Settle(t.Context()); err != nil {
							t.Error(err)
						}
					}
					if err := ask(t.Context(), cl); err != nil {
						t.Error(err)
					}
					w.took(t, c.then...)
				})
			})
		}
	}
}

// K19: another owner refreshed meanwhile, or began to: what is stored counts, also against a token in hand.
func TestK19NewerTokenIsAdopted(t *testing.T) {
	live := func(g int64, intent bool) Grant {
		return Grant{Access: cdc.NewSecret("access-9"), Refresh: cdc.NewSecret("refresh-9"), Expires: time.Now().Add(time.Hour), Generation: g, Intent: intent}
	}
	for _, c := range []struct {
		name  string
		grant func() Grant
		then  []string
	}{
		{"newer", func() Grant { return live(5, false) }, []string{"get access-9"}},
		{"same generation", func() Grant { return live(1, false) }, []string{"get access-9"}},
		{"newer, with an intent", func() Grant { return live(5, true) }, []string{"call refreshrefresh-9", "store 6 refresh-2", "get access-2"}},
		{"ours, with an intent", func() Grant {
			g := live(1, true)
			g.Access, g.Refresh = cdc.NewSecret("access-1"), cdc.NewSecret("refresh-1")
			return g
		}, []string{"call refreshrefresh-1", "store 2 refresh-2", "get access-2"}},
	} {
		for _, stored := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, " stored ", stored), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
					if !stored {
						w.fail, w.lost = "store", true
					}
					if err := ask(t.Context(), cl); (err == nil) != stored {
						t.Fatal(err)
					}
					w.fail, w.log = "", nil
					w.vault, w.filled = c.grant(), true
					w.access, w.refresh = w.vault.Access.Reveal(), w.vault.Refresh.Reveal()
					if err := cl.Settle(t.Context()); err != nil { // as after every restore
						t.Error(err)
					}
					if err := ask(t.Context(), cl); err != nil {
						t.Error(err)
					}
					w.took(t, c.then...)
				})
			})
		}
	}
}

// As long as nothing was got for it, the token of the configuration counts, also against a crash's intent.
func TestK19ConfiguredTokenReplacesItsIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.vault, w.filled = Grant{Refresh: cdc.NewSecret("refresh-wrong"), Intent: true}, true
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
		if err := ask(t.Context(), cl); err != nil {
			t.Error(err)
		}
		w.took(t, "call refreshrefresh-0", "store 1 refresh-1", "get access-1")
	})
}

// Invariant 9: one refresh is in flight, whoever finds the token expired or refused.
func TestK19OneRefreshInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		flying, most := 0, 0
		w.before = func(*http.Request) {
			w.mu.Lock()
			flying++
			most = max(most, flying)
			w.mu.Unlock()
			<-time.After(10 * time.Second)
			w.mu.Lock()
			flying--
			w.mu.Unlock()
		}
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
		for round := 1; round <= 3; round++ {
			var wg sync.WaitGroup
			relogins, before := 0, cl.Stats().Relogins
			for range 20 {
				wg.Go(func() {
					resp, err := cl.Do(t.Context(), get("/people"))
					if err != nil {
						t.Error(err)
						return
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					if resp.Relogin {
						relogins++
					}
				})
			}
			wg.Wait()
			// D2: who saw the 401 knows; those that came later and waited do not, but the client does.
			if (relogins > 0) != (round == 2) || int64(relogins) != cl.Stats().Relogins-before {
				t.Errorf("round %d: %d answers after a new login, %d counted", round, relogins, cl.Stats().Relogins-before)
			}
			calls := slices.DeleteFunc(w.log, func(s string) bool { return !strings.HasPrefix(s, "call") })
			if len(calls) != 1 || most != 1 {
				t.Errorf("round %d: %v, %d at a time", round, calls, most)
			}
			w.log = nil
			if round == 1 {
				w.access = "revoked" // the token in use is refused
			} else {
				<-time.After(3 * time.Hour) // it expires
			}
		}
	})
}

// 401: the credential is got anew once a request, then the connection halts.
func TestReloginOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
		w.after = func(http.ResponseWriter) { defer func() { w.access = fmt.Sprint("access-", w.n) }(); w.after = nil }
		if err := ask(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
		w.log, w.access = nil, "other"
		w.token = func(out http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(out, `{"access_token":"access-x","expires_in":"60"}`) // without a new refresh token: the old one stays
		}
		want(t, ask(t.Context(), cl), cdc.Halt, cdc.Connection, "401", "what is ***?")
		w.took(t, "get access-1", "intend 1 refresh-1", "call refreshrefresh-1", "store 2 refresh-1", "get access-x")
	})
}

// K19: revoke and SIGTERM wait for a refresh that has begun; who only waits for it may leave.
func TestK19RefreshOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		called := make(chan struct{})
		w.before = func(*http.Request) { close(called); <-time.After(20 * time.Second) }
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t) })
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var wg sync.WaitGroup
		took := make([]time.Duration, 2)
		for i := range took {
			wg.Go(func() {
				if err := ask(ctx, cl); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				took[i] = time.Since(began)
			})
		}
		<-called
		cancel()
		if err := cl.Settle(t.Context()); err != nil { // waits for it too
			t.Error(err)
		}
		wg.Wait()
		slices.Sort(took)
		if took[0] > time.Second || took[1] < 20*time.Second || time.Since(began) < 20*time.Second {
			t.Errorf("took %v", took)
		}
		w.took(t, "intend 0 refresh-0", "call refreshrefresh-0", "store 1 refresh-1")
	})
}

// The token endpoint's errors: passing ones are repeated with the same token, the others halt and say what to mend.
func TestTokenEndpointErrors(t *testing.T) {
	answer := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { status(code, header...)(w, r); fmt.Fprint(w, body) }
	}
	for _, c := range []struct {
		name   string
		token  http.HandlerFunc
		remedy cdc.Remedy
		calls  int
		words  string
	}{
		{"500", answer(500, "oops cl1ent refresh-0"), cdc.Retry, 3, "oops *** ***"},
		{"429", answer(429, "", "Retry-After", "600"), cdc.Retry, 3, "429"},
		{"busy", answer(400, `{"error":"temporarily_unavailable"}`), cdc.Retry, 3, "temporarily"},
		{"unreadable", answer(204, ""), cdc.Retry, 3, "without a token"},
		{"html", answer(400, "<html>"), cdc.Halt, 1, "400"},
		{"redirect", answer(302, "", "Location", "http://evil.test"), cdc.Halt, 1, "302"},
		{"client", answer(401, `{"error":"invalid_client","error_description":"who is cl1ent"}`), cdc.Halt, 1, "invalid_client: who is ***"},
		{"404", answer(404, `{}`), cdc.Halt, 1, "token_url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.token = c.token
				cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential, o.Attempts = w.rotating(t), 3 })
				began := time.Now()
				want(t, ask(t.Context(), cl), c.remedy, cdc.Connection, c.words)
				w.took(t, append([]string{"intend 0 refresh-0"}, slices.Repeat([]string{"call refreshrefresh-0"}, c.calls)...)...)
				if d := time.Since(began); (d >= 20*time.Minute) != (c.name == "429") {
					t.Errorf("took %v", d) // a pause that was asked for is kept
				}
				w.token = nil // and it goes on with the same token when the trouble is over
				if err := ask(t.Context(), cl); err != nil {
					t.Error(err)
				}
				w.took(t, "call refreshrefresh-0", "store 1 refresh-1", "get access-1")
			})
		})
	}
}

// client_credentials: nothing rotates, nothing is stored; a lifetime may be written as text.
func TestClientCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var auth, scope string
		w.before = func(r *http.Request) { auth = r.Header.Get("Authorization"); scope = r.Header.Get("Content-Type") }
		o, err := NewOAuth2(OAuth2Options{GrantType: "client_credentials", TokenURL: api + "/oauth/token", ClientID: "m e", ClientSecret: cdc.NewSecret("s+t"),
			BasicAuth: true, Form: url.Values{"scope": {"read"}}})
		if err != nil {
			t.Fatal(err)
		}
		cl := client(t, w.ServeHTTP, func(op *Options) { op.Credential = o })
		for range 2 {
			if err := ask(t.Context(), cl); err != nil {
				t.Fatal(err)
			}
		}
		w.took(t, "call client_", "get access-1", "get access-1")
		if auth != "Basic bStlOnMlMkJ0" || scope != "application/x-www-form-urlencoded" {
			t.Errorf("authorized by %q, %q", auth, scope)
		}
		w.access = "other"
		if err := ask(t.Context(), cl); err != nil { // refused: a new one
			t.Fatal(err)
		}
		<-time.After(3 * time.Hour)
		if err := ask(t.Context(), cl); err != nil { // expired: a new one
			t.Fatal(err)
		}
		w.took(t, "get access-1", "call client_", "get access-2", "call client_", "get access-3")
		if err := cl.Settle(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, o := range []OAuth2Options{{GrantType: "refresh_token"}, {GrantType: "password"}} {
		_, err := NewOAuth2(o)
		want(t, err, cdc.Halt, cdc.Connection)
	}
}

// The credential is not sent to a token_url outside the origins.
func TestTokenURLIsAnOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cl := client(t, w.ServeHTTP, func(o *Options) { o.Credential = w.rotating(t); o.Origins = []string{"http://other.test"} })
		_, err := cl.Do(t.Context(), &Request{URL: "http://other.test/people"})
		want(t, err, cdc.Halt, cdc.Stream, "foreign URL", api+"/oauth/token")
	})
}
