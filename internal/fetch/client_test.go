package fetch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/cdc"
)

// Every answer that is none has its remedy and reach, and says what the server said.
func TestDefaultJudge(t *testing.T) {
	for _, c := range []struct {
		status int
		remedy cdc.Remedy
		scope  cdc.Scope
	}{
		{400, cdc.Halt, cdc.Stream}, {401, cdc.Halt, cdc.Connection}, {403, cdc.Halt, cdc.Stream}, {404, cdc.Halt, cdc.Stream},
		{408, cdc.Retry, cdc.Stream}, {410, cdc.Expired, cdc.Partition}, {422, cdc.Halt, cdc.Stream}, {425, cdc.Retry, cdc.Stream},
		{500, cdc.Retry, cdc.Stream}, {501, cdc.Retry, cdc.Stream}, {503, cdc.Retry, cdc.Stream}, {599, cdc.Retry, cdc.Stream},
	} {
		synctest.Test(t, func(t *testing.T) {
			cl := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprintf(w, "{\"error\":\n\t\"no\x1b[31m %s\"}", strings.Repeat("long ", 100))
			}, nil)
			_, err := cl.Do(t.Context(), get("/v2/people?key=secret"))
			want(t, err, c.remedy, c.scope, fmt.Sprint(c.status), `{"error": "no[31m long`, "GET "+api+"/v2/people:")
			if strings.Contains(err.Error(), "secret") || len(err.Error()) > 600 {
				t.Errorf("error %q", err)
			}
		})
	}
}

// P18: a web page with 200 is an error, not an empty page.
func TestP18HTMLIsNoPage(t *testing.T) {
	for _, kind := range []string{"text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"} {
		synctest.Test(t, func(t *testing.T) {
			cl := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				fmt.Fprint(w, "<html>Please log in</html>")
			}, nil)
			_, err := cl.Do(t.Context(), get("/people"))
			want(t, err, cdc.Halt, cdc.Stream, "web page", "Please log in", "200")
		})
	}
}

// Redirects are not followed: the credential would go wherever the answer says.
func TestRedirectIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{status(302, "Location", "https://evil.test/people?token=s3cret")}}
		cl := client(t, s.ServeHTTP, nil)
		_, err := cl.Do(t.Context(), get("/people"))
		want(t, err, cdc.Halt, cdc.Stream, "302", "https://evil.test/people")
		if strings.Contains(err.Error(), "s3cret") || len(s.at) != 1 {
			t.Errorf("%d requests, error %q", len(s.at), err)
		}
	})
}

// A judge of one's own may accept what the default refuses, and its Retry repeats the request.
func TestJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{ok, status(200, "Retry-After", "90"), status(404)}}
		cl := client(t, s.ServeHTTP, nil)
		r := get("/people/1")
		r.Judge = func(r *Response) error {
			if r.Status == 404 {
				return nil
			}
			return cdc.Errorf(cdc.Retry, cdc.Stream, "lookup", "", "not yet")
		}
		resp, err := cl.Do(t.Context(), r)
		if err != nil || resp.Status != 404 {
			t.Fatal(resp, err)
		}
		if g := s.gaps(); g[0] > 2*time.Second || !near(g[1], 90*time.Second) {
			t.Errorf("pauses %v", g)
		}
	})
}

