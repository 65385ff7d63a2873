package source

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// spool holds back the entries of a newest-first feed until the pass has read down to its cursor; then they are played
// oldest first (P13): downstream a key's events must come in their order. It is a stack: what was put last is the oldest, and
// is taken first. Its top is in memory, what does not fit there in a file without a name: nothing is left of it after a crash.
// Where the stack ends is the position's to say, so that a page which is asked for again puts and takes the same.
type spool struct {
	file    *os.File // nil as long as the top is all that there is
	spilled int64    // bytes in the file
	top     []byte   // those behind them
}

// trailer is how many bytes stand behind an entry, so that it can be read from its end: its length, and its list.
const trailer = 8

// put puts an entry on the stack, bounded (10).
func (p *Position) put(raw []byte, list int) error {
	sp, l := p.spool, p.request.source.limits.withDefaults()
	size := len(raw) + trailer
	if p.end+int64(size) > l.SpoolBytes || p.held >= l.SpoolRecords {
		return p.fail(cdc.Halt, cdc.Partition, "Ask for the oldest first where the API can, and say `order: asc`; else begin with a later "+
			"`start`, after `connector offsets reset`, which publishes again what lies behind it",
			"the newest-first feed shows more than %d entries or %d bytes since its cursor", p.held, p.end)
	}
	sp.cut(p.end)
	if len(sp.top) > 0 && len(sp.top)+size > l.SpoolMemory {
		if err := sp.spill(); err != nil {
			return p.unspooled(err)
		}
	}
	sp.top = append(sp.top, raw...)
	sp.top = binary.LittleEndian.AppendUint32(sp.top, uint32(len(raw)))
	sp.top = binary.LittleEndian.AppendUint32(sp.top, uint32(list))
	p.held, p.end = p.held+1, p.end+int64(size)
	return nil
}

// cut forgets what lies behind end: a page put it that did not count.
func (sp *spool) cut(end int64) {
	sp.spilled = min(sp.spilled, end)
	sp.top = sp.top[:min(int64(len(sp.top)), end-sp.spilled)]
}

// spill writes the top to the file.
func (sp *spool) spill() error {
	if sp.file == nil {
		file, err := os.CreateTemp("", "tidemark-spool-")
		if err != nil {
			return err
		}
		sp.file = file
		if err := os.Remove(file.Name()); err != nil {
			return err
		}
	}
	if _, err := sp.file.WriteAt(sp.top, sp.spilled); err != nil {
		return err
	}
	sp.spilled, sp.top = sp.spilled+int64(len(sp.top)), sp.top[:0]
	return nil
}

// read returns the n bytes before end, in dst where there is room.
func (sp *spool) read(dst []byte, end, n int64) ([]byte, error) {
	dst = slices.Grow(dst[:0], int(n))[:n]
	from := end - n
	low := min(n, max(0, sp.spilled-from)) // of them in the file
	if low > 0 {
		if _, err := sp.file.ReadAt(dst[:low], from); err != nil {
			return dst, err
		}
	}
	copy(dst[low:], sp.top[max(0, from-sp.spilled):])
	return dst, nil
}

// held is an entry of a block.
type held struct {
	raw  record.Span // of the block
	list int
}

var errSpool = errors.New("what was read of it is not what was written")

// oldest returns the block of about size bytes that lies before end, and its entries, oldest first: those that are whole, and
// one at least. dst is used where it is large enough.
func (sp *spool) oldest(dst []byte, end, size int64, most int) (block []byte, entries []held, err error) {
	block, err = sp.read(dst, end, min(end, max(size, trailer)))
	for at := int64(len(block)); err == nil && at >= trailer && len(entries) < most; {
		tail := block[at-trailer : at]
		from := at - trailer - int64(binary.LittleEndian.Uint32(tail))
		switch {
		case from >= 0:
			entries = append(entries, held{record.Span{Off: int32(from), End: int32(at - trailer)}, int(binary.LittleEndian.Uint32(tail[4:]))})
			at = from
		case len(entries) > 0:
			return block, entries, nil
		case at-from > end:
			return block, nil, errSpool
		default: // longer than the block
			block, err = sp.read(block, end, at-from)
			at = int64(len(block))
		}
	}
	return block, entries, err
}

// close gives the file back, and with it what it takes of the disk.
func (sp *spool) close() {
	if sp != nil && sp.file != nil {
		sp.file.Close()
	}
}

// Abandon ends a pass that is not read to its end: what it holds outside memory is given back (P13). The position is not used
// after it, nor is one before it.
func (p *Position) Abandon() { p.spool.close() }

// unspooled says that the file cannot be written, or read back. The cursor has passed nothing that was not played.
func (p *Position) unspooled(err error) error {
	return p.fail(cdc.Retry, cdc.Partition, "See to room and rights in the folder for temporary files, "+os.TempDir()+", or name another one in "+
		"TMPDIR; it is tried again by itself", "entries of a newest-first feed are held back in a file: %w", err)
}

// hold puts a page's entries into the spool, and begins to play when the bottom is reached.
func (s *splitter) hold(next *Position) error {
	inc := s.request.incremental
	var low, prev time.Time
	if !next.lower.isZero() {
		low = inc.floor(next.lower.at)
	}
	bottom := false
	for i := range s.rows {
		w := &s.rows[i]
		at := inc.floor(w.at)
		if !w.at.IsZero() {
			if !prev.IsZero() && at.After(prev) {
				return s.pos.fail(cdc.Halt, cdc.Stream, "Check the sort parameters, or declare `incremental.order`",
					"the order is not descending: a record of %s follows one of %s", w.at.Format(time.RFC3339Nano), prev.Format(time.RFC3339Nano))
			}
			prev = at
			if at.Before(low) {
				bottom = true
				break
			}
		}
		if w.read {
			continue
		}
		if err := next.put(w.raw.Of(s.body), w.list); err != nil {
			return err
		}
	}
	// Nothing of the page counts before it is played: neither records nor ids.
	s.page.Records, s.page.Parked, s.page.Beyond = s.page.Records[:0], 0, 0
	s.pending = s.pending[:0]
	end, err := s.turn(next)
	if err != nil {
		return err
	}
	if len(s.rows) > 0 {
		next.owes, next.suspect = false, false
	}
	if end && next.owes {
		return s.nothing(next)
	}
	if end || bottom {
		next.stage = playing
		next.rows = 0 // they are counted as they are played
	}
	return nil
}

// play makes a page of the oldest entries that are held. Each such page has a checkpoint: everything older was played.
func (s *splitter) play() error {
	next, l := &s.page.Next, s.request.source.limits.withDefaults()
	block, entries, err := next.spool.oldest(s.page.block, next.end, int64(l.SpoolMemory), l.Play)
	if err != nil {
		return s.pos.unspooled(err)
	}
	s.page.block, s.page.Body = block, block
	s.limit = next.began.Add(-s.request.incremental.settle)
	for _, e := range entries {
		s.body = block[:e.raw.End] // what stands behind it is not its
		if _, err := s.read(e.list, int(e.raw.Off)); err != nil {
			return s.broken(err)
		}
		next.held, next.end = next.held-1, next.end-int64(e.raw.Len()+trailer)
	}
	s.body, s.page.Rows = block, len(entries)
	next.rows += len(s.rows)
	m, err := s.highest()
	if err != nil {
		return err
	}
	next.raise(m)
	next.advance(next.high.text)
	if next.held > 0 {
		next.checkpoint.Request = s.request.RequestPrint
		s.page.Checkpoint = &next.checkpoint
		return nil
	}
	next.stage = reading
	s.finish(next)
	return nil
}
