package cdc

// Op says what a change is, in Debezium's letters.
type Op string

// The operations of a change.
const (
	Created Op = "c" // a key that was not known
	Updated Op = "u" // a known key with other content
	Deleted Op = "d" // a tombstone: key with null value
	Read    Op = "r" // first seen before the partition's first pass has ended
)

// Reason says why a tombstone, or a change that goes against the usual order, was published. It travels in ce_reason.
type Reason string

// The reasons of a change.
const (
	Reconciled Reason = "reconciled" // a complete listing missed it and a confirmation agreed
	Declared   Reason = "declared"   // upstream says so
	Filtered   Reason = "filtered"   // a known key left the stream's filter (P20)
	Orphan     Reason = "orphan"     // its parent is gone (D8)
	Reset      Reason = "reset"      // an operator's command
	Rollback   Reason = "rollback"   // an older version that was confirmed (P14)
	Filed      Reason = "file"       // the record as it was, with a file that could not be had before
)

// Header is one Kafka header of an event.
type Header struct {
	Key   string
	Value []byte
}
