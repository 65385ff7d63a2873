package codec

import (
	"net/url"
	"strconv"
	"time"

	"tidemark/internal/cdc"
)

// Origin says where the events of one stream come from. It is made once a stream, so that events only copy it.
type Origin struct {
	connection, stream              string
	source                          string
	created, updated, deleted, read string
}

// NewOrigin returns the origin of a stream's events: deployment is the name of K7, source the definition's name.
// ce_source becomes the URI reference /deployment/connection/stream, ce_type source.stream.word, with the word created,
// updated, deleted or read.
func NewOrigin(deployment, connection, source, stream string) *Origin {
	kind := source + "." + stream + "."
	return &Origin{
		connection: connection, stream: stream,
		source:  "/" + url.PathEscape(deployment) + "/" + url.PathEscape(connection) + "/" + url.PathEscape(stream),
		created: kind + "created", updated: kind + "updated", deleted: kind + "deleted", read: kind + "read",
	}
}

func (o *Origin) kind(op cdc.Op) string {
	switch op {
	case cdc.Created:
		return o.created
	case cdc.Updated:
		return o.updated
	case cdc.Deleted:
		return o.deleted
	default:
		return o.read
	}
}

// Event is what is said of a change beside its record: the content of the headers and of the envelope.
type Event struct {
	Origin *Origin
	// Owner and Number make ce_id, "Owner-Number". Owner is a text of this ownership only (its nonce), Number counts its
	// events: A→B→A has three ids.
	Owner  string
	Number int64
	Key    []byte     // the record's key, ce_subject
	Time   time.Time  // upstream's time of the change, ce_time; zero: unknown, left out
	Op     cdc.Op     // ce_op
	Reason cdc.Reason // ce_reason; "": left out
	Cursor []byte     // the record's cursor in the server's own text, ce_cursor; empty: left out
	// ContentType is the encoder's; empty for a tombstone, which has no content.
	ContentType string
	Generation  int64     // ce_generation: the complete pass that missed the key; 0: left out
	LastSeen    time.Time // ce_lastseen: when the key was last seen upstream; zero: left out
}

// Headers appends ev's headers to dst: CloudEvents 1.0, Kafka protocol binding, binary content mode (ce_ before each
// attribute's name, datacontenttype as content-type), and our extensions op, cursor, reason, generation and lastseen.
// The values share one allocation; AppendHeaders needs none.
func Headers(dst []cdc.Header, ev *Event) []cdc.Header {
	dst, _ = AppendHeaders(dst, make([]byte, 0, 256+len(ev.Key)+len(ev.Cursor)), ev)
	return dst
}

// AppendHeaders is Headers with the values' bytes appended to slab, which must live and stay as it is until the record
// is delivered. It returns both; where slab has to grow, values written before stay in the old one.
func AppendHeaders(dst []cdc.Header, slab []byte, ev *Event) ([]cdc.Header, []byte) {
	w := headerWriter{dst: dst, slab: slab}
	w.text("ce_specversion", "1.0")
	start := len(w.slab)
	w.slab = ev.appendID(w.slab)
	w.header("ce_id", start)
	w.text("ce_source", ev.Origin.source)
	w.text("ce_type", ev.Origin.kind(ev.Op))
	w.bytes("ce_subject", ev.Key)
	w.time("ce_time", ev.Time)
	w.text("content-type", ev.ContentType)
	w.text("ce_op", string(ev.Op))
	w.bytes("ce_cursor", ev.Cursor)
	w.text("ce_reason", string(ev.Reason))
	if ev.Generation != 0 {
		start = len(w.slab)
		w.slab = strconv.AppendInt(w.slab, ev.Generation, 10)
		w.header("ce_generation", start)
	}
	w.time("ce_lastseen", ev.LastSeen)
	return w.dst, w.slab
}

func (ev *Event) appendID(dst []byte) []byte {
	dst = append(dst, ev.Owner...)
	dst = append(dst, '-')
	return strconv.AppendInt(dst, ev.Number, 10)
}

// appendTime prints t as RFC 3339 in UTC, and nothing where that cannot be said: the zero time, and years of other than
// four digits, which APIs with free dates do send.
func appendTime(dst []byte, t time.Time) []byte {
	if t = t.UTC(); t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return dst
	}
	return t.AppendFormat(dst, time.RFC3339Nano)
}

// headerWriter appends headers whose values lie one after the other in slab. CloudEvents has no empty attributes: what is
// empty is left out.
type headerWriter struct {
	dst  []cdc.Header
	slab []byte
}

// header appends the header whose value is the slab from start on, unless that is empty.
func (w *headerWriter) header(key string, start int) {
	if end := len(w.slab); end > start {
		w.dst = append(w.dst, cdc.Header{Key: key, Value: w.slab[start:end:end]})
	}
}

func (w *headerWriter) text(key, value string) {
	start := len(w.slab)
	w.slab = append(w.slab, value...)
	w.header(key, start)
}

func (w *headerWriter) bytes(key string, value []byte) {
	start := len(w.slab)
	w.slab = append(w.slab, value...)
	w.header(key, start)
}

func (w *headerWriter) time(key string, t time.Time) {
	start := len(w.slab)
	w.slab = appendTime(w.slab, t)
	w.header(key, start)
}
