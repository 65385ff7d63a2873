package fetch

import (
	"context"
	"errors"
	"net/url"

	"tidemark/internal/cdc"
)

// Code is what an authorization server sends a person back with (RFC 6749, section 4.1).
type Code struct {
	Code     cdc.Secret
	Redirect string     // where it was sent, as it was asked for
	Verifier cdc.Secret // of the proof key (RFC 7636); zero: none was asked with
}

// Redeem exchanges a code for the first grant. It stores nothing, and a code is good for one try.
func Redeem(ctx context.Context, c *Client, o OAuth2Options, code Code) (Grant, error) {
	w := &OAuth2{options: o}
	w.hide(code.Code, code.Verifier)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code.Code.Reveal()}, "redirect_uri": {code.Redirect}}
	if !code.Verifier.IsZero() {
		form.Set("code_verifier", code.Verifier.Reveal())
	}
	resp, err := w.post(ctx, c, form)
	if err != nil {
		return Grant{}, err
	}
	defer resp.Release()
	g, _, err := w.grant(c, resp)
	halted := func(hint string, err error) error {
		return &cdc.Error{Op: "redeem code", Where: o.Connection, Err: err, Hint: hint, Remedy: cdc.Halt, Scope: cdc.Connection}
	}
	var e *cdc.Error
	switch {
	case errors.As(err, &e):
		return Grant{}, halted("Are client_id and client_secret right, and is the redirect registered upstream as it stands? Then log in again: a code is good for one try", e.Err)
	case err != nil:
		return Grant{}, err
	case g.Refresh.IsZero():
		return Grant{}, halted("Some providers give one only when asked: for a scope such as offline_access, or by a parameter of authorize_url such as ?access_type=offline",
			errors.New("the provider gave no refresh token"))
	}
	return g, nil
}
