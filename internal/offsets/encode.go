package offsets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"tidemark/internal/cdc"
)

// The limits of K5, in bytes.
const (
	MaxKey        = 4 << 10   // a record's key
	MaxCursor     = 16 << 10  // cursor, anchor or start of a checkpoint
	MaxCheckpoint = 64 << 10  // a checkpoint as JSON; a piece of recent ids too
	MaxValue      = 256 << 10 // any other value
	MaxReason     = 1 << 10   // the reason of a parked record, or of a file that is not to be had
	MaxFileRecord = 32 << 10  // the record that is kept to try its file again
)

// CheckKey checks a record's logical key: plain UTF-8 of 1 to MaxKey bytes (K4, K5). A record whose key fails is parked.
func CheckKey(key []byte) error {
	const hint = "Choose a primary_key that is shorter text, or primary_key: content"
	switch {
	case len(key) == 0:
		return cdc.Errorf(cdc.Park, cdc.Record, "check key", hint, "the key is empty")
	case len(key) > MaxKey: // K5
		return cdc.Errorf(cdc.Park, cdc.Record, "check key", hint, "the key has %d bytes, the limit is %d", len(key), MaxKey)
	case !utf8.Valid(key):
		return cdc.Errorf(cdc.Park, cdc.Record, "check key", hint, "the key is not UTF-8: %.40q", key)
	}
	return nil
}

// CheckCursor checks a cursor, an anchor or a start: at most MaxCursor bytes of UTF-8 (K5). A stream whose cursor fails
// halts before a transaction is opened. Encode checks those of a checkpoint.
func CheckCursor(cursor string) error {
	switch {
	case len(cursor) > MaxCursor:
		return tooLarge("the cursor", len(cursor), MaxCursor)
	case !utf8.ValidString(cursor):
		// JSON would put U+FFFD in place of the bytes, and the server would be sent another cursor than it gave (7).
		return cdc.Errorf(cdc.Halt, cdc.Stream, "encode state",
			"The server's cursor cannot be stored as it is: look at the definition's cursor_field, next or paginator",
			"the cursor is not UTF-8: %.60q", cursor)
	}
	return nil
}

func tooLarge(what string, n, limit int) error {
	return cdc.Errorf(cdc.Halt, cdc.Stream, "encode state",
		"Nothing was published past the last checkpoint. Change the definition (another cursor, fewer parent fields, a shorter "+
			"lookback); the limit protects the offsets topic and is not a setting",
		"%s has %d bytes, the limit is %d", what, n, limit)
}

// Encode returns v as the offsets topic holds it: JSON with "v" first. What goes over a limit of K5, or could not be read
// back, is an error that halts the stream.
func Encode[T Value](v T) ([]byte, error) {
	limit, format := MaxValue, 1
	texts := []string(nil) // of the server; the others are ours
	needs := func(f int, yes bool) {
		if yes {
			format = max(format, f)
		}
	}
	switch x := any(&v).(type) {
	case *cdc.Checkpoint:
		limit, texts = MaxCheckpoint, []string{x.Cursor, x.Anchor, x.Start, x.Validator}
		needs(2, x.Reconciled != nil || x.Deleted != nil || x.Validator != "")
		needs(3, x.Reconciled != nil && len(x.Reconciled.Shown) > 0)
		if w := x.Witness; w != nil {
			needs(3, true)
			texts = append(texts, w.Key, w.Cursor)
		}
	case *cdc.Window:
		texts = append([]string{x.Last, x.Token}, x.Missing...)
		needs(4, true)
	case *Stream:
		needs(2, x.Approved != nil)
	case *Candidate:
		needs(2, !x.Seen.IsZero() || x.Generation != 0)
	case *Command:
		needs(2, true)
	case *File:
		needs(2, true)
		x.Error = clip(strings.ToValidUTF8(x.Error, "�"), MaxReason)
	case *Recent:
		limit, texts = MaxCheckpoint, append(texts, x.IDs...)
		x.IDs = append([]string{}, x.IDs...) // [] and not null, which Decode refuses
	case *Parked:
		x.Reason = clip(strings.ToValidUTF8(x.Reason, "�"), MaxReason)
		texts = []string{x.Cursor}
	}
	for _, t := range texts {
		if err := CheckCursor(t); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // cursors are URLs at times, and people read them with kcat
	if err := enc.Encode(v); err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "encode state", "Report this: it is a defect of the connector, or a time "+
			"outside the years 0 to 9999 in what the server sent", "%T: %w", v, err)
	}
	out := splice(format, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if len(out) > limit {
		return nil, tooLarge(fmt.Sprintf("the record (%T)", v), len(out), limit)
	}
	return out, nil
}

// splice puts the format in front of the members of a JSON object.
func splice(format int, object []byte) []byte {
	out := strconv.AppendInt([]byte(`{"v":`), int64(format), 10)
	if len(object) > len("{}") {
		out = append(out, ',')
	}
	return append(out, object[1:]...)
}

// Decode reads a value of the offsets topic. A newer format is refused (K12), and so is everything that this version does
// not write: unknown, repeated or misspelt fields, values of another type, trailing bytes. Either halts the connection.
func Decode[T Value](data []byte) (T, error) {
	var v T
	return decode[T](data, fmt.Sprintf("%T", v))
}

// decode is Decode for any T; where names the record in errors.
func decode[T any](data []byte, where string) (T, error) {
	var v, zero T
	format, members, names, err := open(data)
	switch {
	case err != nil:
		return zero, damaged(where, err)
	case format > Format: // K12, before anything else: of a newer format we know nothing
		return zero, newer(where, fmt.Errorf("format %d, this version knows up to %d", format, Format))
	case format < 1:
		return zero, damaged(where, fmt.Errorf("format %d", format))
	}
	dec := json.NewDecoder(bytes.NewReader(members))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return zero, damaged(where, err)
	}
	if name := absent(reflect.TypeOf(v), names); name != "" {
		return zero, damaged(where, fmt.Errorf("field %q is missing", name))
	}
	return v, nil
}

// absent returns the first field of t that is always written and does not stand in names. (7): it is not defaulted.
func absent(t reflect.Type, names map[string]bool) string {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "" && !names[name] {
			return name
		}
	}
	return ""
}

// open takes the format out of a value and returns its other members as an object, and their names. encoding/json takes a
// name in any case, the last of several, and null as nothing; here a name stands once, as we write it, with a value.
func open(data []byte) (format int, members []byte, names map[string]bool, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return 0, nil, nil, errors.New("not a JSON object")
	}
	names = map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return 0, nil, nil, err
		}
		name := t.(string) // a name, or Token would have failed
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return 0, nil, nil, fmt.Errorf("field %.40q: %w", name, err)
		}
		if names[name] || name != strings.ToLower(name) || string(value) == "null" {
			return 0, nil, nil, fmt.Errorf("field %.40q is repeated, misspelt or null", name)
		}
		names[name] = true
		if name == "v" {
			if format, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, nil, fmt.Errorf("format %.40s", value)
			}
			continue
		}
		members = strconv.AppendQuote(append(members, ','), name)
		members = append(append(members, ':'), value...)
	}
	if _, err := dec.Token(); err != nil {
		return 0, nil, nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return 0, nil, nil, errors.New("bytes after the JSON object")
	}
	if !names["v"] {
		return 0, nil, nil, errors.New("no format (field v)")
	}
	members = append(append([]byte{'{'}, bytes.TrimPrefix(members, []byte{','})...), '}')
	return format, members, names, nil
}
