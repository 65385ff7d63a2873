package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// extraField is the field that takes what upstream sends beyond the schema, as the text of a JSON object. Its members are
// those that the record's type does not name; below a known field there is an object of the same name with what the
// nested type does not name, and below an array one by position: {"account":{"plan":"x"},"cadences":{"0":{"day":1}}}.
const extraField = "_extra"

// jsonProperty marks a string of the schema as holding a value's JSON text: {"type": "string", "tidemark": "json"}.
const jsonProperty = "tidemark"

// kind says how a node is written.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindString
	kindJSON
	kindEnum
	kindArray
	kindMap
	kindRecord
	kindNullable // a union of null and one other type
	kindUnion    // any other union
)

// node is one type of the schema, compiled. Recursive types point back, so a plan may be a graph.
type node struct {
	kind     kind
	name     string // Avro's name of the type; a union's branch goes by it, and messages do
	null     byte   // nullable: the byte on the wire before nothing
	some     byte   // nullable: the byte before a value
	patches  bool   // may leave something to _extra: a record without one of its own, a number, or what contains such
	item     *node  // array, map: of the elements; nullable: of the value
	fields   []field
	index    map[string]int32 // record: fields by name; without _extra, which is no name of upstream's
	extra    int32            // record: the index of _extra, or -1
	first    int32            // record: the field that came first in the last one
	branches []*node          // union
	of       [record.Object + 1]int8
	fraction int8             // union: the branch for numbers that no integer branch takes, or -1
	symbols  map[string]int32 // enum
}

// field is one field of a record. next is the field whose name followed this one's in the last record, which is where the
// search for the next name begins; it only costs time if it is wrong.
type field struct {
	name   string
	quoted string // the name as it stands in JSON
	node   *node
	next   int32
}

// compiler holds the named types met so far, by full name.
type compiler struct{ named map[string]*node }

// compile parses a schema into its plan. What it refuses halts the stream: a schema is configuration.
func compile(schema []byte) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(schema))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, refuse("it is not JSON: %w", err)
	}
	c := compiler{named: map[string]*node{}}
	root, err := c.build(tree, "")
	if err != nil {
		return nil, refuse("%w", err)
	}
	for mark(root, map[*node]bool{}) { // to the fixed point: types may be recursive
	}
	return root, nil
}

func refuse(format string, args ...any) error {
	return cdc.Errorf(cdc.Halt, cdc.Stream, "read Avro schema", "Mend the schema, or say `schema: json` in the source's definition", format, args...)
}

// mark sets patches from the leaves up and reports whether it set one.
func mark(n *node, seen map[*node]bool) bool {
	if seen[n] {
		return false
	}
	seen[n] = true
	changed, patches := false, n.kind == kindDouble || n.kind == kindFloat || n.kind == kindRecord && n.extra < 0
	visit := func(child *node) {
		changed = mark(child, seen) || changed
		// A record with an _extra of its own keeps to itself what is below it.
		patches = patches || child.patches && (n.kind != kindRecord || n.extra < 0)
	}
	if n.item != nil {
		visit(n.item)
	}
	for _, b := range n.branches {
		visit(b)
	}
	for i := range n.fields {
		visit(n.fields[i].node)
	}
	if patches && !n.patches {
		n.patches, changed = true, true
	}
	return changed
}

func (c *compiler) build(tree any, namespace string) (*node, error) {
	switch t := tree.(type) {
	case string:
		return c.reference(t, namespace)
	case []any:
		return c.union(t, namespace)
	case map[string]any:
		return c.typed(t, namespace)
	}
	return nil, fmt.Errorf("a type is a name, an object or a list, not %v", tree)
}

func primitive(name string) (kind, bool) {
	for k, known := range [...]string{
		kindNull: "null", kindBoolean: "boolean", kindInt: "int", kindLong: "long", kindFloat: "float", kindDouble: "double", kindString: "string",
	} {
		if name == known {
			return kind(k), true
		}
	}
	return 0, false
}

// reference resolves a type by its name: a primitive one, or one defined before.
func (c *compiler) reference(name, namespace string) (*node, error) {
	if k, ok := primitive(name); ok {
		return &node{kind: k, name: name, extra: -1}, nil
	}
	if n, ok := c.named[fullName(name, namespace)]; ok {
		return n, nil
	}
	if n, ok := c.named[name]; ok {
		return n, nil
	}
	if name == "bytes" || name == "fixed" {
		return nil, fmt.Errorf("type %s has no counterpart in JSON: use string", name)
	}
	return nil, fmt.Errorf("type %q is not defined", name)
}

func fullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

func (c *compiler) typed(t map[string]any, namespace string) (*node, error) {
	name, isName := t["type"].(string)
	if !isName {
		if t["type"] == nil {
			return nil, fmt.Errorf("a type has no \"type\": %v", t)
		}
		return c.build(t["type"], namespace)
	}
	switch name {
	case "record", "error":
		return c.record(t, namespace)
	case "enum":
		return c.enum(t, namespace)
	case "array":
		item, err := c.build(t["items"], namespace)
		return &node{kind: kindArray, name: name, item: item, extra: -1}, err
	case "map":
		item, err := c.build(t["values"], namespace)
		return &node{kind: kindMap, name: name, item: item, extra: -1}, err
	}
	// A logical type is written as the type below it (Avro 1.12: implementations must ignore what they do not know).
	n, err := c.reference(name, namespace)
	if err != nil {
		return nil, err
	}
	if mode, ok := t[jsonProperty]; ok {
		if mode != "json" || n.kind != kindString {
			return nil, fmt.Errorf("%q: %v on %s: only \"json\" on string is known", jsonProperty, mode, name)
		}
		n.kind = kindJSON
	}
	return n, nil
}

