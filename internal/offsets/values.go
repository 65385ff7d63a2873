package offsets

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/cdc"
)

// Format is the newest version of the JSON values, which every one of them carries as "v". A value that uses nothing of a newer
// format is written in the oldest that has all of it, so that an older connector can still read it.
//
//	1  the first
//	2  cdc.Checkpoint.Reconciled, Deleted and Validator; Candidate.Seen and Generation; Stream.Approved; Command; File
//	3  cdc.Checkpoint.Witness, and Shown of its Reconciled
//	4  cdc.Window
const Format = 4

// Value is what the offsets topic holds, by kind of key: Owner, Stream, cdc.Checkpoint (cursor), cdc.Window, Parked, Candidate,
// Recent, File, Token; and Command, of the controls topic. Encode and Decode take each of them.
type Value interface {
	Owner | Stream | cdc.Checkpoint | cdc.Window | Parked | Candidate | Recent | File | Token | Command
}

// Owner says who owns a connection; it is committed to both topics before anything is read (K8 e), again by an idle
// connection once a day (K12), and its nonce is where a restore ends (K8 f).
type Owner struct {
	Nonce    string `json:"nonce"`    // drawn for each owning
	Sequence int64  `json:"sequence"` // of this ownership alone: producer id and epoch of its fence
	Instance string `json:"instance"` // host name and admin port
	// Account decides the shard. It is part of the place of the connection's state, so a change of it is refused (P23).
	Account string `json:"account,omitempty"`
	// Cluster is the Kafka cluster's id.
	Cluster string `json:"cluster,omitempty"`
	// Topics are those that the owner writes to, by name, as it found them.
	Topics map[string]Topic `json:"topics,omitempty"`
	Config string           `json:"config,omitempty"` // fingerprint of the connection's configuration (K10)
	At     time.Time        `json:"at"`
}

// Topic is a topic as an owner found it. One with another id was recreated, one with another count moves keys (K2, K3).
type Topic struct {
	ID         string `json:"id"`
	Partitions int32  `json:"partitions"`
}

// Stream says what stands in a stream's events topic once the transaction that carries it has committed (K16).
type Stream struct {
	Count  int64 `json:"count"`  // live keys; compared at each restore (K8 g)
	Digest Hex   `json:"digest"` // state.Set's, of the same keys
	Seed   Hex   `json:"seed"`   // of the content hash, drawn at first owning
	// KeyType is the type of the key's fields, "string" or "number", for several joined by ","; "" until one was seen (K4).
	KeyType string `json:"key_type,omitempty"`
	// Key is the fingerprint of what the key is made of; another one is refused (P23).
	Key string `json:"key,omitempty"`
	// Rules are all rule sets that an entry may still name, the present one last (P23).
	Rules []RuleSet `json:"rules,omitempty"`
	Topic string    `json:"topic,omitempty"` // the events topic's name
	// TopicID and Partitions are the events topic's as the stream began with it (K2, K3).
	TopicID    string `json:"topic_id,omitempty"`
	Partitions int32  `json:"partitions,omitempty"`
	KeySchema  int    `json:"key_schema,omitempty"` // the registry's id with KEY_FORMAT=avro (K4)
	// Deleted counts the deletions of the rolling day by the hour in which they were published, as Hour names it (D5).
	Deleted map[string]int64 `json:"deleted,omitempty"`
	// Approved lets withheld deletions go (D6); nil where nobody has approved any.
	Approved *Approval `json:"approved,omitempty"`
}

