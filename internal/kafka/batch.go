package kafka

import (
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// kind is what a record of a batch is; it decides the topic.
type kind uint8

const (
	event kind = iota
	offset
	hash
	deadLetter
	control
)

// Sizes of a batch's pieces of memory.
const (
	slabBytes    = 256 << 10
	recordsPiece = 256
	headersPiece = 4096
)

// Batch collects the records of one transaction. Its memory is its own: keys, values and headers are copied in, except for a
// value that was appended to Slab's result, which stays where it is. After Commit has returned, Reset makes it usable again.
// It is not safe for concurrent use.
type Batch struct {
	records []*kgo.Record
	kinds   []kind
	bytes   int
	hashes  int  // records of the hashes topic
	stream  bool // a stream record is among the offsets (K16)

	pieces  [][]kgo.Record // where records point; kgo keeps pointers, so a piece never moves
	slabs   [][]byte       // the last one in use is slabs[slab]
	slab    int
	headers []kgo.RecordHeader

	flight *flight // of the last Commit; nil before
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{} }

// Slab returns an empty slice with room for n bytes. What is appended to it and passed to the next call that adds a record is
// not copied again.
func (b *Batch) Slab(n int) []byte {
	for ; b.slab < len(b.slabs); b.slab++ {
		if s := b.slabs[b.slab]; cap(s)-len(s) >= n {
			return s[len(s):]
		}
	}
	b.slabs = append(b.slabs, make([]byte, 0, max(n, slabBytes)))
	return b.slabs[b.slab]
}

// keep makes p part of the slab. It copies, unless p was appended to the slab's free end already.
func (b *Batch) keep(p []byte) []byte {
	if len(p) == 0 {
		return p // nil stays nil: a tombstone
	}
	if b.slab < len(b.slabs) {
		s := b.slabs[b.slab]
		if n := len(s); cap(s)-n >= len(p) && &s[:n+1][n] == &p[0] {
			b.slabs[b.slab] = s[:n+len(p)]
			return p[:len(p):len(p)]
		}
	}
	free := b.Slab(len(p))
	s := b.slabs[b.slab]
	b.slabs[b.slab] = append(s, p...)
	return free[:len(p):len(p)]
}

// Event adds an event: its partition is murmur2(key) mod count, the recorded count (K3). A nil value is a tombstone. It returns
// the record's index in the batch (RejectedError).
func (b *Batch) Event(topic string, count int32, key, value []byte, headers []cdc.Header) int {
	i := b.add(event, key, value, headers)
	r := b.records[i]
	r.Topic, r.Partition = topic, Partition(r.Key, count) // K3: the recorded count, whatever metadata says now
	return i
}

// Offset adds a record of the offsets topic to the shard's partition; nil deletes the key.
func (b *Batch) Offset(key, value []byte) int {
	if value != nil && len(key) > len(streamPrefix) && string(key[:len(streamPrefix)]) == streamPrefix {
		b.stream = true
	}
	return b.add(offset, key, value, nil)
}

const streamPrefix = string(offsets.KindStream) + "/"

// Hash adds a record of the hashes topic to the shard's partition; nil deletes the key. A transaction with hashes has to carry
// a stream record as well (K16); Commit refuses one without.
func (b *Batch) Hash(key, value []byte) int {
	b.hashes++
	return b.add(hash, key, value, nil)
}

// DeadLetter adds a parked record to the dead-letter topic. Its value is cut at Commit to what the topic takes (K15), which
// the header "cut" tells with the full size; what must survive the cut (hash, cursor, reason) belongs in headers.
func (b *Batch) DeadLetter(key, value []byte, headers []cdc.Header) int {
	return b.add(deadLetter, key, value, headers)
}

// Control adds a record of the controls topic: the outcome of a command (K1).
func (b *Batch) Control(key, value []byte) int { return b.add(control, key, value, nil) }

// add appends a record and returns its index. The value comes first, since it may stand at the slab's free end.
func (b *Batch) add(k kind, key, value []byte, headers []cdc.Header) int {
	value = b.keep(value)
	key = b.keep(key)
	i := len(b.records)
	if i == len(b.pieces)*recordsPiece {
		b.pieces = append(b.pieces, make([]kgo.Record, recordsPiece))
	}
	r := &b.pieces[i/recordsPiece][i%recordsPiece]
	*r = kgo.Record{Key: key, Value: value, Headers: b.keepHeaders(headers)}
	b.records = append(b.records, r)
	b.kinds = append(b.kinds, k)
	b.bytes += payload(r)
	return i
}

func (b *Batch) keepHeaders(headers []cdc.Header) []kgo.RecordHeader {
	if len(headers) == 0 {
		return nil
	}
	if len(b.headers)+len(headers) > cap(b.headers) {
		b.headers = make([]kgo.RecordHeader, 0, max(headersPiece, len(headers))) // records keep the old piece alive
	}
	n := len(b.headers)
	for _, h := range headers {
		b.headers = append(b.headers, kgo.RecordHeader{Key: h.Key, Value: b.keep(h.Value)})
	}
	return b.headers[n:len(b.headers):len(b.headers)]
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.records) }

