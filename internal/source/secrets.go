package source

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"tidemark/internal/cdc"
)

// What an expression makes of a secret setting is a secret too: base64('me:' + config.token) shows the token to whoever can read
// base64, and a signature is good for a request. The setting itself is hidden anyway (Source.Secrets), however short the text is
// that is made of it.

// telling is how long a text is at least that is hidden because it was made of a secret. A shorter one is a word such as true or
// basic, a number, a part such as the us19 of a key: it tells little, and its *** would stand everywhere.
const telling = 8

// confide notes x, which e has made of a secret setting. A word that the definition itself has (config.key == nil ? 'anonymous' :
// config.key) is none, nor is a truth value.
func (v *vars) confide(e *expression, x any) {
	switch x := normal(x).(type) {
	case []any:
		for _, one := range x {
			v.confide(e, one)
		}
	case map[string]any:
		for _, one := range x {
			v.confide(e, one)
		}
	default:
		if text, err := written(x); err == nil && len(text) >= telling && !strings.Contains(e.text, strconv.Quote(text)) {
			v.secrets = append(v.secrets, cdc.NewSecret(text))
		}
	}
}

// discreet is err without what it quotes, where e knows a secret: functions quote what they cannot read.
func (e *expression) discreet(err error) error {
	var n *null
	if !e.secret || errors.As(err, &n) {
		return err
	}
	return errors.New("it has no value; why is not said, since a secret setting is in it")
}

// confided adds to the source's secrets what templates made of them that are evaluated once.
func (b *binder) confided(v *vars) {
	for _, s := range v.secrets {
		if !slices.Contains(b.source.Secrets, s) {
			b.source.Secrets = append(b.source.Secrets, s)
		}
	}
}
