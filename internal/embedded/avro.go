package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
)

// avro is a parsed Avro schema: as much of it as schema resolution looks at (Avro 1.11, "Schema Resolution").
type avro struct {
	kind    string // a primitive's name, or record, enum, array, map, fixed, union
	name    string // full name of a named type
	aliases []string
	fields  []avroField // record
	symbols []string    // enum
	initial bool        // enum has a default
	size    int64       // fixed
	item    *avro       // array, map
	union   []*avro     // union
}

// avroField is a field of a record.
type avroField struct {
	name    string
	aliases []string
	typ     *avro
	initial bool // has a default
}

// short returns the name without its namespace; resolution compares that one.
func (a *avro) short() string { return a.name[strings.LastIndexByte(a.name, '.')+1:] }

// String names the type as messages do.
func (a *avro) String() string {
	switch {
	case a.name != "":
		return a.kind + " " + a.name
	case a.kind == "union":
		names := make([]string, len(a.union))
		for i, branch := range a.union {
			names[i] = branch.String()
		}
		return "[" + strings.Join(names, ", ") + "]"
	default:
		return a.kind
	}
}

var primitives = []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string"}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// avroDepth bounds the nesting of a schema.
const avroDepth = 256

// avroParser parses one schema; names holds the named types seen so far, those of references first.
type avroParser struct {
	names  map[string]*avro
	strict bool // defaults are checked, as for a new registration
	depth  int
}

// parseAvro parses text. References are the texts of the schemas that it refers to, parsed before it. With strict, defaults
// must fit their types.
func parseAvro(text string, references []string, strict bool) (*avro, error) {
	p := &avroParser{names: map[string]*avro{}}
	for _, reference := range references {
		if _, err := p.document(reference); err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
	}
	p.strict = strict
	return p.document(text)
}

func (p *avroParser) document(text string) (*avro, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	var raw json.RawMessage
	if err := decoder.Decode(&raw); err != nil {
		// A bare name is no JSON, but every parser of Avro schemas takes it.
		if name := strings.TrimSpace(text); identifier.MatchString(name) {
			return p.named(name, "")
		}
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the schema")
	}
	return p.parse(raw, "")
}

// parse parses one type inside namespace ns.
func (p *avroParser) parse(raw json.RawMessage, ns string) (*avro, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > avroDepth {
		return nil, errors.New("nested too deep")
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, errors.New("no type")
	}
	switch raw[0] {
	case '"':
		var name string
		if err := json.Unmarshal(raw, &name); err != nil {
			return nil, err
		}
		return p.named(name, ns)
	case '[':
		return p.parseUnion(raw, ns)
	case '{':
		return p.parseObject(raw, ns)
	default:
		return nil, fmt.Errorf("no type: %s", raw)
	}
}

// named resolves a name: a primitive, or a type defined before.
func (p *avroParser) named(name, ns string) (*avro, error) {
	if slices.Contains(primitives, name) {
		return &avro{kind: name}, nil
	}
	if found := p.names[fullName(name, ns)]; found != nil {
		return found, nil
	}
	if found := p.names[name]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("undefined name: %q", name)
}

func (p *avroParser) parseUnion(raw json.RawMessage, ns string) (*avro, error) {
	var branches []json.RawMessage
	if err := json.Unmarshal(raw, &branches); err != nil {
		return nil, err
	}
	u := &avro{kind: "union"}
	seen := map[string]bool{}
	for _, branch := range branches {
		typ, err := p.parse(branch, ns)
		if err != nil {
			return nil, err
		}
		id := typ.kind
		if typ.name != "" {
			id = typ.name
		}
		switch {
		case typ.kind == "union":
			return nil, errors.New("nested union")
		case seen[id]:
			return nil, fmt.Errorf("duplicate in union: %s", id)
		}
		seen[id] = true
		u.union = append(u.union, typ)
	}
	return u, nil
}

// avroObject is a type written as an object.
type avroObject struct {
	Type      json.RawMessage   `json:"type"`
	Name      string            `json:"name"`
	Namespace *string           `json:"namespace"`
	Aliases   []string          `json:"aliases"`
	Fields    []json.RawMessage `json:"fields"`
	Symbols   []string          `json:"symbols"`
	Default   json.RawMessage   `json:"default"`
	Size      *int64            `json:"size"`
	Items     json.RawMessage   `json:"items"`
	Values    json.RawMessage   `json:"values"`
}

func (p *avroParser) parseObject(raw json.RawMessage, ns string) (*avro, error) {
	var o avroObject
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	var kind string
	if err := json.Unmarshal(o.Type, &kind); err != nil {
		return p.parse(o.Type, ns) // {"type": {…}} and {"type": […]} are the type inside
	}
	a := &avro{kind: kind}
	var err error
	switch kind {
	case "record", "error", "enum", "fixed":
		if kind == "error" {
			a.kind = "record"
		}
		if ns, err = p.define(a, o, ns); err != nil {
			return nil, err
		}
		switch a.kind {
		case "record":
			err = p.fields(a, o, ns)
		case "enum":
			err = a.enumerate(o)
		default:
			if o.Size == nil || *o.Size < 0 {
				return nil, fmt.Errorf("%s: no size", a)
			}
			a.size = *o.Size
		}
		return a, err
	case "array":
		a.item, err = p.parse(o.Items, ns)
		return a, err
	case "map":
		a.item, err = p.parse(o.Values, ns)
		return a, err
	default:
		return p.named(kind, ns)
	}
}