// Only the origins are asked, and with them goes the credential; what an answer names is refused, or asked without it.
func TestForeignURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Key", r.Header.Get("X-Api-Key"))
		}}}
		cl := client(t, s.ServeHTTP, func(o *Options) { o.Credential = Header("x-api-key", cdc.NewSecret("s3cret")) })
		for _, u := range []string{
			"http://evil.test/v2/people", "https://api.test/v2/people", "http://api.test:8080/v2", "http://api.test.evil.test/",
			"http://user@api.test/v2", "http://api.test@evil.test/", "ftp://api.test/", "/v2/people", "//api.test/v2", "http:people",
			"file:///etc/passwd", "http:///v2", "http://169.254.169.254/latest", "http://\x7f/", "http://[::1", "",
		} {
			_, err := cl.Do(t.Context(), &Request{URL: u})
			want(t, err, cdc.Halt, cdc.Stream)
		}
		for _, u := range []string{"http://10.0.0.1/file", "http://[::ffff:127.0.0.1]/file"} {
			_, err := cl.Do(t.Context(), &Request{URL: u, Foreign: true})
			want(t, err, cdc.Halt, cdc.Stream, "private")
		}
		if len(s.at) != 0 {
			t.Fatalf("asked %v", s.seen)
		}
		for _, u := range []string{api, "HTTP://API.test:80/v2/people?page=2", "http://cdn.test/file"} {
			r := &Request{URL: u, Foreign: u == "http://cdn.test/file"}
			resp, err := cl.Do(t.Context(), r)
			if err != nil {
				t.Error(err)
				continue
			}
			if key := resp.Header.Get("X-Key"); (key == "") != r.Foreign {
				t.Errorf("%s was sent the key %q", u, key)
			}
		}
	})
}

// A link that differs from base_url in its scheme alone is refused like any other, and the message says what it is and the way out.
func TestLinksOfTheOtherScheme(t *testing.T) {
	for _, c := range []struct{ base, link, want, hint string }{
		{"http://api.test", "https://api.test/v1?page=2", "begins with https://, and base_url does not", "write base_url with https://"},
		{"https://API.test", "http://api.test/v1?page=2", "begins with http://, and base_url does not", "take the token out of the link"},
		{"http://api.test:8080", "https://api.test:8080/v1", "begins with https://", "write base_url with https://"},
		{"http://api.test", "https://api.test:8080/v1", "the credential is not sent there", "leads away from base_url"},
		{"http://api.test", "https://other.test/v1", "the credential is not sent there", "leads away from base_url"},
	} {
		g, err := newGuard([]string{c.base}, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(c.link)
		own, err := g.check(u, false, "here")
		want(t, err, cdc.Halt, cdc.Stream, "foreign URL", c.want)
		if own || !strings.Contains(cdc.Hint(err), c.hint) {
			t.Errorf("%s from %s: %s", c.link, c.base, cdc.Hint(err))
		}
	}
}

// What an answer names may not be private or link-local, base_url not link-local, unless it is allowed.
func TestPrivateAddresses(t *testing.T) {
	g, err := newGuard([]string{"http://10.0.0.1", "http://api.test"}, []string{"files.test", "Minio.test:9000"}, "http://u:p@proxy.test:3128")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, port, addr string
		ok               bool
	}{
		{"cdn.test", "443", "93.184.216.34", true}, {"cdn.test", "443", "2606:2800:220:1::1", true}, {"cdn.test", "443", "64:ff9b::5db8:d822", true},
		{"cdn.test", "443", "10.1.2.3", false}, {"cdn.test", "443", "172.20.0.1", false}, {"cdn.test", "443", "192.168.0.1", false},
		{"cdn.test", "443", "127.0.0.1", false}, {"cdn.test", "443", "0.0.0.0", false}, {"cdn.test", "443", "100.64.1.1", false},
		{"cdn.test", "443", "169.254.169.254", false}, {"cdn.test", "443", "::1", false}, {"cdn.test", "443", "fe80::1%eth0", false},
		{"cdn.test", "443", "fd00:ec2::254", false}, {"cdn.test", "443", "::ffff:10.0.0.1", false}, {"cdn.test", "443", "64:ff9b::a00:1", false},
		{"cdn.test", "443", "2002:7f00:1::", false}, {"cdn.test", "443", "224.0.0.1", false}, {"cdn.test", "443", "255.255.255.255", false},
		{"cdn.test", "443", "198.18.0.1", false}, {"cdn.test", "443", "192.0.0.1", false}, {"cdn.test", "443", "::", false},
		{"api.test", "80", "10.0.0.9", true}, {"api.test", "80", "::1", true}, {"10.0.0.1", "80", "10.0.0.1", true},
		{"api.test", "80", "169.254.169.254", false}, {"api.test", "80", "fe80::1", false}, {"api.test", "80", "::ffff:169.254.169.254", false},
		{"files.test", "443", "10.0.0.9", true}, {"minio.test", "9000", "10.0.0.9", true}, {"minio.test", "9001", "10.0.0.9", false},
		{"proxy.test", "3128", "10.0.0.9", true},
	} {
		if err := g.permit(c.host, c.port, netip.MustParseAddr(c.addr)); (err == nil) != c.ok {
			t.Errorf("%s at %s: %v", c.host, c.addr, err)
		}
	}
	for _, bad := range [][2]string{{"http://169.254.169.254", ""}, {"http://[fe80::1]", ""}, {"localhost:80", ""}, {"https://u:s3cret@api.test", ""},
		{"https://api.test", "s3cret"}, {"https://api.test", "ftp://u:s3cret@p"}, {"https://api.test", "http://u:s3cret@p:x"}} {
		_, err := New(Options{Origins: []string{bad[0]}, Proxy: bad[1]})
		want(t, err, cdc.Halt, cdc.Connection)
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %q shows the password", err)
		}
	}
}

