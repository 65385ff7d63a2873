package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tidemark/internal/cdc"
)

// identity is a short fingerprint of who asks (P23): what another name may see is another listing. Its parts are what names
// somebody: a user, a client, the place that knows them. Where a secret alone does that, 16 bits of its hash stand for it: enough
// to notice most changes, and too few to find the secret by.
func (b *binder) identity(a *authentication) string {
	out := &b.source.Auth
	lines := []string{"identity 1", "kind " + string(out.Kind)}
	switch out.Kind {
	case AuthBearer, AuthAPIKey:
		lines = append(lines, "secret "+trace(out.Value))
	case AuthBasic:
		lines = append(lines, "name "+out.Username)
	case AuthOAuth2:
		lines = append(lines, "grant "+out.GrantType, "at "+out.TokenURL, "name "+out.ClientID)
		if out.GrantType == GrantRefresh { // the client is the program, the grant is who asks
			lines = append(lines, "secret "+trace(out.RefreshToken))
		}
	case AuthSession:
		lines = append(lines, b.visitor(&a.login.call)...)
	}
	return fingerprint(lines)[:12]
}

// visitor is who logs in: the settings that the login sends, secret ones only where there are no others.
func (b *binder) visitor(c *call) []string {
	lines := []string{"base " + b.source.BaseURL}
	secrets := map[string]bool{}
	named := false
	c.each(func(t *template) {
		what := "name"
		if t == c.path || t == c.url {
			what = "at"
			lines = append(lines, "at "+t.canonical())
		}
		t.bindings(func(used binding) {
			x := b.source.config[used.member]
			switch s := (&scope{config: b.def.config}).setting(used.member); {
			case used.root != "config" || s == nil || x == nil:
			case s.secret:
				secrets[fmt.Sprintf("%s %v", s.name, x)] = true
			default:
				named = named || what == "name"
				lines = append(lines, fmt.Sprintf("%s %s %v", what, s.name, x))
			}
		})
	})
	if !named {
		lines = append(lines, "secret "+trace(cdc.NewSecret(strings.Join(slices.Sorted(maps.Keys(secrets)), "\x00"))))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// trace is 16 bits of a secret's hash.
func trace(s cdc.Secret) string {
	sum := sha256.Sum256([]byte("tidemark identity\x00" + s.Reveal()))
	return hex.EncodeToString(sum[:2])
}
