package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// provider is an API with an authorization server: codes for a browser that agrees, and refresh tokens that are good for one use.
type provider struct {
	t  *testing.T
	mu sync.Mutex
	n  int
	// valid are refresh tokens not used yet; codes maps a code to the challenge that it was asked with and the redirect.
	valid     map[string]bool
	codes     map[string][2]string
	access    string
	public    bool // the provider gives no refresh token
	deny      bool
	refreshes int
}

func newProvider(t *testing.T) (*provider, string) {
	p := &provider{t: t, valid: map[string]bool{"refresh-first": true}, codes: map[string][2]string{}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

// count is how many tokens were refreshed.
func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refreshes
}

// good reports whether a refresh token can be used.
func (p *provider) good(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.valid[token]
}

func (p *provider) allow(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.valid[token] = true
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/authorize":
		p.authorize(w, r)
	case "/token":
		p.token(w, r)
	case "/things":
		if r.Header.Get("Authorization") != "Bearer "+p.access {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `[{"id": 1}]`)
	}
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != "me" || q.Get("scope") != "read write" || q.Get("audience") != "us" || len(q.Get("state")) < 40 {
		p.t.Errorf("authorize: %s", r.URL.RawQuery)
	}
	back := url.Values{"state": {q.Get("state")}}
	if p.deny {
		back.Set("error", "access_denied")
		back.Set("error_description", "not today")
	} else {
		p.n++
		code := fmt.Sprint("code-", p.n)
		p.codes[code] = [2]string{q.Get("code_challenge"), q.Get("redirect_uri")}
		back.Set("code", code)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	good := form.Get("client_id") == "me" && form.Get("client_secret") == "swordfish"
	switch form.Get("grant_type") {
	case "authorization_code":
		asked, ok := p.codes[form.Get("code")]
		delete(p.codes, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		proven := asked[0] == "" && form.Get("code_verifier") == "" || asked[0] == base64.RawURLEncoding.EncodeToString(sum[:])
		good = good && ok && proven && asked[1] == form.Get("redirect_uri")
	case "refresh_token":
		good = good && p.valid[form.Get("refresh_token")]
		delete(p.valid, form.Get("refresh_token"))
		p.refreshes++
	}
	if !good {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "invalid_grant"}`)
		return
	}
	p.n++
	p.access = fmt.Sprint("access-", p.n)
	if p.public {
		fmt.Fprintf(w, `{"access_token": %q}`, p.access)
		return
	}
	refresh := fmt.Sprint("refresh-", p.n)
	p.valid[refresh] = true
	fmt.Fprintf(w, `{"access_token": %q, "refresh_token": %q, "expires_in": 7200}`, p.access, refresh)
}

const grantDefinition = `source: shop
config: {url: {}, secret: {secret: true}, refresh: {secret: true, optional: true}}
base_url: "{{ config.url }}"
authenticator:
  type: oauth2
  grant_type: refresh_token
  token_url: "{{ config.url }}/token"
  authorize_url: "{{ config.url }}/authorize?audience=us"
  client_id: me
  client_secret: "{{ config.secret }}"
  refresh_token: "{{ config.refresh }}"
  scopes: [read, write]
streams:
  things: {path: /things, records: ., primary_key: id, interval: 1s}
`

// granted is a stage whose connection crm has a grant that rotates.
func granted(t *testing.T, refresh string) (*stage, *provider) {
	t.Helper()
	s := newStage(t)
	p, url := newProvider(t)
	s.write("shop.yaml", grantDefinition)
	if refresh != "" {
		refresh = ", refresh: " + refresh
	}
	s.write("connections.yaml", fmt.Sprintf("- {name: crm, source: ./shop.yaml, config: {url: %q, secret: swordfish%s}}\n", url, refresh))
	s.env["SECRET_KEY"] = base64.StdEncoding.EncodeToString(make([]byte, 32))
	s.env["VALUE_FORMAT"] = "json"
	return s, p
}

// feed runs a command that reads standard input.
func (s *stage) feed(in string, args []string) (code int, out string) {
	var o shared
	ctx, cancel := context.WithTimeout(s.Context(), stageWaits)
	defer cancel()
	p := &program{in: strings.NewReader(in), out: &o, err: &o, env: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }}
	return p.main(ctx, args), o.String()
}

// with is want for a command that reads standard input.
func (s *stage) with(in string, code int, args []string, texts ...string) string {
	s.Helper()
	got, out := s.feed(in, args)
	if got != code {
		s.Fatalf("connector %v: exit code %d, want %d\n%s", args, got, code, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.Errorf("connector %v does not say %q:\n%s", args, text, out)
		}
	}
	return out
}

// grant is what is stored of crm's grant.
func (s *stage) grant() (offsets.Token, offsets.Grant) {
	s.Helper()
	h := s.holdings()
	if h.token == nil {
		return offsets.Token{}, offsets.Grant{}
	}
	g, err := s.deployment().unseal(h)
	if err != nil {
		s.Fatal(err)
	}
	return *h.token, g
}

// silent fails where a text shows a token or a secret.
func silent(t *testing.T, text string) {
	t.Helper()
	if m := regexp.MustCompile(`swordfish|refresh-(first|new|old|[0-9])|access-[0-9]|code-[0-9]`).FindString(text); m != "" {
		t.Errorf("%s is printed:\n%s", m, text)
	}
}

// K19, (9): the record of a grant is shown without its tokens; another one goes into its place under a running owner, which
// goes on with it.
func TestK19ReplaceUnderARunningOwner(t *testing.T) {
	s, p := granted(t, "refresh-first")
	out := s.want(0, []string{"tokens", "status"}, "crm", "nothing is stored", "the refresh token of the configuration is next")
	r := s.run()
	s.until("the first token is stored", func() bool { t, _ := s.grant(); return t.Generation == 1 && !t.Intent })
	out += s.want(0, []string{"tokens", "status", "crm"}, "GENERATION", "stored", "ago)", "till 20")
	p.allow("refresh-new")
	replace := []string{"tokens", "replace", "crm"}
	out += s.with("", 0, append(replace, "--dry-run"), "now: generation 1, stored since", "then: generation 2", "dry run: nothing was changed")
	out += s.with("refresh-new", 2, replace, "nothing was changed; add --yes")
	if got, _ := s.grant(); got.Generation != 1 {
		t.Fatalf("a plan changed the grant: %+v", got)
	}
	before := p.count()
	out += s.with("refresh-new\n", 0, append(replace, "--yes"), "done: the grant of crm is stored as generation 2", "notices within a minute")
	s.until("the owner goes on with the new grant", func() bool {
		got, g := s.grant()
		return got.Generation == 3 && !got.Intent && g.Refresh.Reveal() != "refresh-new" && p.count() == before+1
	})
	if p.good("refresh-new") {
		t.Error("the new token was not used")
	}
	if strings.Contains(r.log.String(), "another deployment") {
		t.Error("K10: the command raised the alarm of a strange deployment")
	}
	r.stop()
	silent(t, out+r.log.String())
}

// A connection that never ran gets its first grant before its first start, from a variable too.
func TestReplaceBeforeTheFirstStart(t *testing.T) {
	s, p := granted(t, "")
	out := s.want(0, []string{"tokens", "status"}, "there is no grant")
	out += s.want(1, []string{"check"}, "FAIL  grant crm", "connector login crm")
	p.allow("refresh-new")
	s.env["NEW"] = "refresh-new"
	out += s.with("", 0, []string{"tokens", "replace", "crm", "--env", "NEW", "--yes"}, "now: nothing is stored", "done: the grant of crm is stored as generation 1")
	if got, g := s.grant(); got.Generation != 1 || got.Intent || g.Refresh.Reveal() != "refresh-new" {
		t.Errorf("%+v", got)
	}
	out += s.want(0, []string{"tokens", "status"}, "none yet")
	out += s.want(0, []string{"check"}, "ok    grant crm", "generation 1")
	r := s.run()
	s.until("a record is captured", func() bool { return s.holdings().streams["things"].Count == 1 })
	r.stop()
	silent(t, out+r.log.String())
}

// What cannot be done is refused before anything is changed.
func TestTokensRefuse(t *testing.T) {
	s, _ := granted(t, "refresh-first")
	replace := []string{"tokens", "replace", "crm", "--yes"}
	for _, in := range []string{"", "\n", "two words", "two\nlines", "bell\a"} {
		s.with(in, 2, replace, "must come alone")
	}
	s.with("x", 2, append(replace, "--env", "NOWHERE"), "must come alone")
	s.with("x", 2, []string{"tokens", "replace"}, "CONNECTION")
	s.with("x", 1, []string{"tokens", "replace", "crn"}, `has no connection "crn"`)
	s.want(1, []string{"tokens", "status", "crn"}, "has no grant that rotates")
	s.want(2, []string{"tokens"}, "status, replace")
	key := s.env["SECRET_KEY"]
	delete(s.env, "SECRET_KEY")
	s.with("x", 1, replace, "SECRET_KEY is not set")
	s.env["SECRET_KEY"] = key
	s.with("refresh-new", 0, replace, "generation 1")
	s.env["SECRET_KEY"] = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	s.want(0, []string{"tokens", "status"}, "generation 1: ")
	s.with("refresh-new", 0, replace, "generation 2") // the way out when the key is lost
	s.want(0, []string{"tokens", "status"}, "none yet")
	s.connect("x")
	s.want(0, []string{"tokens", "status"}, "no grant of it rotates in ")
	s.with("x", 1, replace, "has no grant that rotates (its authenticator is bearer)")
	s.write("connections.yaml", "- {name: other, source: ./team.yaml, config: {base_url: http://localhost, key: x}}\n")
	s.with("x", 1, []string{"login", "other"}, "has no grant that rotates")
}

// P23: another grant may see other records, so the fingerprints of the listings go with it, in the same transaction. A refresh that
// an owner could not store any more is older than the new grant (K19).
func TestP23ReplacedGrantVoidsTheListings(t *testing.T) {
	s, _ := granted(t, "refresh-first")
	r := s.run()
	s.until("a pass has ended", func() bool { return s.holdings().cursors["things"]["-"].Passes > 0 })
	r.stop()
	d := s.deployment()
	cursor := offsets.Key{Kind: offsets.KindCursor, Connection: "crm", Stream: "things", Name: "-"}.Append(nil)
	window := offsets.Key{Kind: offsets.KindWindow, Connection: "crm", Stream: "things", Name: "-"}.Append(nil)
	cp := s.holdings().cursors["things"]["-"]
	cp.Reconciled = &cdc.Reconciliation{Listing: "made before", Agreed: 2}
	key := offsets.Key{Kind: offsets.KindToken, Connection: "crm"}.Append(nil)
	old, _ := s.grant()
	x := replacing{surgery: surgery{p: &program{out: io.Discard}}}
	x.p.env = func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }
	if err := x.prepare(t.Context(), "test", "crm"); err != nil {
		t.Fatal(err)
	}
	sealed, err := offsets.Grant{Refresh: cdc.NewSecret("refresh-old")}.Seal(*d.settings.sealKey(), "crm", old.Generation)
	if err != nil {
		t.Fatal(err)
	}
	// What an owner leaves that crashed in the middle of a refresh.
	err = x.operate(t.Context(), func(ctx context.Context, h *hands) error {
		b := kafka.NewBatch()
		b.Offset(cursor, must(offsets.Encode(cp)))
		b.Offset(window, must(offsets.Encode(cdc.Window{Listing: "made before", Last: "7", Total: -1})))
		b.Offset(key, must(offsets.Encode(offsets.Token{Generation: old.Generation + 1, Intent: true, Previous: sealed, At: time.Now()})))
		return h.session.Commit(ctx, b)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.want(0, []string{"tokens", "status"}, "a refresh is under way, or its outcome is not known")
	s.with("refresh-new", 0, []string{"tokens", "replace", "crm", "--yes"}, fmt.Sprint("then: generation ", old.Generation+2))
	if got := s.holdings().cursors["things"]["-"]; got.Reconciled == nil || got.Reconciled.Listing != anotherGrant || got.Cursor != cp.Cursor || got.Passes != cp.Passes {
		t.Errorf("%+v, was %+v", got, cp)
	}
	if got := s.holdings().of("things", offsets.KindWindow); len(got) > 0 { // D3: what it had finished was shown to somebody else
		t.Errorf("%v goes on under the new grant", got)
	}
}

// (2): a replacement whose commit had an unknown outcome is looked for before it is tried again, and is not put over what an owner
// made of it.
func TestReplaceAfterAnUnknownOutcome(t *testing.T) {
	replace := []string{"tokens", "replace", "crm", "--yes"}
	for _, c := range []struct {
		name, meanwhile string // the refresh token that is stored between the two tries
		code            int
		texts           []string
	}{
		{"nothing happened", "", 0, []string{"begun again", "done: the grant of crm is stored as generation 1"}},
		{"it was committed", "refresh-new", 0, []string{"begun again", "done: the grant of crm is stored as generation 1"}},
		{"another was stored", "refresh-old", 1, []string{"begun again", "is not known: crm stands at generation 1", "connector tokens status"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := granted(t, "")
			asked, resume := make(chan struct{}), make(chan struct{})
			var ends atomic.Int64
			s.cluster.Kafka().ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
				s.cluster.Kafka().KeepControl()
				if ends.Add(1) != 2 { // the owner record, and then the token
					return nil, nil, false
				}
				close(asked)
				s.cluster.Kafka().SleepControl(func() { <-resume })
				answer := request.ResponseKind().(*kmsg.EndTxnResponse)
				answer.ErrorCode = kerr.ProducerFenced.Code
				return answer, nil, true
			})
			var code int
			var out string
			var first sync.WaitGroup
			first.Go(func() { code, out = s.feed("refresh-new", replace) })
			<-asked
			if c.meanwhile != "" {
				s.with(c.meanwhile, 0, replace, "generation 1")
			}
			close(resume)
			first.Wait()
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, text := range c.texts {
				if !strings.Contains(out, text) {
					t.Errorf("does not say %q: %s", text, out)
				}
			}
			if token, g := s.grant(); token.Generation != 1 || g.Refresh.Reveal() != cmp.Or(c.meanwhile, "refresh-new") {
				t.Errorf("generation %d is stored", token.Generation)
			}
		})
	}
}

// browser agrees in place of a person: it opens the page that the command shows, and follows where it leads.
type browser struct {
	shared
	once  sync.Once
	start func(page string)
}

var page = regexp.MustCompile(`(?m)^  (https?://\S+)$`)

// Write implements io.Writer.
func (b *browser) Write(text []byte) (int, error) {
	n, err := b.shared.Write(text)
	if m := page.FindStringSubmatch(b.String()); m != nil {
		b.once.Do(func() { b.start(m[1]) })
	}
	return n, err
}

// login runs `connector login` with a browser that visits the page; before it, other visitors come to the way back.
func (s *stage) login(code int, visit func(page string) string, args ...string) string {
	s.Helper()
	var seen sync.WaitGroup
	defer seen.Wait()
	b := &browser{start: func(page string) {
		seen.Go(func() {
			if visit != nil {
				page = visit(page)
			}
			resp, err := http.Get(page) //nolint:noctx // a browser
			if err != nil {
				return // the way back was closed meanwhile
			}
			resp.Body.Close()
		})
	}}
	ctx, cancel := context.WithTimeout(s.Context(), stageWaits)
	defer cancel()
	p := &program{out: b, err: &b.shared, env: func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }}
	if got := p.main(ctx, append([]string{"login", "--redirect", "http://127.0.0.1:0/back"}, args...)); got != code {
		s.Fatalf("connector login %v: exit code %d, want %d\n%s", args, got, code, b.String())
	}
	return b.String()
}

// A person agrees, and the connection goes on with what that gave; a visitor without our state changes nothing, and who read the
// code on its way cannot redeem it.
func TestLoginOfAConnection(t *testing.T) {
	s, p := granted(t, "")
	out := s.login(0, func(page string) string {
		u := must(url.Parse(page))
		q := u.Query()
		if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" {
			t.Errorf("no proof key in %s", page)
		}
		for _, bad := range []string{"?code=evil", "?code=evil&state=guessed", "x?state=" + q.Get("state"), "?error=x"} {
			resp, err := http.Get(q.Get("redirect_uri") + bad) //nolint:noctx // a browser
			if err != nil || resp.StatusCode < 400 {
				t.Errorf("%s: %v %v", bad, resp, err)
				continue
			}
			resp.Body.Close()
		}
		return page
	}, "crm")
	if !strings.Contains(out, "done: the grant of crm is stored as generation 1") {
		t.Errorf("%s", out)
	}
	token, g := s.grant()
	if token.Generation != 1 || g.Access.IsZero() || g.Refresh.IsZero() || time.Until(g.Expires) < time.Hour {
		t.Errorf("%+v %+v", token, g)
	}
	r := s.run()
	s.until("a record is captured", func() bool { return s.holdings().streams["things"].Count == 1 })
	r.stop()
	if n := p.count(); n != 0 {
		t.Errorf("the access token of the login was not used: %d refreshes", n)
	}
	out += s.login(0, nil, "crm")
	if token, _ := s.grant(); token.Generation != 2 {
		t.Errorf("%+v", token)
	}
	silent(t, out+r.log.String())
}

// For a source that is no connection yet the refresh token goes into a file that only its owner reads.
func TestLoginOfASource(t *testing.T) {
	s, p := granted(t, "")
	url := regexp.MustCompile(`http://[^"]+`).FindString(read(t, s.env["CONNECTIONS"]))
	file := filepath.Join(s.dir, "token")
	s.write("shop.yaml", strings.Replace(grantDefinition, "refresh: {secret: true, optional: true}", "refresh: {secret: true}", 1)+"# without an optional token\n")
	args := []string{filepath.Join(s.dir, "shop.yaml"), "--config", "url=" + url, "--config", "secret=swordfish"}
	out := s.login(0, nil, append(args, "--out", file)...)
	if token := strings.TrimSpace(read(t, file)); !p.good(token) {
		t.Errorf("the file holds %q", token)
	}
	if info := must(os.Stat(file)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	s.write("shop.yaml", strings.Replace(grantDefinition, "scopes:", "pkce: false\n  scopes:", 1))
	out += s.login(0, func(page string) string {
		if strings.Contains(page, "code_challenge") {
			t.Errorf("a proof key in %s", page)
		}
		return page
	}, append(args, "--out", file+"2")...)
	silent(t, out)
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{append(args, "--out", file), "there is such a file already", 2},
		{args, "--out FILE", 2},
		{args[:1], "is no connection of the file", 2},
		{append(args[:3:3], "--out", file+"3"), "client's secret is missing", 2},
		{[]string{"nowhere"}, `has no connection "nowhere"`, 1},
		{append(args, "--out", file+"3", "--redirect", "http://example.com:80/x"), "--redirect must be", 2},
		{append(args, "--out", file+"3", "--redirect", "https://localhost:80/x"), "--redirect must be", 2},
		{append(args, "--out", file+"3", "--redirect", "http://localhost/x"), "--redirect must be", 2},
		{append(args, "--out", file+"3", "--timeout", "10ms"), "nobody came back", 1},
		{[]string{"couchdb", "--config", "url=http://localhost", "--config", "database=d", "--out", file + "3"}, "does not say where a grant is asked for", 1},
	} {
		out := s.login(c.code, func(page string) string { return url }, c.args...)
		if !strings.Contains(out, c.want) {
			t.Errorf("%v does not say %q: %s", c.args, c.want, out)
		}
	}
	for _, c := range []struct {
		set  func()
		want string
	}{
		{func() { p.deny = true }, `the provider answered "access_denied": "not today"`},
		{func() { p.deny, p.public = false, true }, "gave no refresh token"},
		{func() { args[4] = "secret=wrong-secret" }, "invalid_grant"},
	} {
		p.mu.Lock()
		c.set()
		p.mu.Unlock()
		if out := s.login(1, nil, append(args, "--out", file+"3")...); !strings.Contains(out, c.want) || strings.Contains(out, "wrong-secret") {
			t.Errorf("does not say %q: %s", c.want, out)
		}
	}
	if _, err := os.Stat(file + "3"); err == nil {
		t.Error("a login that failed left a file")
	}
}
