package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/state"
)

// resetting is what `offsets reset` is asked.
type resetting struct {
	surgery
	tombstones bool

	hashes, deleted, transactions int64
}

// offsetsReset forgets a stream.
func offsetsReset(ctx context.Context, p *program, args []string) error {
	r := resetting{surgery: surgery{p: p}}
	f := p.flags("offsets reset", "CONNECTION/STREAM [--tombstone-old] [--dry-run] --yes")
	f.BoolVar(&r.tombstones, "tombstone-old", false, "publish a tombstone (reason reset) for every key that was published")
	r.consent(f)
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: connector offsets reset CONNECTION/STREAM", errUsage)
	}
	if r.d, err = p.distant("offsets reset"); err != nil {
		return err
	}
	if err := r.prepare(ctx, rest[0]); err != nil {
		return err
	}
	if r.spec != nil && r.spec.Name != r.stream {
		return fmt.Errorf("%w: %s is a request with several streams; name one of them", errUsage, rest[0])
	}
	r.plan()
	if ok, err := r.agreed(); !ok {
		return err
	}
	if err := r.operate(ctx, r.work); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "done: %s removed and %s published in %s\n%s\n", counted(r.hashes, "hash"), counted(r.deleted, "tombstone"),
		counted(r.transactions, "transaction"), whenNoticed)
	return r.next(ctx)
}

// topic is the events topic of the stream: as the state says, or, where a reset was cut, as the configuration does.
func (r *resetting) topic(meta offsets.Stream) string {
	name := r.d.kafka.EventsTopic(r.target.Name, r.stream)
	if r.spec != nil {
		name = cmp.Or(r.spec.Topic.Name, name)
	}
	return cmp.Or(meta.Topic, name)
}

// plan prints what will be done.
func (r *resetting) plan() {
	meta := r.now.streams[r.stream]
	fmt.Fprintf(r.p.out, "reset %s/%s (shard %d):\n", r.target.Name, r.stream, r.now.shard)
	rows := [][]string{}
	count := func(what, of string, kinds ...offsets.Kind) {
		if n := len(r.now.of(of, kinds...)); n > 0 {
			rows = append(rows, []string{"  " + what, fmt.Sprint(n), "removed from " + r.d.kafka.OffsetsTopic()})
		}
	}
	rows = append(rows, []string{"  hashes of keys", fmt.Sprint(meta.Count), "removed from " + r.d.kafka.HashesTopic()})
	count("checkpoints", r.cursors(), offsets.KindCursor)
	count("parked records, as known", r.stream, offsets.KindParked)
	count("candidates", r.stream, offsets.KindCandidate)
	count("lists of ids, windows", r.cursors(), offsets.KindRecent, offsets.KindWindow)
	count("files", r.stream, offsets.KindFile)
	count("stream record", r.stream, offsets.KindStream)
	if r.tombstones {
		rows = append(rows, []string{"  tombstones", fmt.Sprint(meta.Count), "published to " + r.topic(meta) + " (reason reset)"})
	}
	aligned(r.p.out, rows)
	if r.request != nil && len(r.request.Streams) > 1 {
		fmt.Fprintln(r.p.out, "Its checkpoints are those of the request "+r.request.Name+": the other streams of it are read again too, and what did not change is not published again.")
	}
	if r.spec == nil {
		fmt.Fprintln(r.p.out, "The definition has no such stream (any more): what is stored of it goes.")
	}
	if !r.tombstones && meta.Count > 0 {
		fmt.Fprintln(r.p.out, "Its events stay in topic "+r.topic(meta)+"; --tombstone-old removes their keys.")
	}
}

// work removes the state in bounded transactions (K17): each carries the stream record with count and digest of what is left
// (K16), and a key's tombstone goes together with its hash (1). The checkpoints go first: whoever takes over in the middle
// reads everything anew. The last transaction removes the stream record, with which the stream is unknown.
func (r *resetting) work(ctx context.Context, h *hands) error {
	meta := h.held.streams[r.stream]
	w := eraser{resetting: r, hands: h, meta: meta, batch: kafka.NewBatch(), bound: kafka.NewBound(r.d.settings.Records, r.d.settings.Bytes, 0)}
	if r.tombstones {
		there, ok := h.there[r.topic(meta)]
		switch {
		case !ok:
			return w.refuse("topic %s is not there, or cannot be used", r.topic(meta))
		case meta.TopicID != "" && there.info.ID != meta.TopicID:
			return w.refuse("topic %s was deleted and created again: the keys are gone with it", there.Name)
		case there.info.Partitions < meta.Partitions:
			return w.refuse("topic %s has %d partitions, it began with %d", there.Name, there.info.Partitions, meta.Partitions)
		}
		w.meta.Topic, w.meta.Partitions = there.Name, cmp.Or(meta.Partitions, there.info.Partitions) // K3: the recorded count
		w.origin = codec.NewOrigin(r.d.settings.Name, r.target.Name, r.target.bound.Name, r.stream)
	} else {
		w.meta.Topic = "" // with which the stream counts as not known: should we be cut, K10 keeps the owner from publishing
	}
	return w.erase(ctx)
}

