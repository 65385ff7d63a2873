package source

import (
	"encoding/json"
	"net/http"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// Source is a definition bound to one connection's configuration. It is read by one connection's loop and changes only
// by Seed.
type Source struct {
	Name       string   // the definition's name, "salesloft"
	Connection string   // the connection's name
	BaseURL    string   // without a trailing slash
	Origins    []string // scheme://host[:port] of base_url, token_url and absolute urls: where credentials may go
	Auth       Auth
	Identity   string // a short fingerprint of who asks, a part of every listing's fingerprint (P23)
	Rate       RateLimit
	Requests   []*Request
	Streams    []*Stream    // by Index
	Secrets    []cdc.Secret // the values of secret settings and what is made of them once, so that messages can be cleaned of them
	Warnings   []string     // what `check` should say: no reconciliation, stale excluded fields

	headers []parameter    // sent with every request
	config  map[string]any // string, int64, float64, bool, []any; null for optional settings that were not given
	limits  Limits         // set by SetLimits, pass.go
}

// RateLimit is the account's budget: Budget units per Per. A zero Budget means none was declared.
type RateLimit struct {
	Budget          float64
	Per             time.Duration
	MaxConcurrent   int // 0: not limited
	RemainingHeader string
	ResetHeader     string

	cost *expression // nil: 1
}

// Stream is one kind of record with one events topic.
type Stream struct {
	Name   string
	Schema string // "json", the name of a shipped Avro schema ("salesloft/person"), or that of a file beside the definition ("person.avsc")
	Avsc   []byte // what that file holds; nil for the others
	Index  int    // in Source.Streams; the stream argument of Split, Lookup and Seed
	// Rules are the content rules (P23).
	Rules record.Rules
	// KeyType is the declared type of a single key field, "string" or "number"; "" is learnt from the first record (K4).
	KeyType string
	// Versioned says that records have a version (P14).
	Versioned bool
	// OnLeave is what happens to a known key that leaves the filter (P20): "delete" or "keep".
	OnLeave string
	// LogFeed says that there is a record_id (P13): every entry is an event of its key.
	LogFeed bool
	// Snapshot says that the stream has no cursor: every pass lists everything.
	Snapshot  bool
	Topic     TopicSettings
	Reconcile Reconcile
	HasLookup bool
	// KeyPrint is the fingerprint of the identity: primary_key, key_scope, the names of the partition (P23). A change of it
	// is refused without a reset.
	KeyPrint string

	Files *Files // nil: its records have none

	// Children are the requests whose partitions are this stream's records (P21).
	Children []*Lineage

	request *Request // the request that reads it

	// The places of a record that are wanted, for record.NewPlan; the slots below are indexes into it, -1 where there is none.
	places       []record.Path
	keySlots     []int // primary_key in the declared order; empty with contentKey
	cursorSlot   int   // incremental.cursor_field
	versionSlot  int   // may equal cursorSlot
	recordIDSlot int
	valueSlot    int // -1: the record itself is the value

	primaryKey    []record.Path
	keyPaths      [][]string // primaryKey as names, for keyNames
	keyScope      bool       // key_scope: stream: partition values are no part of the key (P24)
	contentKey    bool       // primary_key: content (P24)
	versionFormat *format
	filter        *condition // nil: everything
	delete        *condition // nil: nothing is declared deleted
	gone          *condition // lookup.gone: soft states of a looked-up record; nil: none
	lookup        *lookup    // nil: none
	hydrate       *lookup    // nil: the list gives whole records
	patch         *patch     // nil: what is published is the value as it came
	seed          uint64     // set by Seed
	reader        *reader    // made at first use, split.go
}

// Avro returns the text of the stream's Avro schema: what stands beside the definition, or what shipped has under its name.
func (st *Stream) Avro(shipped func(name string) ([]byte, error)) ([]byte, error) {
	if st.Avsc != nil {
		return st.Avsc, nil
	}
	text, err := shipped(st.Schema)
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "load schema", "Put an .avsc file beside the definition and name it, or write schema: json",
			"stream %s: %w", st.Name, err)
	}
	return text, nil
}

