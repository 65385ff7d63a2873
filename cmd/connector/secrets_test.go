package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mirror is an API that quotes what it was asked in each of its records, and in its cookie, as servers do that are being mended.
func mirror(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		auth := q.Header.Get("Authorization")
		decoded, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(auth, "Basic "))
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Authorization", auth)
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "cookie-of-the-mirror"})
		switch {
		case strings.HasPrefix(q.URL.Path, "/lost"):
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "%s %s %s %s", q.URL.RequestURI(), q.URL.Query(), auth, body)
		case q.URL.Query().Get("after") == "":
			_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{
				map[string]any{"id": 1, "url": q.URL.RequestURI(), "auth": auth, "decoded": string(decoded), "sent": string(body)},
				map[string]any{"id": 2, "pin": 8812207, "key": q.URL.Query().Get("key")},
			}, "next": "page 2 of " + q.URL.Query().Get("key")})
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]any{"id": 3, "cookie": q.Header.Get("Cookie")}}, "next": nil})
		}
	}))
	t.Cleanup(server.Close)
	return server
}

const mirrored = `source: shop
config: {url: {}, token: {secret: true}, pin: {type: integer, secret: true}, at: {default: things}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: "/{{ config.at }}/{{ replace(config.token, '/', '-') }}"
    method: POST
    headers: {Authorization: "Basic {{ base64('me:' + config.token) }}", Cookie: "sid={{ config.pin }}", X-Upper: "{{ upper(config.token) }}"}
    query: {key: "{{ config.token }}", half: "{{ first(split(config.token, '/')) }}", sign: "{{ hmac('me', config.token) }}", after: "{{ page_token }}"}
    form: {low: "{{ lower(config.token) }}", pin: "{{ config.pin }}"}
    records: data
    primary_key: id
    paginator: {type: token, next: next}
`

// What is made of a secret is shown in no request and no error, and stands in no recording; the recording is replayed without it.
func TestSourcesTestHidesWhatIsMadeOfSecrets(t *testing.T) {
	const token = `Zq"xwvuts/Jj+Kk\Mm==`
	server := mirror(t)
	dir := t.TempDir()
	file, golden := filepath.Join(dir, "shop.yaml"), filepath.Join(dir, "golden")
	if err := os.WriteFile(file, []byte(mirrored), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, env: map[string]string{"TOKEN": token}}
	args := []string{"sources", "test", file, "--config", "url=" + server.URL}
	secret := append(slices.Clone(args), "--config", "token=${TOKEN}", "--config", "pin=8812207")
	live := s.want(0, append(secret, "--record", golden), "  Authorization: ***\n", "  Cookie: ***\n", "  X-Upper: ***\n", "2 pages, 3 records",
		"nothing would be published again", "recorded 4 exchanges in "+golden+"; ", "look at it before you share it")
	s.want(0, append(args, "--replay", golden), "2 pages, 3 records", "3 would be published", "nothing would be published again")
	s.want(0, append(secret, "--replay", golden), "2 pages, 3 records", "nothing would be published again")
	all := live + s.want(1, append(secret, "--config", "at=lost"), "404")
	for _, e := range must(os.ReadDir(golden)) {
		all += read(t, filepath.Join(golden, e.Name()))
	}
	if !strings.Contains(all, `"pin":0`) || !strings.Contains(all, `"id":2`) {
		t.Errorf("a body is not JSON any more:\n%s", all)
	}
	for line := range strings.SplitSeq(strings.ToLower(all), "\n") {
		for _, part := range []string{"zq", "xwv", "jj+", "jj%2b", "jj-", "kk", "mm", "8812207", "bwu6", "cookie-of"} {
			if strings.Contains(line, part) {
				t.Errorf("%q is shown: %s", part, line)
			}
		}
	}
}
