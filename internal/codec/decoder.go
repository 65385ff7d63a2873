package codec

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"tidemark/internal/record"

	"github.com/linkedin/goavro/v2"
)

// SchemaID returns the schema id of a value in registry framing; false where the value has none.
func SchemaID(value []byte) (id int, ok bool) {
	if len(value) < 5 || value[0] != 0 {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(value[1:])), true
}

// Decoder turns values of one schema back into JSON text. It shares with the encoder only the plan that says what is JSON
// text and what is a branch: the binary is read by goavro. It is for one goroutine at a time.
type Decoder struct {
	root *node
	avro *goavro.Codec
	text []byte // the _extra texts of the records that the walk is in
}

// NewDecoder returns a decoder for values that were written with this schema, as registered. A schema that this package
// would not write is an error.
func NewDecoder(schema []byte) (*Decoder, error) {
	root, err := compile(schema)
	if err != nil {
		return nil, err
	}
	// goavro would turn timestamps and decimals into Go's types, whose text is not what was encoded.
	var tree any
	if err := json.Unmarshal(schema, &tree); err != nil {
		return nil, refuse("%w", err)
	}
	plain, err := json.Marshal(withoutLogicalTypes(tree))
	if err != nil {
		return nil, refuse("%w", err)
	}
	avro, err := goavro.NewCodec(string(plain))
	if err != nil {
		return nil, refuse("%w", err)
	}
	return &Decoder{root: root, avro: avro}, nil
}

func withoutLogicalTypes(tree any) any {
	switch t := tree.(type) {
	case map[string]any:
		delete(t, "logicalType")
		for k := range t {
			t[k] = withoutLogicalTypes(t[k])
		}
	case []any:
		for i := range t {
			t[i] = withoutLogicalTypes(t[i])
		}
	}
	return tree
}

// Append appends the JSON text of a framed value to dst. Members stand in the schema's order, then what _extra held, each
// where it came from; what the record left out and the schema has is null. An error leaves dst as it came.
func (d *Decoder) Append(dst, value []byte) ([]byte, error) {
	id, ok := SchemaID(value)
	if !ok {
		return dst, fmt.Errorf("decode value: no registry framing in %d bytes", len(value))
	}
	native, rest, err := d.avro.NativeFromBinary(value[5:])
	if err != nil {
		return dst, fmt.Errorf("decode value of schema %d: %w", id, err)
	}
	if len(rest) > 0 {
		return dst, fmt.Errorf("decode value of schema %d: %d bytes too many", id, len(rest))
	}
	d.text = d.text[:0]
	out, err := d.append(dst, d.root, native, record.Span{})
	if err != nil {
		return dst, fmt.Errorf("decode value of schema %d: %w", id, err)
	}
	return out, nil
}

// append appends native as type n; patch is what _extra says of this place, in d.text.
func (d *Decoder) append(dst []byte, n *node, native any, patch record.Span) ([]byte, error) {
	if n.kind == kindNullable || n.kind == kindUnion {
		return d.union(dst, n, native, patch)
	}
	switch v := native.(type) {
	case nil:
		return append(dst, "null"...), nil
	case map[string]any:
		if n.kind == kindRecord {
			return d.record(dst, n, v, patch)
		}
		return d.members(dst, n, v, patch)
	case []any:
		return d.array(dst, n, v, patch)
	}
	if !patch.IsZero() { // the number as it was, before it was rounded
		return append(dst, patch.Of(d.text)...), nil
	}
	return scalar(dst, n, native)
}

func scalar(dst []byte, n *node, native any) ([]byte, error) {
	var ok bool
	switch v := native.(type) {
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float32:
		dst, ok = appendFloat(dst, float64(v), 32)
	case float64:
		dst, ok = appendFloat(dst, v, 64)
	case string:
		if n.kind != kindJSON {
			return appendQuoted(dst, v), nil
		}
		if !json.Valid([]byte(v)) {
			return dst, fmt.Errorf("a field of JSON text holds something else")
		}
		return append(dst, v...), nil
	}
	if !ok {
		return dst, fmt.Errorf("%v is nothing that JSON can say", native)
	}
	return dst, nil
}

func (d *Decoder) union(dst []byte, n *node, native any, patch record.Span) ([]byte, error) {
	if native == nil {
		return append(dst, "null"...), nil
	}
	branch, _ := native.(map[string]any) // one member: the branch's name
	for name, v := range branch {
		if n.kind == kindNullable {
			return d.append(dst, n.item, v, patch)
		}
		for _, b := range n.branches {
			if b.name == name {
				return d.append(dst, b, v, patch)
			}
		}
	}
	return dst, fmt.Errorf("a union holds %v, which is none of its branches", native)
}

func (d *Decoder) record(dst []byte, n *node, native map[string]any, patch record.Span) ([]byte, error) {
	outer := len(d.text)
	if n.extra >= 0 {
		var err error
		if patch, err = d.extra(n, native); err != nil {
			return dst, err
		}
	}
	dst = append(dst, '{')
	first := true
	for i := range n.fields {
		f := &n.fields[i]
		if int32(i) == n.extra {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, f.quoted...), ':')
		var err error
		if dst, err = d.append(dst, f.node, native[f.name], d.below(patch, f.name)); err != nil {
			return dst, under(f.name, err)
		}
	}
	for name, value := range record.Members(d.text, patch) {
		content, _ := record.Text(nil, d.text, name)
		if _, known := n.index[string(content)]; known {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, name.Of(d.text)...), ':')
		dst = append(dst, value.Of(d.text)...)
	}
	d.text = d.text[:outer]
	return append(dst, '}'), nil
}

// extra puts the text of a record's _extra on d.text and returns where it is; nothing where it is null.
func (d *Decoder) extra(n *node, native map[string]any) (record.Span, error) {
	branch, _ := native[extraField].(map[string]any)
	for _, v := range branch {
		text, _ := v.(string)
		if !json.Valid([]byte(text)) {
			return record.Span{}, fmt.Errorf("%s of %s holds no JSON", extraField, n.name)
		}
		start := len(d.text)
		d.text = append(d.text, text...)
		return record.Span{Off: int32(start), End: int32(len(d.text))}, nil
	}
	return record.Span{}, nil
}

// below returns what a patch says of the place with this name.
func (d *Decoder) below(patch record.Span, name string) record.Span {
	if patch.IsZero() {
		return patch
	}
	for quoted, value := range record.Members(d.text, patch) {
		content, _ := record.Text(nil, d.text, quoted)
		if string(content) == name {
			return value
		}
	}
	return record.Span{}
}

func (d *Decoder) array(dst []byte, n *node, native []any, patch record.Span) ([]byte, error) {
	dst = append(dst, '[')
	for i, v := range native {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = d.append(dst, n.item, v, d.below(patch, strconv.Itoa(i))); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// members appends a map, sorted by name: goavro does not keep the order.
func (d *Decoder) members(dst []byte, n *node, native map[string]any, patch record.Span) ([]byte, error) {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(native)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, name), ':')
		var err error
		if dst, err = d.append(dst, n.item, native[name], d.below(patch, name)); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
