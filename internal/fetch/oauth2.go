package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tidemark/internal/cdc"
)

// Grant is what an authorization server gave: the tokens of one generation.
type Grant struct {
	Access, Refresh cdc.Secret
	Expires         time.Time // of Access; zero: unknown
	Generation      int64     // counts the refreshes; 0 is the token of the configuration
	// Intent is set while a refresh of this grant may be under way: Refresh may be used up already.
	Intent bool
}

// Vault stores grants where a crash does not reach them (K19). Intend and Store return nil only when the record is known to
// be committed; they are never called at the same time.
type Vault interface {
	// Grant returns what was restored or, later, stored last; false where there is nothing.
	Grant() (Grant, bool)
	// Intend records that g, which it holds whole with Intent set, is about to be refreshed.
	Intend(ctx context.Context, g Grant) error
	// Store records g, the newest grant.
	Store(ctx context.Context, g Grant) error
}

// OAuth2Options are the settings of an OAuth2 credential (RFC 6749).
type OAuth2Options struct {
	Connection   string // its name, for hints
	GrantType    string // "refresh_token" (section 6; rotated and stored) or "client_credentials" (section 4.4)
	TokenURL     string // its origin must be among Options.Origins
	ClientID     string
	ClientSecret cdc.Secret
	BasicAuth    bool       // client id and secret as Basic authentication instead of form fields
	RefreshToken cdc.Secret // the first one, from the configuration
	Form         url.Values // further fields: scope, audience
	Vault        Vault      // needed for refresh_token
	// Timeout bounds a refresh with its two commits (default 90 s): once its intent is recorded it goes on without its caller.
	Timeout time.Duration
}

// OAuth2 is a credential that expires and is got anew. It belongs to the connection and outlives its sessions: a token in
// hand that Kafka does not have yet survives a reopened session, and is stored before it is used (9).
type OAuth2 struct {
	options OAuth2Options
	rotates bool

	live    atomic.Pointer[token] // what may be used now: stored, not rejected
	hiding  atomic.Pointer[Veil]
	refused atomic.Pointer[string] // the access token that was answered by 401

	// busy is a lock that waits (9: one refresh is in flight): whoever has its one element owns what follows.
	busy     chan struct{}
	hand     Grant
	loaded   bool          // hand comes from the vault, the configuration or the server
	stored   bool          // hand is in the vault
	intended bool          // the intent to refresh hand is in the vault
	dead     error         // hand was refused for good
	life     time.Duration // of the access token; 0: unknown
	marks    uint64
}

// token is an access token in use.
type token struct {
	access string
	header []string
	until  time.Time // zero: until it is rejected
	mark   uint64
}

// NewOAuth2 returns the credential; it asks nothing yet.
func NewOAuth2(o OAuth2Options) (*OAuth2, error) {
	if o.Timeout <= 0 {
		o.Timeout = 90 * time.Second
	}
	c := &OAuth2{options: o, busy: make(chan struct{}, 1), rotates: o.GrantType == "refresh_token"}
	c.hide()
	switch {
	case c.rotates && o.Vault == nil:
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "open credential", "Set the key that token records are sealed with, and restart.",
			"a rotating refresh token needs a place where it is stored")
	case !c.rotates && o.GrantType != "client_credentials":
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "open credential", "Write refresh_token or client_credentials.", "unknown grant_type %q", o.GrantType)
	}
	return c, nil
}

// Apply implements Credential. It blocks while the token is refreshed; nothing is polled meanwhile (K19), since every
// request comes through here.
func (o *OAuth2) Apply(ctx context.Context, c *Client, r *http.Request) (uint64, error) {
	t := o.usable()
	if t == nil {
		var err error
		if t, err = o.renew(ctx, c); err != nil {
			return 0, err
		}
	}
	r.Header["Authorization"] = t.header
	return t.mark, nil
}

// usable returns the token in use, nil where it is about to expire or there is none.
func (o *OAuth2) usable() *token {
	t := o.live.Load()
	if t == nil || !t.until.IsZero() && !time.Now().Before(t.until) {
		return nil
	}
	return t
}

