package source

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

const secretive = `source: shop
config: {key: {secret: true}, pin: {type: integer, secret: true, optional: true}, keys: {type: list, secret: true, optional: true}, live: {type: boolean, secret: true, optional: true}}
base_url: https://%s
headers: {X-Source: "{{ upper(config.key) }}"}
authenticator: %s
streams:
  orders:
    path: /orders/%s
    method: POST
    records: data
    primary_key: id
    query: {q: "%s"}
    headers: {Authorization: "Basic {{ base64('me:' + config.key) }}"}
    %s
`

// What a template makes of a secret setting is a secret, wherever it is sent: it is hidden in whatever is said of the request.
func TestWhatIsMadeOfASecretIsSecret(t *testing.T) {
	const key = "Kept-Quiet-1-of-Ours"
	sum := hmac.New(sha256.New, []byte(key))
	sum.Write([]byte("2026-03-10T12:00:00Z"))
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + key))
	for name, c := range map[string]struct {
		query, path, body string
		made, plain       []string
	}{
		"headers":        {"x", "x", "form: {a: b}", []string{basic, "KEPT-QUIET-1-OF-OURS"}, []string{key}},
		"lower":          {"{{ lower(config.key) }}", "x", "form: {a: b}", []string{"kept-quiet-1-of-ours"}, nil},
		"hmac":           {"{{ hmac(iso(now), config.key) }}", "x", "form: {a: b}", []string{hex.EncodeToString(sum.Sum(nil))}, nil},
		"path":           {"x", "{{ replace(config.key, '-', '/') }}", "form: {a: b}", []string{"Kept/Quiet/1/of/Ours"}, nil},
		"form":           {"x", "x", "form: {a: \"{{ config.key + config.key }}\"}", []string{key + key}, nil},
		"body":           {"x", "x", "body: {a: {b: [\"{{ replace(config.key, 'Kept', 'Held') }}\"]}}", []string{"Held-Quiet-1-of-Ours"}, nil},
		"body, list":     {"x", "x", "body: {a: \"{{ split(replace(config.key, 'Quiet-', 'abcdefgh-ijklmnop'), '-') }}\"}", []string{"abcdefgh", "ijklmnop1"}, []string{"Kept", "Ours"}},
		"body, text":     {"x", "x", "body: \"{{ json({secret: upper(config.key), n: 1}) }}\"", []string{`{"n":1,"secret":"KEPT-QUIET-1-OF-OURS"}`}, nil},
		"part":           {"{{ first(split(replace(config.key, '-Q', 'Q'), '-')) }}", "x", "form: {a: b}", []string{"KeptQuiet"}, nil},
		"short part":     {"{{ last(split(config.key, '-')) }}", "x", "form: {a: b}", nil, []string{"Ours"}},
		"word":           {"{{ config.key == 'x' ? 'anonymous' : 'everybody' }}", "x", "form: {a: b}", nil, []string{"anonymous", "everybody"}},
		"truth":          {"{{ config.key == 'x' }}", "x", "form: {a: \"{{ json(config.key == 'x') }}\"}", nil, []string{"false", "true"}},
		"nothing secret": {"{{ upper('of no consequence') }}", "x", "form: {a: b}", nil, []string{"OF NO CONSEQUENCE"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := mustBind(t, fmt.Sprintf(secretive, "api.example.com/v1", "{type: none}", c.path, c.query, c.body), map[string]any{"key": key})
			pos, err := src.Requests[0].Begin(src.Requests[0].Partitions()[0], cdc.Checkpoint{}, time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
			if err != nil {
				t.Fatal(err)
			}
			request, err := src.Requests[0].Compose(&pos)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range c.made {
				if !slices.Contains(request.Secrets, cdc.NewSecret(text)) {
					t.Errorf("%q is not kept secret", text)
				}
			}
			for _, text := range c.plain {
				if slices.Contains(request.Secrets, cdc.NewSecret(text)) {
					t.Errorf("%q is kept secret", text)
				}
			}
			shown := fetch.NewVeil(request.Secrets...).Hide(fmt.Sprintf("%s %s %s", request.URL, request.Header, request.Body))
			for _, text := range append(c.made, basic) {
				if strings.Contains(shown, text) {
					t.Errorf("%q is shown: %s", text, shown)
				}
			}
		})
	}
}