// The address is checked again when it is known: a name may point anywhere.
func TestPrivateAddressAtDialTime(t *testing.T) {
	asked := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	foreign := "http://localhost:" + u.Port() + "/file"
	cl, err := New(Options{Origins: []string{"http://api.test"}})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, err = cl.Do(t.Context(), &Request{URL: foreign, Foreign: true})
	want(t, err, cdc.Halt, cdc.Stream, "localhost", "private", "allow_hosts")
	_, err = cl.Do(t.Context(), &Request{URL: srv.URL, Foreign: true}) // 127.0.0.1, without asking anybody
	want(t, err, cdc.Halt, cdc.Stream, "private")
	if asked {
		t.Error("it was asked")
	}
	allowed, err := New(Options{AllowHosts: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	defer allowed.Close()
	if _, err := allowed.Do(t.Context(), &Request{URL: foreign, Foreign: true}); err != nil || !asked {
		t.Error(err)
	}
}

// An own certificate authority and a proxy per connection.
func TestCAFileAndProxy(t *testing.T) {
	srv := httptest.NewTLSServer(ok)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(o Options, u string) error {
		cl, err := New(o)
		if err != nil {
			return err
		}
		defer cl.Close()
		resp, err := cl.Do(t.Context(), &Request{URL: u})
		resp.Release()
		return err
	}
	o := Options{Origins: []string{srv.URL}, Attempts: 1}
	want(t, ask(o, srv.URL), cdc.Retry, cdc.Stream, "ca_file")
	o.CAFile = file
	if err := ask(o, srv.URL); err != nil {
		t.Error(err)
	}
	o.CAFile = filepath.Join(t.TempDir(), "none")
	want(t, ask(o, srv.URL), cdc.Halt, cdc.Connection, "ca_file")
	var seen, auth string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, auth = r.URL.String(), r.Header.Get("Proxy-Authorization")
	}))
	defer proxy.Close()
	if err := ask(Options{Origins: []string{api}, Proxy: strings.Replace(proxy.URL, "//", "//u:p@", 1)}, api+"/people"); err != nil {
		t.Error(err)
	}
	if seen != api+"/people" || auth != "Basic dTpw" {
		t.Errorf("the proxy saw %q, %q", seen, auth)
	}
}

func TestStaticCredentials(t *testing.T) {
	for _, c := range []struct {
		credential Credential
		saw        string
		refused    string // the body of a 401 that quotes it
	}{
		{Bearer(cdc.NewSecret("s3cret")), "/p?a=1 Bearer s3cret", "no such token: s3cret"},
		{Basic("me", cdc.NewSecret("s3cret")), "/p?a=1 Basic bWU6czNjcmV0", "bad login bWU6czNjcmV0 / s3cret"},
		{Header("authorization", cdc.NewSecret("s3cret")), "/p?a=1 s3cret", "s3cret?"},
		{Query("key", cdc.NewSecret("s3cret+/")), "/p?a=1&key=s3cret%2B%2F ", "s3cret+/ s3cret%2B%2F"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var saw []string
			cl := client(t, func(w http.ResponseWriter, r *http.Request) {
				saw = append(saw, r.URL.String()+" "+r.Header.Get("Authorization"))
				w.WriteHeader(401)
				fmt.Fprint(w, c.refused)
			}, func(o *Options) { o.Credential = c.credential })
			_, err := cl.Do(t.Context(), get("/p?a=1"))
			want(t, err, cdc.Halt, cdc.Connection, "401", "***")
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "bWU6") {
				t.Errorf("error %q shows the secret", err)
			}
			if len(saw) != 1 || saw[0] != c.saw { // a credential that cannot change is not tried twice
				t.Errorf("server saw %q, want %q once", saw, c.saw)
			}
		})
	}
	cl, _ := New(Options{Origins: []string{api}, Credential: Bearer(cdc.NewSecret("s3cret\n"))})
	_, err := cl.Do(t.Context(), get("/"))
	want(t, err, cdc.Halt, cdc.Connection, "line break")
}