// Reconcile is what the definition or the connection says of a stream's deletions (D1–D8).
type Reconcile struct {
	Every   time.Duration // 0: not by an interval; a snapshot stream reconciles at every pass (D10)
	times   *timetable    // schedule; nil: not by the clock
	Orphans string        // "delete", "keep" or "withhold" (D8)
	// GuardKeys and GuardShare are the numbers of D5: more deletions than both, of a rolling day, are withheld.
	GuardKeys  int64
	GuardShare float64 // 0.05 is 5 %
}

// TopicSettings are what the definition or the connection says of a stream's events topic.
type TopicSettings struct {
	Name       string        // "": the deployment's naming
	Partitions int32         // 0: the default, 6
	Cleanup    string        // "", "compact", "delete", "compact,delete"
	Retention  time.Duration // 0: the default; -1: forever
}

// Request is what is polled: one cursor per partition, one request after the other.
type Request struct {
	Name     string
	Streams  []*Stream
	Interval Interval
	// RequestPrint and ListingPrint are the fingerprints of P23; the caller adds the credential's identity to the latter.
	RequestPrint, ListingPrint string
	// answerPrint is the fingerprint of all that an unchanged answer is unchanged for: see conditional.
	answerPrint string

	source      *Source
	list        call
	records     []selection // in the definition's order
	paginator   paginator
	incremental *incremental // nil: snapshot
	partitions  []dimension  // sorted by name (K4)
	errors      []errorRule
	uses        uses
	lastOf      []string                  // the members of the last record that its templates mention; "": all of it
	listing     *Request                  // how every live record is listed; nil: as the request does without its cursor (D1)
	total       *record.Path              // of a listing: where it says how many there are (D1)
	cap         int                       // of a listing: this many rows are as many as it ever shows; 0: no limit (D1)
	ordered     bool                      // of a listing: it is sorted by the key, and goes on behind any of its records (D3)
	known       map[string]map[string]any // values of partitions with a parent, by name: see Know
	splitter    *splitter                 // made at first use, split.go
}

// uses says which names the request's templates mention, so that what is not asked for is not computed.
type uses struct{ cursor, cursorEnd, anchor, start, pageToken, offset, page, tiePage, last, now bool }

// selection says where records of one stream lie in an answer.
type selection struct {
	path   record.Path // an array, or an object that is one record; "." is the whole body; with [*] several of them
	stream *Stream
	gone   bool // op: delete: what is listed here is gone
}

type paginatorKind string

const (
	noPaginator     paginatorKind = "none"
	keysetPaginator paginatorKind = "keyset" // P6
	pagePaginator   paginatorKind = "page"
	tokenPaginator  paginatorKind = "token"
	linkPaginator   paginatorKind = "link"
	offsetPaginator paginatorKind = "offset"
)

// paginator says how the next page is asked for. Places are of the body; nil is absent.
type paginator struct {
	kind          paginatorKind
	sizeEcho      *record.Path // the page size as the server understood it (P10)
	reanchorAfter int          // keyset: not more than this many records between two moves of the anchor; 0: no limit
	tiePage       bool         // keyset: the request can page inside a run of equal cursors (P8)
	next          *record.Path // token: the token, nil where `last` says where a page begins; link: the URL; page: the next page's number, null at the end
	linkHeader    bool         // link: the Link header (RFC 8288)
	more, done    *signal      // P10
	stable        bool         // token: tokens stay good for restarts, page checkpoints are allowed (P5)
	firstPage     int64        // page: the first page's number, default 1
	size          int          // offset: the rows that a request asks for; 0: not declared
	overlap       bool         // offset: a page begins with the last row of the one before it (P9)
}

type incrementalKind string

const (
	timestampCursor incrementalKind = "timestamp"
	opaqueCursor    incrementalKind = "opaque"
	sequenceCursor  incrementalKind = "sequence"
)

type sortOrder string

const (
	ascending  sortOrder = "asc"
	descending sortOrder = "desc"
	unordered  sortOrder = "none"
)

