package source

import (
	"net/http"
	"slices"

	"go.yaml.in/yaml/v3"
)

// ownHeaders are not a definition's to write: they belong to the connection (RFC 9110 sections 7.2, 7.6.1 and 8.6), or the client
// writes them over.
var ownHeaders = []string{"Accept-Encoding", "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent"}

// header checks the name of a header that a definition sends.
func (r *linter) header(k *yaml.Node) {
	name := http.CanonicalHeaderKey(k.Value)
	switch {
	case !validHeader.MatchString(k.Value):
		r.fail(k, "%q cannot be the name of a header", k.Value)
	case slices.Contains(ownHeaders, name):
		r.fail(k, "the connector writes the header %s itself: what stands here would not be sent, or would spoil the request", name)
	case slices.Contains(r.proof, name):
		r.fail(k, "the authenticator writes the header %s, too: one of them would be lost", name)
	}
}

// headers returns the headers that an authenticator writes.
func (a *authentication) headers() []string {
	switch {
	case a.choose != nil:
		var all []string
		for i := range a.cases {
			all = append(all, a.cases[i].headers()...)
		}
		return all
	case a.kind == AuthBearer, a.kind == AuthBasic, a.kind == AuthOAuth2:
		return []string{"Authorization"}
	case a.login != nil && a.login.cookies:
		return []string{"Cookie"}
	case a.header != "":
		return []string{http.CanonicalHeaderKey(a.header)}
	}
	return nil
}