// Approval is an operator's word on the deletions of a stream that the guard withholds (D6). It names those that were shown
// before it, and holds for a set of them that is no larger than N.
type Approval struct {
	ID    string    `json:"id"` // of the command
	N     int64     `json:"n"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// Hour is the name of t's hour in Stream.Deleted.
func Hour(t time.Time) string { return t.UTC().Format("2006-01-02T15Z") }

// RuleSet is a set of content rules with the number by which hashes name it (P23). The fields are those of record.Rules.
type RuleSet struct {
	Number    uint16   `json:"number"`
	Algorithm int      `json:"algorithm"`
	Value     string   `json:"value,omitempty"`
	Include   []string `json:"include,omitempty"`
	Exclude   []string `json:"exclude,omitempty"`
	Fields    string   `json:"fields,omitempty"`
}

// Parked says which content of a key stands in the dead-letter topic, so that it goes there once (P19). The entry of the
// hashes topic stays that of the last committed event (5).
type Parked struct {
	Hash   Hex       `json:"hash"`   // content hash; of the raw bytes where the record could not be read that far
	Reason string    `json:"reason"` // cut after MaxReason bytes
	At     time.Time `json:"at"`
	// Partition and Cursor are where the record was read; what a replay without a lookup needs.
	Partition string `json:"partition,omitempty"`
	Cursor    string `json:"cursor,omitempty"`
	ID        string `json:"id,omitempty"` // ce_id of the dead letter
	Size      int    `json:"size"`         // bytes of the record
}

// CandidateKind says why a record is a candidate.
type CandidateKind string

// The kinds of candidate (K5).
const (
	Missing  CandidateKind = "missing"  // a complete listing did not show it; it waits for a confirmation (D4)
	Withheld CandidateKind = "withheld" // its deletion is known and the guard holds it back (D5)
	Older    CandidateKind = "version"  // it came with a version below the known one (P14)
)

// Candidate is a change that waits for proof or for the guard. The feed will not repeat it, so it is state (4).
type Candidate struct {
	Kind      CandidateKind `json:"kind"`
	Reason    cdc.Reason    `json:"reason,omitempty"` // of the deletion that waits
	Version   Version       `json:"version,omitzero"` // of the held record
	Hash      Hex           `json:"hash,omitempty"`   // of the held record's content
	Partition string        `json:"partition,omitempty"`
	Passes    int           `json:"passes,omitempty"` // complete passes that agreed
	At        time.Time     `json:"at"`               // when it was found
	// Seen is when upstream last showed the key that is missing, as far as it is known; Generation is that of the complete pass
	// that did not (D4).
	Seen       time.Time `json:"seen,omitzero"`
	Generation int64     `json:"generation,omitempty"`
}

// CommandKind says what a command asks for.
type CommandKind string

// The kinds of command.
const (
	List    CommandKind = "list"    // list every partition of the stream now (D1)
	DryRun  CommandKind = "dry-run" // the same, and decide nothing: say what would be deleted
	Approve CommandKind = "approve" // let withheld deletions go (D6)
)

// Command is what an operator asks of a connection's owner, in the controls topic under its id (K1). The owner writes the
// outcome under the same id, in the transaction that carries it out.
type Command struct {
	Do         CommandKind `json:"do"`
	Connection string      `json:"connection"`
	Stream     string      `json:"stream"`
	N          int64       `json:"n,omitempty"` // of Approve
	Author     string      `json:"author"`
	At         time.Time   `json:"at"`
	Expires    time.Time   `json:"expires"`
	Outcome    *Outcome    `json:"outcome,omitempty"` // nil: still to be done
}

// Outcome is what became of a command.
type Outcome struct {
	At         time.Time `json:"at"`
	Error      string    `json:"error,omitempty"` // why it was refused
	Partitions []Verdict `json:"partitions,omitempty"`
}

// Verdict is what a listing of one partition came to.
type Verdict struct {
	Partition string   `json:"partition"`
	Why       string   `json:"why,omitempty"`  // the listing is not complete, and nothing was decided
	Held      string   `json:"held,omitempty"` // the deletions are withheld, and why
	Rows      int      `json:"rows"`
	Missing   int64    `json:"missing"`
	Next      string   `json:"next,omitempty"`   // what has to happen before the missing are deleted
	Sample    []string `json:"sample,omitempty"` // some of the missing keys
}

// Recent holds ids of a log feed that were published, one piece of them (P13).
type Recent struct {
	// Cursor is the largest cursor among them: the piece goes when the window [cursor − lookback, cursor] has passed it.
	Cursor string   `json:"cursor,omitempty"`
	IDs    []string `json:"ids"`
}

// File is what is known of a file that a record names: its content, or why it is not to be had yet. The number in its key is the
// element's place among those of the record as it was last published.
type File struct {
	Element Hex       `json:"element"`          // hash of the element that names it: another element is another file
	Digest  string    `json:"digest,omitempty"` // SHA-256 of the content in hexadecimal; "": it is not stored
	Size    int64     `json:"size,omitempty"`
	At      time.Time `json:"at"` // when this was found
	// Of one that is not stored: why, how often it was tried, when it is tried again, and with what: the record as it came, and
	// where it was read. A record beyond MaxFileRecord is not kept; its file is tried when the record changes.
	Error     string          `json:"error,omitempty"`
	Tries     int             `json:"tries,omitempty"`
	Next      time.Time       `json:"next,omitzero"`
	Partition string          `json:"partition,omitempty"`
	Record    json.RawMessage `json:"record,omitempty"`
}

// Token is the sealed grant of a connection (K19, (9)). While Intent is set a refresh is under way or its outcome is unknown:
// Previous holds the grant that is being replaced, sealed under Generation − 1, and Sealed is empty. Otherwise Sealed holds
// the grant of Generation.
type Token struct {
	Generation int64     `json:"generation"`
	Intent     bool      `json:"intent,omitempty"`
	Sealed     []byte    `json:"sealed,omitempty"`
	Previous   []byte    `json:"previous,omitempty"`
	At         time.Time `json:"at"`
}

// Hex is 64 bits that JSON shows as 16 hexadecimal digits, since JSON's numbers do not hold them everywhere.
type Hex uint64

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(h)), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Anything but 16 lower-case digits is refused.
func (h *Hex) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || fmt.Sprintf("%016x", n) != string(b) {
		return fmt.Errorf("%.40q is not 16 hexadecimal digits", b)
	}
	*h = Hex(n)
	return nil
}

// Version is a cdc.Version as JSON text: "" for none, an integer's digits, or an instant as seconds since 1970, a dot and
// nine digits of nanoseconds (which, other than a date, holds any year).
type Version struct{ cdc.Version }

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) {
	switch v.Kind {
	case cdc.NoVersion:
		return nil, nil
	case cdc.Integer:
		return strconv.AppendInt(nil, v.Sec, 10), nil
	case cdc.Instant:
		return fmt.Appendf(nil, "%d.%09d", v.Sec, v.Nano), nil
	default:
		return nil, fmt.Errorf("a version of the unknown kind %d", v.Kind)
	}
}

// UnmarshalText implements encoding.TextUnmarshaler. What MarshalText could not have written is refused.
func (v *Version) UnmarshalText(b []byte) error {
	sec, nano, instant := strings.Cut(string(b), ".")
	var n Version
	var err error
	switch {
	case len(b) == 0:
	case !instant:
		n.Kind = cdc.Integer
		n.Sec, err = strconv.ParseInt(sec, 10, 64)
	default:
		n.Kind = cdc.Instant
		if n.Sec, err = strconv.ParseInt(sec, 10, 64); err != nil {
			break
		}
		var ns uint64
		ns, err = strconv.ParseUint(nano, 10, 30)
		n.Nano = uint32(ns)
	}
	if back, _ := n.MarshalText(); err != nil || n.Nano > 999_999_999 || string(back) != string(b) {
		return fmt.Errorf("%.60q is not a version", b)
	}
	*v = n
	return nil
}
