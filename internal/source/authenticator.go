package source

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// AuthKind names a way to prove who is asking.
type AuthKind string

// The ways of authentication.
const (
	AuthNone    AuthKind = "none"
	AuthBearer  AuthKind = "bearer"  // Authorization: Bearer Value
	AuthAPIKey  AuthKind = "api_key" // Value in Header or Query
	AuthBasic   AuthKind = "basic"   // Username and Password
	AuthOAuth2  AuthKind = "oauth2"  // by GrantType
	AuthSession AuthKind = "session" // what a Login gives
)

// The grant types of AuthOAuth2.
const (
	GrantRefresh = "refresh_token"      // rotated and stored (K19)
	GrantClient  = "client_credentials" // kept in memory
)

// Auth is the authenticator with its settings filled in; fields that its kind has no use for are zero.
type Auth struct {
	Kind          AuthKind
	Header, Query string // api_key: where Value goes, one of them is set; session: Header is where the token goes
	Value         cdc.Secret
	Username      string
	Password      cdc.Secret
	GrantType     string
	TokenURL      string
	ClientID      string
	ClientSecret  cdc.Secret
	RefreshToken  cdc.Secret // the grant to begin with, if one is configured; afterwards the stored one counts (K19)
	Scopes        []string
	AuthorizeURL  string // where a person grants access; "": the definition does not say
	PKCE          bool   // the first grant is asked for with a proof key (RFC 7636)
	Login         *Login // session
}

// Login is the request that begins a session, and what its answer holds.
type Login struct {
	Prefix  string        // before the token in the header
	Cookies bool          // the session is in cookies
	Life    time.Duration // how long a session is used; 0: as the answer says, or till a 401

	source         *Source
	call           *call
	token, expires *record.Path // of the answer
}

// Rotates reports whether the credential's tokens are good for one use, so that only the connection's owner may refresh (9).
func (a *Auth) Rotates() bool { return a.GrantType == GrantRefresh }

// OAuth2 are the credential's settings where it is one of OAuth 2; what is stored of it goes to vault.
func (s *Source) OAuth2(vault fetch.Vault) fetch.OAuth2Options {
	a := &s.Auth
	form := url.Values{}
	if len(a.Scopes) > 0 {
		form.Set("scope", strings.Join(a.Scopes, " ")) // RFC 6749, 3.3
	}
	return fetch.OAuth2Options{
		Form: form, Connection: s.Connection, GrantType: a.GrantType, TokenURL: a.TokenURL, ClientID: a.ClientID, ClientSecret: a.ClientSecret,
		RefreshToken: a.RefreshToken, Vault: vault,
	}
}

// Credential returns what goes on the source's requests, a new one that has asked nothing yet; nil where nothing does. vault is
// for a grant that rotates, and may be nil for the others.
func (s *Source) Credential(vault fetch.Vault) (fetch.Credential, error) {
	a := &s.Auth
	switch a.Kind {
	case AuthBearer:
		return fetch.Bearer(a.Value), nil
	case AuthAPIKey:
		if a.Query != "" {
			return fetch.Query(a.Query, a.Value), nil
		}
		return fetch.Header(a.Header, a.Value), nil
	case AuthBasic:
		return fetch.Basic(a.Username, a.Password), nil
	case AuthOAuth2:
		return fetch.NewOAuth2(s.OAuth2(vault))
	case AuthSession:
		o := fetch.SessionOptions{
			Connection: s.Connection, Request: a.Login.compose, Header: a.Header, Prefix: a.Login.Prefix, Cookies: a.Login.Cookies,
			Life: a.Login.Life, Secrets: s.Secrets,
		}
		if a.Login.token != nil || a.Login.expires != nil {
			o.Read = a.Login.read
		}
		return fetch.NewSession(o), nil
	default:
		return nil, nil
	}
}

// compose writes the login, anew for each: it may be signed by the time.
func (l *Login) compose() (*fetch.Request, error) {
	v := vars{now: time.Now().UTC()}
	method, target, header, body, err := l.call.compose(l.source, &v)
	if err != nil {
		return nil, err
	}
	return &fetch.Request{Method: method, URL: target, Header: header, Body: body, Secrets: v.secrets}, nil
}

