package source

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
	"tidemark/internal/simulator"
)

var update = flag.Bool("update", false, "write testdata/golden anew, to be reviewed against what the vendors say")

// golden writes down the requests of one stream's passes, as the simulated system is asked and answers. The bubble's clock and the
// seed make them the same each time.
type golden struct {
	t       *testing.T
	up      *simulator.Upstream
	source  *Source
	request *Request
	handler http.Handler
	header  http.Header // what the authenticator would add
	out     strings.Builder
	cursors map[string]string // opaque ones by their names here, since nobody can read them
	recent  []string
}

// system is a simulated system as the golden requests need it.
type system struct {
	up       *simulator.Upstream
	config   map[string]any
	resource func(stream string) string
}

func systems() map[string]func() system {
	rows := func(n int) map[string]int {
		all := map[string]int{}
		for _, resource := range simulator.New(simulator.Options{}).Resources() {
			all[resource] = n
		}
		return all
	}
	return map[string]func() system{
		"salesloft": func() system {
			up := simulator.New(simulator.Options{
				Seed: 1, People: 7, Accounts: 7, Calls: 7, Emails: 7, Cadences: 7, CadenceMemberships: 7, Notes: 7, Users: 7, Records: rows(7), PageCap: 3, RateBudget: -1,
			})
			return system{up.Upstream, map[string]any{"api_key": simulator.APIKey}, func(stream string) string {
				if stream == "calls" || stream == "emails" {
					return "activities/" + stream
				}
				return stream
			}}
		},
		"crf-exchange": func() system {
			up := simulator.NewCRF(simulator.Options{Seed: 1, Records: map[string]int{"loans": 12}, PageCap: 3, RateBudget: -1})
			return system{up.Upstream, map[string]any{"api_key": simulator.APIKey, "partner_id": simulator.PartnerID, "event_kinds": []any{"Add", "Payment", "Update", "Transfer"}},
				func(string) string { return "loans" }}
		},
		"focus": func() system {
			up := simulator.NewFocus(simulator.Options{Seed: 1, Records: map[string]int{"client/recording": 7}, PageCap: 3, TokenLife: 1e4 * time.Hour})
			return system{up.Upstream, map[string]any{"base_url": "https://eu.focus.subphonic.ai/api", "client_id": simulator.FocusClientID, "api_key": simulator.APIKey, "username": simulator.FocusUsername},
				func(string) string { return "client/recording" }}
		},
		"givergy": func() system {
			up := simulator.NewGivergy(simulator.Options{
				Seed: 1, Records: map[string]int{"events": 1, "items": 4, "purchases": 4, "guests": 1003}, RateBudget: -1, TokenLife: 1e4 * time.Hour,
			})
			return system{up.Upstream, map[string]any{"base_url": "https://api.givergy.test", "namespace": simulator.GivergyNamespace, "username": simulator.GivergyUsername, "password": simulator.GivergyPassword},
				func(stream string) string {
					return map[string]string{"items": "items/tickets", "purchases": "purchases/donations"}[stream]
				}}
		},
	}
}

// TestCatalogGolden compares the exact sequence of requests of every stream of the catalog with what was reviewed against
// APIS.md, line by line.
func TestCatalogGolden(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(systems())) {
		for i := range shipped(t, name, settingsOf()[name]).Requests {
			synctest.Test(t, func(t *testing.T) { goldenOf(t, name, i) })
		}
	}
}

// goldenOf is one request with all of its passes.
func goldenOf(t *testing.T, name string, i int) {
	made := systems()[name]()
	g := &golden{t: t, up: made.up, handler: made.up.Handler(), header: http.Header{}, cursors: map[string]string{}}
	config := maps.Clone(made.config)
	g.source = shipped(t, name, config)
	g.request = g.source.Requests[i]
	resource := made.resource(g.request.Name)
	if resource == "" {
		resource = g.request.Name
	}
	g.authenticate()
	if g.source.Auth.Kind == AuthSession {
		compared(t, filepath.Join(name, "login.txt"), g.out.String())
	}
	g.out.Reset()
	p := g.partition()
	first := g.pass("a first pass, from nothing", p, cdc.Checkpoint{}, 0)
	<-time.After(time.Hour)
	g.up.Change(resource, 2)
	<-time.After(time.Minute)
	next := g.pass("an incremental pass, after two records have changed", p, first, 0)
	<-time.After(time.Hour)
	g.pass("an empty pass, after nothing has changed for an hour", p, next, 0)
	if g.request.paginator.kind == keysetPaginator {
		g.up.Tie(resource, 5)
		<-time.After(time.Minute)
		g.pass("a pass over a run of five records with one time of change, where a page has three", p, next, 0)
	}
	g.recent = nil
	begun := g.pass("a pass that is broken off after its first page", p, cdc.Checkpoint{}, 1)
	g.pass("the resumed pass", p, begun, 0)
	g.listing(p)
	g.lookups()
	compared(t, filepath.Join(name, g.request.Name+".txt"), g.out.String())
}

// compared compares text with a golden file, or writes it.
func compared(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if diff := cmp.Diff(string(want), text); err != nil || diff != "" {
		t.Errorf("%s: %v\n%s", file, err, diff)
	}
}

// authenticate gets what the requests carry; a login is written down.
func (g *golden) authenticate() {
	switch a := &g.source.Auth; a.Kind {
	case AuthBearer:
		g.header.Set("Authorization", "Bearer "+a.Value.Reveal())
	case AuthAPIKey:
		g.header.Set(a.Header, a.Value.Reveal())
	case AuthSession:
		req, err := a.Login.compose()
		if err != nil {
			g.t.Fatal(err)
		}
		resp := g.send(req)
		if a.Login.Cookies {
			g.header.Set("Cookie", resp.Header.Get("Set-Cookie"))
			return
		}
		login, err := a.Login.read(resp)
		if err != nil {
			g.t.Fatal(err)
		}
		g.header.Set(a.Header, a.Login.Prefix+login.Token.Reveal())
	}
}

