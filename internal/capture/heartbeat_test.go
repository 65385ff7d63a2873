package capture

import (
	"log/slog"
	"testing"
	"time"

	"tidemark/internal/embedded"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// TestK12IdleConnectionBeats: a connection that has committed nothing for a day commits its owner record again, into both
// topics, so that its transactional id does not expire; then it is quiet for another day.
func TestK12IdleConnectionBeats(t *testing.T) {
	cluster, err := embedded.Start(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	definition, err := source.Parse("idle.yaml", []byte("source: idle\nbase_url: http://127.0.0.1:1\nauthenticator: {type: none}\nstreams:\n"+
		"  things: {path: /, records: data, primary_key: id, interval: 24h}\n"))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := definition.Bind("c", nil, source.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	o := kafka.Options{Brokers: cluster.Brokers(), Name: "test", Shards: 1, Log: slog.New(slog.DiscardHandler)}
	if _, err := kafka.EnsureTopics(t.Context(), o, o.SystemTopics()); err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Source: bound, Kafka: o, Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.topics(t.Context()); err != nil {
		t.Fatal(err)
	}
	session, err := kafka.Own(t.Context(), o, c.claim(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.restore(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	own := c.begin(t.Context(), session)
	defer own.release()
	c.lastCommit = time.Now().Add(-heartbeatEvery - time.Minute)
	for want := 2; want > 0; want-- { // the second time nothing is due
		if err := own.chores(time.Now()); err != nil {
			t.Fatal(err)
		}
		if due := own.committing != nil; due != (want == 2) {
			t.Fatalf("a heartbeat is under way: %t", due)
		}
		if own.committing != nil {
			if err := own.settle(<-own.committed); err != nil {
				t.Fatal(err)
			}
		}
	}
	beats := map[string]int{}
	err = kafka.Read(t.Context(), o, kafka.Query{Topics: []string{o.OffsetsTopic(), o.HashesTopic()}}, func(r kafka.Record) error {
		owner, err := offsets.Decode[offsets.Owner](r.Value)
		if err == nil && owner.Nonce == session.Nonce() {
			beats[r.Topic]++
		}
		return err
	})
	if err != nil || beats[o.OffsetsTopic()] != 2 || beats[o.HashesTopic()] != 2 {
		t.Errorf("owner records: %v (%v), want two in each topic", beats, err)
	}
}
