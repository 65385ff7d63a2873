package source

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

const lookupStream = keysetStream + `
    filter: "(record.state ?? '') != 'hidden'"
    reconcile: {lookup: {path: "/things/{{ key.id }}", gone: "(record.state ?? '') == 'archived'"}}
`

func TestLookup(t *testing.T) {
	src := bound(t, lookupStream, nil)
	src.Streams[0].KeyType = "number"
	r := src.Requests[0]
	req, err := r.Lookup(0, []byte("17"))
	if err != nil || req.URL != "https://api.test/v1/things/17" {
		t.Fatalf("%+v %v", req, err)
	}
	for _, status := range []int{404, 410, 200} {
		if err := req.Judge(&fetch.Response{Status: status}); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
	want(t, req.Judge(&fetch.Response{Status: 403}), cdc.Halt, "403")
	for _, c := range []struct {
		status int
		body   string
		gone   bool
		kind   Kind
		err    string
	}{
		{404, `{}`, true, Live, ""},
		{410, ``, true, Live, ""},
		{200, `{"data":{"id":17,"updated_at":"2026-03-10T11:00:00Z"}}`, false, Live, ""},
		{200, `{"data":[{"id":17,"updated_at":"2026-03-10T11:00:00Z"}]}`, false, Live, ""},
		{200, `{"data":{"id":17,"state":"archived","updated_at":"2026-03-10T11:00:00Z"}}`, true, Live, ""},
		{200, `{"data":{"id":17,"state":"hidden","updated_at":"2026-03-10T11:00:00Z"}}`, false, Filtered, ""},
		{200, `{"data":{"id":18,"updated_at":"2026-03-10T11:00:00Z"}}`, false, Live, "another record"},
		{200, `{"data":[]}`, false, Live, "no single record"},
		{200, `{"error":"x"}`, false, Live, "no single record"},
		{200, `<html>`, false, Live, "not JSON"},
	} {
		var page Page
		gone, err := r.Found(0, []byte("17"), &fetch.Response{Status: c.status, Body: []byte(c.body), ServerTime: noon}, &page)
		if c.err != "" {
			want(t, err, cdc.Halt, c.err)
			continue
		}
		if err != nil || gone != c.gone || !gone && (len(page.Records) != 1 || page.Records[0].Kind != c.kind) {
			t.Errorf("%s: gone %v, %v, %+v", c.body, gone, err, page.Records)
		}
	}
}

// A lookup's answer that quotes the credential does not make an error show it, neither that of the answer nor that of its record,
// which the dead-letter topic has (DESIGN §9).
func TestLookupShowsNoCredential(t *testing.T) {
	const secret = "swordfish-of-the-lookup"
	src := bound(t, lookupStream, nil)
	src.Streams[0].KeyType = "number"
	r := src.Requests[0]
	for _, body := range []string{
		`{"error":"%s"}`,
		`{"data":{"id":18,"updated_at":"2026-03-10T11:00:00Z"},"%s":1,"%[1]s":2}`,
		`{"data":{"id":17,"updated_at":"%s"}}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			fmt.Fprintf(w, body, strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer "))
		}))
		client, err := fetch.New(fetch.Options{Origins: []string{server.URL}, Credential: fetch.Bearer(cdc.NewSecret(secret))})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(t.Context(), &fetch.Request{URL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		var page Page
		if _, err = r.Found(0, []byte("17"), resp, &page); err == nil && len(page.Records) == 1 {
			err = page.Records[0].Err
		}
		if err == nil || !strings.Contains(err.Error(), "***") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", body, err)
		}
		resp.Release()
		client.Close()
		server.Close()
	}
}

// P24: a key is taken apart as it was put together.
func TestLookupOfAPartition(t *testing.T) {
	src := bound(t, `
    path: /{{ partition.view }}/things
    partition: {view: "{{ config.views }}"}
    records: .
    primary_key: [id, kind]
    reconcile: {lookup: {path: "/{{ partition.view }}/things/{{ key.kind }}/{{ key.id }}"}}
`, nil)
	r := src.Requests[0]
	req, err := r.Lookup(0, []byte(`["a/b",17,"x"]`))
	if err != nil || req.URL != "https://api.test/v1/a%2Fb/things/x/17" {
		t.Fatalf("%+v %v", req, err)
	}
	var page Page
	if gone, err := r.Found(0, []byte(`["a/b",17,"x"]`), &fetch.Response{Status: 200, Body: []byte(`{"id":17,"kind":"x"}`)}, &page); gone || err != nil {
		t.Error(gone, err)
	}
	if _, err := r.Lookup(0, []byte(`17`)); err == nil {
		t.Error("a key of another definition is looked up")
	}
}

// P23: a record can be hashed under the rules of the past.
func TestP23Rescan(t *testing.T) {
	src := bound(t, keysetStream+"    hash: {exclude: [updated_at]}\n", nil)
	src.Seed(0, 42)
	r := src.Requests[0]
	hash := func(name string, day time.Duration, rules record.Rules, seed uint64) (now, then uint64) {
		text := []byte(`{"size":9,"data":[{"id":1,"name":"` + name + `","updated_at":"` + at(day) + `"}]}`)
		pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
		var page Page
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: text, ServerTime: noon}, nil, &page); err != nil {
			t.Fatal(err)
		}
		then, err := r.Rescan(Partition{}, 0, page.Body, &page.Records[0], rules, seed)
		if err != nil {
			t.Fatal(err)
		}
		return page.Records[0].Hash, then
	}
	now, same := hash("a", 0, src.Streams[0].Rules, 42)
	if now != same {
		t.Errorf("%x under its own rules, %x again", now, same)
	}
	later, old := hash("a", -time.Hour, record.Rules{}, 42)
	if later != now || old == now {
		t.Error("the rules make no difference")
	}
	if _, again := hash("a", -time.Hour, record.Rules{}, 42); again != old {
		t.Error("not stable")
	}
	if _, other := hash("a", -time.Hour, record.Rules{}, 43); other == old {
		t.Error("the seed makes no difference")
	}
}
