package source

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// knownCursor is where the passes of FuzzPage begin.
func knownCursor(s shape) cdc.Checkpoint {
	if s.timed {
		return cdc.Checkpoint{Cursor: hostileAt(hostileKnown), Passes: 1}
	}
	if s.name == "snapshot" {
		return cdc.Checkpoint{Passes: 1}
	}
	return cdc.Checkpoint{Cursor: "5", Passes: 1}
}

// FuzzPage proves that whatever stands in a page, in every shape of API, Split does not panic, reads nothing outside of it,
// takes the cursor neither back (P3) nor beyond what the page shows (4), and leaves everything as it was when it refuses. A page
// that it takes is refused wherever it is cut (P18): so a cut never moves a cursor beyond what was read.
func FuzzPage(f *testing.F) {
	shapes := shapesOfAPIs()
	var rows []string
	for id := 1; id <= hostileRows; id++ {
		rows = append(rows, hostileRow(id))
	}
	for i, s := range shapes {
		q := url.Values{"since": {hostileAt(hostileKnown)}, "from": {hostileAt(hostileKnown)}, "page": {"1"}, "cursor": {"5"}}
		f.Add(uint8(i), []byte(s.answer(q, rows, map[string][]string{})), uint16(40))
		f.Add(uint8(i), []byte(`{"size":3,"data":[{"id":1,"updated_at":null},{"id":"x"}],"next":7,"more":false}`), uint16(9))
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte, at uint16) {
		s := shapes[int(which)%len(shapes)]
		src := hostileSource(t, s)
		split := func(text []byte) (*Page, error) {
			pos, err := src.Requests[0].Begin(Partition{Name: cdc.NoPartition}, knownCursor(s), noon)
			if err != nil {
				t.Fatal(err)
			}
			var page Page
			before := pos.checkpoint
			err = src.Requests[0].Split(&pos, &fetch.Response{Status: 200, Body: text, ServerTime: noon, Received: noon, Sent: noon}, nil, &page)
			if pos.checkpoint.Cursor != before.Cursor {
				t.Fatal("Split moved the position that it was given")
			}
			if err != nil && (len(page.Records) > 0 || page.Checkpoint != nil || page.Done) {
				t.Fatalf("refused (%v), and yet %d records, %+v, done %v", err, len(page.Records), page.Checkpoint, page.Done)
			}
			if err != nil && cdc.Hint(err) == "" {
				t.Fatalf("no hint: %v", err)
			}
			return &page, err
		}
		page, err := split(text)
		if err != nil {
			return
		}
		plausible(t, s, page)
		whole := bytes.TrimRight(text, " \t\r\n")
		if n := int(at) % len(whole); n < len(whole) {
			if _, err := split(whole[:n]); err == nil {
				t.Fatalf("a page was taken that is cut at byte %d of %d", n, len(whole))
			}
		}
	})
}

// plausible looks at a page that was taken.
func plausible(t *testing.T, s shape, page *Page) {
	t.Helper()
	var most time.Time
	for _, rec := range page.Records {
		if rec.Raw.Off < 0 || rec.Raw.End <= rec.Raw.Off || int(rec.Raw.End) > len(page.Body) || int(rec.Value.End) > len(page.Body) {
			t.Fatalf("%+v is outside of %d bytes", rec, len(page.Body))
		}
		if rec.Err == nil && rec.Key == nil {
			t.Fatal("a record without a key that is not parked")
		}
		text, _ := record.Text(nil, page.Body, rec.Cursor)
		if at, err := time.Parse(time.RFC3339Nano, string(text)); err == nil && at.After(most) && !at.After(noon) {
			most = at
		}
	}
	if page.Checkpoint == nil || !s.timed || s.name == "newest first" || page.Checkpoint.Cursor == hostileAt(hostileKnown) {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, page.Checkpoint.Cursor)
	known, _ := time.Parse(time.RFC3339Nano, hostileAt(hostileKnown))
	if err == nil && (at.After(most) || at.Before(known)) {
		t.Fatalf("the cursor is %v; it was %v, and the page goes to %v", at, known, most)
	}
}

// FuzzCursor proves of every stored cursor that a pass either halts with a hint or sends it as it stands (P16), and that a
// timestamp's instant is what the server's text says.
func FuzzCursor(f *testing.F) {
	for _, text := range []string{
		"2026-03-10T11:59:00.5Z", "2026-03-10T11:59:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1773140400", "-1", "1e999999", "",
		"a&b=c#d?e%2f+ é", "{{ cursor }}", "\x00", strings.Repeat("x", 20_000),
	} {
		f.Add(text)
	}
	shapes := []shape{shapeNamed("keyset"), shapeNamed("numbers"), shapeNamed("opaque"), shapeNamed("sequence")}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range shapes {
			r := hostileSource(t, s).Requests[0]
			pos, err := r.Begin(Partition{Name: cdc.NoPartition}, cdc.Checkpoint{Cursor: text, Passes: 1}, noon)
			if err == nil {
				err = composed(t, s, r, &pos, text)
			}
			if err != nil && cdc.Hint(err) == "" {
				t.Errorf("%s: no hint: %v", s.name, err)
			}
		}
	})
}