// read takes token and end out of a login's answer. Its errors do not quote the answer: half of a token may stand in it.
func (l *Login) read(resp *fetch.Response) (fetch.Login, error) {
	var out fetch.Login
	if err := record.Valid(resp.Body, record.Limits{}); err != nil { // P18
		return out, fmt.Errorf("the login answered %d with something else than JSON", resp.Status)
	}
	find := func(name string, p *record.Path) (string, error) {
		if p == nil {
			return "", nil
		}
		var x any
		span, ok := p.Find(resp.Body, record.All(resp.Body))
		if ok {
			var err error
			if x, err = record.Value(resp.Body, span); err != nil {
				return "", err
			}
		}
		text, err := written(x)
		if _, truth := x.(bool); err != nil || truth || text == "" {
			return "", fmt.Errorf("the login answered %d, and %s (%s) is no text in its answer%s", resp.Status, name, p, members(resp.Body))
		}
		return text, nil
	}
	token, err := find("token", l.token)
	if err != nil {
		return out, err
	}
	out.Token = cdc.NewSecret(token)
	out.Expires, err = find("expires", l.expires)
	return out, err
}

// members names what an answer has at its top, without any of the values.
func members(body []byte) string {
	const most = 10
	x, err := record.Value(body, record.All(body))
	object, ok := x.(map[string]any)
	if err != nil || !ok || len(object) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(object))
	return fmt.Sprintf(", which has %.300s", strings.Join(names[:min(len(names), most)], ", "))
}

// authentication is Auth before a connection's settings are filled in.
type authentication struct {
	kind      AuthKind
	header    string
	query     string
	grant     string
	scopes    []string
	authorize *template
	pkce      bool
	settings  map[string]*template // value, username, password, token_url, …
	login     *login

	choose *expression // select: gives the name of a case
	cases  []authCase
}

// authCase is one of several authenticators.
type authCase struct {
	name string
	authentication
}

// login is a Login before it belongs to a source.
type login struct {
	call           call
	prefix         string
	cookies        bool
	life           time.Duration
	token, expires *record.Path
}

// String says how a source proves who asks: "oauth2 refresh_token".
func (a *authentication) String() string {
	if a.choose != nil {
		all := make([]string, len(a.cases))
		for i := range a.cases {
			all[i] = a.cases[i].String()
		}
		return strings.Join(slices.Compact(all), " or ")
	}
	return strings.TrimSpace(string(a.kind) + " " + a.grant)
}

// Authentication says how a connection proves who asks, for people: "oauth2 refresh_token or bearer".
func (d *Definition) Authentication() string { return d.auth.String() }

func (r *linter) authenticator(d *Definition, n *yaml.Node, sc *scope) {
	d.auth = authentication{kind: AuthNone}
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode && (child(n, "select") != nil || child(n, "cases") != nil):
		r.selected(d, n, sc)
	default:
		d.auth = r.authentication(n, "authenticator", sc)
	}
}

// selected reads `select` with its cases.
func (r *linter) selected(d *Definition, n *yaml.Node, sc *scope) {
	f := r.fields(n, "authenticator with `select`", selectTable)
	for _, key := range []string{"select", "cases"} {
		if f[key] == nil {
			r.fail(n, "authenticator has no `%s`: `select` says which of `cases` it is", key)
		}
	}
	d.auth.choose = r.expression(f["select"], "select", sc, reflect.Invalid)
	var names []string
	r.each(f["cases"], "cases", func(k, v *yaml.Node) {
		names = append(names, k.Value)
		d.auth.cases = append(d.auth.cases, authCase{k.Value, r.authentication(v, "authenticator "+k.Value, sc)})
	})
	if f["cases"] != nil && len(d.auth.cases) < 2 {
		r.fail(f["cases"], "`cases` must have two authenticators or more to choose from")
	}
	for _, s := range d.config {
		if d.auth.choose == nil || d.auth.choose.text != "config."+s.name {
			continue
		}
		s.choices = names
		if text, ok := s.fallback.(string); ok && !slices.Contains(names, text) {
			r.fail(f["select"], "the default of config.%s is %q, and `cases` has %s", s.name, text, strings.Join(names, ", "))
		}
	}
}

