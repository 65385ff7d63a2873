package fetch

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"tidemark/internal/cdc"
)

// What an error quotes is cut before anybody can hide what is in it (DESIGN §9): of a secret at the cut the first half would
// stay, and of one in small letters all of it.
func TestSecretsAtACutAreHidden(t *testing.T) {
	const secret = "S3cret-Token-Of-Ours"
	quoting := func(header, before string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, before+secret)
			fmt.Fprint(w, "{}")
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		words  string
	}{
		{"encoding", quoting("Content-Encoding", ""), `"***"`},
		{"encoding, cut", quoting("Content-Encoding", strings.Repeat("x", 30)), `xxx***"`},
		{"type", quoting("Content-Type", "text/html; charset="), `charset=***"`},
		{"type, cut", quoting("Content-Type", "text/html; charset="+strings.Repeat("x", 30)), `xxx***"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := client(t, c.answer, func(o *Options) { o.Credential = Bearer(cdc.NewSecret(secret)) })
				_, err := cl.Do(t.Context(), get("/people"))
				want(t, err, cdc.Halt, cdc.Stream, c.words)
				shown(t, err, secret)
			})
		})
	}
	cl, err := New(Options{Origins: []string{api}, Secrets: []cdc.Secret{cdc.NewSecret(secret)}})
	if err != nil {
		t.Fatal(err)
	}
	answer := &Response{client: cl}
	for before := range 64 {
		shown(t, answer.Veil(fmt.Errorf("the page token %.64q leads to itself", strings.Repeat("x", before)+secret)), secret)
	}
	if err := answer.Veil(fmt.Errorf("not %q, nor %q", "S3cr4", "Token")); err.Error() != `not "S3cr4", nor "Token"` {
		t.Errorf("%v", err)
	}
}

// shown fails the test where err shows more of secret than could be guessed.
func shown(t *testing.T, err error, secret string) {
	t.Helper()
	if text := err.Error(); strings.Contains(strings.ToLower(text), strings.ToLower(secret[:4])) {
		t.Errorf("error %q shows the secret", text)
	}
}
