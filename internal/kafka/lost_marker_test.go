//go:build kafka43

package kafka

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
)

// TestK8dLostMarkerOf43: on Kafka 4.3.0 (KAFKA-20734) the coordinator reports a commit as complete although the marker for a
// leaderless partition was dropped. We notice it at the next owning, before anything is written. It starts three nodes:
//
//	KAFKA_VERSION=4.3.0 go test -tags kafka43 -run LostMarkerOf43 ./internal/kafka
//
// With KAFKA_VERSION=4.2.1 the same story ends well: the marker is written when the node is back.
func TestK8dLostMarkerOf43(t *testing.T) {
	version := os.Getenv("KAFKA_VERSION")
	if version == "" {
		version = "4.3.0"
	}
	dir := t.TempDir()
	kafka := func(args ...string) string {
		t.Helper()
		c := exec.Command("../../deploy/kafka/kafka", args...)
		c.Env = append(os.Environ(), "KAFKA_VERSION="+version, "KAFKA_HEAP=256m")
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("kafka %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	defer kafka("stop", dir)
	brokers := strings.Split(kafka("start", dir, "3", freeBase(t)), ",")
	b := startBed(t, brokers)
	b.Deadlines.Stall = 90 * time.Second
	admin := kadm.NewClient(b.client())
	cluster, err := Inspect(b.ctx(), b.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", cluster)
	if affected := strings.Contains(strings.Join(cluster.Warnings, " "), "KAFKA-20734"); affected != (version != "4.2.1") {
		t.Errorf("KAFKA-20734 named at start: %v", affected)
	}
	topic := StreamTopic{Topic: b.EventsTopic("c", "s"), Partitions: 1}
	b.place(topic.Topic, 3)
	leader := func() int32 {
		m, err := admin.Metadata(b.ctx(), topic.Topic)
		if err != nil || len(m.Topics[topic.Topic].Partitions) == 0 {
			return -2
		}
		return m.Topics[topic.Topic].Partitions[0].Leader
	}
	b.until("node 3 to lead the events", func() bool { return leader() == 3 })
	name := b.survivor(admin, 3)
	s := b.ready(name, topic)
	b.wire.set(func(w *wire) {
		w.beforeEnd = func() {
			kafka("kill", dir, "3")
			b.until("the events to have no leader", func() bool { return leader() == -1 })
		}
	})
	batch := NewBatch()
	b.change(batch, name, topic, "k", "1")
	t.Logf("the commit while the partition has no leader: %v", s.Commit(b.ctx(), batch))
	b.wire.set(func(w *wire) { w.beforeEnd = nil })
	kafka("restart", dir, "3")
	b.until("node 3 to lead again", func() bool { return leader() == 3 })
	s, err = b.tryOwn(name, topic)
	if version == "4.2.1" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var lost *LostMarkerError
	if !errors.As(err, &lost) || lost.Topic != topic.Topic || lost.Offset != 0 {
		t.Fatalf("the lost marker was not noticed: %v", err)
	}
	verdict(t, err, cdc.Halt, cdc.Connection)
	t.Log(err)
}

// survivor returns a connection whose transactions are not coordinated by node: the story needs the coordinator alive.
func (b *bed) survivor(admin *kadm.Client, node int32) string {
	b.Helper()
	for i := range 100 {
		name := fmt.Sprint("c", i)
		var at int32 = -1
		b.until("a coordinator for "+name, func() bool {
			r := admin.FindTxnCoordinators(b.ctx(), b.TransactionalID(name))[b.TransactionalID(name)]
			at = r.NodeID
			return r.Err == nil
		})
		if at != node {
			return name
		}
	}
	b.Fatal("node 3 coordinates everything")
	return ""
}

// place creates a topic with its only replica on one node.
func (b *bed) place(topic string, node int32) {
	b.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 20_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, -1, -1
	a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	a.Replicas = []int32{node}
	t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	for k, v := range map[string]string{"cleanup.policy": "compact", "min.insync.replicas": "1"} {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, &v
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(b.ctx(), b.client())
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// freeBase returns a port with its neighbours free.
func freeBase(t *testing.T) string {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		free := port < 65000
		for _, p := range []int{port + 1, port + 2, port + 101, port + 102, port + 103} {
			if n, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err != nil {
				free = false
			} else {
				n.Close()
			}
		}
		if free {
			return fmt.Sprint(port)
		}
	}
}