// What a connection makes of its secrets once, in its base_url, its authenticator or a partition, is hidden as they are.
func TestWhatABindMakesOfASecretIsSecret(t *testing.T) {
	text := fmt.Sprintf(secretive, "{{ lower(config.key) }}.example.com", "{type: api_key, header: X-Key, value: \"{{ upper(config.key) }}\"}", "x", "x",
		"partition: {p: \"{{ replace(config.key, '-', '_') }}\"}")
	src := mustBind(t, text, map[string]any{"key": "Kept-Quiet", "pin": 1234567, "keys": []any{"first-of-two", "second"}, "live": true})
	for _, want := range []string{"Kept-Quiet", "kept-quiet", "KEPT-QUIET", "Kept_Quiet", "1234567", "first-of-two", "second"} {
		if !slices.Contains(src.Secrets, cdc.NewSecret(want)) {
			t.Errorf("%q is not kept secret", want)
		}
	}
	if slices.Contains(src.Secrets, cdc.NewSecret("true")) {
		t.Error("true is kept secret")
	}
}

// An error of a template or of a connection does not quote what was made of a secret.
func TestTemplatesWithSecretsAreDiscreet(t *testing.T) {
	const key = "Kept-Quiet"
	text := fmt.Sprintf(secretive, "api.example.com", "{type: none}", "x", "{{ parse_time(lower(config.key)) }}", "form: {a: b}")
	src := mustBind(t, text, map[string]any{"key": key})
	pos, err := src.Requests[0].Begin(src.Requests[0].Partitions()[0], cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = src.Requests[0].Compose(&pos); err == nil || strings.Contains(strings.ToLower(err.Error()), "kept-") || !strings.Contains(err.Error(), "parse_time(lower(config.key))") {
		t.Error(err)
	}
	text = fmt.Sprintf(secretive, "{{ lower(config.key) }}?a=b", "{type: none}", "x", "x", "form: {a: b}")
	if _, err = mustParse(t, text).Bind("c", map[string]any{"key": key}, Overrides{}); err == nil || strings.Contains(err.Error(), "kept-") || !strings.Contains(err.Error(), "***") {
		t.Error(err)
	}
}

// A login that is refused with what it was sent, as the form has it, is told without it; so is a page that quotes the login later.
func TestLoginsShowNoSecret(t *testing.T) {
	const password = "p@ss/w+d= ä"
	for name, login := range map[string]string{
		"form":       `form: {p: "{{ config.password }}"}`,
		"body":       `body: {p: "{{ config.password }}"}`,
		"made, body": `body: {p: "{{ base64('me:' + config.password) }}"}`,
		"made, head": `headers: {Authorization: "Basic {{ base64('me:' + config.password) }}"}`,
		"made, form": `form: {p: "{{ upper(config.password) }}"}`,
	} {
		for _, refused := range []bool{true, false} {
			var said string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/v1/login" {
					body, _ := io.ReadAll(q.Body)
					said = fmt.Sprintf("%s %s", body, q.Header.Get("Authorization"))
					if !refused {
						fmt.Fprint(w, `{"token": "t0ken"}`)
						return
					}
				}
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, said)
			}))
			src, err := bindAuth(t, server.URL, "{type: session, login: {path: /login, method: POST, "+login+"}, token: token, header: X-Session}",
				map[string]any{"password": password})
			if err != nil {
				t.Fatal(err)
			}
			err = askOnce(t, src)
			server.Close()
			if err == nil || !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "***") {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, part := range []string{"p@ss", "p%40ss", "w%2B", "P%40SS", "bWU6", "t0ken"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q is shown: %v", name, part, err)
				}
			}
		}
	}
}
