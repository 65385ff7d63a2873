package kafka

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The smallest bound that halving leads to: a transaction of this size that misses its deadline is not too large.
const (
	leastRecords = 100
	leastBytes   = 256 << 10
)

// Bound is how much goes into one transaction (K17). It belongs to the connection and outlives sessions. The zero value is not
// usable. It is not safe for concurrent use.
type Bound struct {
	records, bytes       int
	mostRecords, mostByt int
	open                 time.Duration
}

// NewBound returns the bound to begin with: records, bytes and the time a transaction may be open; 0: 10,000, 16 MiB, 1 s.
func NewBound(records, bytes int, open time.Duration) *Bound {
	b := &Bound{
		records: cmp.Or(records, 10_000),
		bytes:   cmp.Or(bytes, 16<<20),
		open:    cmp.Or(open, time.Second),
	}
	b.mostRecords, b.mostByt = b.records, b.bytes
	return b
}

// Full reports whether the batch has reached the bound.
func (b *Bound) Full(batch *Batch) bool { return batch.Len() >= b.records || batch.Bytes() >= b.bytes }

// Observe takes the outcome of a commit and the time that it took. After a missed deadline, or an open time beyond the bound's,
// the bound halves; after good commits it grows slowly back to what it began with (K17).
func (b *Bound) Observe(took time.Duration, err error) {
	switch {
	case late(err), err == nil && took > b.open:
		b.records = max(b.records/2, min(leastRecords, b.mostRecords))
		b.bytes = max(b.bytes/2, min(leastBytes, b.mostByt))
	case err == nil:
		b.records = min(b.records+1+b.records/50, b.mostRecords)
		b.bytes = min(b.bytes+1+b.bytes/50, b.mostByt)
	}
}

// Now returns the present bound.
func (b *Bound) Now() (records, bytes int) { return b.records, b.bytes }

// late reports whether err is a missed deadline.
func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrRecordTimeout)
}
