package capture_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/capture"
)

// siege is a hostile case from end to end: what an API answers from some time on, and what the connection does about it. The
// cases of internal/source are many more; these prove that capture, the topics and the log keep what is promised there.
type siege struct {
	name       string
	definition string // "": feed
	stops      string // as an upset's; "parked": the pass goes on without one record; "never": the answer harms nothing
	says       []string
	answer     func(w http.ResponseWriter, r *http.Request, honest []byte)
}

// walled is an API that pages by tokens.
var walled = strings.NewReplacer(`{since: "{{ anchor ?? start }}"}`, `{since: "{{ cursor ?? start }}", token: "{{ page_token }}"}`,
	"{type: keyset, size_echo: size}", "{type: token, next: next}", "order: asc", "order: none").Replace(feed)

// linked is one that pages by links.
var linked = strings.NewReplacer("{type: token, next: next}", "{type: link, next: next}", `, token: "{{ page_token }}"`, "").Replace(walled)

// text answers with what f makes of the honest answer.
func text(f func(honest string) string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, _ *http.Request, honest []byte) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, f(string(honest))) //nolint:errcheck // the client may have had enough
	}
}

// status answers honestly but for a status and a header.
func status(code int, name, value string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, _ *http.Request, honest []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(name, value)
		w.WriteHeader(code)
		w.Write(honest) //nolint:errcheck // as above
	}
}

// clock answers honestly, by a clock that is off by so much.
func clock(off time.Duration) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, honest []byte) {
		status(http.StatusOK, "Date", time.Now().Add(off).UTC().Format(http.TimeFormat))(w, r, honest)
	}
}

// one puts an element at the end of the list.
func one(element string) func(http.ResponseWriter, *http.Request, []byte) {
	return text(func(honest string) string { return strings.Replace(honest, `}],"size"`, `},`+element+`],"size"`, 1) })
}

// next says where the next page is.
func next(value func(r *http.Request) string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, honest []byte) {
		text(func(string) string { return `{"next":"` + value(r) + `",` + strings.TrimPrefix(string(honest), "{") })(w, r, honest)
	}
}

// flood answers with head, and then with fill for 1 GB or until nobody listens.
func flood(head, fill string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		_, err := io.WriteString(w, head)
		chunk := bytes.Repeat([]byte(fill), 64<<10/len(fill))
		for sent := 0; err == nil && sent < 1<<30; sent += len(chunk) {
			_, err = w.Write(chunk)
		}
	}
}

func sieges() []siege {
	always := func(link string) func(*http.Request) string { return func(*http.Request) string { return link } }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	const late = `"at":"2020-01-01T00:59:00Z"`
	return []siege{
		{name: "a page cut in the middle", stops: "pass", says: []string{"cut off after", "asked for again"}, answer: text(func(s string) string { return s[:len(s)/2] })},
		{name: "a page cut at its last byte", stops: "pass", says: []string{"cut off after"}, answer: text(func(s string) string { return strings.TrimRight(s, "}\n") })},
		{name: "a page cut at its first byte", stops: "pass", says: []string{"cut off after"}, answer: text(func(s string) string { return s[:1] })},
		{name: "nothing", stops: "pass", says: []string{"is empty"}, answer: text(func(string) string { return "" })},
		{name: "a body shorter than its length", stops: "pass", says: []string{"broke off"}, answer: func(w http.ResponseWriter, _ *http.Request, honest []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(honest)+10))
			w.Write(honest) //nolint:errcheck // the connection is cut anyway
		}},
		{name: "a record of 1 GB", stops: "stream", says: []string{"longer than 4194304 bytes", "smaller pages"}, answer: flood(`{"size":100,"data":[{"id":9,"x":"`, "x")},
		{name: "an endless list", stops: "stream", says: []string{"longer than 4194304 bytes"}, answer: flood(`{"size":100,"data":[0`, ",0")},
		{name: "endless headers", stops: "pass", says: []string{"header"}, answer: func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
			}
		}},
		{name: "100,000 lists", stops: "stream", says: []string{"nested too deeply"}, answer: text(func(string) string { return deep(100_000) })},
		{name: "100,000 lists in a record", stops: "parked", says: []string{"nested too deeply"}, answer: one(`{"id":99,"x":` + deep(100_000) + `,` + late + `}`)},
		{name: "a record with byte 0xFF", stops: "parked", says: []string{"UTF-8"}, answer: one("{\"id\":99,\"x\":\"\xff\"," + late + "}")},
		{name: "a record with a name twice", stops: "parked", says: []string{"twice"}, answer: one(`{"id":99,"id":98,` + late + `}`)},
		{name: "a record without an id", stops: "parked", says: []string{"no usable key"}, answer: one(`{"x":1,` + late + `}`)},
		{name: "a record with a lone surrogate", stops: "parked", says: []string{"surrogate"}, answer: one(`{"id":99,"x":"\ud800",` + late + `}`)},
		{name: "a cursor of 1e999999", stops: "parked", says: []string{"cursor cannot be read"}, answer: one(`{"id":99,"at":1e999999}`)},
		{name: "a record of NaN", stops: "stream", says: []string{"not JSON"}, answer: one(`{"id":99,"x":NaN,` + late + `}`)},
		{name: "tokens that lead round", definition: walled, stops: "stream", says: []string{"lead round", "paginator.next"}, answer: next(func(r *http.Request) string {
			return map[string]string{"": "a", "a": "b", "b": "c", "c": "a"}[r.URL.Query().Get("token")]
		})},
		{name: "a link to itself", definition: linked, stops: "stream", says: []string{"leads to itself"}, answer: next(func(r *http.Request) string { return r.URL.String() })},
		{name: "a link to a stranger", definition: linked, stops: "stream", says: []string{"foreign URL"}, answer: next(always("http://evil.test/things"))},
		{name: "a link to the cloud's credentials", definition: linked, stops: "stream", says: []string{"foreign URL"}, answer: next(always("http://169.254.169.254/latest"))},
		{name: "a link to a file", definition: linked, stops: "stream", says: []string{"foreign URL"}, answer: next(always("file:///etc/passwd"))},
		{name: "a redirect", stops: "stream", says: []string{"Redirects are not followed", "http://evil.test/"}, answer: status(302, "Location", "http://evil.test/?key=x")},
		{name: "a year to wait", stops: "connection", says: []string{"more than a day", "quota"}, answer: status(429, "Retry-After", "31536000")},
		{name: "an error with a fine page", stops: "pass", says: []string{"500"}, answer: status(500, "X", "x")},
		{name: "a clock a day ahead", stops: "never", answer: clock(24 * time.Hour)},
		{name: "a clock a day behind", stops: "never", answer: clock(-24 * time.Hour)},
		{name: "a clock of 9999", stops: "never", answer: status(200, "Date", "Fri, 31 Dec 9999 23:59:59 GMT")},
		{name: "a clock of 1970", stops: "never", answer: status(200, "Date", "Thu, 01 Jan 1970 00:00:00 GMT")},
		{name: "another stream's page", stops: "stream", says: []string{"no records at"}, answer: text(func(string) string { return `{"people":[{"id":1}],"size":1}` })},
		{name: "a page of before", stops: "stream", says: []string{"asked for records from"}, answer: text(func(string) string {
			return `{"size":100,"data":[{"id":1,"at":"2019-01-01T00:00:00Z"}]}`
		})},
	}
}

