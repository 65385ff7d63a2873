//go:build !kafka

package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// newBed starts a broker in this process.
func newBed(t testing.TB) *bed {
	b, _ := fakeBed(t)
	return b
}

func fakeBed(t testing.TB, opts ...kfake.Opt) (*bed, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{
		"log.cleaner.backoff.ms": "315360000000", // compaction passes open transactions in kfake
	})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return startBed(t, c.ListenAddrs()), c
}
