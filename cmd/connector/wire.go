package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/embedded"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/source"
	"tidemark/schemas"
)

// deployment is everything that a process needs to run connections, wired.
type deployment struct {
	env      func(string) (string, bool)
	settings *settings
	log      *slog.Logger
	kafka    kafka.Options
	registry *codec.Registry // nil: JSON
	shape    codec.Shape
	embedded *embedded.Cluster // nil: a real one
	folder   *fetch.Folder     // of FILES_DIR; nil: none
	pages    *fetch.Pages      // bytes of pages, of all connections (10)
	budgets  map[string]*fetch.Budget
}

// deploy wires the outside of a process: Kafka and the registry, embedded where no brokers are configured.
func (p *program) deploy(s *settings) (*deployment, error) {
	d := &deployment{env: p.env, settings: s, log: s.logger(p)}
	s.limits()
	if err := d.open(); err != nil {
		return nil, err
	}
	if len(s.Brokers) == 0 {
		cluster, err := embedded.Start(embedded.Options{})
		if err != nil {
			return nil, err
		}
		d.embedded = cluster
		s.Brokers = cluster.Brokers()
		if s.Registry == "" && s.Format == "avro" {
			s.Registry = cluster.RegistryURL()
		}
		d.log.Warn("no KAFKA_BROKERS: an embedded broker holds everything in memory and forgets it with this process",
			"brokers", strings.Join(s.Brokers, ","), "registry", s.Registry)
	}
	return d, d.connect()
}

// open makes the folder of files ready, if there is one.
func (d *deployment) open() (err error) {
	if d.settings.FilesDir != "" {
		d.folder, err = fetch.OpenFolder(d.settings.FilesDir)
	}
	return err
}

// connect makes the options of Kafka and the client of the registry.
func (d *deployment) connect() (err error) {
	s := d.settings
	if d.kafka, err = s.kafkaOptions(d.log); err != nil {
		return err
	}
	d.kafka.Restores = kafka.NewRestorer(0)
	d.pages, d.budgets = fetch.NewPages(s.PageBytes), map[string]*fetch.Budget{}
	if d.shape, err = codec.ParseShape(s.Shape); err != nil {
		return err
	}
	if s.Format == "avro" {
		d.registry, err = codec.NewRegistry(s.Registry, codec.RegistryOptions{User: s.RegistryUser, Password: cdc.NewSecret(s.RegistryPassword)})
	}
	return err
}

// close ends what deploy started.
func (d *deployment) close() {
	if d.embedded != nil {
		d.embedded.Close()
	}
}

// declared is a connection of the file, bound to its definition.
type declared struct {
	source.Connection
	bound *source.Source
}

// connections reads and binds the file of connections.
func (d *deployment) connections() ([]declared, error) {
	file := d.settings.Connections
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "read connections", "Write one (docs/connections.md), or name it with CONNECTIONS; "+
			"`connector demo` needs none", "%w", err)
	}
	parsed, err := source.ParseConnections(file, data, d.env)
	if err != nil {
		return nil, err
	}
	var all []declared
	for _, c := range parsed {
		bound, err := bind(c)
		if err != nil {
			return nil, fmt.Errorf("%s: connection %s: %w", file, c.Name, err)
		}
		all = append(all, declared{c, bound})
	}
	return all, oneOwnerPerGrant(file, all)
}

func bind(c source.Connection) (*source.Source, error) {
	definition, err := source.Open(c.Source)
	if err != nil {
		return nil, err
	}
	return definition.Bind(c.Name, c.Config, c.Overrides)
}

// oneOwnerPerGrant refuses two connections with one rotating grant: each refresh would revoke the other's token (9).
func oneOwnerPerGrant(file string, all []declared) error {
	seen := map[string]string{}
	for _, c := range all {
		if !c.bound.Auth.Rotates() || c.bound.Auth.RefreshToken.IsZero() {
			continue
		}
		token := c.bound.Auth.TokenURL + "\x00" + c.bound.Auth.RefreshToken.Reveal()
		if other, ok := seen[token]; ok {
			return cdc.Errorf(cdc.Halt, cdc.Process, "read connections", "Authorize each of them by itself, or make them one connection",
				"%s: connections %s and %s have the same rotating refresh token, and each refresh would revoke the other's", file, other, c.Name)
		}
		seen[token] = c.Name
	}
	return nil
}

