package fetch

import (
	"errors"

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

// veil hides the credential in what err says: a server can quote what it was sent in anything that it sends, and an error
// quotes that again (DESIGN §9). Remedy, reach and hint stay.
func (c *Client) veil(err error) error {
	if err == nil || c == nil {
		return err
	}
	text := c.hide(err.Error())
	if text == err.Error() {
		return err
	}
	var e *cdc.Error
	if !errors.As(err, &e) || e.Err == nil {
		return &veiled{text, err}
	}
	shown := *e
	shown.Where, shown.Err = c.hide(e.Where), &veiled{c.hide(e.Err.Error()), e.Err}
	return &shown
}

// Veil hides the credential that the answer was asked for with in what an error quotes of it.
func (r *Response) Veil(err error) error {
	if r == nil {
		return err
	}
	return r.client.veil(err)
}