// define gives a its name and makes it known; it returns the namespace that holds inside it.
func (p *avroParser) define(a *avro, o avroObject, ns string) (string, error) {
	if o.Namespace != nil && !strings.Contains(o.Name, ".") {
		ns = *o.Namespace
	}
	a.name = fullName(o.Name, ns)
	for part := range strings.SplitSeq(a.name, ".") {
		if !identifier.MatchString(part) {
			return "", fmt.Errorf("invalid name: %q", a.name)
		}
	}
	if slices.Contains(primitives, a.name) {
		return "", fmt.Errorf("a primitive's name cannot be defined: %q", a.name)
	}
	if p.names[a.name] != nil {
		return "", fmt.Errorf("can't redefine: %s", a.name)
	}
	p.names[a.name] = a
	ns = strings.TrimSuffix(strings.TrimSuffix(a.name, a.short()), ".")
	for _, alias := range o.Aliases {
		a.aliases = append(a.aliases, fullName(alias, ns))
	}
	return ns, nil
}

// fields parses the fields of a record whose name is already known, so that it may contain itself.
func (p *avroParser) fields(a *avro, o avroObject, ns string) error {
	if o.Fields == nil {
		return fmt.Errorf("%s: no fields", a)
	}
	seen := map[string]bool{}
	for _, raw := range o.Fields {
		var f struct {
			Name    string          `json:"name"`
			Type    json.RawMessage `json:"type"`
			Aliases []string        `json:"aliases"`
		}
		// "default": null is a default; only the member's presence tells it from none.
		var members map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(raw, &f), json.Unmarshal(raw, &members)); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		value, initial := members["default"]
		if !identifier.MatchString(f.Name) {
			return fmt.Errorf("%s: invalid field name: %q", a, f.Name)
		}
		if seen[f.Name] {
			return fmt.Errorf("%s: duplicate field %s", a, f.Name)
		}
		seen[f.Name] = true
		typ, err := p.parse(f.Type, ns)
		if err != nil {
			return fmt.Errorf("%s field %s: %w", a, f.Name, err)
		}
		if p.strict && initial && !validDefault(typ, value, 0) {
			return fmt.Errorf("%s: invalid default for field %s: %s is not a %s", a, f.Name, value, typ)
		}
		a.fields = append(a.fields, avroField{name: f.Name, aliases: f.Aliases, typ: typ, initial: initial})
	}
	return nil
}

func (a *avro) enumerate(o avroObject) error {
	if o.Symbols == nil {
		return fmt.Errorf("%s: no symbols", a)
	}
	for i, symbol := range o.Symbols {
		if !identifier.MatchString(symbol) {
			return fmt.Errorf("%s: invalid symbol: %q", a, symbol)
		}
		if slices.Contains(o.Symbols[:i], symbol) {
			return fmt.Errorf("%s: duplicate symbol: %s", a, symbol)
		}
	}
	a.symbols = o.Symbols
	if o.Default != nil {
		var symbol string
		if json.Unmarshal(o.Default, &symbol) != nil || !slices.Contains(o.Symbols, symbol) {
			return fmt.Errorf("%s: default %s is no symbol", a, o.Default)
		}
		a.initial = true
	}
	return nil
}

// validDefault reports whether value can be the default of a field of type a. For a union it must fit the first branch
// (Avro 1.11, "Complex Types, Records").
func validDefault(a *avro, value json.RawMessage, depth int) bool {
	if depth > avroDepth {
		return false
	}
	var decoded any
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	if decoder.Decode(&decoded) != nil {
		return false
	}
	switch a.kind {
	case "null":
		return decoded == nil
	case "boolean":
		_, ok := decoded.(bool)
		return ok
	case "int", "long":
		number, ok := decoded.(json.Number)
		n, err := number.Int64()
		return ok && err == nil && (a.kind == "long" || n >= math.MinInt32 && n <= math.MaxInt32)
	case "float", "double":
		_, ok := decoded.(json.Number)
		return ok
	case "string":
		_, ok := decoded.(string)
		return ok
	case "bytes", "fixed":
		text, ok := decoded.(string)
		beyond := func(r rune) bool { return r > 0xff }
		return ok && !strings.ContainsFunc(text, beyond) && (a.kind == "bytes" || int64(len([]rune(text))) == a.size)
	case "enum":
		symbol, ok := decoded.(string)
		return ok && slices.Contains(a.symbols, symbol)
	case "union":
		return len(a.union) > 0 && validDefault(a.union[0], value, depth+1)
	default:
		return validContainer(a, value, depth)
	}
}

// validContainer is validDefault for arrays, maps and records.
func validContainer(a *avro, value json.RawMessage, depth int) bool {
	if a.kind == "array" {
		var items []json.RawMessage
		if bytes.HasPrefix(value, []byte("null")) || json.Unmarshal(value, &items) != nil {
			return false
		}
		return !slices.ContainsFunc(items, func(item json.RawMessage) bool { return !validDefault(a.item, item, depth+1) })
	}
	var members map[string]json.RawMessage
	if bytes.HasPrefix(value, []byte("null")) || json.Unmarshal(value, &members) != nil {
		return false
	}
	if a.kind == "map" {
		for _, member := range members {
			if !validDefault(a.item, member, depth+1) {
				return false
			}
		}
		return true
	}
	for _, field := range a.fields {
		member, ok := members[field.name]
		if !ok && !field.initial || ok && !validDefault(field.typ, member, depth+1) {
			return false
		}
	}
	return true
}

// fullName returns name inside namespace ns; a name with a dot is full already.
func fullName(name, ns string) string {
	if ns == "" || strings.Contains(name, ".") {
		return name
	}
	return ns + "." + name
}
