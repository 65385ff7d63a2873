package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"tidemark/internal/cdc"

	"github.com/linkedin/goavro/v2"
)

// Shape says what a value holds (VALUE_SHAPE).
type Shape uint8

// The shapes of a value.
const (
	Plain    Shape = iota // the record alone
	Envelope              // op, source and record, for consumers of Debezium's shape
)

// ParseShape reads a shape as the environment writes it: "plain" (or nothing) or "envelope". Anything else is an error.
func ParseShape(s string) (Shape, error) {
	switch s {
	case "", "plain":
		return Plain, nil
	case "envelope":
		return Envelope, nil
	}
	return Plain, fmt.Errorf("value shape %q is not known: plain or envelope", s)
}

// The content types of values, for the header content-type.
const (
	ContentJSON = "application/json"
	ContentAvro = "application/avro"
)

// Encoder makes the values of one stream. It reuses its memory and learns the order of names, so it is for one goroutine
// at a time.
type Encoder struct {
	shape  Shape
	avro   *avroEncoder // nil: JSON
	schema []byte       // Avro: the record's
	normal *Decoder     // Avro: made by Normal
}

// Option changes how an encoder works.
type Option func(*Encoder)

// WithShape sets the shape of the values; without it they are Plain.
func WithShape(s Shape) Option { return func(e *Encoder) { e.shape = s } }

// NewJSON returns an encoder to JSON. A value is the record's own text, in one line.
func NewJSON(options ...Option) *Encoder {
	e := &Encoder{}
	for _, o := range options {
		o(e)
	}
	return e
}

// NewAvro returns an encoder to Avro in registry framing: a zero byte, id big-endian in four, the binary. schema is the
// record's own, also for the envelope's shape; id is what [Registry.Register] returned for [Schema](schema, shape). A
// schema that cannot be used halts the stream: it is no record, has no _extra, or has a type without counterpart in JSON.
func NewAvro(schema []byte, id int, options ...Option) (*Encoder, error) {
	if id < 0 || id > math.MaxInt32 {
		return nil, refuse("schema id %d does not fit the framing", id)
	}
	e := NewJSON(options...)
	root, err := recordPlan(schema)
	if err != nil {
		return nil, err
	}
	e.schema = schema
	e.avro = &avroEncoder{root: root, header: binary.BigEndian.AppendUint32([]byte{0}, uint32(id))}
	return e, nil
}

// recordPlan compiles the schema of a stream's records.
func recordPlan(schema []byte) (*node, error) {
	root, err := compile(schema)
	if err != nil {
		return nil, err
	}
	if root.kind != kindRecord {
		return nil, refuse("it is a %s; values are records", root.name)
	}
	if root.extra < 0 { // (7): else what upstream adds tomorrow would be dropped, or every record be parked
		return nil, refuse("record %s has no field for what upstream sends beyond it: add "+
			`{"name": "_extra", "type": ["null", "string"], "default": null}`, root.name)
	}
	if _, err := goavro.NewCodec(string(schema)); err != nil { // what the plan does not need, consumers may
		return nil, refuse("%w", err)
	}
	return root, nil
}

// ContentType returns the content type of the values.
func (e *Encoder) ContentType() string {
	if e.avro == nil {
		return ContentJSON
	}
	return ContentAvro
}

// Append appends the value of a record to dst. value is the record's text as the scanner accepted it (it is not checked
// again). A record that does not fit the schema is to be parked (P19): the error names the field, what was wanted and
// what was there, and dst is returned as it came. It is for plain values; those with an envelope need AppendEvent.
func (e *Encoder) Append(dst, value []byte) ([]byte, error) {
	if e.shape == Envelope {
		return dst, cdc.Errorf(cdc.Halt, cdc.Stream, "encode", "This is a defect of the connector: report it", "an envelope needs an event")
	}
	return e.AppendEvent(dst, nil, value)
}

// AppendEvent is Append for either shape; ev is what the envelope says of the change, and may be nil for plain values.
func (e *Encoder) AppendEvent(dst []byte, ev *Event, value []byte) ([]byte, error) {
	start := len(dst)
	var err error
	switch {
	case e.avro == nil && e.shape == Plain:
		return appendLine(dst, value), nil
	case e.avro == nil:
		return append(appendLine(appendEnvelope(dst, ev), value), '}'), nil
	}
	dst = append(dst, e.avro.header...)
	if e.shape == Envelope {
		dst = e.avro.envelope(dst, ev)
	}
	if dst, err = e.avro.encode(dst, value); err != nil {
		return dst[:start], &cdc.Error{Op: "encode", Err: err, Remedy: cdc.Park, Scope: cdc.Record,
			Hint: "Mend the record upstream, or give the stream a schema with this type (`schema: json` takes everything): it comes by itself when it is read again"}
	}
	return dst, nil
}

// Normal appends value as consumers get it back: with JSON as it is, with Avro after a trip through the schema, which
// gives fields that were left out as null, members in the schema's order and floating numbers in their shortest form. Who
// compares records with events (the judge) compares in this form. It is slow.
func (e *Encoder) Normal(dst, value []byte) ([]byte, error) {
	if e.avro == nil {
		return appendLine(dst, value), nil
	}
	if e.normal == nil {
		d, err := NewDecoder(e.schema)
		if err != nil {
			return dst, err
		}
		e.normal = d
	}
	plain := Encoder{avro: e.avro}
	b, err := plain.Append(nil, value)
	if err != nil {
		return dst, err
	}
	return e.normal.Append(dst, b)
}

// TypeError is a value that does not fit the type of its field.
type TypeError struct {
	Field  string // its path from the record's root: account.id, cadences[2].id; "" for the record itself
	Wanted string // Avro's name of the type
	Got    string // what was there; no text of people's data
}

// Error implements error.
func (e *TypeError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("the record: wanted %s, got %s", e.Wanted, e.Got)
	}
	return fmt.Sprintf("field %s: wanted %s, got %s", e.Field, e.Wanted, e.Got)
}

// under puts a step before the path of a type error on its way up.
func under(parent string, err error) error {
	if t, ok := errors.AsType[*TypeError](err); ok {
		if t.Field != "" && t.Field[0] != '[' {
			parent += "."
		}
		t.Field = parent + t.Field
	}
	return err
}
