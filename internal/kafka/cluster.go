package kafka

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Cluster is what is known of the brokers.
type Cluster struct {
	ID                 string
	Version            string // a guess from the API versions, such as "v4.2"
	Brokers            int
	TransactionVersion int      // transaction.version; below 2 K18 applies
	Warnings           []string // K8 d: versions with KAFKA-20734; K18; replication of __transaction_state (K2)
}

// Inspect asks the brokers who they are; what is said at start (K2, K8 d, K18).
func Inspect(ctx context.Context, o Options) (Cluster, error) {
	o = o.filled()
	client, err := o.client()
	if err != nil {
		return Cluster{}, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, o.Deadlines.Admin)
	defer cancel()
	admin := kadm.NewClient(client)
	c, err := inspect(ctx, admin)
	return c, classify("reach brokers", strings.Join(o.Brokers, ","), "", false, err)
}

const transactionState = "__transaction_state"

func inspect(ctx context.Context, admin *kadm.Client) (Cluster, error) {
	metadata, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return Cluster{}, err
	}
	c := Cluster{ID: metadata.Cluster, Brokers: len(metadata.Brokers)}
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return Cluster{}, err
	}
	affected := map[string]bool{}
	for _, v := range versions.Sorted() {
		if v.Err != nil {
			continue
		}
		c.Version = v.VersionGuess()
		if strings.Contains(c.Version, "4.3") || strings.Contains(c.Version, "4.4") {
			affected[c.Version] = true
		}
	}
	for _, v := range sortedKeys(affected) { // K8 d
		c.Warnings = append(c.Warnings, fmt.Sprintf("brokers of %s may have KAFKA-20734 (4.3.0, 4.3.1 and 4.4.0 do; 4.2.1 does not): "+
			"with a leaderless partition they lose the end marker of a transaction. It is looked for at every owning; upgrade", v))
	}
	version := finalized(versions)
	c.TransactionVersion = int(version)
	if version < 2 { // K18
		c.Warnings = append(c.Warnings, fmt.Sprintf("transaction.version is %d: commits are never sent twice (K18), so every lost "+
			"answer costs an owning; kafka-features.sh upgrade --feature transaction.version=2 needs Kafka 4.0", version))
	}
	// It does not exist before the first transaction, and we may not be allowed to see it.
	internal, err := admin.Metadata(ctx, transactionState)
	d := internal.Topics[transactionState]
	if n := d.Partitions.NumReplicas(); err == nil && d.Err == nil && n > 0 && c.Brokers >= 3 && n < 3 {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s has %d replicas on %d brokers: one lost disk loses the outcome of transactions",
			transactionState, n, c.Brokers))
	}
	return c, nil
}

// transactionVersion asks for the finalized transaction.version; 0 where brokers do not know the feature.
func transactionVersion(ctx context.Context, admin *kadm.Client) (int32, error) {
	versions, err := admin.ApiVersions(ctx)
	if len(versions) == 0 && err != nil {
		return 0, err
	}
	return finalized(versions), nil
}

func finalized(versions kadm.BrokersApiVersions) int32 {
	for _, v := range versions.Sorted() {
		if v.Err != nil || v.Raw() == nil {
			continue
		}
		for _, f := range v.Raw().FinalizedFeatures {
			if f.Name == "transaction.version" {
				return int32(f.MaxVersionLevel)
			}
		}
	}
	return 0
}
