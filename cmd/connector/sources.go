package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"tidemark/internal/codec"
	"tidemark/internal/source"
	"tidemark/schemas"
)

// sourcesCommand shows and tries source definitions.
func sourcesCommand(ctx context.Context, p *program, args []string) error {
	return p.verb(ctx, "sources", args, []command{
		{name: "list", does: "the shipped definitions: streams, authentication, settings", run: sourcesList},
		{name: "show", args: "NAME", does: "the YAML of a shipped definition", run: sourcesShow},
		{name: "check", args: "FILE...", does: "check definitions without asking anybody", run: sourcesCheck},
		{name: "test", args: "NAME_OR_FILE --config k=v ...", does: "read pages of the API twice, and show what would be published", run: sourcesTest},
		{name: "probe", args: "NAME_OR_FILE --config k=v ...", does: "ask the API what its documentation leaves out; the answers as YAML", run: sourcesProbe},
		{name: "schema", args: "NAME_OR_FILE --stream S --config k=v ...", does: "an Avro schema that fits the records of some pages", run: sourcesSchema},
		{name: "json-schema", args: "[connections]", does: "a JSON Schema of definitions, or of connections.yaml: editors complete and check", run: sourcesJSONSchema},
		{name: "reference", does: "every key of definitions and of connections.yaml, every function, as Markdown", run: sourcesReference},
	})
}

// verb runs the subcommand of a command.
func (p *program) verb(ctx context.Context, name string, args []string, verbs []command) error {
	var words []string
	for _, v := range verbs {
		if len(args) > 0 && args[0] == v.name {
			return v.run(ctx, p, args[1:])
		}
		words = append(words, v.name)
	}
	if len(args) > 0 && !slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
		return fmt.Errorf("%w: %s has no %q%s: it has %s", errUsage, name, args[0], nearest(args[0], words), strings.Join(words, ", "))
	}
	rows := [][]string{}
	for _, v := range verbs {
		rows = append(rows, []string{"  " + strings.TrimSpace("connector "+name+" "+v.name+" "+v.args), v.does})
	}
	fmt.Fprintln(p.err, "usage:")
	aligned(p.err, rows)
	if len(args) > 0 {
		return flag.ErrHelp
	}
	return fmt.Errorf("%w: %s what? %s", errUsage, name, strings.Join(words, ", "))
}

// sourcesList prints the catalog.
func sourcesList(_ context.Context, p *program, args []string) error {
	if _, err := parse(p.flags("sources list", ""), args, 0); err != nil {
		return err
	}
	rows := [][]string{{"SOURCE", "AUTHENTICATION", "CONFIG", "STREAMS"}}
	for _, name := range source.Catalog() {
		d, err := source.Open(name)
		if err != nil {
			return err
		}
		rows = append(rows, []string{name, d.Authentication(), needs(d), strings.Join(d.StreamNames(), " ")})
	}
	aligned(p.out, rows)
	fmt.Fprintln(p.out, "\n[…] is optional, * a secret. connector sources show NAME prints the definition: a file of your own begins as a copy of one.")
	return nil
}

// placeholders fills every setting of a definition with something of its type, so that what does not depend on the values can
// be seen.
func placeholders(d *source.Definition) map[string]any {
	config := map[string]any{}
	for _, s := range d.Settings() {
		switch {
		case s.Default != nil:
		case len(s.Choices) > 0:
			config[s.Name] = s.Choices[0]
		case s.Type == "integer", s.Type == "number":
			config[s.Name] = int64(1)
		case s.Type == "boolean":
			config[s.Name] = true
		case s.Type == "list":
			config[s.Name] = []any{"x"}
		case strings.Contains(s.Name, "date") || strings.Contains(s.Name, "start"):
			config[s.Name] = "2024-01-31"
		default:
			config[s.Name] = "https://example.invalid" // serves as a text and as an address
		}
	}
	return config
}

// authOf says how a source proves who asks.
func authOf(src *source.Source) string {
	if src.Auth.GrantType != "" {
		return string(src.Auth.Kind) + " " + src.Auth.GrantType
	}
	return string(src.Auth.Kind)
}

// needs lists the settings of a definition.
func needs(d *source.Definition) string {
	var words []string
	for _, s := range d.Settings() {
		word := s.Name
		if s.Secret {
			word += "*"
		}
		if len(s.Choices) > 0 {
			word += "=" + strings.Join(s.Choices, "|")
		}
		if s.Optional || s.Default != nil {
			word = "[" + word + "]"
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}

// sourcesShow prints a shipped definition.
func sourcesShow(_ context.Context, p *program, args []string) error {
	rest, err := parse(p.flags("sources show", "NAME"), args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: which one? %s", errUsage, strings.Join(source.Catalog(), ", "))
	}
	text, err := source.CatalogFile(rest[0])
	if err != nil {
		return err
	}
	_, err = p.out.Write(text)
	return err
}

// sourcesCheck checks definitions as far as that goes without an API, and says everything that is wrong with them.
func sourcesCheck(_ context.Context, p *program, args []string) error {
	files, err := parse(p.flags("sources check", "FILE..."), args, 1000)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%w: which file? (connector sources check FILE...)", errUsage)
	}
	wrong := 0
	for _, file := range files {
		d, err := source.Open(file)
		if err == nil {
			err = schemasOf(d)
		}
		if err != nil {
			wrong++
			fmt.Fprintln(p.out, problems(err))
			continue
		}
		fmt.Fprintf(p.out, "%s: ok: source %s, streams %s; config %s\n", file, d.Name, strings.Join(d.StreamNames(), " "), needs(d))
		if src, err := d.Bind("example", placeholders(d), source.Overrides{}); err == nil {
			for _, w := range src.Warnings {
				fmt.Fprintf(p.out, "%s: warning: %s\n", file, w)
			}
		}
	}
	if wrong > 0 {
		fmt.Fprintf(p.out, "%d of %d cannot be used\n", wrong, len(files))
		return errVerdict
	}
	return nil
}

// problems is everything that err says, each problem of a definition on a line of its own with its place.
func problems(err error) string {
	var list source.Problems
	if errors.As(err, &list) {
		return list.Error()
	}
	return err.Error()
}

// schemasOf checks that the Avro schemas which a definition names are there and can be used.
func schemasOf(d *source.Definition) error {
	src, err := d.Bind("example", placeholders(d), source.Overrides{})
	if err != nil {
		return nil //nolint:nilerr // a matter of the values, which only a connection has
	}
	var errs []error
	for _, st := range src.Streams {
		if _, err := plainEncoder(st); err != nil {
			errs = append(errs, fmt.Errorf("%s: stream %s: %w", d.File, st.Name, err))
		}
	}
	return errors.Join(errs...)
}

// plainEncoder makes a stream's encoder without a registry: it shows what fits the schema, and its values go nowhere.
func plainEncoder(st *source.Stream) (*codec.Encoder, error) {
	if st.Schema == "json" {
		return codec.NewJSON(), nil
	}
	text, err := st.Avro(schemas.Get)
	if err != nil {
		return nil, err
	}
	return codec.NewAvro(text, 0)
}
