package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"
)

// commands are the subcommands, in the order in which help shows them.
func commands() []command {
	return []command{
		{"demo", "[--for 30s]", "everything in one process: broker, registry, a simulated API, the connector; ends with a verdict", demo, ""},
		{"run", "[--adopt | --rebaseline]", "the connector; without KAFKA_BROKERS on the embedded broker", run, ""},
		{"check", "[--commands]", "everything that run needs, as a table; exit 1 with the fix", check, ""},
		{"tail", "CONNECTION/STREAM", "decoded events of a stream as NDJSON, read-committed", tail, ""},
		{"status", "[--address URL]", "connections, streams, cursors, rates, last pass", status, ""},
		{"reconcile", "CONNECTION/STREAM", "deletions: what is missing or withheld; list now, dry run, approve", reconcileCommand, ""},
		{"offsets", "list | rewind | reset", "stored positions: show them, set them back, forget them", offsetsCommand, ""},
		{"tokens", "status | replace", "grants that rotate: what is stored of them, and another one in its place", tokensCommand, ""},
		{"login", "CONNECTION | SOURCE", "get the first grant: a person agrees in the browser (OAuth, on loopback)", login, ""},
		{"sources", "list | show | check | probe | test | …", "source definitions: the catalog, and your own", sourcesCommand, ""},
		{"simulate", "NAME [--port N]", "a simulated API on a port, seeded, with faults: salesloft, crf-exchange, focus, givergy", simulate, ""},
		{"env", "", "every variable of the environment, with its default", printEnv, ""},
		{"version", "", "the version", printVersion, ""},
		{"help", "[COMMAND]", "this, or the flags of a command", help, ""},
	}
}

// welcome says what to type next.
func (p *program) welcome() {
	fmt.Fprint(p.out, `Tidemark polls cursor-based HTTP APIs and publishes every change to Kafka, exactly once.

  connector demo               see it work: no Kafka, no account, 30 seconds
  connector sources list       the APIs that it knows
  connector sources test FILE  try a definition of your own against its API
  connector check              is everything there that run needs?
  connector run                the connector
  connector help               all commands
`)
}

// help lists the commands, or shows the flags of one.
func help(ctx context.Context, p *program, args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] && c.name != "help" {
				return c.run(ctx, p, []string{"-h"})
			}
		}
		return fmt.Errorf("%w: there is no command %q%s", errUsage, args[0], nearest(args[0], names()))
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "usage: connector COMMAND")
	fmt.Fprintln(w)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s %s\t%s\n", c.name, c.args, c.does)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "Settings come from the environment (connector env) and from the file of connections (docs/connections.md).")
	return w.Flush()
}

func names() []string {
	var all []string
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

// nearest is a suggestion for a mistyped name, or nothing.
func nearest(word string, words []string) string {
	for _, w := range words {
		if len(word) > 1 && (len(w) >= len(word) && w[:len(word)] == word || swapped(word, w)) {
			return fmt.Sprintf(" (did you mean %q?)", w)
		}
	}
	return ""
}

// swapped reports whether a and b differ in one letter, one missing letter, or two neighbours.
func swapped(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < len(a)-i && j < len(b)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	x, y := len(a)-i-j, len(b)-i-j
	return x <= 1 && y <= 1 || x == 2 && y == 2 && a[i] == b[i+1] && a[i+1] == b[i]
}

// printEnv prints the variables of the environment.
func printEnv(_ context.Context, p *program, args []string) error {
	if _, err := parse(p.flags("env", ""), args, 0); err != nil {
		return err
	}
	variables, err := documented()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	for _, v := range variables {
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.name, v.fallback, v.doc)
	}
	return w.Flush()
}

// documentedVariable is one variable with its documentation.
type documentedVariable struct{ name, fallback, doc string }

// documented lists the variables from the tags of settings.
func documented() ([]documentedVariable, error) {
	fields, err := env.GetFieldParams(&settings{})
	if err != nil {
		return nil, err
	}
	var all []documentedVariable
	for i, f := range fields {
		all = append(all, documentedVariable{f.Key, f.DefaultValue, docOf(i)})
	}
	return all, nil
}

// printVersion prints the version.
func printVersion(_ context.Context, p *program, args []string) error {
	if _, err := parse(p.flags("version", ""), args, 0); err != nil {
		return err
	}
	fmt.Fprintln(p.out, "connector", version)
	return nil
}