// partition is the first one; of a parent's records, that of the first parent.
func (g *golden) partition() Partition {
	l := g.request.Lineage()
	if l == nil {
		return g.request.Partitions()[0]
	}
	var parent map[string]json.RawMessage
	for state := range g.up.History(l.Parent.Name) {
		if err := json.Unmarshal(state.Value, &parent); err != nil {
			g.t.Fatal(err)
		}
		break
	}
	fields := map[string]json.RawMessage{}
	for _, f := range l.Fields() {
		fields[f] = parent[strings.TrimPrefix(f, l.Name()+".")]
	}
	all, err := l.Partitions(fields)
	if err != nil {
		g.t.Fatal(err)
	}
	return all[0]
}

// pass runs a pass until its end, or for so many pages, and returns its last checkpoint.
func (g *golden) pass(title string, p Partition, cp cdc.Checkpoint, stop int) cdc.Checkpoint {
	g.t.Helper()
	fmt.Fprintf(&g.out, "# %s\n", title)
	pos, err := g.request.Begin(p, cp, time.Now())
	if err != nil {
		g.t.Fatal(err)
	}
	return g.walk(pos, cp, stop)
}

func (g *golden) walk(pos Position, cp cdc.Checkpoint, stop int) cdc.Checkpoint {
	g.t.Helper()
	pos.Remember(g.recent)
	var page Page
	for n := 1; n < 50; n++ {
		req, err := pos.request.Compose(&pos)
		if err != nil {
			g.t.Fatal(err)
		}
		resp := g.send(req)
		if err := req.Judge(resp); err != nil {
			g.t.Fatal(err)
		}
		if err := pos.request.Split(&pos, resp, func(int) record.Known { return nil }, &page); err != nil {
			g.t.Fatal(err)
		}
		fmt.Fprintf(&g.out, "  → %d rows%s\n", page.Rows, g.named(resp.Body))
		if page.Checkpoint != nil {
			cp = *page.Checkpoint
		}
		if page.Recent != nil {
			g.recent = page.Recent
		}
		if pos = page.Next; page.Done || n == stop {
			g.out.WriteString("\n")
			return cp
		}
	}
	g.t.Fatalf("no end:\n%s", g.out.String())
	return cp
}

// listing is what reconciliation asks, where it is not what every pass asks (D1, D10).
func (g *golden) listing(p Partition) {
	if g.request.ReconcileEvery() == 0 {
		return
	}
	fmt.Fprint(&g.out, "# a listing of reconciliation\n")
	pos, err := g.request.BeginListing(p, time.Now())
	if err != nil {
		g.t.Fatal(err)
	}
	g.walk(pos, cdc.Checkpoint{}, 0)
}

// lookups are the requests for one record.
func (g *golden) lookups() {
	for _, st := range g.request.Streams {
		if !st.HasLookup {
			continue
		}
		req, err := g.request.Lookup(st.Index, []byte("5"))
		if err != nil {
			g.t.Fatal(err)
		}
		fmt.Fprint(&g.out, "# the lookup of record 5\n")
		g.send(req)
		g.out.WriteString("\n")
	}
}

var opaque = regexp.MustCompile(`"cursor":"([^"]+)"`)

// named gives the opaque cursor of an answer its name here, a new one where it was not seen before.
func (g *golden) named(body []byte) string {
	found := opaque.FindSubmatch(body)
	if found == nil {
		return ""
	}
	cursor := string(found[1])
	if g.cursors[cursor] == "" {
		g.cursors[cursor] = fmt.Sprintf("CURSOR-%d", len(g.cursors)+1)
	}
	return ", " + g.cursors[cursor]
}

// send writes a request down and asks the simulated system.
func (g *golden) send(req *fetch.Request) *fetch.Response {
	g.t.Helper()
	g.write(req)
	u, err := url.Parse(req.URL)
	if err != nil {
		g.t.Fatal(err)
	}
	q := httptest.NewRequest(req.Method, u.RequestURI(), strings.NewReader(string(req.Body)))
	maps.Copy(q.Header, g.header)
	sent := time.Now()
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, q)
	body := w.Body.Bytes()
	if w.Code != http.StatusOK {
		g.t.Fatalf("%s %s: %d %s", req.Method, req.URL, w.Code, body)
	}
	return &fetch.Response{Status: w.Code, Header: w.Header(), Body: body, Sent: sent, Received: sent, ServerTime: sent}
}

// write writes a request as it is sent, but for the names of opaque cursors and its parameters in the clear.
func (g *golden) write(req *fetch.Request) {
	base, query, _ := strings.Cut(req.URL, "?")
	line := req.Method + " " + base
	if query != "" {
		readable, err := url.QueryUnescape(query)
		if err != nil {
			g.t.Fatal(err)
		}
		line += "?" + readable
	}
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		if name == "Accept" && req.Header.Get(name) == "application/json" { // all of them
			continue
		}
		line += fmt.Sprintf("\n  %s: %s", name, strings.Join(req.Header[name], ", "))
	}
	if len(req.Body) > 0 {
		line += "\n  " + string(req.Body)
	}
	for cursor, name := range g.cursors {
		line = strings.ReplaceAll(line, cursor, name)
	}
	g.out.WriteString(line + "\n")
}