// Reject implements Credential. The token is given up, unless it was already replaced when the 401 came.
func (o *OAuth2) Reject(mark uint64) bool {
	if t := o.live.Load(); t != nil && t.mark == mark {
		o.refused.Store(&t.access)
		o.live.CompareAndSwap(t, nil)
	}
	return true
}

func (o *OAuth2) veil() *Veil { return o.hiding.Load() }

// hide hides these too, from now on, beside the secrets of the configuration.
func (o *OAuth2) hide(secrets ...cdc.Secret) {
	secrets = append(secrets, o.options.ClientSecret, o.options.RefreshToken)
	if o.options.BasicAuth {
		secrets = append(secrets, pair(o.client())...)
	}
	o.hiding.Store(NewVeil(secrets...))
}

// client is who asks, form-encoded, as RFC 6749, 2.3.1 has it.
func (o *OAuth2) client() (id, secret string) {
	return url.QueryEscape(o.options.ClientID), url.QueryEscape(o.options.ClientSecret.Reveal())
}

// enter takes the lock; who waits for a refresh may leave, the refresh goes on.
func (o *OAuth2) enter(ctx context.Context) error {
	select {
	case o.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the token: %w", ctx.Err())
	}
}

func (o *OAuth2) leave() { <-o.busy }

// Settle makes hand and vault agree (K19): see Client.Settle.
func (o *OAuth2) Settle(ctx context.Context) error {
	if !o.rotates {
		return nil
	}
	if err := o.enter(ctx); err != nil {
		return err
	}
	defer o.leave()
	o.adopt()
	return o.store(ctx)
}

// renew returns a token that may be used, refreshing what has to be.
func (o *OAuth2) renew(ctx context.Context, c *Client) (*token, error) {
	if err := o.enter(ctx); err != nil {
		return nil, err
	}
	defer o.leave()
	if t := o.usable(); t != nil {
		return t, nil // (9) somebody else refreshed while we waited for the lock
	}
	o.adopt()
	if err := o.store(ctx); err != nil {
		return nil, err
	}
	if t := o.publish(); t != nil {
		return t, nil
	}
	if o.dead != nil {
		return nil, o.dead
	}
	// K19: revoke and SIGTERM wait for a refresh that has begun. Given up between the call and its record, it would cost the
	// grant; so from here on it has its own deadline, and the caller stays.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.options.Timeout)
	defer cancel()
	if err := o.refresh(work, c); err != nil {
		return nil, err
	}
	if t := o.publish(); t != nil {
		return t, nil
	}
	return nil, cdc.Errorf(cdc.Retry, cdc.Connection, "refresh token", "Is this machine's clock right?", "the new access token has expired already")
}

// adopt takes over what the vault has, where it is newer than what is in hand.
func (o *OAuth2) adopt() {
	if !o.rotates {
		o.loaded, o.stored = true, true
		return
	}
	g, ok := o.options.Vault.Grant()
	if ok && g.Generation == 0 && !o.options.RefreshToken.IsZero() {
		g.Refresh = o.options.RefreshToken // nothing was ever got for it, so the configuration still decides
	}
	switch {
	case !ok && o.loaded:
	case !ok:
		o.take(Grant{Refresh: o.options.RefreshToken})
		o.stored = true // the configuration is its record
	case !o.loaded, g.Generation > o.hand.Generation:
		// At start, or another instance owned the connection meanwhile and refreshed: its token revoked ours.
		o.take(g)
	case g.Generation < o.hand.Generation:
		// Ours is newer: on its way, or to be stored again.
	case g.Refresh != o.hand.Refresh:
		o.take(g) // replaced by hand, or by an owner between our refresh and its record: what is stored counts
	default:
		o.stored = true // read back: the commit of unknown outcome did happen
		if g.Intent && !o.intended {
			// An owner after us that crashed meant to refresh this very grant: its access token may be gone with it.
			o.intended = true
			o.live.Store(nil)
		}
	}
}

