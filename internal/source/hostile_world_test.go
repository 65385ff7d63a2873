package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// What stands here is the world of the hostile cases: an honest API in every shape that the language has, the network between
// it and the client, and the pass over both. hostile_cases_test.go breaks it, hostile_test.go says what must hold all the same.

const (
	hostileAPI    = "http://api.test/v1"
	hostileSecret = "hunter2-of-the-hostile-cases"
	hostilePage   = 3
	hostileKnown  = 5  // records that the pass before the attack has read
	hostileRows   = 14 // in all
)

// shape is a way in which an API pages, with the stream that reads it and the honest answers.
type shape struct {
	name   string
	stream string
	timed  bool // its cursor is a time
	answer func(q url.Values, rows []string, header http.Header) string
}

// hostileRow is the text of a record; its name has what JSON makes interesting.
func hostileRow(id int) string {
	return fmt.Sprintf(`{"id":%d,"updated_at":%q,"seq":%d,"name":"é \u00e9 \ud83d\ude00 \"%d\"","n":[-1.50e3,null,{"a":true}]}`, id, hostileAt(id), id, id)
}

func hostileAt(id int) string { return at(time.Duration(id-100) * time.Minute) }

// rowsFrom returns the rows at or after the instant in a parameter, in order.
func rowsFrom(rows []string, from string) []string {
	if from == "" {
		return rows
	}
	since, err := time.Parse(time.RFC3339Nano, from)
	if err != nil {
		return nil
	}
	var out []string
	for i, row := range rows {
		if at, _ := time.Parse(time.RFC3339Nano, hostileAt(i+1)); !at.Before(since) {
			out = append(out, row)
		}
	}
	return out
}

func slice(rows []string, low, size int) []string {
	low = min(max(low, 0), len(rows))
	return rows[low:min(low+size, len(rows))]
}

func list(rows []string) string { return `"data":[` + strings.Join(rows, ",") + `]` }

const timestamps = `    incremental: {cursor_field: updated_at, format: rfc3339, granularity: 1us, inclusive: true, order: %s, lookback: 0s}
`

func stream(query, paginator, order, rest string) string {
	text := "\n    path: /things\n    query: {" + query + "}\n    records: data\n    primary_key: id\n"
	if paginator != "" {
		text += "    paginator: {" + paginator + "}\n"
	}
	if order != "" {
		text += fmt.Sprintf(timestamps, order)
	}
	return text + rest
}

// pageToken is the honest answer of APIs that say how they go on; where says how it is written.
func tokens(where func(next string, h http.Header) string) func(url.Values, []string, http.Header) string {
	return func(q url.Values, rows []string, h http.Header) string {
		rows = rowsFrom(rows, q.Get("since"))
		low, _ := strconv.Atoi(q.Get("token"))
		next := ""
		if low+hostilePage < len(rows) {
			next = strconv.Itoa(low + hostilePage)
		}
		return "{" + list(slice(rows, low, hostilePage)) + where(next, h) + "}"
	}
}

func keysetAnswer(q url.Values, rows []string, _ http.Header) string {
	page, _ := strconv.Atoi(q.Get("page"))
	return fmt.Sprintf(`{"size":%d,%s}`, hostilePage, list(slice(rowsFrom(rows, q.Get("from")), (page-1)*hostilePage, hostilePage)))
}

func numberedAnswer(q url.Values, rows []string, _ http.Header) string {
	page, _ := strconv.Atoi(q.Get("page"))
	return "{" + list(slice(rowsFrom(rows, q.Get("since")), (page-1)*hostilePage, hostilePage)) + "}"
}

func offsetAnswer(q url.Values, rows []string, _ http.Header) string {
	low, _ := strconv.Atoi(q.Get("offset"))
	return "{" + list(slice(rowsFrom(rows, q.Get("since")), low, hostilePage)) + "}"
}

