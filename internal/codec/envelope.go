package codec

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Schema returns the text to register for records of this schema in this shape: the schema itself without white space, or
// the envelope's around it. A schema that cannot be used is an error as with NewAvro.
func Schema(schema []byte, shape Shape) ([]byte, error) {
	root, err := recordPlan(schema)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, schema); err != nil {
		return nil, refuse("it is not JSON: %w", err)
	}
	if shape == Plain {
		return compact.Bytes(), nil
	}
	name, namespace := root.name, ""
	if dot := bytes.LastIndexByte([]byte(name), '.'); dot >= 0 {
		name, namespace = name[dot+1:], name[:dot]
	}
	return json.Marshal(envelopeSchema{
		Type: "record", Name: name + "Envelope", Namespace: namespace, Doc: "A change of a " + name + ".",
		Fields: []envelopeField{
			{"op", "c created, u updated, r first read", json.RawMessage(`"string"`)},
			{"source", "Where the change comes from", json.RawMessage(sourceSchema)},
			{"record", "The record after the change", compact.Bytes()},
		},
	})
}

// envelopeSchema is put around a record's schema; the names are those of the JSON envelope.
type envelopeSchema struct {
	Type      string          `json:"type"`
	Name      string          `json:"name"`
	Namespace string          `json:"namespace,omitempty"`
	Doc       string          `json:"doc"`
	Fields    []envelopeField `json:"fields"`
}

type envelopeField struct {
	Name string          `json:"name"`
	Doc  string          `json:"doc"`
	Type json.RawMessage `json:"type"`
}

const sourceSchema = `{"type":"record","name":"Source","namespace":"tidemark","doc":"Where a change comes from.","fields":[` +
	`{"name":"connection","type":"string"},{"name":"stream","type":"string"},` +
	`{"name":"id","type":"string","doc":"ce_id"},{"name":"time","type":["null","string"],"default":null,"doc":"ce_time"},` +
	`{"name":"cursor","type":["null","string"],"default":null,"doc":"ce_cursor"},` +
	`{"name":"reason","type":["null","string"],"default":null,"doc":"ce_reason"}]}`

// appendEnvelope appends the JSON envelope up to its record; AppendEvent closes it.
func appendEnvelope(dst []byte, ev *Event) []byte {
	dst = appendQuoted(append(dst, `{"op":`...), string(ev.Op))
	dst = appendQuoted(append(dst, `,"source":{"connection":`...), ev.Origin.connection)
	dst = appendQuoted(append(dst, `,"stream":`...), ev.Origin.stream)
	dst = append(ev.appendID(append(dst, `,"id":"`...)), '"')
	dst = append(dst, `,"time":`...)
	if start := len(dst); len(appendTime(dst, ev.Time)) > start {
		dst = append(appendTime(append(dst, '"'), ev.Time), '"')
	} else {
		dst = append(dst, "null"...)
	}
	dst = appendOptional(append(dst, `,"cursor":`...), ev.Cursor)
	dst = appendOptional(append(dst, `,"reason":`...), string(ev.Reason))
	return append(dst, `},"record":`...)
}

func appendOptional[T string | []byte](dst []byte, s T) []byte {
	if len(s) == 0 {
		return append(dst, "null"...)
	}
	return appendQuoted(dst, s)
}

// envelope appends the fields of the Avro envelope that stand before its record.
func (e *avroEncoder) envelope(dst []byte, ev *Event) []byte {
	dst = appendString(dst, string(ev.Op))
	dst = appendString(dst, ev.Origin.connection)
	dst = appendString(dst, ev.Origin.stream)
	e.text = ev.appendID(e.text[:0])
	dst = appendString(dst, e.text)
	e.text = appendTime(e.text[:0], ev.Time)
	dst = appendNullable(dst, e.text)
	if utf8.Valid(ev.Cursor) {
		dst = appendNullable(dst, ev.Cursor)
	} else {
		dst = appendNullable(dst, bytes.ToValidUTF8(ev.Cursor, []byte("\uFFFD")))
	}
	return appendNullable(dst, string(ev.Reason))
}

func appendNullable[T string | []byte](dst []byte, s T) []byte {
	if len(s) == 0 {
		return append(dst, 0)
	}
	return appendString(append(dst, 2), s)
}
