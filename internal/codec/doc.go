// Package codec makes the bytes that consumers see: values as Avro in registry framing or as JSON, CloudEvents headers,
// and, the other way round, JSON text from values, for whoever reads the topics.
//
// It owns the compiled plans of schemas, scratch buffers, and the cache of a registry's answers. An [Encoder] and a
// [Decoder] never block and belong to one goroutine at a time; a [Registry] blocks on HTTP, bounded by its timeout and
// its context, and may be shared. Nothing here outlives its last reference; there are no goroutines.
//
// A record is encoded from its text, walked once: no maps, no reflection, no allocation when warm. What the schema does
// not know goes into its field "_extra" as JSON text, so that nothing upstream sends is lost (7); a value that does not
// fit its field parks the record, with field, wanted and got (P19).
package codec