func changesAnswer(more bool) func(url.Values, []string, http.Header) string {
	return func(q url.Values, rows []string, _ http.Header) string {
		low, _ := strconv.Atoi(q.Get("cursor"))
		shown := slice(rows, low, hostilePage)
		text := fmt.Sprintf(`{%s,"next":%d`, list(shown), low+len(shown))
		if more {
			text += fmt.Sprintf(`,"more":%v`, low+len(shown) < len(rows))
		}
		return text + "}"
	}
}

func newestAnswer(q url.Values, rows []string, h http.Header) string {
	newest := slices.Clone(rows)
	slices.Reverse(newest)
	return tokens(tokenInBody)(url.Values{"token": q["token"]}, newest, h)
}

func tokenInBody(next string, _ http.Header) string {
	if next == "" {
		return `,"next":null`
	}
	return fmt.Sprintf(`,"next":%q`, next)
}

func linkInBody(next string, _ http.Header) string {
	if next == "" {
		return `,"next":null`
	}
	return fmt.Sprintf(`,"next":"%s/things?token=%s"`, hostileAPI, next)
}

func linkInHeader(next string, h http.Header) string {
	if next != "" {
		h.Set("Link", fmt.Sprintf(`<%s/things?token=%s>; rel="next"`, hostileAPI, next))
	}
	return ""
}

// shapesOfAPIs are all of them, by name.
func shapesOfAPIs() []shape {
	token := `since: "{{ cursor }}", token: "{{ page_token }}"`
	keyset := `from: "{{ anchor }}", page: "{{ tie_page }}"`
	cursor := `cursor: "{{ cursor }}"`
	return []shape{
		{"keyset", stream(keyset, "type: keyset, size_echo: size", "asc", ""), true, keysetAnswer},
		{"keyset without echo", stream(keyset, "type: keyset", "asc", ""), true, keysetAnswer},
		{"numbers", stream(`since: "{{ cursor }}", page: "{{ page }}"`, "type: page", "none", ""), true, numberedAnswer},
		{"offsets", stream(`since: "{{ cursor }}", offset: "{{ offset }}"`, "type: offset, size: 3", "none", ""), true, offsetAnswer},
		{"overlap", stream(`since: "{{ cursor }}", offset: "{{ offset }}"`, "type: offset, size: 3, overlap: true", "none", ""), true, offsetAnswer},
		{"token", stream(token, "type: token, next: next", "none", ""), true, tokens(tokenInBody)},
		{"stable token", stream(token, "type: token, next: next, stable: true", "none", ""), true, tokens(tokenInBody)},
		{"link in body", stream(`since: "{{ cursor }}"`, "type: link, next: next", "none", ""), true, tokens(linkInBody)},
		{"link header", stream(`since: "{{ cursor }}"`, "type: link", "none", ""), true, tokens(linkInHeader)},
		{"opaque", stream(cursor, "", "", "    incremental: {type: opaque, next: next, more: more}\n"), false, changesAnswer(true)},
		{"opaque without more", stream(cursor, "", "", "    incremental: {type: opaque, next: next}\n"), false, changesAnswer(false)},
		{"sequence", stream(cursor, "", "", "    incremental: {type: sequence, next: next, more: more}\n"), false, changesAnswer(true)},
		{"snapshot", stream(`page: "{{ page }}"`, "type: page", "", ""), false, numberedAnswer},
		{"newest first", stream(token, "type: token, next: next", "desc", "    record_id: id\n"), true, newestAnswer},
		{"hydrated", stream(keyset, "type: keyset, size_echo: size", "asc", "    hydrate: {path: \"/things/{{ record.id }}\", records: data}\n"), true, partsAnswer},
	}
}

// partsAnswer lists parts of records; the whole ones are asked for one by one.
func partsAnswer(q url.Values, rows []string, h http.Header) string {
	text := keysetAnswer(q, rows, h)
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, `,"seq":`)
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		_, text, _ = strings.Cut(rest, `]`) // the record's last field is a list
	}
}