// eraser is one try of a reset.
type eraser struct {
	*resetting
	hands   *hands
	meta    offsets.Stream
	batch   *kafka.Batch
	bound   *kafka.Bound
	origin  *codec.Origin
	number  int64
	headers []cdc.Header
	slab    []byte
	erased  struct{ hashes, deleted int64 } // in the batch
}

func (w *eraser) refuse(format string, args ...any) error {
	e := cdc.Errorf(cdc.Halt, cdc.Stream, "offsets reset", "Run it without --tombstone-old", format, args...)
	e.Where = w.target.Name + "/" + w.stream
	return e
}

func (w *eraser) erase(ctx context.Context) error {
	for _, k := range w.hands.held.of(w.cursors(), offsets.KindCursor, offsets.KindRecent, offsets.KindWindow) {
		w.batch.Offset(k.Append(nil), nil)
	}
	var key []byte
	for k, e := range w.hands.table.All() {
		key = append(key[:0], k...)
		if w.tombstones && e.Flags&state.Grave == 0 { // a grave's key has its tombstone
			w.tombstone(key)
		}
		w.batch.Hash(offsets.AppendHashKey(nil, w.target.Name, w.stream, key), nil)
		w.hands.table.Remove(key, record.KeyHash(key))
		w.erased.hashes++
		if w.bound.Full(w.batch) {
			if err := w.commit(ctx); err != nil {
				return err
			}
		}
	}
	return w.last(ctx)
}

// tombstone adds the tombstone of a key.
func (w *eraser) tombstone(key []byte) {
	w.number++
	ev := codec.Event{Origin: w.origin, Owner: w.hands.session.Nonce(), Number: w.number, Key: key, Op: cdc.Deleted, Reason: cdc.Reset}
	w.headers, w.slab = codec.AppendHeaders(w.headers[:0], w.slab[:0], &ev)
	w.batch.Event(w.meta.Topic, w.meta.Partitions, key, nil, w.headers)
	w.erased.deleted++
}

func (w *eraser) streamKey() []byte {
	return offsets.Key{Kind: offsets.KindStream, Connection: w.target.Name, Stream: w.stream}.Append(nil)
}

// commit ends a transaction with the stream record as of what is left (K16).
func (w *eraser) commit(ctx context.Context) error {
	set := w.hands.table.Set()
	w.meta.Count, w.meta.Digest = set.Count, offsets.Hex(set.Digest)
	value, err := offsets.Encode(w.meta)
	if err != nil {
		return err
	}
	w.batch.Offset(w.streamKey(), value)
	return w.send(ctx)
}

func (w *eraser) send(ctx context.Context) error {
	began := time.Now()
	err := w.hands.session.Commit(ctx, w.batch)
	w.bound.Observe(time.Since(began), err)
	if err != nil {
		return err
	}
	w.batch.Reset()
	w.transactions++
	w.resetting.hashes += w.erased.hashes
	w.resetting.deleted += w.erased.deleted
	w.erased.hashes, w.erased.deleted = 0, 0
	return nil
}

// last removes everything else of the stream, and its record behind it.
func (w *eraser) last(ctx context.Context) error {
	keep := []offsets.Kind{offsets.KindCursor, offsets.KindRecent, offsets.KindWindow, offsets.KindStream} // gone already, or last
	for _, k := range w.hands.held.of(w.stream) {
		if slices.Contains(keep, k.Kind) {
			continue
		}
		w.batch.Offset(k.Append(nil), nil)
		if w.bound.Full(w.batch) {
			if err := w.commit(ctx); err != nil {
				return err
			}
		}
	}
	value, err := offsets.Encode(w.meta)
	if err != nil {
		return err
	}
	w.batch.Offset(w.streamKey(), value) // K16: a transaction with hashes has one; the tombstone behind it is what stays
	w.batch.Offset(w.streamKey(), nil)
	return w.send(ctx)
}

// next says what is to be done for the stream to go on (K10).
func (r *resetting) next(ctx context.Context) error {
	name := r.d.kafka.EventsTopic(r.target.Name, r.stream)
	if r.spec == nil {
		return nil
	}
	name = cmp.Or(r.spec.Topic.Name, name)
	seen, err := lookAt(ctx, r.d.kafka, []kafka.Topic{{Name: name, Role: kafka.Events}})
	if err != nil {
		return err
	}
	empty := seen[0].missing
	if !empty {
		if empty, err = kafka.IsEmpty(ctx, r.d.kafka, name); err != nil {
			return err
		}
	}
	if empty {
		fmt.Fprintf(r.p.out, "Next: connector run reads %s/%s from the start and publishes it into the empty topic %s.\n", r.target.Name, r.stream, name)
		return nil
	}
	fmt.Fprintf(r.p.out, "Next: topic %s still holds events, so connector run refuses %s/%s (K10) until it is started once with --rebaseline, which publishes everything anew.\n",
		name, r.target.Name, r.stream)
	return nil
}