// take makes g, which is stored, the grant in hand.
func (o *OAuth2) take(g Grant) {
	o.loaded, o.stored, o.intended, o.dead = true, true, g.Intent, nil
	o.life = 0
	g.Intent = false
	o.hold(g)
}

// hold puts g into hand.
func (o *OAuth2) hold(g Grant) {
	before := o.hand
	o.hand = g
	o.live.Store(nil)
	o.refused.Store(nil)
	// Beside those of the grant before: answers that quote it may be on their way.
	o.hide(g.Access, g.Refresh, before.Access, before.Refresh)
}

// store records the grant in hand, if it is not (9: before it is used).
func (o *OAuth2) store(ctx context.Context) error {
	if o.stored || !o.loaded {
		return nil
	}
	if err := o.options.Vault.Store(ctx, o.hand); err != nil {
		return fmt.Errorf("store the new token: %w", err)
	}
	o.stored = true
	return nil
}

// publish makes the token in hand the one in use; nil where it may not be: not stored (9), meant to be refreshed (K19),
// rejected, or about to expire.
func (o *OAuth2) publish() *token {
	access := o.hand.Access.Reveal()
	if refused := o.refused.Load(); access == "" || !o.stored || o.intended || refused != nil && *refused == access {
		return nil
	}
	o.marks++
	t := &token{access: access, header: []string{"Bearer " + access}, mark: o.marks}
	if !o.hand.Expires.IsZero() {
		early := time.Minute // on the way to the server it may expire
		if o.life > 0 {
			early = min(early, o.life/4)
		}
		if t.until = o.hand.Expires.Add(-early); !time.Now().Before(t.until) {
			return nil
		}
	}
	o.live.Store(t)
	return t
}

// refresh gets the next grant: intent record, call, token record (K19). A crash at any point leaves either the intent, after
// which the old token is tried once, or the new token.
func (o *OAuth2) refresh(ctx context.Context, c *Client) error {
	if o.rotates && !o.intended {
		g := o.hand
		g.Intent = true
		if err := o.options.Vault.Intend(ctx, g); err != nil {
			return fmt.Errorf("record the intent to refresh the token: %w", err)
		}
		o.intended = true
		o.live.Store(nil)
	}
	// K19: after a crash, or a call without an answer, the old token is tried; if it is refused, that stands (dead).
	g, life, err := o.call(ctx, c)
	if err != nil {
		return err
	}
	o.hold(g)
	o.life, o.stored, o.intended = life, !o.rotates, false // the intent was the old grant's
	return o.store(ctx)
}

// call asks the token endpoint for the grant after the one in hand. An error without an answer (Retry) leaves it open whether
// the old refresh token still lives; it is then tried again with the same one, for want of another.
func (o *OAuth2) call(ctx context.Context, c *Client) (Grant, time.Duration, error) {
	form := url.Values{}
	for k, v := range o.options.Form {
		form[k] = v
	}
	form.Set("grant_type", o.options.GrantType)
	if o.rotates {
		if o.hand.Refresh.IsZero() {
			return Grant{}, 0, o.halt("There is no refresh token: put one into the connection's config, run `connector tokens replace`, or `connector login %s` where the definition has an authorize_url.", errors.New("no refresh token"))
		}
		form.Set("refresh_token", o.hand.Refresh.Reveal())
	}
	resp, err := o.post(ctx, c, form)
	if err != nil {
		return Grant{}, 0, err
	}
	defer resp.Release()
	return o.grant(c, resp)
}

// post sends a form to the token endpoint, with what proves which client it is.
func (o *OAuth2) post(ctx context.Context, c *Client, form url.Values) (*Response, error) {
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if o.options.BasicAuth {
		r := http.Request{Header: h}
		r.SetBasicAuth(o.client())
	} else {
		form.Set("client_id", o.options.ClientID)
		if !o.options.ClientSecret.IsZero() {
			form.Set("client_secret", o.options.ClientSecret.Reveal())
		}
	}
	return c.send(ctx, &Request{Method: http.MethodPost, URL: o.options.TokenURL, Header: h, Body: []byte(form.Encode())})
}

