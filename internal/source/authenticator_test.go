package source

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// office is an API that wants to be logged in to, in one of several ways. It notes who was let in.
type office struct {
	mu   sync.Mutex
	seen []string
	say  string // instead of the login's answer
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	note := func(format string, args ...any) { o.seen = append(o.seen, fmt.Sprintf(format, args...)) }
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/login":
		note("%s %s %s %s cookies %d", r.Method, r.URL.RawQuery, r.Header.Get("Content-Type"), body, len(r.Cookies()))
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "c00kie", Path: "/"})
		if o.say != "" {
			fmt.Fprint(w, o.say)
			return
		}
		fmt.Fprint(w, `{"result": {"token": "t0ken", "number": 12345, "seconds": 900}, "user": "ann"}`)
	case "/token":
		note("%s", body)
		fmt.Fprint(w, `{"access_token": "acce55", "expires_in": 3600}`)
	default:
		note("%s key=%s auth=%s session=%s cookie=%s", r.URL.Path, r.URL.Query().Get("key"), r.Header.Get("Authorization"), r.Header.Get("X-Session"), r.Header.Get("Cookie"))
		fmt.Fprint(w, `{"data": []}`)
	}
}

// bindAuth binds minimal with an authenticator, for a server.
func bindAuth(t *testing.T, server, authenticator string, config map[string]any) (*Source, error) {
	t.Helper()
	return bindTo(parseAuth(t, authenticator), server, config)
}

func parseAuth(t *testing.T, authenticator string) *Definition {
	t.Helper()
	settings := "config: {url: {}, user: {optional: true}, password: {secret: true, optional: true}, key: {secret: true, optional: true}, by: {optional: true}}\n"
	text := strings.Replace(minimal, "https://api.example.com/v1", `"{{ config.url }}/v1"`, 1)
	text = strings.Replace(text, "streams:", settings+"authenticator: "+authenticator+"\nstreams:", 1)
	return mustParse(t, text)
}

func bindTo(d *Definition, server string, config map[string]any) (*Source, error) {
	all := map[string]any{"url": server}
	maps.Copy(all, config)
	return d.Bind("shop", all, Overrides{})
}

// What is written is what is sent, and what the answer holds goes on the requests.
func TestAuthenticatorsOnTheWire(t *testing.T) {
	const oauth = "type: oauth2, token_url: '{{ config.url }}/token', client_id: me, client_secret: '{{ config.password }}'"
	login := "login: {path: /login, method: POST, query: {v: 2}, body: {user: '{{ config.user }}', password: '{{ config.password }}'}}"
	config := map[string]any{"user": "ann", "password": cdc.NewSecret("pa55"), "key": "k3y"}
	const posted = `POST v=2 application/json {"user":"ann","password":"pa55"} cookies 0`
	for _, c := range []struct {
		name, auth string
		config     map[string]any
		want       []string
	}{
		{"token", "{type: session, " + login + ", token: result.token, header: X-Session, prefix: 'Token ', expires: result.seconds}", config,
			[]string{posted, "/v1/orders key= auth= session=Token t0ken cookie="}},
		{"number", "{type: session, " + login + ", token: result.number, header: Authorization, expires: 5m}", config,
			[]string{posted, "/v1/orders key= auth=12345 session= cookie="}},
		{"cookies", "{type: session, " + login + ", cookies: true}", config, []string{posted, "/v1/orders key= auth= session= cookie=sid=c00kie"}},
		{"form", "{type: session, login: {url: '{{ config.url }}/v1/login', method: POST, form: {p: '{{ config.password }}'}}, cookies: true}", config,
			[]string{"POST  application/x-www-form-urlencoded p=pa55 cookies 0", "/v1/orders key= auth= session= cookie=sid=c00kie"}},
		{"client credentials", "{" + oauth + ", grant_type: client_credentials, scopes: [a, b]}", config,
			[]string{"client_id=me&client_secret=pa55&grant_type=client_credentials&scope=a+b", "/v1/orders key= auth=Bearer acce55 session= cookie="}},
		{"select, first", "{select: \"config.by ?? 'a'\", cases: {a: {type: bearer, token: '{{ config.key }}'}, b: {type: api_key, query: key, value: '{{ config.key }}'}}}", config,
			[]string{"/v1/orders key= auth=Bearer k3y session= cookie="}},
		{"select, second", "{select: \"config.by ?? 'a'\", cases: {a: {type: basic, username: '{{ config.user }}', password: x}, b: {type: api_key, query: key, value: '{{ config.key }}'}}}",
			map[string]any{"by": "b", "key": "k3y"}, []string{"/v1/orders key=k3y auth= session= cookie="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o office
			server := httptest.NewServer(&o)
			defer server.Close()
			s, err := bindAuth(t, server.URL, c.auth, c.config)
			if err != nil {
				t.Fatal(err)
			}
			if err := askOnce(t, s); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, o.seen); d != "" {
				t.Error(d)
			}
			if text := fmt.Sprintf("%+v %#v", s.Auth, s.Auth); strings.Contains(text, "pa55") {
				t.Errorf("a secret shows: %s", text)
			}
		})
	}
}

