package source

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// everything is a scope in which every name of a request is known.
func everything() *scope {
	sc := &scope{config: []*setting{{name: "need", kind: "string"}, {name: "may", kind: "string", optional: true},
		{name: "list", kind: "list"}, {name: "many", kind: "integer"}}, partitions: []string{"view"}, keys: []string{"id", "owner"}}
	return sc.with("a request", "cursor", "anchor", "start", "page_token", "offset", "page", "tie_page", "last", "partition", "config",
		"key", "now", "response")
}

func values() *vars {
	return &vars{
		cursor: "2024-01-01T00:00:00Z", page: 3, last: map[string]any{"id": int64(7), "n": nil, "l": []any{"x", "y"}},
		partition: map[string]any{"view": "Buyer Owned"}, key: map[string]any{"id": int64(5), "owner": map[string]any{"id": "o/1"}},
		config: map[string]any{"need": "n", "may": nil, "list": []any{"a", int64(2)}, "many": int64(9)},
		now:    time.Date(2024, 2, 29, 12, 0, 0, 500, time.UTC),
	}
}

func TestTemplateValues(t *testing.T) {
	for text, want := range map[string]any{
		"plain": "plain", "": "",
		"{{ page }}":                      int64(3), // one expression alone keeps its type
		"{{page}}":                        int64(3),
		" {{ page }}":                     " 3",
		"p{{ page + 1 }}/{{ page }}":      "p4/3",
		"{{ last.id }}":                   int64(7),
		"{{ last.l[1] }}":                 "y",
		"{{ last.l[-1] }}":                "y",
		"{{ config.list }}":               []any{"a", int64(2)},
		"{{ join(config.list, '|') }}":    "a|2",
		"{{ cursor ?? start }}":           "2024-01-01T00:00:00Z",
		"{{ anchor ?? cursor }}":          "2024-01-01T00:00:00Z",
		"{{ config.may ?? 'x' }}":         "x",
		"{{ partition.view }}":            "Buyer Owned",
		"{{ key.owner.id }}":              "o/1",
		"{{ now }}":                       "2024-02-29T12:00:00.0000005Z",
		"{{ unix(now) }}":                 int64(1709208000),
		"{{ iso(now - duration('1h')) }}": "2024-02-29T11:00:00.0000005Z",
		"{{ format_time(now, '%Y/%m') }}": "2024/02",
		"{{ unix(parse_time('2024-02-29T13:00:00+01:00')) }}": int64(1709208000),
		"{{ unix(parse_time('29.02.2024', '%d.%m.%Y')) }}":    int64(1709164800),
		"{{ lower('AB') + upper('c') + trim(' d ') }}":        "abCd",
		"{{ split('a,b', ',') | first() }}":                   "a",
		"{{ last([1, 2]) }}":                                  int64(2), // the function, beside the name
		"{{ length(filter(last.l, # != 'x')) }}":              int64(1),
		"{{ map(last.l, upper(#)) }}":                         []any{"X", "Y"},
		"{{ regex_find('id=42;', 'id=([0-9]+)', 1) }}":        "42",
		"{{ base64('a:b') }}":                                 "YTpi",
		"{{ json({'b': [1, 'x<'], 'a': true}) }}":             `{"a":true,"b":[1,"x<"]}`,
		"{{ hash('') }}":                                      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"{{ hash('', 'md5') }}":                               "d41d8cd98f00b204e9800998ecf8427e",
		"{{ hmac('a', 'k') }}":                                "78da91511e675587f5b9df78bedebaf5560da2abb88162ee875dcdf744951d9e",
		"{{ urlencode('a b/c') }}":                            "a+b%2Fc",
		"{{ replace('a-b', '-', '+') }}":                      "a+b",
		"{{ page > 2 && page in [3, 4] ? 'deep' : 'flat' }}":  "deep",
		"{{ '}}' }}":                 "}}",
		"{{ {'a': 1}.a }}":           int64(1),
		"{{ 7 / 2 }}":                3.5,
		"{{ config.many % 2 }}":      int64(1),
		"{{ cursor.x.y ?? 'safe' }}": "safe", // members are null-safe
	} {
		c, err := compileTemplate(text, everything())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, ok, err := c.eval(values())
		if err != nil || !ok {
			t.Errorf("%s: %v %v %v", text, got, ok, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// TestNullRules proves LANGUAGE.md's rule: only these names may be null and leave their parameter out, any other null is an
// error, since an unscoped listing is a disaster.
func TestNullRules(t *testing.T) {
	v := &vars{config: map[string]any{"may": nil, "need": nil, "list": nil, "many": nil}, partition: map[string]any{"view": nil},
		key: map[string]any{"id": nil, "owner": nil}}
	for _, text := range []string{
		"{{ cursor }}", "{{ anchor }}", "{{ page_token }}", "{{ offset }}", "{{ tie_page }}", "{{ start }}", "{{ last }}", "{{ last.id }}",
		"{{ config.may }}", "{{ anchor ?? start }}", "since {{ cursor }}", "{{ partition.view ?? cursor }}",
		"{{ page == 1 ? cursor : partition.view }}",
	} {
		v.page = 1
		got, ok, err := mustTemplate(t, text).eval(v)
		if ok || err != nil {
			t.Errorf("%s: %v %v %v, and it is left out", text, got, ok, err)
		}
	}
	for _, text := range []string{
		"{{ partition.view }}", "{{ key.id }}", "{{ key.owner.id }}", "{{ cursor ?? partition.view }}", "x{{ partition.view }}",
		"{{ page == 2 ? cursor : partition.view }}", "{{ regex_find('a', 'b') }}", "{{ first([]) }}", "{{ last([]) }}", "{{ [1][5] }}",
		"{{ response.body.next }}",
	} {
		got, ok, err := mustTemplate(t, text).eval(v)
		var n *null
		if !errors.As(err, &n) {
			t.Errorf("%s: %v %v %v, want an error", text, got, ok, err)
			continue
		}
		if r, s := cdc.Verdict(err); r != cdc.Halt || s != cdc.Stream || cdc.Hint(err) == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func mustTemplate(t *testing.T, text string) *template {
	t.Helper()
	c, err := compileTemplate(text, everything())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestTemplateRunErrors(t *testing.T) {
	for text, want := range map[string]string{
		"x{{ config.list }}":                   "a list has no text",
		"x{{ last }}":                          "a map has no text",
		"{{ lower(last.id) }}":                 "is a number, and a text is wanted",
		"{{ unix(parse_time(cursor + 'x')) }}": "is not a time",
		"{{ format_time(now, 'x') }}":          "unknown time format",
		"{{ now - last }}":                     "",
		"{{ page % 0 }}":                       "divides by zero",
		"{{ 1 / (page - page) }}":              "the number is not finite",
		"x{{ (page - page) / (page - page) }}": "the number is not finite",
		"{{ page % (page - page) }}":           "a division by zero",
		"{{ regex_find('a', '(') }}":           "",
		"{{ hash('a', 'crc') }}":               "unknown algorithm",
		"{{ now - now }}":                      "", // a duration
	} {
		c, err := compileTemplate(text, everything())
		if err == nil {
			_, _, err = c.eval(values())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMemoryLimit proves (10) for expressions: an expression cannot make more than its share.
func TestMemoryLimit(t *testing.T) {
	big := make([]any, 1000)
	v := values()
	v.last = map[string]any{"l": big}
	if _, _, err := mustTemplate(t, "{{ length(map(last.l, map(last.l, 1))) }}").eval(v); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Error(err)
	}
}

func TestPathValuesAreEscaped(t *testing.T) {
	v := values()
	for text, want := range map[string]string{
		"/people/{{ key.id }}":        "/people/5",
		"/a/{{ partition.view }}/b c": "/a/Buyer%20Owned/b c", // literal text stands as it is
		"/a/{{ key.owner.id }}":       "/a/o%2F1",
		"/a/{{ cursor }}":             "/a/2024-01-01T00:00:00Z",
		"/a/{{ '?x=#' }}":             "/a/%3Fx=%23",
		"":                            "",
	} {
		if got, err := mustTemplate(t, text).address(v, 0); err != nil || got != want {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
	// A value that is empty, null or climbs would ask for something else.
	for _, text := range []string{"/people/{{ '' }}", "/people/{{ '..' }}", "/people/{{ '.' }}", "/people/{{ anchor }}", "/people/{{ last }}"} {
		if got, err := mustTemplate(t, text).address(v, 0); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// TestGoldenRequests shows what is sent for the shapes of testdata/good.
func TestGoldenRequests(t *testing.T) {
	data, err := os.ReadFile("testdata/good/shapes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse("shapes.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Bind("c", map[string]any{"key": cdc.NewSecret("hunter2"), "region": "eu"}, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range s.Requests {
		for _, p := range r.Partitions() {
			for _, cursor := range []any{nil, "c/1"} {
				v := r.vars(p, time.Unix(0, 0))
				v.cursor, v.start = cursor, nil
				if cursor == nil && r.incremental != nil {
					v.start = r.incremental.start
				}
				method, url, header, body, err := r.list.compose(s, &v)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", p.Name, method, strings.TrimPrefix(url, s.BaseURL), header.Get("Content-Type"), body)))
				if header.Get("X-Region") != "eu" || header.Get("Accept") != "application/json" || header.Get("X-Api-Key") != "" {
					t.Errorf("header %v", header)
				}
			}
		}
	}
	json, form := "application/json", "application/x-www-form-urlencoded"
	want := []string{
		"kind=1,view=Listings GET /Listings/loans?maxResults=50&kinds=Add&kinds=1",
		"kind=1,view=Listings GET /Listings/loans?cursor=c%2F1&maxResults=50&kinds=Add&kinds=1",
		"kind=1,view=Buyer+Owned GET /Buyer%20Owned/loans?maxResults=50&kinds=Add&kinds=1",
		"kind=1,view=Buyer+Owned GET /Buyer%20Owned/loans?cursor=c%2F1&maxResults=50&kinds=Add&kinds=1",
		"kind=2,view=Listings GET /Listings/loans?maxResults=50&kinds=Add&kinds=2",
		"kind=2,view=Listings GET /Listings/loans?cursor=c%2F1&maxResults=50&kinds=Add&kinds=2",
		"kind=2,view=Buyer+Owned GET /Buyer%20Owned/loans?maxResults=50&kinds=Add&kinds=2",
		"kind=2,view=Buyer+Owned GET /Buyer%20Owned/loans?cursor=c%2F1&maxResults=50&kinds=Add&kinds=2",
		"- GET /issues?since=2024-01-31T00%3A00%3A00Z&state=all&direction=asc",
		"- GET /issues?since=c%2F1&state=all&direction=asc",
		"- POST /contacts/search " + json + ` {"filters":[{"property":"changed","operator":"GTE"}],"limit":100,"nothing":{}}`,
		"- POST /contacts/search " + json + ` {"filters":[{"property":"changed","operator":"GTE","value":"c/1"}],"limit":100,"nothing":{}}`,
		"- POST /events " + form + " since=0&note=a+b%26c",
		"- POST /events " + form + " since=c%2F1&note=a+b%26c",
		"- GET /changes?since=7",
		"- GET /changes?since=c%2F1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHeadersCannotBreakLines(t *testing.T) {
	p := parameter{name: "X", value: mustTemplate(t, "{{ 'a\\r\\nHost: evil' }}")}
	if err := p.header(http.Header{}, values()); err == nil {
		t.Error("a line break went into a header")
	}
}

func TestEmptyListIsRefused(t *testing.T) {
	v := values()
	v.config["list"] = []any{}
	p := parameter{name: "views", value: mustTemplate(t, "{{ config.list }}")}
	if got, err := encode([]parameter{p}, v, "+"); err == nil {
		t.Errorf("%q: a listing without its scope", got)
	}
}

// FuzzTemplate proves that no template panics, neither compiled nor evaluated.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{ cursor ?? start }}", "a {{ last.id }} b", "{{ filter(last.l, # == 'x') | first() }}", "{{ {'a': [1]}.a[0] }}",
		"{{ now - duration('1d') }}", "{{ '}}' }}", "{{ page in [1, 2] ? -page ** 2 : not true }}", "{{ response.body.a[0]['b'] }}", "{{ `x` matches 'y' }}",
		"{{ config.list[1:] }}", "{{ last?.id }}", "{{ map(1..2, #) }}", "{{ #index }}", "{{ 1; 2 }}", "{{ b'x' }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		c, err := compileTemplate(text, everything())
		if err != nil {
			var m *misuse
			if !errors.As(err, &m) || m.offset < 0 {
				t.Errorf("%q: %v has no place", text, err)
			}
			if word := unspeakable(err.Error(), text); word != "" {
				t.Errorf("%q: %v speaks Go: %s", text, err, word)
			}
			return
		}
		v := values()
		v.response = &response{status: 200, header: http.Header{"A": {"b"}}, body: []byte(`{"a":[{"b":1}],"c":12345678901234567890}`)}
		if _, _, err := c.eval(v); err != nil {
			if word := unspeakable(cause(err).Error(), text); word != "" {
				t.Errorf("%q: %v speaks Go: %s", text, err, word)
			}
		}
		_, _ = c.address(v, 0)
	})
}

// shapes is the definition that TestShapes and TestShapesOfFeeds look at.
func shapes(t *testing.T) *Source {
	t.Helper()
	data, err := os.ReadFile("testdata/good/shapes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return mustBind(t, string(data), map[string]any{"key": "k"})
}

// TestShapes proves that what the definition of shapes says has arrived where passes look for it.
func TestShapes(t *testing.T) {
	s := shapes(t)
	loans, issues, contacts := s.Requests[0], s.Requests[1], s.Requests[2]
	if loans.incremental.kind != opaqueCursor || loans.incremental.next.String() != "cursor" || loans.incremental.more.place.String() != "hasMoreResults" {
		t.Errorf("loans %+v", loans.incremental)
	}
	if n, err := loans.cost(&vars{page: 4}); err != nil || n != 3 { // rounded up
		t.Errorf("cost %d %v", n, err)
	}
	if issues.paginator.kind != linkPaginator || !issues.paginator.linkHeader || issues.Streams[0].Topic.Retention != -1 || issues.Streams[0].Topic.Partitions != 3 {
		t.Errorf("issues %+v", issues.paginator)
	}
	in := contacts.incremental
	if in.settle != 10*time.Second || in.deepEvery != time.Hour || in.deepSpan != 12*time.Hour || contacts.paginator.next.String() != "paging.next.after" {
		t.Errorf("contacts %+v", in)
	}
}

// TestShapesOfFeeds proves the same of feeds.
func TestShapesOfFeeds(t *testing.T) {
	s := shapes(t)
	events, changes := s.Requests[3], s.Requests[4]
	if st := events.Streams[0]; !st.LogFeed || st.Versioned || len(events.errors) != 2 || events.errors[0].do != doExpired {
		t.Errorf("events %+v", st)
	}
	rule := events.errors[1]
	for body, want := range map[string]bool{`{"error":{"code":"busy"}}`: true, `{"error":"busy"}`: false, "<html>": false} {
		got, err := rule.when.eval(&response{status: 503, header: http.Header{}, body: []byte(body)}, &vars{})
		if err != nil || got != want || rule.do != doRetry || rule.hint != "it is busy" {
			t.Errorf("%s: %v %v", body, got, err)
		}
	}
	in, st := changes.incremental, changes.Streams[0]
	if in.kind != sequenceCursor || in.start != int64(7) || in.back != 100 || !in.checkpointPass || in.head.place.String() != "seq" {
		t.Errorf("changes %+v", in)
	}
	if !st.contentKey || !st.keyScope || st.OnLeave != "keep" || st.Rules.Value != "doc" || strings.Join(st.Rules.Include, " ") != "a.c b" {
		t.Errorf("changes %+v", st)
	}
	if _, url, _, _, err := in.head.call.compose(s, &vars{}); err != nil || url != "https://api.example.com/v1" {
		t.Errorf("head %s %v", url, err)
	}
}

// TestNullsInABody: a map of which nulls leave nothing is left out like a null, and one that was written empty stays.
func TestNullsInABody(t *testing.T) {
	for yaml, want := range map[string]string{
		"{limit: 1, filter: {updated: {gte: '{{ cursor }}', lt: '{{ cursor_end }}'}}}":    `{"limit":1}`,
		"{limit: 1, filter: {kind: x, updated: {gte: '{{ cursor }}'}}}":                   `{"limit":1,"filter":{"kind":"x"}}`,
		"{all: {}, filter: {all: {}, updated: {gte: '{{ cursor }}'}}}":                    `{"all":{},"filter":{"all":{}}}`,
		"{filters: [{gte: '{{ cursor }}'}, {kind: x}, '{{ cursor }}', {}, {a: {b: {}}}]}": `{"filters":[{"kind":"x"},{},{"a":{"b":{}}}]}`,
		"{filter: {gte: '{{ cursor }}'}}":                                                 `{}`,
		"{}":                                                                              `{}`,
		"{a: {b: '{{ cursor }}'}, c: {d: '{{ cursor }}'}, e: 1}":                          `{"e":1}`,
	} {
		text := minimal + "    method: POST\n    body: " + yaml + "\n    incremental: {type: opaque, next: n}\n"
		if !strings.Contains(yaml, "cursor") {
			text = minimal + "    method: POST\n    body: " + yaml + "\n"
		} else if strings.Contains(yaml, "cursor_end") {
			text = minimal + "    method: POST\n    body: " + yaml + "\n    incremental: {cursor_field: at, format: rfc3339, window: 1d}\n"
		}
		s := mustBind(t, text, nil)
		v := s.Requests[0].vars(s.Requests[0].Partitions()[0], time.Time{})
		if _, _, _, body, err := s.Requests[0].list.compose(s, &v); err != nil || string(body) != want {
			t.Errorf("%s: %s, not %s: %v", yaml, body, want, err)
		}
	}
}

func TestTextBody(t *testing.T) {
	text := strings.Replace(minimal, "path: /orders", "path: /orders\n    method: POST\n    headers: {Content-Type: text/plain}\n    body: 'select * from orders where page = {{ page }}'\n    paginator: {type: page}", 1)
	s := mustBind(t, text, nil)
	v := s.Requests[0].vars(s.Requests[0].Partitions()[0], time.Time{})
	_, _, header, body, err := s.Requests[0].list.compose(s, &v)
	if err != nil || string(body) != "select * from orders where page = 1" || header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s %v %v", body, header, err)
	}
}