func (r *linter) authentication(n *yaml.Node, what string, sc *scope) authentication {
	a := authentication{kind: AuthNone, settings: map[string]*template{}}
	f := r.fields(n, what, authTable)
	if f == nil {
		return a
	}
	if f["type"] == nil {
		r.fail(n, "%s has no `type`: %s", what, strings.Join(authTable.options("type"), ", "))
	}
	kind := r.choice(f["type"], what+" type", authTable.options("type")...)
	if kind == "" {
		return a
	}
	a.kind = AuthKind(kind)
	r.foreign(f, what, authTable, kind)
	for _, k := range authTable.keys {
		switch {
		case !k.need(kind):
		case f[k.name] == nil:
			r.fail(n, "%s %s needs `%s`", what, kind, k.name)
		case k.is.shape == templateShape:
			a.settings[k.name] = r.template(f[k.name], what+" "+k.name, sc)
		}
	}
	if a.header = r.text(f["header"], "header"); a.header != "" && !validHeader.MatchString(a.header) {
		r.fail(f["header"], "%q cannot be the name of a header", a.header)
	}
	switch a.kind {
	case AuthAPIKey:
		if a.query = r.text(f["query"], "query"); (a.header == "") == (a.query == "") {
			r.fail(n, "%s api_key needs one of `header` and `query`: where the key goes", what)
		}
	case AuthOAuth2:
		r.oauth2(&a, f, n, what, sc)
	case AuthSession:
		a.login = r.session(f, n, what, sc)
	}
	return a
}

func (r *linter) oauth2(a *authentication, f map[string]*yaml.Node, n *yaml.Node, what string, sc *scope) {
	a.grant = r.choice(f["grant_type"], "grant_type", authTable.options("grant_type")...)
	for _, s := range r.items(f["scopes"], "scopes") {
		a.scopes = append(a.scopes, r.text(s, "scopes"))
	}
	a.pkce = r.boolean(f["pkce"], "pkce", true)
	switch a.grant {
	case GrantRefresh:
		if f["refresh_token"] == nil {
			r.fail(n, "%s oauth2 needs `refresh_token`", what)
			return
		}
		a.settings["refresh_token"] = r.template(f["refresh_token"], what+" refresh_token", sc)
		if u := f["authorize_url"]; u != nil {
			a.authorize = r.template(u, what+" authorize_url", sc)
		} else if f["pkce"] != nil {
			r.fail(f["pkce"], "`pkce` needs `authorize_url`: it is for the first grant, which connector login gets there")
		}
	case GrantClient:
		for _, key := range []string{"refresh_token", "authorize_url", "pkce"} {
			if f[key] != nil {
				r.fail(f[key], "grant_type client_credentials has no `%s`", key)
			}
		}
	}
}

// session reads the login, and what its answer holds.
func (r *linter) session(f map[string]*yaml.Node, n *yaml.Node, what string, sc *scope) *login {
	l := &login{prefix: r.text(f["prefix"], "prefix"), cookies: r.boolean(f["cookies"], "cookies", false), token: r.place(f["token"], "token")}
	switch {
	case (f["token"] == nil) == !l.cookies:
		r.fail(n, "%s session needs one of `token`, the place of a token in the login's answer, and `cookies: true`", what)
	case f["token"] != nil && f["header"] == nil:
		r.fail(n, "%s session has a `token` and no `header`: where it goes, such as Authorization", what)
	}
	for _, key := range []string{"header", "prefix"} {
		if l.cookies && f[key] != nil {
			r.fail(f[key], "%s session has no `%s` with `cookies: true`", what, key)
		}
	}
	if e := f["expires"]; e != nil {
		if _, err := parseDuration(e.Value); err == nil || e.Kind != yaml.ScalarNode || e.ShortTag() != "!!str" {
			l.life = r.positive(e, "expires", 0)
		} else {
			l.expires = r.place(e, "expires")
		}
	}
	if f["login"] == nil {
		return l
	}
	in := sc.with("login", "config", "now")
	if lf := r.fields(f["login"], "login", loginTable); lf != nil {
		l.call = r.call(lf, "login", f["login"], in)
	}
	return l
}

