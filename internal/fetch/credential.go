package fetch

import (
	"context"
	"net/http"
	"net/url"

	"tidemark/internal/cdc"
)

// Credential puts on a request what proves who asks. The implementations are [Static], [Session] and [OAuth2].
type Credential interface {
	// Apply puts the credential on r, getting a new one first where there is none, through c; it may block for that. The mark
	// stands for what it put on.
	Apply(ctx context.Context, c *Client, r *http.Request) (mark uint64, err error)
	// Reject hears that a request with that mark was answered by 401. It reports whether the next Apply gets another
	// credential (or did already), so that it is worth asking again.
	Reject(mark uint64) bool
	veil() *Veil // over its secrets
}

var _, _, _ Credential = Static{}, (*Session)(nil), (*OAuth2)(nil)

// Static is a credential that never changes: a header or a query parameter. Make one by Bearer, Header, Query or Basic.
type Static struct {
	header, query string
	value         cdc.Secret
	hidden        *Veil
}

// Bearer returns "Authorization: Bearer token" (RFC 6750).
func Bearer(token cdc.Secret) Static {
	return Static{header: "Authorization", value: cdc.NewSecret("Bearer " + token.Reveal()), hidden: NewVeil(token)}
}

// Header returns an API key in the header called name.
func Header(name string, key cdc.Secret) Static {
	return Static{header: http.CanonicalHeaderKey(name), value: key, hidden: NewVeil(key)}
}

// Query returns an API key in the query parameter called name.
func Query(name string, key cdc.Secret) Static {
	escaped := url.QueryEscape(key.Reveal())
	return Static{query: url.QueryEscape(name), value: cdc.NewSecret(escaped), hidden: NewVeil(key)}
}

// Basic returns "Authorization: Basic …" (RFC 7617).
func Basic(username string, password cdc.Secret) Static {
	both := pair(username, password.Reveal())
	return Static{header: "Authorization", value: cdc.NewSecret("Basic " + both[0].Reveal()), hidden: NewVeil(append(both, password)...)}
}

// Apply implements Credential.
func (s Static) Apply(_ context.Context, _ *Client, r *http.Request) (uint64, error) {
	text := s.value.Reveal()
	if unsendable(text) {
		return 0, cdc.Errorf(cdc.Halt, cdc.Connection, "request", "Does the file it comes from end in a line break? Write the secret without one and restart the connection.",
			"the credential holds a control character")
	}
	switch {
	case s.header != "":
		r.Header[s.header] = []string{text}
	case r.URL.RawQuery == "":
		r.URL.RawQuery = s.query + "=" + text
	default:
		r.URL.RawQuery += "&" + s.query + "=" + text
	}
	return 0, nil
}

// Reject implements Credential: there is no other one.
func (s Static) Reject(uint64) bool { return false }

func (s Static) veil() *Veil { return s.hidden }
