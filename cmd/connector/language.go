package main

import (
	"context"
	"fmt"

	"tidemark/internal/source"
)

// sourcesJSONSchema prints the JSON Schema of the language, or of connections.yaml, for editors.
func sourcesJSONSchema(_ context.Context, p *program, args []string) error {
	rest, err := parse(p.flags("sources json-schema", "[connections]"), args, 1)
	if err != nil {
		return err
	}
	text := source.DefinitionSchema()
	switch {
	case len(rest) == 0 || rest[0] == "definition":
	case rest[0] == "connections":
		text = source.ConnectionsSchema()
	default:
		return fmt.Errorf("%w: there is a schema for definition (the default) and one for connections, none for %q%s", errUsage, rest[0],
			nearest(rest[0], []string{"definition", "connections"}))
	}
	_, err = p.out.Write(text)
	return err
}

// sourcesReference prints every key of the language; docs/reference.md is this.
func sourcesReference(_ context.Context, p *program, args []string) error {
	if _, err := parse(p.flags("sources reference", ""), args, 0); err != nil {
		return err
	}
	_, err := p.out.Write(source.Reference())
	return err
}
