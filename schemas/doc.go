// Package schemas holds the Avro schemas of the catalog's streams. It owns nothing but their bytes, never blocks and has
// no goroutines.
//
// Of a type that is not fixed (free objects), the schema says string with the property "tidemark": "json": the field holds
// the value's JSON text. Every record ends with "_extra", which takes what upstream sends beyond the schema. All fields but
// the identity may be null, as the API may leave them out, so that a later version stays compatible in both directions.
package schemas
