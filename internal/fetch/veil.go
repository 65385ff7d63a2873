package fetch

import (
	"cmp"
	"encoding/base64"
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

// shortest is how long a secret is at least that is hidden, or the beginning of one: of a shorter one there is nothing that could
// not be guessed, and its *** would stand everywhere.
const shortest = 4

// Veil hides secrets in texts, however they are spelt there. It does not change; a nil one hides nothing.
type Veil struct{ secrets []*spelt }

// NewVeil returns a veil over secrets.
func NewVeil(secrets ...cdc.Secret) *Veil { return (&Veil{}).over(secrets) }

// over returns a veil that hides secrets too; v itself where it hides them all.
func (v *Veil) over(secrets []cdc.Secret) *Veil {
	out := v
	for _, secret := range secrets {
		text := secret.Reveal()
		if len(text) < shortest || slices.ContainsFunc(out.secrets, func(s *spelt) bool { return s.text == text }) {
			continue
		}
		out = &Veil{append(slices.Clip(out.secrets), spell(text))}
	}
	return out
}

// Hide replaces the secrets in text, and more of them, by ***.
func (v *Veil) Hide(text string, more ...cdc.Secret) string {
	return cover(text, false, v, NewVeil(more...))
}

// cover replaces in text what veils hide. In an error it replaces the beginnings of secrets too, at the end of a quotation: an error
// cuts what it quotes (%.64q) before anybody can hide what is in it, so what an answer says is quoted where it is cut.
func cover(text string, quoted bool, veils ...*Veil) string {
	type span struct{ from, to int }
	var all []span
	found := func(from, to int) {
		for from > 0 && text[from-1] == '\\' { // half of an escape would spoil a JSON text
			from--
		}
		all = append(all, span{from, to})
	}
	var ends []int
	for end := closing(text, 0); quoted && end >= 0; end = closing(text, end+1) {
		ends = append(ends, end)
	}
	for _, v := range veils {
		if v == nil {
			continue
		}
		for _, s := range v.secrets {
			s.find(text, found)
			for _, end := range ends {
				s.findCut(text[:end], found)
			}
		}
	}
	if len(all) == 0 {
		return text
	}
	// Where a secret is a part of another, or one begins in another, all of both is hidden.
	slices.SortFunc(all, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	var b strings.Builder
	at := 0
	for _, s := range all {
		if s.from >= at {
			b.WriteString(text[at:s.from])
			b.WriteString(cdc.Secret{}.String())
		}
		at = max(at, s.to)
	}
	b.WriteString(text[at:])
	return b.String()
}

// closing returns where the next quotation mark of text stands, from on, that is no part of what is quoted; -1 where there is none.
func closing(text string, from int) int {
	for escaped := false; from < len(text); from++ {
		switch {
		case escaped:
			escaped = false
		case text[from] == '\\':
			escaped = true
		case text[from] == '"':
			return from
		}
	}
	return -1
}

// pair returns the ways in which user and password stand in a header (RFC 7617), or come back out of one.
func pair(user, password string) []cdc.Secret {
	both := []byte(user + ":" + password)
	var out []cdc.Secret
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		out = append(out, cdc.NewSecret(e.EncodeToString(both)))
	}
	return out
}

// most bounds the secrets of earlier requests that a client remembers (10).
const most = 64

// learn hides the secrets of a request in what is said of those that follow: the link to the next page may quote it.
func (c *Client) learn(secrets []cdc.Secret) {
	for len(secrets) > 0 {
		known := c.made.Load()
		all := known.over(secrets)
		if spare := len(all.secrets) - most; spare > 0 && all != known {
			all = &Veil{slices.DeleteFunc(slices.Clone(all.secrets), func(s *spelt) bool {
				old := spare > 0 && !slices.Contains(secrets, cdc.NewSecret(s.text))
				if old {
					spare--
				}
				return old
			})}
		}
		if all == known || c.made.CompareAndSwap(known, all) {
			return
		}
	}
}

// veils are over the secrets of the settings, of the credential and of earlier requests, and over more.
func (c *Client) veils(more []cdc.Secret) []*Veil {
	out := []*Veil{NewVeil(more...)}
	if c != nil {
		out = append(out, c.settings, c.made.Load())
		if c.credential != nil {
			out = append(out, c.credential.veil())
		}
	}
	return out
}

// Hide replaces the client's secrets in text, and more of them, by ***: those of its settings and its credential, and those that its
// requests were made of. Servers like to quote what they refuse.
func (c *Client) Hide(text string, more ...cdc.Secret) string {
	return cover(text, false, c.veils(more)...)
}

// Veil hides the client's secrets in what err says: a server can quote what it was sent in anything that it sends, and an error
// quotes that again (DESIGN §9). Remedy, reach and hint stay.
func (c *Client) Veil(err error, more ...cdc.Secret) error {
	if err == nil {
		return nil
	}
	return veil(err, c.veils(more)...)
}

// Veil hides the secrets in what err says.
func (v *Veil) Veil(err error) error { return veil(err, v) }

func veil(err error, veils ...*Veil) error {
	hide := func(text string) string { return cover(text, true, veils...) }
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
	return r.client.Veil(err, r.secrets...)
}
