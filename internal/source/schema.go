package source

import (
	"encoding/json"
	"slices"

	"go.yaml.in/yaml/v3"
)

// DefinitionSchema returns the JSON Schema (2020-12) of source definitions, with which editors complete and check. It is made of
// the parser's own tables. It accepts whatever the parser accepts; what only several keys together can get wrong is left to Parse.
func DefinitionSchema() []byte {
	g := schemaMaker{nullable: true, defs: map[string]any{}}
	g.table(definitionTable)
	top := g.defs[definitionTable.slug()].(map[string]any)
	// What is extended has the keys that are needed.
	top["if"] = map[string]any{"required": []string{"extends"}}
	top["else"] = map[string]any{"required": needed(definitionTable)}
	return g.document("Tidemark source definition", map[string]any{"$ref": "#/$defs/" + definitionTable.slug()})
}

// ConnectionsSchema returns the JSON Schema (2020-12) of connections.yaml.
func ConnectionsSchema() []byte {
	g := schemaMaker{strict: true, defs: map[string]any{}}
	return g.document("Tidemark connections", map[string]any{"type": "array", "items": g.form(inside(connectionTable))})
}

// schemaMaker writes tables as JSON Schema.
type schemaMaker struct {
	nullable bool // a null under any key removes what `defaults` or an extended definition says
	strict   bool // nothing is merged, so that a key that is needed must be there
	defs     map[string]any
}

func (g *schemaMaker) document(title string, root map[string]any) []byte {
	root["$schema"], root["title"], root["$defs"] = "https://json-schema.org/draft/2020-12/schema", title, g.defs
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of plain values
	}
	return append(out, '\n')
}

// table adds t to the definitions, and what lies in it.
func (g *schemaMaker) table(t *keyTable) {
	if g.defs[t.slug()] != nil {
		return
	}
	properties := map[string]any{}
	out := map[string]any{"type": "object", "description": t.doc, "additionalProperties": false, "properties": properties}
	g.defs[t.slug()] = out // before its keys: tables may lie in each other
	for i := range t.keys {
		k := &t.keys[i]
		properties[k.name] = g.property(k)
	}
	if g.strict {
		out["required"] = needed(t)
	}
	if rules := g.byType(t); rules != nil {
		out["allOf"] = rules
	}
}

// needed names the keys that a table cannot do without.
func needed(t *keyTable) []string {
	out := []string{}
	for i := range t.keys {
		if t.keys[i].need("") {
			out = append(out, t.keys[i].name)
		}
	}
	return out
}

// byType says which keys there are with each `type`.
func (g *schemaMaker) byType(t *keyTable) []any {
	if !slices.ContainsFunc(t.keys, func(k key) bool { return k.of != nil }) {
		return nil
	}
	var out []any
	for _, kind := range t.options("type") {
		var names []string
		for i := range t.keys {
			if t.keys[i].has(kind) {
				names = append(names, t.keys[i].name)
			}
		}
		out = append(out, map[string]any{
			"if":   map[string]any{"required": []string{"type"}, "properties": map[string]any{"type": map[string]any{"const": kind}}},
			"then": map[string]any{"propertyNames": map[string]any{"enum": names}},
		})
	}
	return out
}

func (g *schemaMaker) property(k *key) map[string]any {
	out := g.form(k.is)
	if g.nullable {
		out = map[string]any{"anyOf": []any{out, map[string]any{"type": "null"}}}
	}
	out["description"] = k.said()
	if k.absent != "" {
		var v any
		if err := yaml.Unmarshal([]byte(k.absent), &v); err != nil {
			panic(err) // it stands in this package
		}
		out["default"] = v
	}
	return out
}

// scalars are the types of what is no map and no list.
var scalars = map[formShape]any{
	textShape: "string", placeShape: "string", durationShape: "string", booleanShape: "boolean", integerShape: "integer", numberShape: "number",
	// In YAML a template or an expression may come out as a number or a truth value.
	templateShape: []string{"string", "number", "boolean"}, exprShape: []string{"string", "number", "boolean"},
}

func (g *schemaMaker) form(f form) map[string]any {
	switch f.shape {
	case anything:
		return map[string]any{}
	case choiceShape:
		return map[string]any{"enum": f.options}
	case eitherShape:
		var all []any
		for _, one := range f.of {
			all = append(all, g.form(one))
		}
		return map[string]any{"anyOf": all}
	case listShape:
		item := g.form(f.of[0])
		g.require(f.of[0], item)
		return map[string]any{"type": "array", "items": item}
	case mapShape:
		value := g.form(f.of[0])
		return map[string]any{"type": "object", "additionalProperties": map[string]any{"anyOf": []any{value, map[string]any{"type": "null"}}}}
	case tableShape:
		g.table(f.in)
		return map[string]any{"$ref": "#/$defs/" + f.in.slug()}
	}
	out := map[string]any{"type": scalars[f.shape]}
	switch f.shape {
	case durationShape:
		out["pattern"] = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$`
	case numberShape:
		out["exclusiveMinimum"] = 0
	case integerShape:
		out["minimum"] = 0
	}
	return out
}

// require asks for the keys that an element of a list cannot do without: lists are not merged.
func (g *schemaMaker) require(f form, item map[string]any) {
	if f.shape == eitherShape {
		for i, one := range f.of {
			g.require(one, item["anyOf"].([]any)[i].(map[string]any))
		}
	}
	if f.shape == tableShape {
		item["required"] = needed(f.in)
	}
}
