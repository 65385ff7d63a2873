package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// maxKey is the longest key in bytes (K5); a record with a longer one is parked.
const maxKey = 4 << 10

// number reads a decimal integer.
func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.64q is not an integer", text)
	}
	return n, nil
}

// typeNamed returns the kind that KeyType names; Absent for another name.
func typeNamed(name string) record.Kind {
	switch name {
	case "string":
		return record.String
	case "number":
		return record.Number
	}
	return record.Absent
}

// list reports whether the stream's keys are JSON lists: there is more than one field, partition values included (K4).
func (rd *reader) list(r *Request) bool {
	return len(r.partitions) > 0 && !rd.stream.keyScope || len(rd.stream.primaryKey) > 1
}

// partitionPrefix appends the beginning of a list key: the partition's values by the names of the partition (K4, P24).
func (r *Request) partitionPrefix(dst []byte, values map[string]any) []byte {
	for i := range r.partitions {
		d := &r.partitions[i]
		for j, v := range d.parts(values[d.name]) {
			if i+j > 0 {
				dst = append(dst, ',')
			}
			dst = appendPart(dst, v)
		}
	}
	return dst
}

// appendString appends text as a JSON string with the fewest escapes: the spelling of a key is for ever, so it is the
// canonical one.
func appendString(dst []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always marshals
	}
	return record.AppendCanonical(dst, quoted, record.All(quoted), record.Rules{})
}

// key makes the record's key from the scanner's spans (K4).
func (s *splitter) key(rd *reader, rec *Record) error {
	start := len(s.page.arena)
	err := s.appendKey(rd)
	if n := len(s.page.arena) - start; err == nil && n > maxKey {
		err = fmt.Errorf("it has %d bytes, and %d are allowed", n, maxKey)
	}
	if err == nil {
		err = s.checkTypes(rd)
	}
	if err != nil {
		s.page.arena = s.page.arena[:start]
		return err
	}
	rec.Key = s.page.arena[start:len(s.page.arena):len(s.page.arena)]
	rec.KeyHash = record.KeyHash(rec.Key)
	return nil
}

// appendKey appends the key to the page's arena, field by field.
func (s *splitter) appendKey(rd *reader) error {
	st := rd.stream
	list := rd.list(s.request)
	dst := s.openKey(rd, list)
	for i, slot := range st.keySlots {
		if list && dst[len(dst)-1] != '[' {
			dst = append(dst, ',')
		}
		span := rd.scanner.Spans[slot]
		if span.IsZero() {
			return fmt.Errorf("%s is not there", st.primaryKey[i])
		}
		var err error
		if dst, err = s.appendField(dst, span, list); err != nil {
			return fmt.Errorf("%s %w", st.primaryKey[i], err)
		}
	}
	if st.contentKey {
		if rd.scanner.ValueSpan.IsZero() {
			return errors.New("there is no content to make it of")
		}
		if list {
			dst = append(s.contentKey(append(dst, `,"`...), rd), '"')
		} else {
			dst = s.contentKey(dst, rd)
		}
	}
	if list {
		dst = append(dst, ']')
	}
	s.page.arena = dst
	return nil
}

// openKey appends what stands before the fields: the partition's values in a list, nothing where there is one field.
func (s *splitter) openKey(rd *reader, list bool) []byte {
	dst := s.page.arena
	if list {
		dst = append(dst, '[')
		if !rd.stream.keyScope {
			dst = append(dst, s.prefix...)
		}
	}
	return dst
}

// appendField appends one field of a checked record.
func (s *splitter) appendField(dst []byte, span record.Span, list bool) ([]byte, error) {
	switch kind := record.KindAt(s.body, span); {
	case kind == record.Number && integral(span.Of(s.body)):
		return append(dst, span.Of(s.body)...), nil
	case kind == record.Number, kind == record.String && list:
		return record.AppendCanonical(dst, s.body, span, record.Rules{}), nil
	case kind == record.String && span.Len() == 2:
		return dst, errors.New("is empty")
	case kind == record.String:
		dst, _ = record.Text(dst, s.body, span)
		return dst, nil
	default:
		return dst, fmt.Errorf("is %s, and a key is made of texts and numbers", kind)
	}
}

