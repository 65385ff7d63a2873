package offsets

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"tidemark/internal/cdc"
)

// Kind is the first part of a key of the offsets topic.
type Kind string

// The kinds of record in the offsets topic (K5).
const (
	KindOwner     Kind = "owner"
	KindStream    Kind = "stream"
	KindCursor    Kind = "cursor"
	KindParked    Kind = "parked"
	KindCandidate Kind = "candidate"
	KindRecent    Kind = "recent"
	KindWindow    Kind = "window"
	KindFile      Kind = "file"
	KindToken     Kind = "token"
)

// Key is a key of the offsets topic, taken apart.
type Key struct {
	Kind       Kind
	Connection string // of cdc.ValidName, so without a slash
	Stream     string // "" for owner and token; without a slash
	// Name is the partition's name (cursor, recent, window), which has no slash since it is URL-escaped, or the record's
	// key in plain UTF-8 (parked, candidate, file), which may have some; "" for the others. The key of a record that has
	// no usable one is NoKey of its content.
	Name   string
	Number int // of recent, window and file, from 0; 0 for the others
}

// NoKey is the name under which a record without a usable key is parked: ~ and the hash of its content (K5).
func NoKey(hash uint64) string { return fmt.Sprintf("~%016x", hash) }

// shape says which parts follow the connection in a key of the kind.
type shape struct{ stream, name, number, slashes bool }

func (k Kind) shape() (shape, bool) {
	switch k {
	case KindOwner, KindToken:
		return shape{}, true
	case KindStream:
		return shape{stream: true}, true
	case KindCursor:
		return shape{stream: true, name: true}, true
	case KindParked, KindCandidate:
		return shape{stream: true, name: true, slashes: true}, true
	case KindRecent, KindWindow:
		return shape{stream: true, name: true, number: true}, true
	case KindFile:
		return shape{stream: true, name: true, number: true, slashes: true}, true
	default:
		return shape{}, false
	}
}

// Append appends the key's bytes to dst. The parts must be as Key says; ParseKey reads them back.
func (k Key) Append(dst []byte) []byte {
	s, _ := k.Kind.shape()
	dst = append(dst, k.Kind...)
	dst = append(append(dst, '/'), k.Connection...)
	if s.stream {
		dst = append(append(dst, '/'), k.Stream...)
	}
	if s.name {
		dst = append(append(dst, '/'), k.Name...)
	}
	if s.number {
		dst = strconv.AppendInt(append(dst, '/'), int64(k.Number), 10)
	}
	return dst
}

// String returns the key as it stands in the topic.
func (k Key) String() string { return string(k.Append(nil)) }

// ParseKey takes a key of the offsets topic apart. A kind that this version does not know was written by a newer one and
// is refused (K12); so is a key that Append could not have made. Both halt the connection.
func ParseKey(b []byte) (Key, error) {
	text := string(b)
	kind, rest, _ := strings.Cut(text, "/")
	k := Key{Kind: Kind(kind)}
	s, ok := k.Kind.shape()
	if !ok {
		return Key{}, newer(text, fmt.Errorf("a record of kind %.40q, which this version does not know", kind))
	}
	fail := func(what string) (Key, error) {
		return Key{}, damaged(text, fmt.Errorf("%s in the key %.200q", what, text))
	}
	if s.number {
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			return fail("no number")
		}
		n, err := strconv.Atoi(rest[i+1:])
		if err != nil || n < 0 || strconv.Itoa(n) != rest[i+1:] {
			return fail("a bad number")
		}
		k.Number, rest = n, rest[:i]
	}
	k.Connection, rest, ok = cutIf(rest, s.stream)
	if !ok || !cdc.ValidName(k.Connection) {
		return fail("no valid connection")
	}
	k.Stream, k.Name, ok = cutIf(rest, s.name)
	switch {
	case !ok, s.stream != (k.Stream != ""), strings.Contains(k.Stream, "/"):
		return fail("no valid stream")
	case s.name != (k.Name != ""), !s.slashes && strings.Contains(k.Name, "/"):
		return fail("no valid name")
	}
	return k, nil
}

// cutIf cuts s at its first slash where more is to follow, and takes all of it where nothing is.
func cutIf(s string, more bool) (head, rest string, ok bool) {
	if !more {
		return s, "", true
	}
	return strings.Cut(s, "/")
}

// AppendHashKey appends the hashes topic's key of a record: C/S/K (K5). key is the record's logical key.
func AppendHashKey(dst []byte, connection, stream string, key []byte) []byte {
	dst = append(append(dst, connection...), '/')
	dst = append(append(dst, stream...), '/')
	return append(dst, key...)
}

// ParseHashKey takes a key of the hashes topic apart; the parts are slices of b. owner is true for the owner record of
// connection, whose value Decode reads; stream and key are nil then. A key of neither form halts the connection.
func ParseHashKey(b []byte) (connection, stream, key []byte, owner bool, err error) {
	first, rest, ok := bytes.Cut(b, []byte{'/'})
	if !ok || len(first) == 0 || len(rest) == 0 {
		return nil, nil, nil, false, damaged(string(b), fmt.Errorf("a key of the hashes topic that is neither owner/C nor C/S/K: %.200q", b))
	}
	stream, key, ok = bytes.Cut(rest, []byte{'/'})
	switch {
	case !ok && string(first) == string(KindOwner):
		return rest, nil, nil, true, nil
	case !ok || len(stream) == 0 || len(key) == 0:
		return nil, nil, nil, false, damaged(string(b), fmt.Errorf("a key of the hashes topic that is neither owner/C nor C/S/K: %.200q", b))
	}
	return first, stream, key, false, nil
}