// incremental says what a cursor is and how it moves.
type incremental struct {
	kind        incrementalKind
	cursorField *record.Path  // timestamp, of the record
	record      *format       // timestamp: how records write it
	request     *format       // timestamp: how requests write it
	granularity time.Duration // timestamp (P8), default 1s
	inclusive   bool          // default true
	order       sortOrder     // default none; keyset wants asc
	lookback    time.Duration // timestamp: default 1m (P12)
	back        int64         // sequence: lookback as a count of numbers (P12)
	settle      time.Duration // P3
	deepEvery   time.Duration // 0: never (P12)
	deepSpan    time.Duration
	window      time.Duration // 0: none (P15)
	// start is where to begin without a cursor, already of its type: a text or a number as the request sends it; nil: none.
	start          any
	startTime      time.Time    // timestamp: start as an instant; zero where there is none
	next           *record.Path // opaque, sequence: the cursor of the answer's body
	more           *signal      // opaque, sequence; nil: the end is an empty page or an unchanged cursor (P10)
	checkpointPass bool         // checkpoint: pass (P5, P17)
	head           *head        // P11
}

// head is a request of its own that tells how far a sequence has got (P11).
type head struct {
	call  call
	place record.Path
}

// dimension is one name of a partition with its values.
type dimension struct {
	name    string
	values  []any    // string, int64, bool
	lineage *Lineage // not nil: the values are records of a parent stream (P21), and values is empty
}

type errorAction string

const (
	doRetry         errorAction = "retry"
	doParkRecord    errorAction = "park_record" // of requests for one record: a lookup
	doSkipPartition errorAction = "skip_partition"
	doRestartPass   errorAction = "restart_pass"
	doExpired       errorAction = "expired"
	doHalt          errorAction = "halt"
)

// errorRule says what an answer means; the first that matches counts, before what the status alone says.
type errorRule struct {
	status []int   // empty: any
	when   *signal // nil: always
	do     errorAction
	from   *signal // cursor_from: where the answer says the next pass should begin; nil: it does not
	hint   string
}

// lookup asks for one record by its key (D4, P11, P19).
type lookup struct {
	call    call
	records record.Path // where the record lies in the answer, default: the request's records
}

// Interval says how often a partition is polled.
type Interval struct {
	fixed time.Duration
	rules []intervalRule // evaluated in order, anew each minute; empty: fixed
	cron  *timetable     // not nil: at these moments, instead (P22)
}

type intervalRule struct {
	when  *expression // nil: always
	every time.Duration
}

// Partition is one cursor of a request.
type Partition struct {
	Name   string         // K5: name=value, URL-escaped, sorted, joined by commas; "-" for none
	Values map[string]any // string, int64, bool; of a parent's dimension its record as far as it is kept
	// Parent is what its checkpoint keeps of the parent, by the names of Lineage.Fields (P21); nil where there is none.
	Parent map[string]json.RawMessage
}

// vars are the names of LANGUAGE.md's table as a template sees them. What is not set is null; whether it may be is
// checked where it is used.
type vars struct {
	cursor    any // string or int64; timestamp: already written in the request's format
	anchor    any
	start     any
	cursorEnd any
	pageToken any
	offset    *int64
	page      int64
	tiePage   *int64
	last      any // record.Value of the last record of the page before; set it only if uses.last
	partition map[string]any
	config    map[string]any // Source.config
	key       map[string]any // lookup only: see Stream.keyNames
	now       time.Time
	response  *response // errors, more, done only
	item      any       // files only: the element, of record.Value
	view      *view     // record, in add_fields, hydrate and files only

	secrets []cdc.Secret // what templates have made of secret settings
}

// response is an answer as conditions see it. It keeps header and body, so it must be gone before they are released. Whoever
// knows already that the body is strict JSON sets checked and valid; otherwise it is looked at when a place is asked for.
type response struct {
	status int
	header http.Header
	body   []byte

	checked, valid bool // the body was looked at; it is strict JSON
	decoded        bool
	value          any
}
