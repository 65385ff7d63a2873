package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"tidemark/internal/simulator"
)

// simulate serves one of the upstream APIs on a port.
func simulate(ctx context.Context, p *program, args []string) error {
	f := p.flags("simulate", "salesloft")
	port := f.Int("port", 8585, "port on 127.0.0.1; 0 takes a free one")
	address := f.String("address", "", "host:port to listen on instead, such as 0.0.0.0:8585 in a container")
	seed := f.Int64("seed", 1, "records, changes and tokens follow from it")
	people := f.Int("people", 500, "how many people there are at the start; the other kinds in proportion")
	changes := f.Float64("changes", 10, "changes a second, over all kinds")
	rate := f.Int("rate", 600, "the team's cost a minute; -1: no limit")
	tokens := f.Bool("tokens", true, "OAuth with single-use refresh tokens, beside the API key")
	frozen := f.Bool("frozen", false, "begin at rest: POST /_simulator/control {\"action\":\"thaw\"} starts the changes")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 || rest[0] != "salesloft" {
		return fmt.Errorf("%w: which API? connector simulate salesloft", errUsage)
	}
	o := lively(*seed, *people)
	o.ChangesPerSecond, o.RateBudget, o.Tokens = *changes, *rate, *tokens
	sim := simulator.New(o)
	if *frozen {
		sim.Freeze()
	}
	if *address == "" {
		*address = fmt.Sprintf("127.0.0.1:%d", *port)
	}
	url, stop, err := serveSimulator(sim, *address)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(p.out, "SalesLoft, simulated, at %s/v2\n  API key        %s\n  token URL      %s/oauth/token\n  client         %s, secret %s\n  refresh token  %s\n  the truth      %s/_simulator/history?resource=people\n",
		url, simulator.APIKey, url, simulator.ClientID, simulator.ClientSecret, simulator.RefreshToken, url)
	sim.Run(ctx)
	<-ctx.Done()
	return nil
}

// lively is the simulator's mixture of changes for a team of so many people.
func lively(seed int64, people int) simulator.Options {
	o := simulator.Lively(seed)
	scale := func(n *int) { *n = max(1, *n*people/500) }
	for _, n := range []*int{&o.Accounts, &o.Calls, &o.Emails, &o.Cadences, &o.CadenceMemberships, &o.Notes, &o.Users} {
		scale(n)
	}
	o.People = people
	return o
}

// serveSimulator serves sim on a host:port.
func serveSimulator(sim *simulator.SalesLoft, address string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }() // the simulated API
	return "http://" + listener.Addr().String(), func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close() // Serve broke off, and has closed it most likely
		}
	}, nil
}
