package embedded

import (
	"fmt"
	"slices"
	"strings"
)

// mismatch is one reason why a reader's schema cannot read what a writer's wrote, in the words of Avro's
// SchemaCompatibility and Confluent's registry.
type mismatch struct {
	typ    string // e.g. READER_FIELD_MISSING_DEFAULT_VALUE
	text   string // what is wrong, for people
	detail string // additionalInfo
}

// String writes the reason as Confluent's registry does in its messages.
func (m mismatch) String() string {
	return fmt.Sprintf("{errorType:'%s', description:'%s', additionalInfo:'%s'}", m.typ, m.text, m.detail)
}

// pair is a reader's and a writer's type; types refer to themselves, so each pair is looked at once.
type pair struct{ reader, writer *avro }

// resolution collects mismatches; known holds the pairs that were looked at or are being looked at. A pair under way counts as
// readable: if it is not, whoever is looking at it says so.
type resolution struct {
	known map[pair][]mismatch
	names [2]string // what reader and writer are called in messages
}

// resolve returns why reader cannot read what writer wrote; nothing if it can (Avro 1.11, "Schema Resolution").
func resolve(reader, writer *avro, readerName, writerName string) []mismatch {
	r := &resolution{known: map[pair][]mismatch{}, names: [2]string{readerName, writerName}}
	return r.compare(reader, writer, "/")
}

func (r *resolution) compare(reader, writer *avro, at string) []mismatch {
	p := pair{reader, writer}
	if found, ok := r.known[p]; ok {
		return found
	}
	r.known[p] = nil
	found := r.decide(reader, writer, at)
	r.known[p] = found
	return found
}

func (r *resolution) decide(reader, writer *avro, at string) []mismatch {
	if writer.kind == "union" { // whatever the writer wrote must be readable
		var found []mismatch
		for i, branch := range writer.union {
			found = append(found, r.compare(reader, branch, join(at, i))...)
		}
		return found
	}
	if reader.kind == "union" {
		for _, branch := range reader.union {
			if len(r.compare(branch, writer, at)) == 0 {
				return nil
			}
		}
		return []mismatch{r.say("MISSING_UNION_BRANCH", at, writer.String(),
			"The {reader} schema is missing a type inside a union field at path '{path}' in the {writer} schema")}
	}
	if reader.kind != writer.kind {
		if promotes(writer.kind, reader.kind) {
			return nil
		}
		return []mismatch{r.say("TYPE_MISMATCH", at, fmt.Sprintf("reader type: %s not compatible with writer type: %s",
			strings.ToUpper(reader.kind), strings.ToUpper(writer.kind)),
			"The type (path '{path}') of a field in the {reader} schema does not match with the {writer} schema")}
	}
	switch reader.kind {
	case "array":
		return r.compare(reader.item, writer.item, join(at, "items"))
	case "map":
		return r.compare(reader.item, writer.item, join(at, "values"))
	case "record", "enum", "fixed":
		return r.named(reader, writer, at)
	default:
		return nil
	}
}

// named compares two types of one kind that have names.
func (r *resolution) named(reader, writer *avro, at string) []mismatch {
	var found []mismatch
	if reader.short() != writer.short() && !slices.Contains(reader.aliases, writer.name) {
		found = append(found, r.say("NAME_MISMATCH", join(at, "name"), "expected: "+writer.name,
			"The name of the schema has changed (path '{path}')"))
	}
	switch reader.kind {
	case "fixed":
		if reader.size != writer.size {
			found = append(found, r.say("FIXED_SIZE_MISMATCH", join(at, "size"),
				fmt.Sprintf("expected: %d, found: %d", writer.size, reader.size),
				"The size of FIXED type field at path '{path}' in the {reader} schema does not match with the {writer} schema"))
		}
	case "enum":
		missing := slices.DeleteFunc(slices.Clone(writer.symbols), func(s string) bool { return slices.Contains(reader.symbols, s) })
		if len(missing) > 0 && !reader.initial {
			found = append(found, r.say("MISSING_ENUM_SYMBOLS", join(at, "symbols"), "["+strings.Join(missing, ", ")+"]",
				"The {reader} schema is missing enum symbols '{detail}' at path '{path}' in the {writer} schema"))
		}
	case "record":
		if len(found) == 0 {
			found = r.fields(reader, writer, at)
		}
	}
	return found
}

// fields compares the fields of two records: what the reader wants must be written, or have a default.
func (r *resolution) fields(reader, writer *avro, at string) []mismatch {
	var found []mismatch
	for i, field := range reader.fields {
		path := join(join(at, "fields"), i)
		written := slices.IndexFunc(writer.fields, func(w avroField) bool {
			return w.name == field.name || slices.Contains(field.aliases, w.name)
		})
		switch {
		case written >= 0:
			found = append(found, r.compare(field.typ, writer.fields[written].typ, join(path, "type"))...)
		case !field.initial && !(field.typ.kind == "enum" && field.typ.initial):
			found = append(found, r.say("READER_FIELD_MISSING_DEFAULT_VALUE", path, field.name,
				"The field '{detail}' at path '{path}' in the {reader} schema has no default value and is missing in the {writer} schema"))
		}
	}
	return found
}

// say makes a mismatch; format may hold {reader} and {writer} (what the schemas are called), {path} and {detail}.
func (r *resolution) say(typ, at, detail, format string) mismatch {
	text := strings.NewReplacer("{reader}", r.names[0], "{writer}", r.names[1], "{path}", at, "{detail}", detail).Replace(format)
	return mismatch{typ: typ, text: text, detail: detail}
}

// promotes reports whether what was written as from may be read as to (Avro 1.11, "Schema Resolution").
func promotes(from, to string) bool {
	switch from {
	case "int":
		return to == "long" || to == "float" || to == "double"
	case "long":
		return to == "float" || to == "double"
	case "float":
		return to == "double"
	case "string":
		return to == "bytes"
	case "bytes":
		return to == "string"
	default:
		return false
	}
}

// join appends a step to a path.
func join(at string, step any) string {
	return fmt.Sprintf("%s/%v", strings.TrimSuffix(at, "/"), step)
}

// levels are the compatibility levels of the Confluent API.
var levels = []string{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}

// incompatible returns why schema may not follow the earlier versions (oldest first) under level.
func incompatible(level string, schema *avro, earlier []*version) []string {
	if level == "NONE" || len(earlier) == 0 {
		return nil
	}
	if !strings.HasSuffix(level, "_TRANSITIVE") {
		earlier = earlier[len(earlier)-1:]
	}
	direction := strings.TrimSuffix(level, "_TRANSITIVE")
	var messages []string
	for _, old := range slices.Backward(earlier) {
		var found []mismatch
		if direction == "BACKWARD" || direction == "FULL" {
			found = append(found, resolve(schema, old.schema.parsed, "new", "old")...)
		}
		if direction == "FORWARD" || direction == "FULL" {
			found = append(found, resolve(old.schema.parsed, schema, "old", "new")...)
		}
		if len(found) == 0 {
			continue
		}
		for _, m := range found {
			messages = append(messages, m.String())
		}
		messages = append(messages, fmt.Sprintf("{oldSchemaVersion: %d}", old.number),
			fmt.Sprintf("{oldSchema: '%s'}", old.schema.Text), fmt.Sprintf("{compatibility: '%s'}", level))
		break // Confluent's registry names the latest version that is in the way
	}
	return messages
}
