package source

import (
	"net/http"
	"strings"
	"testing"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// TestD10OnePage: D10. the validator of a listing of one page is kept and asked with; the pages of a longer one may change one
// without the other, so theirs says nothing of the whole.
func TestD10OnePage(t *testing.T) {
	const stream = `
    path: /things
    query: {page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page, more: more}
`
	for pages, kept := range map[int]bool{1: true, 2: false} {
		var asked304 string
		serve := func(q asked) any {
			asked304 = q.Header.Get("If-None-Match")
			more := q.query.Get("page") != "" && q.n < pages
			body := `{"data": [{"id": ` + q.query.Get("page") + `}], "more": ` + map[bool]string{true: "true", false: "false"}[more] + `}`
			return &fetch.Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}, "Etag": {`"v1"`}}, Body: []byte(body)}
		}
		d := newDriver(t, bound(t, stream, nil))
		first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
		if first.err != nil || first.pages != pages || !first.complete {
			t.Fatalf("%d pages: %+v", pages, first)
		}
		if got := strings.HasSuffix(first.checkpoint.Validator, `"v1"`); got != kept {
			t.Errorf("%d pages: validator %q", pages, first.checkpoint.Validator)
		}
		d.pass(Partition{Name: "-"}, *first.checkpoint, 1, serve)
		if got := asked304 == `"v1"`; got != kept {
			t.Errorf("%d pages: asked with %q", pages, asked304)
		}
	}
}
