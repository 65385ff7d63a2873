package cdc

import (
	"cmp"
	"fmt"
	"time"
)

// VersionKind is the type of a version; a stream has one kind (K5).
type VersionKind uint8

// The kinds of version that state can hold.
const (
	NoVersion VersionKind = iota
	Integer               // an int64
	Instant               // seconds since 1970 and nanoseconds
)

// Version is the version of a record (P14): an integer, an instant, or nothing. Versions of one kind are ordered.
type Version struct {
	Sec  int64 // the integer, or seconds since 1970-01-01T00:00:00Z
	Nano uint32
	Kind VersionKind
}

// IntegerVersion returns the version n.
func IntegerVersion(n int64) Version { return Version{Sec: n, Kind: Integer} }

// InstantVersion returns the version t.
func InstantVersion(t time.Time) Version {
	return Version{Sec: t.Unix(), Nano: uint32(t.Nanosecond()), Kind: Instant}
}

// Time returns the instant of v; the zero time where v is none.
func (v Version) Time() time.Time {
	if v.Kind != Instant {
		return time.Time{}
	}
	return time.Unix(v.Sec, int64(v.Nano)).UTC()
}

// Compare orders two versions; one of no kind, or of another kind, equals everything, since nothing is known of its order.
func (v Version) Compare(o Version) int {
	if v.Kind == NoVersion || v.Kind != o.Kind {
		return 0
	}
	if c := cmp.Compare(v.Sec, o.Sec); c != 0 {
		return c
	}
	return cmp.Compare(v.Nano, o.Nano)
}

// String prints v for people.
func (v Version) String() string {
	switch v.Kind {
	case Integer:
		return fmt.Sprint(v.Sec)
	case Instant:
		return v.Time().Format(time.RFC3339Nano)
	default:
		return "-"
	}
}
