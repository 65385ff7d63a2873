package capture

import (
	"context"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/state"
)

// adoption builds the state of a stream from its events topic: the last event of each key becomes its hash (K10).
type adoption struct {
	connection *Connection
	stream     *stream
	scanner    *record.Scanner
	rules      uint16          // the number of the rule set under which adopted hashes are made
	decoders   *codec.Decoders // nil: JSON
	text       []byte
	latest     map[string]uint64 // content hash of each key's last event
}

// adoptEvents reads the stream's topic and commits the hashes of what it holds. Records that did not change since are not
// published again; what cannot be read back is left out, and so is published anew.
func (c *Connection) adoptEvents(ctx context.Context, session *kafka.Session, s *stream) error {
	scanner, err := s.normalScanner(s.spec.Rules)
	if err != nil {
		return err
	}
	a := adoption{connection: c, stream: s, scanner: scanner, rules: s.numbered(adopted(s.spec.Rules)), latest: map[string]uint64{}}
	if c.options.Registry != nil {
		a.decoders = c.options.Registry.Decoders()
	}
	err = kafka.Read(ctx, c.kafka, kafka.Query{Topics: []string{s.topic.Name}}, func(r kafka.Record) error { return a.read(ctx, r) })
	if err != nil {
		return err
	}
	c.log.Info("events adopted", "stream", s.spec.Name, "topic", s.topic.Name, "keys", len(a.latest))
	if err := a.commit(ctx, session); err != nil {
		s.drop() // (2)
		return err
	}
	return nil
}

func (a *adoption) read(ctx context.Context, r kafka.Record) error {
	if r.Value == nil {
		delete(a.latest, string(r.Key))
		return nil
	}
	text, err := a.json(ctx, r.Value)
	if err == nil {
		_, err = a.scanner.Scan(text, 0)
	}
	if err != nil {
		a.connection.log.Warn("event not adopted: its record is published again when it is read", "topic", r.Topic,
			"partition", r.Partition, "offset", r.Offset, "error", err)
		delete(a.latest, string(r.Key))
		return nil
	}
	a.latest[string(r.Key)] = a.scanner.Hash
	return nil
}

// json returns the record of an event's value as JSON text.
func (a *adoption) json(ctx context.Context, value []byte) ([]byte, error) {
	if _, framed := codec.SchemaID(value); framed && a.decoders != nil {
		var err error
		if a.text, err = a.decoders.Append(ctx, a.text[:0], value); err != nil {
			return nil, err
		}
		value = a.text
	}
	if a.connection.options.Shape == codec.Envelope {
		path, err := record.ParsePath("record")
		if err != nil {
			return nil, err
		}
		if inner, ok := path.Find(value, record.All(value)); ok {
			return inner.Of(value), nil
		}
	}
	return value, nil
}

// adoptedFields marks the rule set of adopted hashes. They are made of the normal form of a record, as consumers get it back:
// Avro cannot tell a member that is null from one that is absent. The first sighting of an unchanged record replaces its
// hash in silence (P23).
const adoptedFields = "as decoded"

func adopted(r record.Rules) record.Rules {
	r.Fields += adoptedFields
	return r
}

// normalScanner hashes values, in their normal form, under rules.
func (s *stream) normalScanner(rules record.Rules) (*record.Scanner, error) {
	rules.Value = "" // what is scanned is the value itself
	plan, err := record.NewPlan(nil, rules, uint64(s.meta.Seed))
	if err != nil {
		return nil, err
	}
	return record.NewScanner(plan, record.Limits{}), nil
}

// normalHash is the hash that rec would have had if it had been adopted from its event.
func (s *stream) normalHash(rules record.Rules, value []byte) (uint64, error) {
	text, err := s.encoder.Normal(nil, value)
	if err != nil {
		return 0, err
	}
	scanner, err := s.normalScanner(rules)
	if err != nil {
		return 0, err
	}
	_, err = scanner.Scan(text, 0)
	return scanner.Hash, err
}

// adoptionBatch is how many hashes go into one transaction of an adoption (K17).
const adoptionBatch = 5000

// commit writes the hashes in bounded transactions, each with the stream record (K16). Cut anywhere, the adoption begins
// again: the stream record names its topic only with the last one, and without that the stream counts as not known.
func (a *adoption) commit(ctx context.Context, session *kafka.Session) error {
	s, c := a.stream, a.connection
	b := kafka.NewBatch()
	n := uint64(1)
	flush := func(last bool) error {
		r := s.record()
		if !last {
			r.Topic = ""
		}
		value, err := offsets.Encode(r)
		if err != nil {
			return err
		}
		b.Offset(offsets.Key{Kind: offsets.KindStream, Connection: c.name, Stream: s.spec.Name}.Append(nil), value)
		if err := session.Commit(ctx, b); err != nil {
			return err
		}
		s.table.Settle(n)
		s.meta.Count, s.meta.Digest = r.Count, r.Digest // K8 g compares with this promise
		n++
		b.Reset()
		return nil
	}
	for key := range s.table.All() { // of an adoption that was cut
		if _, still := a.latest[string(key)]; !still {
			s.table.StageDelete(n, key, record.KeyHash(key))
			b.Hash(offsets.AppendHashKey(nil, c.name, s.spec.Name, key), nil)
		}
	}
	for key, hash := range a.latest {
		e := state.Entry{Hash: hash, Rules: a.rules, Partition: s.ordinal(cdc.NoPartition)}
		s.table.Stage(n, []byte(key), record.KeyHash([]byte(key)), e)
		b.Hash(offsets.AppendHashKey(nil, c.name, s.spec.Name, []byte(key)), offsets.AppendHash(nil, offsets.Hash{Hash: hash, Rules: a.rules}))
		if b.Len() >= adoptionBatch {
			if err := flush(false); err != nil {
				return err
			}
		}
	}
	if err := flush(true); err != nil {
		return err
	}
	s.known = true
	c.applied, c.lastCommit = session.Applied(), time.Now()
	return nil
}