func askOnce(t *testing.T, s *Source) error {
	t.Helper()
	credential, err := s.Credential(nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := fetch.New(fetch.Options{Origins: s.Origins, Credential: credential, Secrets: s.Secrets, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	pos, err := s.Requests[0].Begin(s.Requests[0].Partitions()[0], cdc.Checkpoint{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	request, err := s.Requests[0].Compose(&pos)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(t.Context(), request)
	resp.Release()
	return err
}

// P18: a login's answer with a status of success must hold what the definition says; nothing of its values is told.
func TestSessionAnswerMustProveItself(t *testing.T) {
	auth := "{type: session, login: {path: /login, method: POST, body: {p: '{{ config.password }}'}}, token: token, header: X-Session, expires: ends}"
	for say, want := range map[string]string{
		`{"error": "wr0ng", "code": 7}`:         "token (token) is no text in its answer, which has code, error",
		`{"token": null, "ends": 5}`:            "token (token) is no text",
		`{"token": {"a": "wr0ng"}, "ends": 5}`:  "token (token) is no text",
		`{"token": true, "ends": 5}`:            "token (token) is no text",
		`{"token": "wr0ng"}`:                    "expires (ends) is no text in its answer, which has token",
		`{"token": "wr0ng", "ends": "someday"}`: `"someday" cannot be read`,
		`[]`:                                    "token (token) is no text in its answer",
		`wr0ng`:                                 "something else than JSON",
		`{"token": "wr0ng", "token": "b"}`:      "something else than JSON",
	} {
		o := office{say: say}
		server := httptest.NewServer(&o)
		s, err := bindAuth(t, server.URL, auth, map[string]any{"password": "pa55"})
		if err != nil {
			t.Fatal(err)
		}
		err = askOnce(t, s)
		server.Close()
		if remedy, scope := cdc.Verdict(err); remedy != cdc.Halt || scope != cdc.Connection || cdc.Hint(err) == "" ||
			!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: %v", say, err)
		}
	}
}

// A connection hears of what its authenticator lacks; what is not chosen may be missing, and so may all of it where nobody is asked.
func TestAuthBindErrors(t *testing.T) {
	choice := "{select: config.by, cases: {oauth: {type: oauth2, grant_type: refresh_token, token_url: 'https://a', authorize_url: '{{ config.user }}', client_id: a, client_secret: '{{ config.key }}', refresh_token: '{{ config.password }}'}, " +
		"basic: {type: basic, username: '{{ config.user }}', password: '{{ config.password }}'}, login: {type: session, login: {path: '/login/{{ config.user }}'}, cookies: true}}}"
	for _, c := range []struct {
		config map[string]any
		want   string
	}{
		{map[string]any{"by": "oauht"}, `must give one of oauth, basic, login (did you mean "oauth"?)`},
		{nil, "must give one of oauth, basic, login"},
		{map[string]any{"by": "oauth", "user": "https://a/b"}, "client_secret is empty"},
		{map[string]any{"by": "oauth", "key": "k", "user": "nowhere"}, `authorize_url "nowhere" must begin with https://`},
		{map[string]any{"by": "oauth", "key": "k", "user": "https://me@a/b"}, "authorize_url holds a user name"},
		{map[string]any{"by": "basic", "password": "p"}, "no username"},
		{map[string]any{"by": "login"}, "login: config.user is null"},
	} {
		_, err := bindAuth(t, "https://api.example.com", choice, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.config, err)
		}
	}
	s, err := bindAuth(t, "https://api.example.com", choice, map[string]any{"by": "oauth", "key": "k", "user": "https://a/b?access_type=offline"})
	if err != nil || !s.Auth.Rotates() || !s.Auth.PKCE || s.Auth.AuthorizeURL != "https://a/b?access_type=offline" || !s.Auth.RefreshToken.IsZero() {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := bindAuth(t, "https://api.example.com", "{type: session, login: {url: '{{ config.user }}/login'}, cookies: true}", map[string]any{"user": "ftp://x"}); err == nil ||
		!strings.Contains(err.Error(), "url of the login") {
		t.Error(err)
	}
	d := mustParse(t, strings.Replace(minimal, "streams:", "config: {key: {secret: true, optional: true}, by: {default: a}}\nauthenticator: {select: config.by, cases: {a: {type: bearer, token: '{{ config.key }}'}, b: {type: none}}}\nstreams:", 1))
	if _, err := d.Bind("c", nil, Overrides{Anonymous: true}); err != nil {
		t.Error(err)
	}
	if got := d.Settings()[1].Choices; !cmp.Equal(got, []string{"a", "b"}) || d.Authentication() != "bearer or none" {
		t.Errorf("%q %q", got, d.Authentication())
	}
}

// P23: who asks is known by names and places; of a secret at most 16 bits show, and only where nothing else names anybody.
func TestP23Identity(t *testing.T) {
	identity := func(d *Definition, config map[string]any) string {
		t.Helper()
		s, err := bindTo(d, "https://api.example.com", config)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Identity) != 12 {
			t.Errorf("identity %q", s.Identity)
		}
		return s.Identity
	}
	oauth := "{type: oauth2, token_url: 'https://a/{{ config.by }}', client_id: '{{ config.user }}', client_secret: '{{ config.key }}', grant_type: "
	form := "{type: session, cookies: true, login: {path: /login, method: POST, form: "
	for _, c := range []struct {
		name, auth     string
		same, differs  []string // settings that change it not, or do
		withoutASecret bool
	}{
		{"bearer", "{type: bearer, token: '{{ config.key }}'}", []string{"user", "password"}, []string{"key"}, false},
		{"api key", "{type: api_key, header: x-key, value: '{{ config.key }}'}", []string{"user"}, []string{"key"}, false},
		{"basic", "{type: basic, username: '{{ config.user }}', password: '{{ config.password }}'}", []string{"password", "key"}, []string{"user"}, true},
		{"client", oauth + "client_credentials}", []string{"key", "password"}, []string{"user", "by"}, true},
		{"refresh", oauth + "refresh_token, refresh_token: '{{ config.password }}'}", []string{"key"}, []string{"user", "by", "password"}, false},
		{"login", form + "{u: '{{ config.user }}', p: '{{ config.password }}'}}}", []string{"password", "key"}, []string{"user"}, true},
		{"login by a key", form + "{k: '{{ config.key }}', p: '{{ config.password }}'}}}", []string{"user"}, []string{"key", "password"}, false},
		{"login elsewhere", "{type: session, cookies: true, login: {path: '/{{ config.by }}', query: {k: '{{ config.key }}'}}}", []string{"user"}, []string{"key", "by"}, false},
		{"none", "{type: none}", []string{"user", "password", "key", "by"}, nil, true},
	} {
		config := func(changed string) map[string]any {
			all := map[string]any{"user": "ann", "password": "pa55", "key": "k3y", "by": "b"}
			if changed != "" {
				all[changed] = "another"
			}
			return all
		}
		d := parseAuth(t, c.auth)
		first := identity(d, config(""))
		for _, name := range c.same {
			if identity(d, config(name)) != first {
				t.Errorf("%s: another %s is another identity", c.name, name)
			}
		}
		for _, name := range c.differs {
			if identity(d, config(name)) == first {
				t.Errorf("%s: another %s is the same identity", c.name, name)
			}
		}
		// Of all secrets together there are no more than 2^16 traces: some of so many share one.
		seen := map[string]bool{}
		const many = 1500
		for i := range many {
			all := config("")
			all["key"], all["password"] = fmt.Sprint("key", i), fmt.Sprint("password", i)
			seen[identity(d, all)] = true
		}
		if c.withoutASecret && len(seen) != 1 || !c.withoutASecret && (len(seen) == many || len(seen) < many*9/10) {
			t.Errorf("%s: %d secrets give %d identities", c.name, many, len(seen))
		}
	}
}

// The shipped definition takes an API key instead of a grant.
func TestSalesLoftByKeyOrGrant(t *testing.T) {
	d, err := Open("salesloft")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config map[string]any
		want   AuthKind
	}{
		{map[string]any{"api_key": "k"}, AuthBearer},
		{map[string]any{"client_id": "a", "client_secret": "b"}, AuthOAuth2},
	} {
		if s, err := d.Bind("c", c.config, Overrides{}); err != nil || s.Auth.Kind != c.want {
			t.Errorf("%v: %+v %v", c.config, s, err)
		}
	}
	if _, err := d.Bind("c", nil, Overrides{}); err == nil || !strings.Contains(err.Error(), "client_id is empty") {
		t.Error(err)
	}
	if text, err := json.Marshal(d.Authentication()); err != nil || string(text) != `"oauth2 refresh_token or oauth2 client_credentials or bearer"` {
		t.Error(string(text), err)
	}
}

// D2: a listing that goes on under another login is not complete, also where another request was the one to log in.
func TestD2AnotherRequestLoggedIn(t *testing.T) {
	for _, c := range []struct {
		logins   []int64
		complete bool
	}{{[]int64{0, 0, 0}, true}, {[]int64{3, 3, 3}, true}, {[]int64{3, 4, 4}, false}, {[]int64{3, 3, 4}, false}} {
		got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
			body := `{"data":[]}`
			if q.n < len(c.logins) {
				body = fmt.Sprintf(`{"data":[{"id":%d}]}`, q.n)
			}
			return &fetch.Response{Status: 200, Body: []byte(body), Logins: c.logins[min(q.n, len(c.logins))-1]}
		})
		if got.err != nil || got.complete != c.complete {
			t.Errorf("%v: complete %v, %v", c.logins, got.complete, got.err)
		}
	}
}