// Bytes returns the size of keys, values and headers.
func (b *Batch) Bytes() int { return b.bytes }

// Reset empties the batch. Memory that the client may still read, because a promise has not run, is not used again.
func (b *Batch) Reset() {
	if b.flight != nil && !b.flight.landed() {
		*b = Batch{}
		return
	}
	for i := range b.slabs {
		b.slabs[i] = b.slabs[i][:0]
	}
	clear(b.records)
	b.records, b.kinds, b.headers = b.records[:0], b.kinds[:0], b.headers[:0]
	b.slab, b.bytes, b.hashes, b.stream, b.flight = 0, 0, 0, false, nil
}

// address gives the records their topics: those of the session's shard, and cuts dead letters.
func (b *Batch) address(o Options, shard int32, deadLetterBytes int) {
	for i, r := range b.records {
		switch b.kinds[i] {
		case offset:
			r.Topic, r.Partition = o.OffsetsTopic(), shard
		case hash:
			r.Topic, r.Partition = o.HashesTopic(), shard
		case deadLetter:
			r.Topic, r.Partition = o.DeadLettersTopic(), shard
			cut(r, deadLetterBytes)
		case control:
			r.Topic, r.Partition = o.ControlsTopic(), 0
		}
	}
}

// cut shortens a dead letter to what its topic takes (K15). Hash and cursor stand in its headers.
func cut(r *kgo.Record, limit int) {
	over := encodedSize(payload(r), len(r.Headers)) - limit
	if over <= 0 {
		return
	}
	header := kgo.RecordHeader{Key: "cut", Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)}
	over += len(header.Key) + len(header.Value) + 2*maxVarint
	r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], header)
	r.Value = r.Value[:max(0, len(r.Value)-over)]
}

const (
	maxVarint     = 5  // of a length in a record
	batchOverhead = 61 // header of a record batch
)

// payload returns the bytes of a record that are somebody's.
func payload(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// encodedSize returns at most how many bytes a record of this payload takes as the only one of an uncompressed batch: what kgo
// compares with the batch limit. The real size is a few bytes less, since lengths are varints.
func encodedSize(payload, headers int) int {
	const lengths = 3*maxVarint + 1 + 10 + maxVarint + maxVarint // record, key, value; attributes; time; offset; header count
	return batchOverhead + lengths + payload + 2*maxVarint*headers
}

// flight counts the promises of one transaction's records (K13).
type flight struct {
	done chan struct{} // closed when every promise ran

	mu      sync.Mutex
	left    int
	acked   int
	first   error         // the first failure
	failed  *kgo.Record   // of first
	suspect []*kgo.Record // refused with a record-level error (K15)
	late    map[string]bool
}

func newFlight(records int) *flight {
	return &flight{left: records, done: make(chan struct{})}
}

// promise is called once for every record, by kgo.
func (f *flight) promise(r *kgo.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.acked++
	case f.first == nil:
		f.first, f.failed = err, r
	}
	if err != nil {
		f.fail(r, err)
	}
	if f.left--; f.left == 0 {
		close(f.done)
	}
}

func (f *flight) fail(r *kgo.Record, err error) {
	if recordLevel(err) {
		f.suspect = append(f.suspect, r)
	}
	if f.late == nil {
		f.late = map[string]bool{}
	}
	f.late[r.Topic+"/"+strconv.Itoa(int(r.Partition))] = true
}

// missed names the partitions that have not acknowledged everything, once the flight has landed.
func (f *flight) missed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(sortedKeys(f.late), ", ")
}

// landed reports whether every promise ran: then nobody reads the records' memory any more.
func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
