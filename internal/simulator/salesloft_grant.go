package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// grant is what OAuth gave out. Refresh tokens are single-use: handing out a new one revokes the old (APIS.md §1).
type grant struct {
	refresh map[string]bool      // refresh tokens that are good
	spends  map[string]string    // with TokenGrace: the refresh token that ends with the first use of an access token
	access  map[string]time.Time // access tokens, until when they are good
	count   int
	people  int // that agreed anew
}

// tokens answers a token request. The lock is held.
func (s *SalesLoft) tokens(c *call, form url.Values) (int, []byte) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := c.BasicAuth(); ok {
		id, secret = user, password
	}
	g := &s.grant
	refresh := form.Get("refresh_token")
	switch kind := form.Get("grant_type"); {
	case id != ClientID || secret != ClientSecret:
		return oauthError(http.StatusUnauthorized, "invalid_client", "Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.")
	case kind == "client_credentials":
		return http.StatusOK, s.issue("", "", c.now)
	case kind != "refresh_token":
		return oauthError(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported by the authorization server.")
	case !g.refresh[refresh]:
		return oauthError(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.")
	}
	s.stats.Refreshes++
	next := fmt.Sprintf("simulated-refresh-token-%d", g.count+1)
	g.refresh[next] = true
	if !s.o.TokenGrace {
		delete(g.refresh, refresh)
		return http.StatusOK, s.issue(next, "", c.now)
	}
	// A copy of the request may come late, from somebody who no longer owns the grant: what was handed out before stays good.
	return http.StatusOK, s.issue(next, refresh, c.now)
}

// issue hands out an access token, and the refresh token if there is one. The first use of the access token ends spends.
func (s *SalesLoft) issue(refresh, spends string, now time.Time) []byte {
	g := &s.grant
	g.count++
	token := fmt.Sprintf("simulated-access-token-%d-%016x", g.count, s.random.Uint64())
	g.access[token] = now.Add(s.o.TokenLife)
	answer := map[string]any{
		"access_token": token, "token_type": "bearer", "scope": "public",
		"expires_in": int(s.o.TokenLife.Seconds()), "created_at": now.Unix(),
	}
	if spends != "" {
		g.spends[token] = spends
	}
	if refresh != "" {
		answer["refresh_token"] = refresh
	}
	return encoded(nil, answer)
}

func oauthError(status int, code, text string) (int, []byte) {
	return status, fmt.Appendf(nil, `{"error":%q,"error_description":%q}`, code, text)
}

// authorized reports whether a bearer token is good. The lock is held.
func (s *SalesLoft) authorized(token string, now time.Time) bool {
	if token == s.o.APIKey {
		return true
	}
	until, known := s.grant.access[token]
	if !known || !now.Before(until) {
		return false
	}
	if old, ok := s.grant.spends[token]; ok { // the client has the new pair: the old refresh token has done its work
		delete(s.grant.refresh, old)
		delete(s.grant.spends, token)
	}
	return true
}

// ExpireTokens ends every access token now; the refresh token stays good.
func (s *SalesLoft) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.grant.access)
}

// Authorize is a person who agrees anew, as in a browser: it returns the refresh token of another grant, which is good.
func (s *SalesLoft) Authorize() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grant.people++
	token := fmt.Sprintf("simulated-authorization-%d", s.grant.people)
	s.grant.refresh[token] = true
	return token
}

// RevokeGrant ends access and refresh tokens: only a person can grant anew.
func (s *SalesLoft) RevokeGrant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.grant.access)
	clear(s.grant.refresh)
}
