package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
)

// event is one event as people read it: a line of NDJSON.
type event struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	At        time.Time         `json:"at"`
	Op        string            `json:"op"`
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers,omitempty"`
	Value     json.RawMessage   `json:"value"` // null: a tombstone
}

// reading decodes the events of topics.
type reading struct {
	decoders *codec.Decoders // nil: JSON
	text     []byte
}

func (d *deployment) reading() *reading {
	r := &reading{}
	if d.registry != nil {
		r.decoders = d.registry.Decoders()
	}
	return r
}

// event decodes one record. The value is good until the next call.
func (r *reading) event(ctx context.Context, k kafka.Record) (event, error) {
	e := event{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, At: k.At.UTC(), Key: string(k.Key), Headers: map[string]string{},
		Value: json.RawMessage("null"),
	}
	for _, h := range k.Headers {
		e.Headers[h.Key] = string(h.Value)
	}
	e.Op = e.Headers["ce_op"]
	if k.Value == nil {
		return e, nil
	}
	if _, framed := codec.SchemaID(k.Value); framed && r.decoders != nil {
		var err error
		if r.text, err = r.decoders.Append(ctx, r.text[:0], k.Value); err != nil {
			return e, fmt.Errorf("%s partition %d offset %d: %w", k.Topic, k.Partition, k.Offset, err)
		}
		e.Value = r.text
		return e, nil
	}
	e.Value = bytes.Clone(k.Value)
	return e, nil
}

var errEnough = errors.New("enough was read")

// tail prints the events of a stream.
func tail(ctx context.Context, p *program, args []string) error {
	f := p.flags("tail", "CONNECTION/STREAM | --topic TOPIC")
	topic := f.String("topic", "", "the topic by its name, instead of the stream")
	from := f.String("from", "start", "start, now, or a time (RFC 3339)")
	count := f.Int("count", 0, "end after so many events; 0: never")
	key := f.String("key", "", "only events of this key")
	follow := f.Bool("follow", false, "wait for more at the end")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	s, err := loadSettings(p.env)
	if err != nil {
		return err
	}
	if len(s.Brokers) == 0 {
		return cdc.Errorf(cdc.Halt, cdc.Process, "tail", "Set it to the brokers that the connector uses (demo and run print them)",
			"KAFKA_BROKERS is not set")
	}
	d := &deployment{env: p.env, settings: s, log: s.logger(p)}
	if err := d.connect(); err != nil {
		return err
	}
	if *topic == "" && len(rest) == 0 {
		return fmt.Errorf("%w: which stream? connector tail CONNECTION/STREAM", errUsage)
	}
	if *topic == "" {
		if *topic, err = d.topicOf(rest[0]); err != nil {
			return err
		}
	}
	q := kafka.Query{Topics: []string{*topic}, Follow: *follow || *from == "now"}
	switch *from {
	case "start":
	case "now":
		q.Latest = true
	default:
		if q.From, err = time.Parse(time.RFC3339, *from); err != nil {
			return fmt.Errorf("%w: --from is start, now or a time such as 2026-01-31T12:00:00Z", errUsage)
		}
	}
	return p.print(ctx, d, q, *key, *count)
}

// print prints the events of a query, one a line.
func (p *program) print(ctx context.Context, d *deployment, q kafka.Query, key string, count int) error {
	r := d.reading()
	out := json.NewEncoder(p.out)
	out.SetEscapeHTML(false)
	n := 0
	err := kafka.Read(ctx, d.kafka, q, func(k kafka.Record) error {
		if key != "" && string(k.Key) != key {
			return nil
		}
		e, err := r.event(ctx, k)
		if err != nil {
			return err
		}
		if err := out.Encode(e); err != nil {
			return err
		}
		if n++; n == count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// topicOf is the events topic of CONNECTION/STREAM: as the file of connections names it, or by the deployment's rule where
// there is no file.
func (d *deployment) topicOf(name string) (string, error) {
	connection, stream, err := streamName(name)
	if err != nil {
		return "", err
	}
	if all, err := d.connections(); err == nil {
		for _, c := range all {
			for _, st := range c.bound.Streams {
				if c.Name == connection && st.Name == stream && st.Topic.Name != "" {
					return st.Topic.Name, nil
				}
			}
		}
	}
	return d.kafka.EventsTopic(connection, stream), nil
}
