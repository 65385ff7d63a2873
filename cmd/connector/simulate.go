package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/simulator"
)

// simulation is a system that simulate serves.
type simulation struct {
	name, title string
	records     map[string]int // how many there are for 500 of the main kind
	build       func(simulator.Options) *simulator.Upstream
	settings    func(url string) [][2]string // what a connection needs
}

// simulations returns the systems, the default first.
func simulations() []simulation {
	return []simulation{
		{"salesloft", "SalesLoft", map[string]int{
			"account_stages": 5, "actions": 20, "activity_histories": 20, "call_data_records": 20, "crm_activities": 10, "email_templates": 10,
			"successes": 10, "team_templates": 5, "tasks": 20, "steps": 10, "tags": 10, "groups": 4, "custom_fields": 8, "imports": 4, "crm_users": 8, "person_stages": 6,
		}, func(o simulator.Options) *simulator.Upstream { return simulator.New(o).Upstream }, func(url string) [][2]string {
			return [][2]string{
				{"base_url", url + "/v2"}, {"token_url", url + "/oauth/token"}, {"client_id", simulator.ClientID}, {"client_secret", simulator.ClientSecret},
				{"refresh_token", simulator.RefreshToken}, {"or an API key", simulator.APIKey},
			}
		}},
		{"crf-exchange", "CRF Exchange", map[string]int{"loans": 500}, func(o simulator.Options) *simulator.Upstream { return simulator.NewCRF(o).Upstream },
			func(url string) [][2]string {
				return [][2]string{{"base_url", url + "/api"}, {"api_key", simulator.APIKey}, {"partner_id", simulator.PartnerID}}
			}},
		{"focus", "Focus", map[string]int{"client/recording": 500}, func(o simulator.Options) *simulator.Upstream { return simulator.NewFocus(o).Upstream },
			func(url string) [][2]string {
				return [][2]string{
					{"base_url", url + "/api"}, {"client_id", strconv.Itoa(simulator.FocusClientID)}, {"api_key", simulator.APIKey}, {"username", simulator.FocusUsername},
				}
			}},
		{"givergy", "Givergy", map[string]int{"events": 12, "items": 60, "purchases": 150, "guests": 500},
			func(o simulator.Options) *simulator.Upstream { return simulator.NewGivergy(o).Upstream },
			func(url string) [][2]string {
				return [][2]string{
					{"base_url", url}, {"namespace", simulator.GivergyNamespace}, {"username", simulator.GivergyUsername}, {"password", simulator.GivergyPassword},
				}
			}},
	}
}

// simulate serves one of the upstream APIs on a port.
func simulate(ctx context.Context, p *program, args []string) error {
	var systems []string
	for _, s := range simulations() {
		systems = append(systems, s.name)
	}
	f := p.flags("simulate", strings.Join(systems, "|"))
	port := f.Int("port", 8585, "port on 127.0.0.1; 0 takes a free one")
	address := f.String("address", "", "host:port to listen on instead, such as 0.0.0.0:8585 in a container")
	seed := f.Int64("seed", 1, "records, changes and tokens follow from it")
	records := f.Int("records", 500, "how many records of the main kind (people, loans, recordings, guests) there are at the start; the others in proportion")
	changes := f.Float64("changes", 10, "changes a second, over all kinds")
	deletes := f.Float64("deletes", 0, "what part of the changes removes a record without a sign; half as many bring one back")
	rate := f.Int("rate", 0, "the cost that a minute allows; 0: what the system documents; -1: no limit")
	tokens := f.Bool("tokens", true, "salesloft: OAuth with single-use refresh tokens, beside the API key")
	list := f.String("faults", "", "faults, with commas between them, as in 503,truncated:resource=people:every=50; help lists them")
	frozen := f.Bool("frozen", false, "begin at rest: POST /_simulator/control {\"action\":\"thaw\"} starts the changes")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if *list == "help" {
		listFaults(p)
		return nil
	}
	faults, err := parseFaults(*list)
	if err != nil {
		return err
	}
	i := -1
	if len(rest) > 0 {
		i = slices.Index(systems, rest[0])
	}
	if i < 0 {
		return fmt.Errorf("%w: which API? connector simulate %s", errUsage, strings.Join(systems, "|"))
	}
	system := simulations()[i]
	o := lively(*seed, *records, system)
	o.ChangesPerSecond, o.RateBudget, o.Tokens = *changes, *rate, *tokens
	o.Deletes, o.Restores, o.Moves = *deletes, *deletes/2, 0.05
	sim := system.build(o)
	for _, fault := range faults {
		sim.Fail(fault)
	}
	if *frozen {
		sim.Freeze()
	}
	if *address == "" {
		*address = fmt.Sprintf("127.0.0.1:%d", *port)
	}
	url, stop, err := serveSimulator(sim.Handler(), *address)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(p.out, "%s, simulated, at %s\n", system.title, url)
	lines := [][]string{}
	for _, s := range append(system.settings(url), [2]string{"the truth", url + "/_simulator/history?resource=" + sim.Resources()[0]}) {
		lines = append(lines, []string{"  " + s[0], s[1]})
	}
	aligned(p.out, lines)
	sim.Run(ctx)
	<-ctx.Done()
	return nil
}