// answer is the token endpoint's (RFC 6749, sections 5.1 and 5.2).
type answer struct {
	Access      string          `json:"access_token"`
	Refresh     string          `json:"refresh_token"`
	Expires     json.RawMessage `json:"expires_in"` // a number; as text at some
	Error       string          `json:"error"`
	Description string          `json:"error_description"`
}

// grant reads the token endpoint's answer.
func (o *OAuth2) grant(c *Client, resp *Response) (Grant, time.Duration, error) {
	var a answer
	broken := json.Unmarshal(resp.Body, &a)
	if s := resp.Status; s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable {
		if _, err := c.paused(nil, resp, "the token endpoint"); err != nil {
			return Grant{}, 0, err
		}
	}
	switch s := resp.Status; {
	case s == http.StatusTooManyRequests:
		return Grant{}, 0, tokenError("the token endpoint answered 429")
	case a.Error != "" && s < 500:
		return Grant{}, 0, o.refusal(a)
	case s == http.StatusBadRequest || s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusNotFound || s >= 300 && s < 400:
		return Grant{}, 0, o.halt("The token endpoint refuses: mend token_url and the client's id and secret, then restart connection %s.",
			fmt.Errorf("the token endpoint answered %d: %s", s, o.said(resp.Body)))
	case s >= 300:
		return Grant{}, 0, tokenError(fmt.Sprintf("the token endpoint answered %d: %s", s, o.said(resp.Body)))
	case broken != nil || a.Access == "":
		// Not quoted: half of a token may stand in it.
		return Grant{}, 0, tokenError(fmt.Sprintf("the token endpoint answered %d without a token that can be read", s))
	}
	g := Grant{Access: cdc.NewSecret(a.Access), Refresh: o.hand.Refresh, Generation: o.hand.Generation + 1}
	if a.Refresh != "" {
		g.Refresh = cdc.NewSecret(a.Refresh)
	}
	var life time.Duration
	if n, err := strconv.ParseFloat(strings.Trim(string(a.Expires), `"`), 64); err == nil && n > 0 {
		life = seconds(n)
		g.Expires = resp.Sent.Add(life).UTC()
	}
	return g, life, nil
}

func (o *OAuth2) said(body []byte) string {
	return excerpt(body, func(text string) string { return o.veil().Hide(text) })
}

func tokenError(what string) error {
	return &cdc.Error{Op: "refresh token", Err: errors.New(what), Remedy: cdc.Retry, Scope: cdc.Connection}
}

// refusal is the error for an answer that names one.
func (o *OAuth2) refusal(a answer) error {
	text := o.said([]byte(strings.TrimSuffix(a.Error+": "+a.Description, ": ")))
	switch {
	case a.Error == "temporarily_unavailable" || a.Error == "server_error" || a.Error == "slow_down":
		return tokenError("the token endpoint answered " + text)
	case a.Error == "invalid_grant" && o.rotates:
		// Asking again would change nothing, and looks like an attack; a token that is put in its place lifts it (adopt).
		o.dead = o.halt("The refresh token is used up or revoked: authorize anew and run `connector tokens replace %s`.", errors.New("the token endpoint answered "+text))
		return o.dead
	default:
		return o.halt("Mend the client's id, secret and grant in the config, then restart connection %s.", errors.New("the token endpoint answered "+text))
	}
}

// halt is an error that the connection stops at; hint has a place for its name.
func (o *OAuth2) halt(hint string, err error) error {
	return &cdc.Error{Op: "refresh token", Where: o.options.Connection, Err: err, Hint: fmt.Sprintf(hint, o.options.Connection), Remedy: cdc.Halt, Scope: cdc.Connection}
}

// send sends r once to an origin, without budget, credential and judge, into a buffer outside the budget of bytes: its caller
// may hold bytes of that already, and would wait for itself.
func (c *Client) send(ctx context.Context, r *Request) (*Response, error) {
	e, err := c.errand(r)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, c.compose(e), c.pages.loose(), e)
}