// reply is an honest answer on its way, to be spoiled.
type reply struct {
	status int
	header http.Header
	body   []byte
	write  func(w http.ResponseWriter) // instead of all that; nil: as it stands
	n      int                         // of the request in its pass, from 1
}

// tamper spoils the answer to r.
type tamper func(a *reply, r *http.Request)

// hostileServer is the API behind its network.
type hostileServer struct {
	shape shape

	mu      sync.Mutex
	rows    []string
	spoil   tamper
	asked   int
	dialled []string // every address that the client connected to
	strange []string // requests to other hosts

	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// serveHostile starts the server of a shape with that many rows.
func serveHostile(t *testing.T, s shape, rows int) *hostileServer {
	t.Helper()
	h := &hostileServer{shape: s, conns: make(chan net.Conn), done: make(chan struct{})}
	h.grow(rows)
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(h); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { srv.Close(); <-ended })
	return h
}

func (h *hostileServer) grow(rows int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.rows) < rows {
		h.rows = append(h.rows, hostileRow(len(h.rows)+1))
	}
}

// tampers sets what is done to answers from now on; nil is honesty.
func (h *hostileServer) tampers(with tamper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spoil, h.asked = with, 0
}

// Accept implements net.Listener.
func (h *hostileServer) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *hostileServer) Close() error { h.once.Do(func() { close(h.done) }); return nil }

// Addr implements net.Listener.
func (h *hostileServer) Addr() net.Addr { return &net.TCPAddr{} }

func (h *hostileServer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	h.mu.Lock()
	h.dialled = append(h.dialled, address)
	h.mu.Unlock()
	ours, theirs := net.Pipe()
	select {
	case h.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reply makes the honest answer, and then the tamper has its turn.
func (h *hostileServer) reply(r *http.Request) *reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Host != "api.test" {
		h.strange = append(h.strange, r.Host+" was asked")
	}
	h.asked++
	a := &reply{status: 200, header: http.Header{"Content-Type": {"application/json"}, "Date": {noon.Format(http.TimeFormat)}}, n: h.asked}
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/things/"); ok {
		n, _ := strconv.Atoi(id)
		a.body = []byte(`{"data":` + hostileRow(n) + `}`)
	} else {
		a.body = []byte(h.shape.answer(r.URL.Query(), h.rows, a.header))
	}
	defer func() {
		if fault := recover(); fault != nil { // net/http would hide it
			h.strange = append(h.strange, fmt.Sprint("the attack is broken: ", fault))
		}
	}()
	if h.spoil != nil {
		h.spoil(a, r)
	}
	return a
}

// ServeHTTP implements http.Handler.
func (h *hostileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.reply(r)
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.write != nil {
		a.write(w)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		w.Header().Del("Content-Length")
		a.body = nil
	}
	w.WriteHeader(a.status)
	w.Write(a.body) //nolint:errcheck // the client may have had enough
}

// pour writes head, fill again and again until there are so many bytes or nobody wants more, and tail; with that length in the
// header, where it is not 0. The bytes are made as they go.
func pour(w http.ResponseWriter, most, length int64, compress bool, head, fill, tail string) {
	w.Header().Set("Content-Type", "application/json")
	if length > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	var out io.Writer = w
	if compress {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close() //nolint:errcheck // whoever hung up is gone
		out = z
	}
	chunk := []byte(strings.Repeat(fill, 1+(64<<10)/len(fill)))
	_, err := io.WriteString(out, head)
	for sent := int64(0); err == nil && sent < most; sent += int64(len(chunk)) {
		gauge.sample()
		_, err = out.Write(chunk)
	}
	io.WriteString(out, tail) //nolint:errcheck // most have had enough before
}

// shout answers with bytes that net/http would not send, and closes the connection.
func shout(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.WriteString(conn, text) //nolint:errcheck // as above
}

