//go:build kafka

package embedded_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/embedded"
)

// A consumer nobody here wrote sees topics, keys, headers and values, and only what was committed.
func TestKcat(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := start(t, embedded.Options{})
	if _, err := kadm.NewClient(client(t, c)).CreateTopic(ctx, 1, 1, nil, "events"); err != nil {
		t.Fatal(err)
	}
	producer := client(t, c, kgo.TransactionalID("one"))
	transact(ctx, t, producer, "7", `{"a":1}`, true)
	transact(ctx, t, producer, "8", `aborted`, false)
	kcat := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, "kcat", append([]string{"-b", c.Brokers()[0]}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("kcat %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := kcat("-L"); !strings.Contains(out, `topic "events" with 1 partitions`) {
		t.Errorf("kcat -L: got\n%s", out)
	}
	out := kcat("-C", "-t", "events", "-o", "beginning", "-e", "-q", "-f", "%k %s\n", "-X", "isolation.level=read_committed")
	if strings.TrimSpace(out) != `7 {"a":1}` {
		t.Errorf("kcat -C: got %q", out)
	}
}