// TestHostileConnections carries out the sieges, from the API to the topics.
func TestHostileConnections(t *testing.T) {
	t.Run("siege", func(t *testing.T) {
		for _, s := range sieges() {
			t.Run(s.name, func(t *testing.T) { s.lay(lay(t)) })
		}
	})
}

// lay runs a connection over an API that turns hostile, and then honest again.
func (s *siege) lay(b *bed) {
	shop, _ := b.shelf()
	for id := 1; id <= 5; id++ {
		shop.put(row(id, "at", fmt.Sprintf("2020-01-01T00:%02d:00Z", id)))
	}
	var mu sync.Mutex
	hostile := false
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		honest := httptest.NewRecorder()
		shop.ServeHTTP(honest, r)
		mu.Lock()
		now := hostile
		mu.Unlock()
		if now {
			s.answer(w, r, honest.Body.Bytes())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(honest.Body.Bytes()) //nolint:errcheck // the client sees a short body
	}))
	turn := func(to bool) {
		mu.Lock()
		defer mu.Unlock()
		hostile = to
	}
	set := settings{definition: s.definition, config: map[string]any{"url": url}, change: func(o *capture.Options) { o.Fetch.Limits.BodyBytes = 4 << 20 }}
	if set.definition == "" {
		set.definition = feed
	}
	c := b.start(set)
	c.passes(1)
	before := b.checkpoint("things")
	turn(true)
	for id := 6; id <= 9; id++ {
		shop.put(row(id, "at", fmt.Sprintf("2020-01-01T00:%02d:00Z", id)))
	}
	c = s.watch(c, set, before.Cursor, func() { turn(false) })
	c.await("all nine", func(st capture.Status) bool {
		return len(st.Streams) > 0 && st.Streams[0].Keys == 9 && st.Partitions[0].LastError == ""
	})
	c.passes(2)
	c.end()
	lines := b.lines("things")
	slices.Sort(lines)
	if len(lines) != 9 { // each once, and no other
		b.Errorf("%d events: %q", len(lines), lines)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprint(i+1, " ")) || !strings.Contains(line, fmt.Sprintf(`"id":%d`, i+1)) {
			b.Errorf("event %d is %s", i, line)
		}
	}
	b.audit(b.sourceOf(set), false)
}

// watch waits for what the siege does, compares it, and lifts the siege; the connection that goes on is returned.
func (s *siege) watch(c *connector, set settings, cursor string, lift func()) *connector {
	switch s.stops {
	case "never":
		c.passes(2)
		lift()
		return c
	case "parked":
		c.await("a dead letter", func(st capture.Status) bool { return st.Streams[0].Parked == 1 && counts(st).Created >= 4 })
		if letters := c.bed.read("test.dead-letters"); len(letters) != 1 {
			c.Errorf("%d dead letters", len(letters))
		} else {
			c.says(header(letters[0], "reason"), s.says...)
		}
		lift()
		return c
	}
	c.stopped(upset{stops: s.stops, says: s.says})
	if now := c.checkpoint("things").Cursor; now != cursor {
		c.Errorf("the cursor moved from %s to %s", cursor, now)
	}
	if n := len(c.bed.read("test.dead-letters")); n != 0 {
		c.Errorf("%d records were parked", n)
	}
	lift()
	if s.stops == "pass" {
		return c
	}
	c.stop()
	<-c.done
	return c.start(set)
}