// rave answers with head, and then with text for 64 MiB or until the connection ends.
func rave(w http.ResponseWriter, head, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	chunk := []byte(strings.Repeat(text, 1+(16<<10)/len(text)))
	_, err = io.WriteString(conn, head)
	for sent := 0; err == nil && sent < 64<<20; sent += len(chunk) {
		gauge.sample()
		_, err = conn.Write(chunk)
	}
}

func squeeze(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(text) //nolint:errcheck // a Buffer takes everything
	z.Close()     //nolint:errcheck // a Buffer takes everything
	return b.Bytes()
}

var definitions sync.Map // by the shape's name; a Definition may be shared

// hostileSource binds a shape's stream.
func hostileSource(t *testing.T, s shape) *Source {
	t.Helper()
	def, ok := definitions.Load(s.name)
	if !ok {
		text := "source: hostile\nbase_url: " + hostileAPI + "\nauthenticator: {type: none}\nstreams:\n  things:\n" + s.stream
		parsed, err := Parse("hostile.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		def, _ = definitions.LoadOrStore(s.name, parsed)
	}
	src, err := def.(*Definition).Bind("c", nil, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	src.Streams[0].KeyType = "number" // as restored
	return src
}

// trip is what a pass did.
type trip struct {
	published map[string]string // by key, the content
	parked    []error
	committed cdc.Checkpoint // the last one that was handed out, else the one it began with
	recent    []string
	requests  int
	pages     int
	beyond    int
	done      bool
	err       error
}

// hostileTrip runs one pass as capture does: what Split accepted commits, what it refused never was. stop ends it behind that
// many requests; 0 does not.
func hostileTrip(ctx context.Context, src *Source, c *fetch.Client, cp cdc.Checkpoint, recent []string, stop int, watch func()) trip {
	r := src.Requests[0]
	out := trip{published: map[string]string{}, committed: cp, recent: recent}
	pos, err := r.Begin(Partition{Name: cdc.NoPartition}, cp, noon)
	if out.err = err; err != nil {
		return out
	}
	pos.Remember(recent)
	var page Page
	for out.err == nil && !out.done && (stop == 0 || out.requests < stop || pos.stage == playing) {
		out.err = out.page(ctx, r, c, &pos, &page)
		watch()
	}
	return out
}

// page asks for one page and takes it.
func (out *trip) page(ctx context.Context, r *Request, c *fetch.Client, pos *Position, page *Page) error {
	req, err := r.Compose(pos)
	if err != nil {
		return err
	}
	var resp *fetch.Response
	if req != nil {
		out.requests++
		if resp, err = c.Do(ctx, req); err != nil {
			return err
		}
		defer resp.Release()
	}
	if err := r.Split(pos, resp, func(int) record.Known { return nil }, page); err != nil {
		return err
	}
	if *pos = page.Next; page.Done {
		out.done = true
	}
	out.pages++
	out.beyond += page.Beyond
	for _, rec := range page.Records {
		if rec.Err != nil {
			out.parked = append(out.parked, rec.Err)
			continue
		}
		out.published[string(rec.Key)] = string(rec.Content(page.Body))
	}
	if page.Checkpoint != nil {
		out.committed = *page.Checkpoint
	}
	if page.Recent != nil {
		out.recent = slices.Clone(page.Recent)
	}
	return nil
}

// hostileClient is a client with a credential on the server's network.
func hostileClient(t *testing.T, h *hostileServer, change func(*fetch.Options)) *fetch.Client {
	t.Helper()
	o := fetch.Options{
		Dial: h.dial, Origins: []string{hostileAPI}, Credential: fetch.Bearer(cdc.NewSecret(hostileSecret)), Attempts: 1,
		Backoff: time.Millisecond, BackoffMax: time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	c, err := fetch.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func shapeNamed(name string) shape {
	all := shapesOfAPIs()
	return all[slices.IndexFunc(all, func(s shape) bool { return s.name == name })]
}