// integral reports whether a number's literal is the only spelling of an integer.
func integral(raw []byte) bool {
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if len(digits) == 0 || digits[0] == '0' && len(raw) > 1 {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// checkTypes compares the types of the key's fields with those of the stream, and learns them from the first record:
// 1 and "1" would be one key in Kafka and two upstream (P24, K4).
func (s *splitter) checkTypes(rd *reader) error {
	learnt := false
	for i, slot := range rd.stream.keySlots {
		kind := record.KindAt(s.body, rd.scanner.Spans[slot])
		if i >= len(rd.types) {
			break
		}
		if rd.types[i] == record.Absent {
			rd.types[i], learnt = kind, true
		}
		if rd.types[i] != kind {
			return fmt.Errorf("%s is a %s here, and a %s in the stream's first record", rd.stream.primaryKey[i], kind, rd.types[i])
		}
	}
	if learnt {
		names := make([]string, len(rd.types))
		for i, k := range rd.types {
			names[i] = k.String()
		}
		rd.stream.KeyType = strings.Join(names, ",")
	}
	return nil
}

// shallowKey makes the key from text that nobody has checked; false wherever it is not as plain as can be.
func (s *splitter) shallowKey(rd *reader, whole record.Span) ([]byte, bool) {
	st := rd.stream
	start := len(s.page.arena)
	list := rd.list(s.request)
	dst := s.openKey(rd, list)
	for i := range st.primaryKey {
		span, ok := st.primaryKey[i].Find(s.body, whole)
		if !ok || span.Len() > maxKey {
			return nil, false
		}
		if list && dst[len(dst)-1] != '[' {
			dst = append(dst, ',')
		}
		raw := span.Of(s.body)
		switch {
		case integral(raw):
			dst = append(dst, raw...)
		case raw[0] != '"' || len(raw) < 3 || bytes.IndexByte(raw, '\\') >= 0:
			return nil, false
		case list:
			dst = append(dst, raw...)
		default:
			dst = append(dst, raw[1:len(raw)-1]...)
		}
	}
	if list {
		dst = append(dst, ']')
	}
	s.page.arena = dst
	return dst[start:len(dst):len(dst)], true
}

// fields takes a key apart: the partition's values by name, and the values of primary_key in order.
func (st *Stream) fields(key []byte) (map[string]any, []any, error) {
	var partitions []dimension
	if !st.keyScope {
		partitions = st.request.partitions
	}
	if len(partitions) == 0 && len(st.primaryKey) <= 1 {
		if st.KeyType == "number" {
			n, err := record.Value(key, record.All(key))
			return nil, []any{n}, err
		}
		return nil, []any{string(key)}, nil
	}
	if err := record.Valid(key, record.Limits{}); err != nil {
		return nil, nil, err
	}
	value, err := record.Value(key, record.All(key))
	if err != nil {
		return nil, nil, err
	}
	width := 0
	for i := range partitions {
		width += partitions[i].width()
	}
	all, ok := value.([]any)
	if !ok || len(all) != width+len(st.primaryKey) {
		return nil, nil, cdc.Errorf(cdc.Park, cdc.Record, "read key", "The key was made under another definition: see `offsets reset --tombstone-old`",
			"%.64q is not a list of %d", key, width+len(st.primaryKey))
	}
	values := map[string]any{}
	for i := range partitions {
		n := partitions[i].width()
		values[partitions[i].name], all = partitions[i].take(all[:n]), all[n:]
	}
	return values, all, nil
}

// KeyFields returns the members at the top of the published value that are the key's fields: every record has them.
func (st *Stream) KeyFields() []string {
	var out []string
	for _, names := range st.keyPaths {
		if len(names) == 1 && st.valueSlot < 0 {
			out = append(out, names[0])
		}
	}
	return out
}