// auth fills in the authenticator.
func (b *binder) auth() {
	a := &b.def.auth
	if a.choose != nil {
		if a = b.chosen(a); a == nil {
			return
		}
	}
	out := Auth{Kind: a.kind, Header: a.header, Query: a.query, GrantType: a.grant, Scopes: a.scopes}
	get := func(key string) string { return b.text(a.settings[key]) }
	need := func(key string) string {
		s := get(key)
		if s == "" && len(b.problems) == 0 && !b.anonymous {
			b.fail("authenticator %s: %s is empty", a.kind, key)
		}
		return s
	}
	switch a.kind {
	case AuthBearer:
		out.Value = cdc.NewSecret(need("token"))
	case AuthAPIKey:
		out.Value = cdc.NewSecret(need("value"))
	case AuthBasic:
		out.Username, out.Password = get("username"), cdc.NewSecret(get("password"))
		switch { // both optional and absent: the API stands open
		case out.Username == "" && out.Password.IsZero():
			out = Auth{Kind: AuthNone}
		case out.Username == "" && !b.anonymous:
			b.fail("authenticator basic: there is a password, and no username")
		}
	case AuthOAuth2:
		out.TokenURL, out.ClientID = need("token_url"), need("client_id")
		out.ClientSecret, out.RefreshToken = cdc.NewSecret(need("client_secret")), cdc.NewSecret(get("refresh_token"))
		if out.TokenURL != "" {
			b.origin("token_url", out.TokenURL)
		}
		if a.authorize != nil {
			out.AuthorizeURL, out.PKCE = b.authorize(a.authorize), a.pkce
		}
	case AuthSession:
		out.Login = b.login(a.login)
	}
	for _, s := range []cdc.Secret{out.Value, out.Password, out.ClientSecret, out.RefreshToken} {
		if !s.IsZero() && !slices.Contains(b.source.Secrets, s) {
			b.source.Secrets = append(b.source.Secrets, s)
		}
	}
	b.source.Auth = out
	b.source.Identity = b.identity(a)
}

// chosen returns the case that `select` names.
func (b *binder) chosen(a *authentication) *authentication {
	x, err := a.choose.eval(&vars{config: b.source.config})
	if err != nil {
		b.fail("select of the authenticator: %w", cause(err))
		return nil
	}
	name, _ := x.(string)
	var names []string
	for i := range a.cases {
		if names = append(names, a.cases[i].name); a.cases[i].name == name {
			return &a.cases[i].authentication
		}
	}
	b.fail("select of the authenticator (%s) must give one of %s%s", a.choose.text, strings.Join(names, ", "), suggest(name, names))
	return nil
}

// authorize checks where a person is sent to. It is no origin: nothing of ours goes there but the client's id.
func (b *binder) authorize(t *template) string {
	text := b.text(t)
	u, err := url.Parse(text)
	switch {
	case text == "" || err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		b.fail("authorize_url %q must begin with https:// (or http://) and a host", text)
	case u.User != nil || u.Fragment != "":
		b.fail("authorize_url holds a user name, a password or a #")
	}
	return text
}

// login binds the login, and adds its origin to those that may see credentials.
func (b *binder) login(l *login) *Login {
	out := &Login{Prefix: l.prefix, Cookies: l.cookies, Life: l.life, source: b.source, call: &l.call, token: l.token, expires: l.expires}
	request, err := out.compose()
	if err != nil {
		if !b.anonymous {
			b.fail("login: %w", cause(err))
		}
		return out
	}
	u, err := url.Parse(request.URL)
	if err != nil {
		b.fail("the URL of the login cannot be parsed: %w", errors.Unwrap(err))
		return out
	}
	u.RawQuery, u.Path, u.RawPath, u.Fragment = "", "", "", ""
	b.origin("url of the login", u.String())
	return out
}