func composed(t *testing.T, s shape, r *Request, pos *Position, text string) error {
	t.Helper()
	req, err := r.Compose(pos)
	if err != nil {
		return err
	}
	u, err := url.Parse(req.URL)
	if err != nil || u.Host != "api.test" || u.Path != "/v1/things" {
		t.Fatalf("%q was asked for %q: %v", text, req.URL, err)
	}
	q := u.Query()
	sent := q.Get(map[string]string{"keyset": "from", "numbers": "since"}[s.name] + map[bool]string{false: "cursor"}[s.timed])
	if same := sent == text; !same && s.name != "sequence" {
		t.Fatalf("%s: the cursor %q was sent as %q", s.name, text, sent)
	}
	if n, err := number(text); err == nil && s.name == "sequence" {
		if m, err := number(sent); err != nil || m != n {
			t.Fatalf("the cursor %q was sent as %q", text, sent)
		}
	}
	return nil
}

// FuzzSent proves that what is written is what is sent: literal text of a template stands as it is, a value arrives as it was,
// and no value makes another parameter, another segment of the path, or another place.
func FuzzSent(f *testing.F) {
	for _, v := range [][3]string{
		{"a", "b", "-"}, {"..", ".", ""}, {".", ".", ""}, {"x/y", "?z#", "/"}, {"%2e%2e", "é", "."}, {"&a=b", "+ ", "="}, {"\r\nHost: evil", "\x00", ":"}, {"", "b", ""},
	} {
		f.Add(v[0], v[1], v[2])
	}
	f.Fuzz(func(t *testing.T, a, b, between string) {
		if !utf8.ValidString(a+b+between) || strings.ContainsAny(between, "{}") {
			return
		}
		v := values()
		v.config["a"], v.config["b"] = a, b
		scope := everything()
		scope.config = append(scope.config, &setting{name: "a", kind: "string"}, &setting{name: "b", kind: "string"})
		c, err := compileTemplate("/in/{{ config.a }}"+between+"{{ config.b }}", scope)
		if err != nil {
			t.Fatalf("%q: %v", between, err)
		}
		query, err := encode([]parameter{{name: between + "n", value: c}, {name: "end", value: mustTemplate(t, "x")}}, v, "%20")
		if err != nil {
			t.Fatal(err)
		}
		got, err := url.ParseQuery(query)
		if want := "/in/" + a + between + b; err != nil || len(got) != 2 && between != "" || got.Get(between+"n") != want {
			t.Fatalf("%q was sent as %q: %v %v", want, query, got, err)
		}
		if strings.ContainsAny(between, "/%?#\\") {
			return // the author's own
		}
		path, err := c.address(v, 0)
		if err != nil {
			if !strings.Contains(err.Error(), "another place") {
				t.Fatal(err)
			}
			return
		}
		segment, ok := strings.CutPrefix(path, "/in/")
		text, err := url.PathUnescape(segment)
		if !ok || strings.ContainsAny(segment, "/?#") || err != nil || text != a+between+b || text == "." || text == ".." {
			t.Fatalf("%q, %q and %q make the path %q", a, between, b, path)
		}
	})
}

// bindable fills in the settings of a definition.
func bindable(d *Definition) map[string]any {
	config := map[string]any{}
	for _, s := range d.Settings() {
		var value any = "https://api.test/x"
		switch s.Type {
		case "integer", "number":
			value = int64(1)
		case "boolean":
			value = true
		case "list":
			value = []any{"a", "b"}
		}
		if len(s.Choices) > 0 {
			value = s.Choices[0]
		}
		if s.Secret {
			value = cdc.NewSecret("hunter2")
		}
		if s.Default == nil {
			config[s.Name] = value
		}
	}
	return config
}

// binds proves of a definition that was taken that it binds and asks for something, or says why not and what to do.
func binds(t *testing.T, d *Definition) {
	t.Helper()
	says := func(err error) {
		var known *cdc.Error
		if !errors.As(err, &known) || cdc.Hint(err) == "" || len(err.Error()) < 10 {
			t.Errorf("it does not say what to do: %v", err)
		}
	}
	src, err := d.Bind("c", bindable(d), Overrides{})
	if err != nil {
		says(err)
		return
	}
	for _, r := range src.Requests {
		for _, p := range r.Partitions() {
			pos, err := r.Begin(p, cdc.Checkpoint{}, noon)
			if err != nil {
				says(err)
				continue
			}
			req, err := r.Compose(&pos)
			if err != nil {
				if remedy, _ := cdc.Verdict(err); remedy != cdc.Halt {
					t.Errorf("a request that cannot be made: %v", err)
				}
				continue
			}
			if _, err := url.Parse(req.URL); req != nil && err != nil {
				t.Errorf("%q is asked for: %v", req.URL, err)
			}
			var page Page
			if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(`{"data":[]}`), ServerTime: noon}, nil, &page); err != nil {
				says(err)
			}
		}
	}
}
