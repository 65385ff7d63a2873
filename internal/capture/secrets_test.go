package capture_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
)

// An API that quotes secrets does not make a dead letter, the log or the status show them: neither a setting that a codec quotes, nor
// what a template has made of one (DESIGN §9).
func TestNothingThatIsSaidShowsASecret(t *testing.T) {
	b := lay(t)
	var refuses atomic.Bool
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if refuses.Load() {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "no list for ", q.Header.Get("Authorization"), " at ", q.URL.RequestURI())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `[{"id": 1, "first_name": %s}, {"id": 2, "first_name": "Ann"}]`, q.URL.Query().Get("pin"))
	}))
	c := b.start(avro(b, settings{definition: `source: people
config: {url: {}, token: {secret: true}, pin: {type: integer, secret: true}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  people:
    path: "/people/{{ lower(config.token) }}"
    headers: {Authorization: "Basic {{ base64('me:' + config.token) }}"}
    query: {pin: "{{ config.pin }}"}
    records: .
    primary_key: id
    interval: 100ms
`, config: map[string]any{"url": url, "token": cdc.NewSecret("Swordfish"), "pin": 8812207}}))
	c.await("a dead letter", func(s capture.Status) bool { return s.Streams[0].Parked == 1 && counts(s).Created+counts(s).Read >= 1 })
	letters := b.read("test.dead-letters")
	if len(letters) != 1 {
		t.Fatalf("%d dead letters", len(letters))
	}
	b.says(header(letters[0], "reason"), "field first_name: wanted string, got number ***")
	refuses.Store(true)
	s := c.await("a halt", func(s capture.Status) bool { return s.Streams[0].Halted != "" })
	b.says(s.Streams[0].Halted, "GET "+url+"/people/***", "no list for Basic *** at /people/***?pin=***")
	said := strings.ToLower(fmt.Sprintf("%s %+v %s", header(letters[0], "reason"), s, c.log))
	for _, part := range []string{"swordfish", "8812207", "bwu6"} {
		if strings.Contains(said, part) {
			t.Errorf("%q is shown: %s", part, said)
		}
	}
}