// limits says what each account may do. Where its connections declare different limits the strictest holds: they are all
// statements about the same quota upstream.
func limits(all []declared) map[string]source.RateLimit {
	limits := map[string]source.RateLimit{}
	for _, c := range all {
		if have, ok := limits[c.Account]; ok {
			limits[c.Account] = strictest(have, c.bound.Rate)
		} else {
			limits[c.Account] = c.bound.Rate
		}
	}
	return limits
}

// limit gives the accounts' budgets the limits of what is declared now. A budget outlives the connections that share it (P22).
func (d *deployment) limit(all []declared) {
	for account, r := range limits(all) {
		d.budget(account, r).Limit(budgetOptions(r))
	}
}

// budget returns the budget of an account; one that nobody had yet begins with the limits of r.
func (d *deployment) budget(account string, r source.RateLimit) *fetch.Budget {
	if d.budgets[account] == nil {
		d.budgets[account] = newBudget(r)
	}
	return d.budgets[account]
}

func strictest(a, b source.RateLimit) source.RateLimit {
	if b.Budget > 0 && (a.Budget == 0 || b.Budget/b.Per.Seconds() < a.Budget/a.Per.Seconds()) {
		a.Budget, a.Per = b.Budget, b.Per
	}
	if b.MaxConcurrent > 0 && (a.MaxConcurrent == 0 || b.MaxConcurrent < a.MaxConcurrent) {
		a.MaxConcurrent = b.MaxConcurrent
	}
	a.RemainingHeader, a.ResetHeader = cmp.Or(a.RemainingHeader, b.RemainingHeader), cmp.Or(a.ResetHeader, b.ResetHeader)
	return a
}

// newBudget is a budget with the limits that a source declares.
func newBudget(r source.RateLimit) *fetch.Budget { return fetch.NewBudget(budgetOptions(r)) }

func budgetOptions(r source.RateLimit) fetch.BudgetOptions {
	return fetch.BudgetOptions{
		Budget: r.Budget, Per: r.Per, MaxConcurrent: r.MaxConcurrent, RemainingHeader: r.RemainingHeader, ResetHeader: r.ResetHeader,
	}
}

// fleet makes the connections of fresh, which are among all that are declared; those of one account share a budget (P22), all
// share the bytes of pages (10). Either all of them are made, or none.
func (d *deployment) fleet(all, fresh []declared, change func(*capture.Options)) (fleet []*capture.Connection, err error) {
	defer func() {
		if err != nil {
			disband(fleet)
			fleet = nil
		}
	}()
	rates := limits(all)
	for _, c := range fresh {
		o := capture.Options{
			Source: c.bound, Account: c.Account, Kafka: d.kafka, Schema: schemas.Get, Registry: d.registry, Shape: d.shape,
			SealKey: d.settings.sealKey(), Folder: d.folder, Config: c.fingerprint(d.settings), Records: d.settings.Records, Bytes: d.settings.Bytes,
			Fetch: fetch.Options{
				Budget: d.budget(c.Account, rates[c.Account]), Pages: d.pages, Proxy: c.Proxy, CAFile: c.CAFile, AllowHosts: c.AllowHosts,
				UserAgent: "tidemark/" + version,
			},
			Log: d.log,
		}
		if change != nil {
			change(&o)
		}
		connection, err := capture.New(o)
		if err != nil {
			return fleet, fmt.Errorf("connection %s: %w", c.Name, err)
		}
		fleet = append(fleet, connection)
	}
	return fleet, nil
}

// fingerprint identifies the connection's configuration (K10); secrets are not in it.
func (c declared) fingerprint(s *settings) string {
	parts := []string{c.Source, c.Account, s.Format, s.Shape, s.Prefix}
	for _, r := range c.bound.Requests {
		parts = append(parts, r.Name, r.RequestPrint, r.ListingPrint)
	}
	for _, st := range c.bound.Streams {
		parts = append(parts, st.Name, st.Schema, string(st.Avsc), st.KeyPrint, st.Rules.Fingerprint(), st.Topic.Name)
	}
	return fingerprint(parts...)
}

// disband closes a fleet after its supervisor has returned.
func disband(fleet []*capture.Connection) {
	for _, c := range fleet {
		c.Close()
	}
}
