package supervisor

import (
	"context"
	"time"

	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// controlsAfter is the pause before the controls topic is followed again after an error.
const controlsAfter = 10 * time.Second

// mostOpen bounds the commands that wait for their outcome (10).
const mostOpen = 1000

// controls follows the controls topic (K1): every instance hears every command, and the connection that it names keeps it until
// it is owned here, or until the outcome of another owner appears. Each start reads from the beginning, since the topic is
// compacted and small.
func (s *Supervisor) controls(ctx context.Context) {
	for ctx.Err() == nil {
		err := kafka.Read(ctx, s.kafka, kafka.Query{Topics: []string{s.kafka.ControlsTopic()}, Follow: true}, func(r kafka.Record) error {
			s.command(string(r.Key), r.Value)
			return nil
		})
		if err == nil {
			return
		}
		s.log.Warn("commands are not heard for a while", "topic", s.kafka.ControlsTopic(), "error", err)
		select {
		case <-time.After(controlsAfter):
		case <-ctx.Done():
		}
	}
}

// command hands one record of the controls topic to the connection that it names.
func (s *Supervisor) command(id string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
	if value == nil {
		for _, m := range s.fleet {
			m.connection.Done(id)
		}
		return
	}
	c, err := offsets.Decode[offsets.Command](value)
	if err != nil {
		s.log.Error("a command cannot be read and is not carried out", "id", id, "error", err)
		return
	}
	if c.Outcome == nil && time.Now().Before(c.Expires) && len(s.open) < mostOpen {
		s.open[id] = c
	}
	for _, m := range s.fleet {
		switch {
		case m.connection.Name() != c.Connection:
		case c.Outcome != nil, time.Now().After(c.Expires):
			m.connection.Done(id)
		default:
			m.connection.Order(id, c)
		}
	}
}