// sent is what a server sends, and what becomes of it.
type sent struct {
	name   string
	step   http.HandlerFunc
	limits Limits
	body   string // expected, or
	remedy cdc.Remedy
	words  string
}

func hostile() []sent {
	big := bytes.Repeat([]byte(`{"id":1},`), 1<<20/8)
	noise := make([]byte, 300<<10)
	rand.Read(noise)
	body := func(b []byte, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			_, _ = w.Write(b) // the client may hang up first: that is what is tested
		}
	}
	packed := zip(big)
	twice := append(zip([]byte("one ")), zip([]byte("two"))...)
	empty := bytes.Repeat(zip(nil), 30000)
	return []sent{
		{"gzip", body(packed, "Content-Encoding", "gzip"), Limits{Ratio: 1100}, string(big), 0, ""},
		{"two members", body(twice, "Content-Encoding", "x-gzip"), Limits{}, "one two", 0, ""},
		{"empty gzip", body(nil, "Content-Encoding", "gzip"), Limits{}, "", 0, ""},
		{"plain", body(noise, "Content-Encoding", "identity"), Limits{BodyBytes: 300 << 10}, string(noise), 0, ""},
		{"bomb", body(packed, "Content-Encoding", "gzip"), Limits{Ratio: 50}, "", cdc.Halt, "50 times"},
		{"gzip too long", body(packed, "Content-Encoding", "gzip"), Limits{BodyBytes: 1 << 20, Ratio: 5000}, "", cdc.Halt, "longer than 1048576"},
		{"empty members", body(empty, "Content-Encoding", "gzip"), Limits{BodyBytes: 64 << 10}, "", cdc.Halt, "longer"},
		{"length too long", body(noise, "Content-Length", fmt.Sprint(len(noise))), Limits{BodyBytes: 300<<10 - 1}, "", cdc.Halt, "longer"},
		{"chunks too long", body(noise), Limits{BodyBytes: 300<<10 - 1}, "", cdc.Halt, "longer"},
		{"cut gzip", body(packed[:len(packed)-5], "Content-Encoding", "gzip"), Limits{Ratio: 1100}, "", cdc.Retry, "unexpected EOF"},
		{"cut gzip header", body(packed[:5], "Content-Encoding", "gzip"), Limits{}, "", cdc.Retry, "unexpected EOF"},
		{"no gzip", body([]byte(`{"data":[]}`), "Content-Encoding", "gzip"), Limits{}, "", cdc.Retry, "gzip"},
		{"wrong sum", body(append(bytes.Clone(packed[:len(packed)-8]), make([]byte, 8)...), "Content-Encoding", "gzip"), Limits{Ratio: 1100}, "", cdc.Retry, "checksum"},
		{"brotli", body([]byte("x"), "Content-Encoding", "br"), Limits{}, "", cdc.Halt, `"br"`},
		{"cut", body([]byte(`{"da`), "Content-Length", "900"), Limits{}, "", cdc.Retry, "unexpected EOF"},
		{"header flood", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("x-", i), strings.Repeat("x", 100))
			}
		}, Limits{}, "", cdc.Retry, "headers exceeded"},
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Limits{}, "", cdc.Retry, "no answer within 1m15s"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) {
			for range 1000 { // a byte now and then is no progress
				if _, err := w.Write([]byte(" ")); err != nil {
					return // the client has given up
				}
				_ = http.NewResponseController(w).Flush() // the next Write fails too
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}, Limits{}, "", cdc.Retry, "within 2m0s"},
	}
}