// define names the type n, so that what follows, and what is inside, can refer to it.
func (c *compiler) define(n *node, t map[string]any, namespace string) (string, error) {
	name, _ := t["name"].(string)
	if name == "" {
		return "", fmt.Errorf("a %v has no name", t["type"])
	}
	if own, ok := t["namespace"].(string); ok {
		namespace = own
	}
	n.name = fullName(name, namespace)
	if c.named[n.name] != nil {
		return "", fmt.Errorf("type %s is defined twice", n.name)
	}
	c.named[n.name] = n
	if dot := strings.LastIndexByte(n.name, '.'); dot >= 0 {
		return n.name[:dot], nil
	}
	return "", nil
}

func (c *compiler) record(t map[string]any, namespace string) (*node, error) {
	n := &node{kind: kindRecord, extra: -1, index: map[string]int32{}}
	namespace, err := c.define(n, t, namespace)
	if err != nil {
		return nil, err
	}
	fields, ok := t["fields"].([]any)
	if !ok {
		return nil, fmt.Errorf("record %s has no fields", n.name)
	}
	for i, each := range fields {
		f, _ := each.(map[string]any)
		name, _ := f["name"].(string)
		if name == "" {
			return nil, fmt.Errorf("field %d of %s has no name", i+1, n.name)
		}
		fn, err := c.build(f["type"], namespace)
		if err != nil {
			return nil, fmt.Errorf("field %s of %s: %w", name, n.name, err)
		}
		n.fields = append(n.fields, field{name: name, quoted: string(appendQuoted(nil, name)), node: fn, next: int32(i + 1)})
		if name != extraField {
			n.index[name] = int32(i)
			continue
		}
		if fn.kind != kindNullable || fn.item.kind != kindString && fn.item.kind != kindJSON {
			return nil, fmt.Errorf("field %s of %s must be [\"null\", \"string\"]", name, n.name)
		}
		n.extra = int32(i)
	}
	if len(n.fields) > 0 {
		n.fields[len(n.fields)-1].next = 0
	}
	return n, nil
}

func (c *compiler) enum(t map[string]any, namespace string) (*node, error) {
	n := &node{kind: kindEnum, extra: -1, symbols: map[string]int32{}}
	if _, err := c.define(n, t, namespace); err != nil {
		return nil, err
	}
	symbols, _ := t["symbols"].([]any)
	for i, s := range symbols {
		symbol, _ := s.(string)
		n.symbols[symbol] = int32(i)
	}
	if len(n.symbols) == 0 || len(n.symbols) != len(symbols) {
		return nil, fmt.Errorf("enum %s needs symbols that differ", n.name)
	}
	return n, nil
}

// union compiles a union. JSON does not say which branch it means, so each kind of value must fit at most one; numbers may
// have an integer branch and one for the rest.
func (c *compiler) union(list []any, namespace string) (*node, error) {
	n := &node{kind: kindUnion, name: "union", extra: -1, fraction: -1}
	for i := range n.of {
		n.of[i] = -1
	}
	if len(list) == 0 || len(list) > 64 { // the branch is written as one byte
		return nil, fmt.Errorf("a union has 1 to 64 branches, not %d", len(list))
	}
	names := make([]string, 0, len(list))
	for i, each := range list {
		b, err := c.build(each, namespace)
		if err != nil {
			return nil, err
		}
		if err := n.claim(b, int8(i)); err != nil {
			return nil, err
		}
		n.branches = append(n.branches, b)
		names = append(names, b.name)
	}
	n.name = strings.Join(names, " or ")
	if null := n.of[record.Null]; null >= 0 && len(list) == 2 {
		other := 1 - null
		return &node{kind: kindNullable, name: n.name, null: byte(null << 1), some: byte(other << 1), item: n.branches[other], extra: -1}, nil
	}
	return n, nil
}

// claim takes the kinds of JSON value that branch i stands for.
func (n *node) claim(b *node, i int8) error {
	var kinds []record.Kind
	switch b.kind {
	case kindNull:
		kinds = []record.Kind{record.Null}
	case kindBoolean:
		kinds = []record.Kind{record.False, record.True}
	case kindInt, kindLong:
		kinds = []record.Kind{record.Number}
	case kindString, kindEnum:
		kinds = []record.Kind{record.String}
	case kindArray:
		kinds = []record.Kind{record.Array}
	case kindMap, kindRecord:
		kinds = []record.Kind{record.Object}
	case kindJSON:
		kinds = []record.Kind{record.False, record.True, record.Number, record.String, record.Array, record.Object}
	case kindFloat, kindDouble:
		if n.fraction >= 0 {
			return fmt.Errorf("a union of two types for %s values: no telling which is meant", record.Number)
		}
		n.fraction = i
	default:
		return fmt.Errorf("a union directly inside a union")
	}
	for _, k := range kinds {
		if n.of[k] >= 0 {
			return fmt.Errorf("a union of two types for %s values: no telling which is meant", k)
		}
		n.of[k] = i
	}
	return nil
}
