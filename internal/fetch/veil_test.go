package fetch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
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

// Servers quote what they refuse, each in its own spelling, and an error quotes that again (DESIGN §9).
func TestSecretsAreHiddenInEverySpelling(t *testing.T) {
	inner := func(quoted string) string { return quoted[1 : len(quoted)-1] }
	jsonOf := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return inner(string(text))
	}
	spellings := map[string]func(string) string{
		"raw":        func(s string) string { return s },
		"path":       url.PathEscape,
		"query":      url.QueryEscape,
		"blanks":     func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") },
		"twice":      func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
		"JSON":       jsonOf,
		"ASCII JSON": func(s string) string { return inner(strconv.QuoteToASCII(s)) },
		"slashes":    func(s string) string { return strings.ReplaceAll(jsonOf(s), "/", `\/`) },
		"wide JSON":  func(s string) string { return strings.ReplaceAll(jsonOf(s), "+", `\u002B`) },
		"Go":         func(s string) string { return inner(strconv.Quote(s)) },
		"Go of JSON": func(s string) string { return inner(strconv.Quote(jsonOf(s))) },
		"HTML":       html.EscapeString,
		"named HTML": strings.NewReplacer(`"`, "&quot;", "&", "&amp;", "'", "&apos;", "<", "&lt;", ">", "&gt;").Replace,
		"small hex": func(s string) string {
			return regexp.MustCompile(`%..`).ReplaceAllStringFunc(url.QueryEscape(s), strings.ToLower)
		},
	}
	for _, secret := range []string{"ab/cd+EFGHIJKL==", `a"b\c`, "pässwörd", "p@ss/w+d=", "one two&<three>'4'", "tab\tand\nline", "100%25", "\xff\xfe of bytes", "🔑🔑🔑🔑"} {
		v := NewVeil(cdc.NewSecret(secret))
		for name, spell := range spellings {
			for _, around := range []string{"%s", "key=%s&x", `{"key": "%s"}`, "%s, %[1]s"} {
				text, want := fmt.Sprintf(around, spell(secret)), fmt.Sprintf(around, "***")
				if got := v.Hide(text); got != want {
					t.Errorf("%s: %s is shown as %s", name, text, got)
				}
			}
		}
	}
	v := NewVeil(cdc.NewSecret("abc"), cdc.NewSecret("key-1"), cdc.NewSecret("my-key-1-and"), cdc.NewSecret("and-more"))
	for text, want := range map[string]string{
		"abc key-2":                        "abc key-2", // nothing that could not be guessed, and nothing of ours
		"a my-key-1-and-more b key-1 c":    "a *** b *** c",
		`{"a":"\\key-1","b":"\nkey-1"}`:    `{"a":"***","b":"\n***"}`,
		strings.Repeat("key-key-", 1000):   strings.Repeat("key-key-", 1000),
		"key" + strings.Repeat("%25", 100): "key" + strings.Repeat("%25", 100),
	} {
		if got := v.Hide(text); got != want {
			t.Errorf("%s is shown as %s", text, got)
		}
	}
}

// A server that quotes what it was asked, as it came, does not make an error show it; nor does one that has taken it out of its header.
func TestEchoesShowNoSecret(t *testing.T) {
	const secret = `ab/cd+EF"GH\IJ=ä`
	key := cdc.NewSecret(secret)
	pair := []byte("me:" + secret)
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "%s %q %s %s", r.URL.RequestURI(), r.URL.Query(), r.Header.Get("Authorization"), body)
	}
	for name, c := range map[string]struct {
		credential Credential
		request    Request
		answer     string
	}{
		"query":          {Query("key", key), Request{}, ""},
		"bearer, ASCII":  {Bearer(cdc.NewSecret("ab/cd+EFGH")), Request{}, `{"token": "ab\/cd\u002bEFGH"}`},
		"basic":          {Basic("me", key), Request{}, ""},
		"basic, raw":     {Basic("me", key), Request{}, base64.RawStdEncoding.EncodeToString(pair)},
		"basic, for URL": {Basic("me", key), Request{}, base64.URLEncoding.EncodeToString(pair)},
		"basic, short":   {Basic("me", key), Request{}, base64.RawURLEncoding.EncodeToString(pair)},
		"setting, query": {nil, Request{URL: api + "/v2?k=" + url.QueryEscape(secret)}, ""},
		"setting, path":  {nil, Request{URL: api + "/v2/" + url.PathEscape(secret)}, ""},
		"setting, form":  {nil, Request{Method: "POST", Body: []byte("k=" + url.QueryEscape(secret))}, ""},
		"setting, body":  {nil, Request{Method: "POST", Body: []byte(strconv.QuoteToASCII(secret))}, ""},
		"made of it":     {nil, Request{URL: api + "/v2?sign=0123456789abcdef", Secrets: []cdc.Secret{cdc.NewSecret("0123456789abcdef")}}, ""},
		"made, in path":  {nil, Request{URL: api + "/v2/0123456789abcdef", Secrets: []cdc.Secret{cdc.NewSecret("0123456789abcdef")}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := client(t, echo, func(o *Options) { o.Credential, o.Secrets = c.credential, []cdc.Secret{key} })
				if c.answer != "" {
					c.request.Judge = func(*Response) error { return fmt.Errorf("it said %s and %.40q", c.answer, c.answer) }
				}
				if c.request.URL == "" {
					c.request.URL = api + "/v2"
				}
				_, err := cl.Do(t.Context(), &c.request)
				if err == nil || !strings.Contains(err.Error(), "***") {
					t.Fatalf("%v", err)
				}
				for _, part := range []string{"ab", "EF", "GH", "IJ", "0123", "bWU", "WI", "RUYi"} {
					if strings.Contains(err.Error(), part) {
						t.Errorf("%q is shown: %v", part, err)
					}
				}
			})
		})
	}
}

// What requests are made of is remembered for a while: an answer can quote an earlier request, as the link to the next page does. It
// is bounded (10), and what is asked with now is always known.
func TestRequestsSecretsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := client(t, ok, nil)
		sign := func(n int) string { return fmt.Sprintf("signature-%04d", n) }
		for n := range 1000 {
			r := get("/v2")
			r.Secrets = []cdc.Secret{cdc.NewSecret("always-the-same"), cdc.NewSecret(sign(n))}
			answer, err := cl.Do(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if err := answer.Veil(fmt.Errorf("%s, %s, always-the-same", sign(max(0, n-30)), sign(n))); err.Error() != "***, ***, ***" {
				t.Fatalf("%d: %v", n, err)
			}
			answer.Release()
		}
		if n := len(cl.made.Load().secrets); n > most {
			t.Errorf("%d secrets are kept", n)
		}
	})
}
