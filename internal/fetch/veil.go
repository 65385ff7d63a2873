package fetch

import (
	"errors"
	"slices"
	"strings"

	"tidemark/internal/cdc"
)

// veiled is an error that is shown without the credential, which what it quotes of an answer held. What it wraps is still found
// by errors.Is and errors.As.
type veiled struct {
	text string
	err  error
}

// Error implements error.
func (v *veiled) Error() string { return v.text }

// Unwrap returns the error as it was.
func (v *veiled) Unwrap() error { return v.err }

// shortest is how long a secret is at least that is hidden, or the half of one: of a shorter one there is nothing that could not be
// guessed, and its *** would stand everywhere.
const shortest = 4

// hidden replaces secrets in text.
func hidden(text string, secrets ...cdc.Secret) string {
	for _, secret := range secrets {
		if s := secret.Reveal(); len(s) >= shortest {
			text = strings.ReplaceAll(text, s, secret.String())
		}
	}
	return text
}

// halved replaces the first halves of secrets at the end of a quotation: an error cuts what it quotes (%.64q) before anybody can hide
// what is in it. So what an answer says is quoted where it is cut.
func halved(text string, secrets ...cdc.Secret) string {
	parts := strings.Split(text, `"`)
	for i := range parts[:len(parts)-1] {
		for _, secret := range secrets {
			s := secret.Reveal()
			for n := min(len(s)-1, len(parts[i])); n >= shortest; n-- {
				if before, ok := strings.CutSuffix(parts[i], s[:n]); ok {
					parts[i] = before + secret.String()
					break
				}
			}
		}
	}
	return strings.Join(parts, `"`)
}

// secrets are those of the settings and those of the credential.
func (c *Client) secrets() []cdc.Secret {
	switch {
	case c == nil:
		return nil
	case c.credential == nil:
		return c.settings
	}
	return slices.Concat(c.settings, c.credential.secrets())
}

// hide returns text without secrets, as they are and as a path writes them: servers like to quote what they refuse.
func (c *Client) hide(text string) string { return hidden(text, c.secrets()...) }

// veil hides the credential in what err says: a server can quote what it was sent in anything that it sends, and an error
// quotes that again (DESIGN §9). Remedy, reach and hint stay.
func (c *Client) veil(err error) error {
	if err == nil || c == nil {
		return err
	}
	secrets := c.secrets()
	hide := func(text string) string { return halved(hidden(text, secrets...), secrets...) }
	text := hide(err.Error())
	if text == err.Error() {
		return err
	}
	var e *cdc.Error
	if !errors.As(err, &e) || e.Err == nil {
		return &veiled{text, err}
	}
	shown := *e
	shown.Where, shown.Err = hide(e.Where), &veiled{hide(e.Err.Error()), e.Err}
	return &shown
}

// Veil hides the credential that the answer was asked for with in what an error quotes of it.
func (r *Response) Veil(err error) error {
	if r == nil {
		return err
	}
	return r.client.veil(err)
}
