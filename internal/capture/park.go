package capture

import (
	"strconv"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
)

// keyed names a key of a stream.
type keyed struct {
	stream *stream
	key    string
}

// park puts a record into the dead-letter topic, in the transaction of its page, once per content (P19): a bad record does
// not block its page, and nothing unreadable is skipped (7).
func (o *ownership) park(w *walk, s *stream, rec *source.Record, body []byte, cause error) error {
	if remedy, scope := cdc.Verdict(cause); remedy == cdc.Halt && scope >= cdc.Stream {
		return cause
	}
	cause = o.client.Veil(cause) // where a codec, or a parent's reader, quotes the record
	w.parked++
	if rec.Key != nil {
		s.table.Touch(rec.Key, rec.KeyHash, record.RawHint{}, o.generation) // D3: it is there, whatever is wrong with it
	}
	hash := rec.Hash
	if hash == 0 {
		hash = rec.RawHash
	}
	name := string(rec.Key)
	if offsets.CheckKey(rec.Key) != nil {
		name = offsets.NoKey(hash) // K5
	}
	if before, ok := s.parked.get(name); ok && before.Hash == offsets.Hex(hash) {
		return nil
	}
	o.number++
	id := o.session.Nonce() + "-" + strconv.FormatInt(o.number, 10)
	p := offsets.Parked{
		Hash: offsets.Hex(hash), Reason: cause.Error(), At: time.Now().UTC(), Partition: w.partition.spec.Name,
		Cursor: string(o.cursorOf(rec, body)), ID: id, Size: rec.Raw.Len(),
	}
	value, err := offsets.Encode(p)
	if err != nil {
		return err
	}
	b := o.filling
	b.records.DeadLetter([]byte(o.name+"/"+s.spec.Name+"/"+name), rec.Raw.Of(body), letterHeaders(o.name, s, w.partition, p))
	b.of(s).Parked++
	s.parked.put(b.id, name, p)
	o.note(offsets.KindParked, s, name, value)
	o.log.Warn("record parked", "stream", s.spec.Name, "key", name, "reason", cause, "topic", o.kafka.DeadLettersTopic())
	return nil
}

// letterHeaders hold what must survive a cut of the dead letter's value (K15), and what a replay needs (P19).
func letterHeaders(connection string, s *stream, p *partition, parked offsets.Parked) []cdc.Header {
	text := func(key, value string) cdc.Header { return cdc.Header{Key: key, Value: []byte(value)} }
	return []cdc.Header{
		text("connection", connection), text("stream", s.spec.Name), text("partition", p.spec.Name), text("topic", s.topic.Name),
		text("reason", parked.Reason), text("hash", hex(parked.Hash)), text("cursor", parked.Cursor), text("id", parked.ID),
		text("size", strconv.Itoa(parked.Size)), text("at", parked.At.Format(time.RFC3339Nano)),
	}
}

func hex(h offsets.Hex) string {
	b, _ := h.MarshalText() // never fails
	return string(b)
}

// unexcept removes what was noted of a key as an exception, once it is published or seen as it should be. It reports whether
// something waits all the same: a deletion that the guard withholds stays where the record is shown older than that.
func (o *ownership) unexcept(s *stream, key []byte, version cdc.Version) (waits bool) {
	if len(s.parked.committed)+len(s.parked.staged)+len(s.held.committed)+len(s.held.staged) == 0 {
		return false
	}
	if _, ok := s.parked.get(string(key)); ok {
		s.parked.remove(o.filling.id, string(key))
		o.note(offsets.KindParked, s, string(key), nil)
	}
	c, ok := s.held.get(string(key))
	if ok && c.Kind == offsets.Withheld && version.Compare(c.Version.Version) < 0 {
		return true
	}
	o.forgive(s, key)
	return false
}

// unchanged takes a record that is shown as it was published. A withheld deletion that is newer waits for the second opinion that a held
// version needs, too: a stale replica takes nothing back, but what a backup brought back must not be deleted by an approval (P14).
func (o *ownership) unchanged(w *walk, s *stream, rec *source.Record) error {
	if !o.unexcept(s, rec.Key, rec.Version) {
		return nil
	}
	known, _ := s.table.Get(rec.Key, rec.KeyHash)
	rec.Hash = known.Hash
	agreed, err := o.hold(w, s, rec)
	if agreed {
		o.forgive(s, rec.Key)
	}
	return err
}

// forgive removes the candidate of a key, whatever it is.
func (o *ownership) forgive(s *stream, key []byte) {
	if _, ok := s.held.get(string(key)); !ok {
		return
	}
	s.held.remove(o.filling.id, string(key))
	o.note(offsets.KindCandidate, s, string(key), nil)
}

// note puts what is known of a key beside its hash into the filling batch, under a name; nil: nothing is any more.
func (o *ownership) note(kind offsets.Kind, s *stream, name string, value []byte) {
	b := o.filling
	b.records.Offset(offsets.Key{Kind: kind, Connection: o.name, Stream: s.spec.Name, Name: name}.Append(nil), value)
	b.press(s)
}