// (10) Whatever the server sends, it is bounded, and a page that is cut is none (P18).
func TestBodiesAreBounded(t *testing.T) {
	for _, c := range hostile() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := client(t, c.step, func(o *Options) { o.Limits, o.Attempts = c.limits, 1 })
				resp, err := cl.Do(t.Context(), get("/people"))
				switch {
				case c.words != "":
					want(t, err, c.remedy, cdc.Stream, c.words)
				case err != nil:
					t.Error(err)
				case string(resp.Body) != c.body:
					t.Errorf("%d bytes, want %d", len(resp.Body), len(c.body))
				}
				resp.Release()
				if used, _ := cl.pages.Used(); used != 0 {
					t.Errorf("%d bytes are still reserved", used)
				}
			})
		})
	}
}

// A request that its caller gives up, or that runs out of its caller's time.
func TestNetworkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := client(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := cl.Do(ctx, get("/people")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cl.Do(ctx, get("/people"))
		want(t, err, cdc.Retry, cdc.Stream, "deadline")
		if s := cl.Budget().Stats(); s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// POLLING, "server time": the Date less what the request took; our clock less a minute without one.
func TestServerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := time.Date(2020, 2, 2, 2, 2, 2, 0, time.UTC)
		s := &script{steps: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			<-time.After(3 * time.Second)
			status(200, "Date", server.Format(http.TimeFormat))(w, r)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-time.After(5 * time.Second)
		}, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
		}}}
		cl := client(t, s.ServeHTTP, nil)
		resp, err := cl.Do(t.Context(), get("/"))
		if err != nil || !resp.ServerTime.Equal(server.Add(-3*time.Second)) || resp.Received.Sub(resp.Began) != 5*time.Second {
			t.Errorf("%+v, %v", resp, err)
		}
		resp, err = cl.Do(t.Context(), get("/"))
		if err != nil || !resp.ServerTime.Equal(resp.Sent.Add(-time.Minute)) {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

// A page's buffer has one owner: it is another's only after Release, and a second Release takes nothing from that other.
func TestReleaseReusesBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := client(t, func(w http.ResponseWriter, r *http.Request) {
			if _, err := w.Write(bytes.Repeat([]byte(r.URL.Query().Get("c")), 100<<10)); err != nil {
				t.Error(err)
			}
		}, nil)
		held := map[string]*Response{}
		for range 3 {
			for _, k := range []string{"a", "b", "c", "d"} {
				held[k].Release()
				held[k].Release()
				resp, err := cl.Do(t.Context(), get("/?c="+k))
				if err != nil {
					t.Fatal(err)
				}
				held[k] = resp
				for k, r := range held {
					if r.Body != nil && string(r.Body) != strings.Repeat(k, 100<<10) {
						t.Fatalf("the page of %s is %.10q…", k, r.Body)
					}
				}
			}
		}
		for _, r := range held {
			r.Release()
			if r.Body != nil {
				t.Error("a released page still has its bytes")
			}
		}
		if used, _ := cl.pages.Used(); used != 0 {
			t.Errorf("%d bytes are still reserved", used)
		}
	})
}

// A second Release does not put the buffer into the pool twice, and a reservation that is granted in the moment in which it is
// given up goes back.
func TestPagesHaveOneOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewPages(minPage)
		p, _ := b.take(t.Context(), minPage)
		r := &Response{page: p}
		ctx, cancel := context.WithCancel(t.Context())
		err := make(chan error)
		go func() { _, e := b.take(ctx, minPage); err <- e }()
		synctest.Wait()
		b.mu.Lock()
		cancel() // it wakes up by this,
		b.used -= p.bytes
		p.bytes = 0
		b.admit() // and is granted before it can say so
		b.mu.Unlock()
		if e := <-err; !errors.Is(e, context.Canceled) {
			t.Error(e)
		}
		if used, _ := b.Used(); used != 0 {
			t.Errorf("%d bytes are still reserved", used)
		}
		r.Release()
		r.Release()
		if one, other := b.page(minPage), b.page(minPage); one == other {
			t.Error("two owners of a page")
		}
	})
}