// lively is the simulator's mixture of changes for a system with so many records of the main kind.
func lively(seed int64, records int, system simulation) simulator.Options {
	o := simulator.Lively(seed)
	scaled := func(n int) int { return max(1, n*records/500) }
	for _, n := range []*int{&o.Accounts, &o.Calls, &o.Emails, &o.Cadences, &o.CadenceMemberships, &o.Notes, &o.Users} {
		*n = scaled(*n)
	}
	o.People, o.Records = records, map[string]int{}
	for name, n := range system.records {
		o.Records[name] = scaled(n)
	}
	return o
}

// listFaults prints what --faults takes.
func listFaults(p *program) {
	fmt.Fprint(p.out, `A fault is a kind, or a status such as 429, and after colons what it is to be:
  resource=people   only for this resource; "oauth/token", "authWithApiKey" and "auth/login" are such, too
  every=20          one in so many of the requests that it could strike
  skip=0            how many of them pass first
  times=-1          how many are hit, -1 for all
  n=10              how many, of what the kind counts
  after=30          Retry-After, for a status

`)
	rows := [][]string{{"KIND", "N", "DOES"}}
	for _, k := range simulator.Faults() {
		n := ""
		if k.N > 0 {
			n = strconv.Itoa(k.N)
		}
		rows = append(rows, []string{string(k.Kind), n, k.Does})
	}
	aligned(p.out, rows)
	fmt.Fprint(p.out, `
  --faults 429:after=30,503:every=5,stale:resource=people
  --faults reset:resource=oauth/token:skip=1:times=1   a rotated refresh token is lost in mid-air
`)
}

// parseFaults reads the list that --faults takes.
func parseFaults(list string) ([]simulator.Fault, error) {
	var faults []simulator.Fault
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		parts := strings.Split(text, ":")
		f := simulator.Fault{Kind: simulator.Kind(parts[0]), Times: -1, Every: 20}
		if status, err := strconv.Atoi(parts[0]); err == nil {
			f.Kind, f.Status = simulator.Status, status
		} else if !slices.ContainsFunc(simulator.Faults(), func(k simulator.FaultKind) bool { return k.Kind == f.Kind }) {
			return nil, fmt.Errorf("%w: there is no fault %q; connector simulate --faults help lists them", errUsage, parts[0])
		}
		for _, part := range parts[1:] {
			if err := set(&f, part); err != nil {
				return nil, fmt.Errorf("%w: --faults: %q: %w", errUsage, text, err)
			}
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// set sets what name=value says of a fault.
func set(f *simulator.Fault, part string) error {
	name, value, _ := strings.Cut(part, "=")
	switch name {
	case "resource":
		f.Resource = value
		return nil
	case "after":
		f.RetryAfter = value
		return nil
	}
	number := map[string]*int{"n": &f.N, "skip": &f.Skip, "times": &f.Times, "every": &f.Every}[name]
	if number == nil {
		return fmt.Errorf("there is no %q", name)
	}
	n, err := strconv.Atoi(value)
	*number = n
	return err
}

// serveSimulator serves a simulated API on a host:port.
func serveSimulator(handler http.Handler, address string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }() // the simulated API
	return "http://" + listener.Addr().String(), func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close() // Serve broke off, and has closed it most likely
		}
	}, nil
}