// (10) The bytes of pages have a budget: a request waits for them, and is asked when a page is released.
func TestPagesAreBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages := NewPages(3 * minPage)
		cl := client(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 20<<10)) // the last one is cancelled
		}, func(o *Options) { o.Pages = pages })
		var mu sync.Mutex
		var got []*Response
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 5 {
			wg.Go(func() {
				resp, err := cl.Do(ctx, get("/"))
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if resp != nil {
					got = append(got, resp)
				}
			})
		}
		synctest.Wait()
		if used, _ := pages.Used(); len(got) != 3 || used != 3*minPage {
			t.Fatalf("%d pages, %d bytes", len(got), used)
		}
		got[0].Release()
		synctest.Wait()
		if len(got) != 4 {
			t.Fatalf("%d pages", len(got))
		}
		cancel()
		wg.Wait()
		for _, r := range got {
			r.Release()
		}
		if used, _ := pages.Used(); used != 0 || len(pages.queue) != 0 {
			t.Errorf("%d bytes, %d wait", used, len(pages.queue))
		}
	})
}

// pageServer returns the URL of a real server of pages of 1.5 MB, and the length of one.
func pageServer(tb testing.TB, compressed bool) (string, int) {
	body := bytes.Repeat([]byte(`{"id":12345,"name":"somebody","updated_at":"2020-02-02T02:02:02.123456Z"},`), 20000)
	packed := zip(body)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := body
		if compressed {
			w.Header().Set("Content-Encoding", "gzip")
			out = packed
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(out)))
		_, _ = w.Write(out) // who asked sees an answer that is cut
	}))
	tb.Cleanup(srv.Close)
	return srv.URL, len(body)
}

// warm returns a function that asks such a server for a page.
func warm(tb testing.TB, compressed bool) func() *Response {
	u, length := pageServer(tb, compressed)
	cl, err := New(Options{Origins: []string{u}, Limits: Limits{Ratio: 2000}, Credential: Bearer(cdc.NewSecret("s3cret"))})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cl.Close)
	r := &Request{URL: u + "/people", Flow: "people"}
	return func() *Response {
		resp, err := cl.Do(context.Background(), r)
		if err != nil {
			tb.Fatal(err)
		}
		if len(resp.Body) != length {
			tb.Fatalf("%d bytes", len(resp.Body))
		}
		return resp
	}
}

// A page costs what net/http costs, and a constant: nothing that grows with its length.
func TestPagesAreReadIntoReusedBuffers(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		ask := warm(t, compressed)
		for range 5 {
			ask().Release()
		}
		var before, after runtime.MemStats
		const n = 50
		runtime.ReadMemStats(&before)
		for range n {
			ask().Release()
		}
		runtime.ReadMemStats(&after)
		bytes, allocs := (after.TotalAlloc-before.TotalAlloc)/n, (after.Mallocs-before.Mallocs)/n
		t.Logf("gzip %v: %d bytes in %d allocations a page, the server's included", compressed, bytes, allocs)
		if bytes > 1<<20 { // of 1.5 MB; the pool forgets a buffer at a garbage collection, and one of four by chance under -race
			t.Errorf("gzip %v: %d bytes a page", compressed, bytes)
		}
	}
}

// The limit is net/http with a buffer of one's own; ours stands beside it.
func BenchmarkDo(b *testing.B) {
	b.Run("net/http", func(b *testing.B) {
		u, length := pageServer(b, false)
		buf := make([]byte, length)
		b.SetBytes(int64(length))
		b.ReportAllocs()
		for b.Loop() {
			req, _ := http.NewRequestWithContext(context.Background(), "GET", u+"/people", nil)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
	for _, compressed := range []bool{false, true} {
		b.Run(fmt.Sprintf("gzip=%v", compressed), func(b *testing.B) {
			ask := warm(b, compressed)
			b.ReportAllocs()
			for b.Loop() {
				resp := ask()
				b.SetBytes(int64(len(resp.Body)))
				resp.Release()
			}
		})
	}
}
