package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"tidemark/internal/cdc"
)

// Options say how a deployment uses Kafka. The zero value of a field means its default; Brokers and Name have none.
type Options struct {
	Brokers  []string // host:port, at least one
	Name     string   // the deployment's: transactional ids {Name}.{connection}, topics {Name}.offsets and the others (K7, K1)
	Prefix   string   // of events topics; default Name
	Instance string   // this process in the group: group.instance.id, client id, owner record (K6)
	Shards   int32    // partitions of the offsets and hashes topics; default 8

	TLS  *tls.Config // nil: plaintext
	SASL SASL
	// Dial opens every connection to Kafka; nil: a dialer with TLS if configured. It is the seam of the simulation and of
	// proxies, and has to do TLS itself.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Log *slog.Logger // default: nothing is logged
	// Alarm hears what an operator should see at once: what (text for people, naming where and what to do). It may be called
	// from any goroutine and must not block. Default: a warning in the log.
	Alarm func(where, what string)

	Compression       string // snappy (default), lz4, zstd, gzip, none
	ReplicationFactor int16  // of topics that are created; default: 3 where there are three brokers, else 1

	SessionTimeout time.Duration // of the classic group; default 10 s (K6)
	KIP848         bool          // the new group protocol; its session timeout is the broker's (K6)

	Restores  *Restorer // shared by the connections of a process; nil: each Session reads alone
	Deadlines Deadlines
}

// SASL says how we authenticate to the brokers; the zero value: not at all. For mTLS put a certificate into Options.TLS.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
	User      string
	Password  cdc.Secret
	// Token returns a valid token for OAUTHBEARER, at every authentication anew.
	Token func(ctx context.Context) (cdc.Secret, error)
}

// Deadlines bound every wait on Kafka (KAFKA.md). The zero value of a field means its default.
type Deadlines struct {
	Transaction time.Duration // transaction.timeout.ms at the broker; 60 s
	Delivery    time.Duration // of a record; 25 s
	Flush       time.Duration // of a transaction's records; 20 s
	EndTxn      time.Duration // 15 s
	Fence       time.Duration // InitProducerID, which waits for the predecessor's markers; 60 s
	Revoke      time.Duration // what Assignment.Lost may take; 20 s
	Rebalance   time.Duration // rebalance timeout of the group; 60 s
	Stall       time.Duration // a wait without progress is classified and alarmed after this long; 30 s
	Admin       time.Duration // one administrative request with its retries; 30 s
}

// OffsetsTopic returns the name of the topic that holds owners, checkpoints and streams (K1, K5).
func (o Options) OffsetsTopic() string { return o.Name + ".offsets" }

// HashesTopic returns the name of the topic that holds one hash for each key (K1, K5).
func (o Options) HashesTopic() string { return o.Name + ".hashes" }

// ControlsTopic returns the name of the topic of commands and their outcomes (K1).
func (o Options) ControlsTopic() string { return o.Name + ".controls" }

// DeadLettersTopic returns the name of the topic of parked records (K1, P19).
func (o Options) DeadLettersTopic() string { return o.Name + ".dead-letters" }

// EventsTopic returns the default name of a stream's events topic, {prefix}.{connection}.{stream} (K1).
func (o Options) EventsTopic(connection, stream string) string {
	return cmp.Or(o.Prefix, o.Name) + "." + connection + "." + stream
}

// TransactionalID returns the transactional id of a connection (K7).
func (o Options) TransactionalID(connection string) string { return o.Name + "." + connection }

// ShardOf returns the shard of an account under these options (K6).
func (o Options) ShardOf(account string) int32 {
	return Shard(account, cmp.Or(o.Shards, defaultShards))
}

const defaultShards = 8

// Limits of a client's buffers. Records: above any transaction's bound (K17), since Produce would block at it with the
// transaction open.
const maxBuffered = 1 << 20

// codecs are the values of Options.Compression.
func codecs(name string) ([]kgo.CompressionCodec, error) {
	switch name {
	case "snappy":
		return []kgo.CompressionCodec{kgo.SnappyCompression(), kgo.NoCompression()}, nil
	case "lz4":
		return []kgo.CompressionCodec{kgo.Lz4Compression(), kgo.NoCompression()}, nil
	case "zstd":
		return []kgo.CompressionCodec{kgo.ZstdCompression(), kgo.SnappyCompression()}, nil
	case "gzip":
		return []kgo.CompressionCodec{kgo.GzipCompression()}, nil
	case "none":
		return []kgo.CompressionCodec{kgo.NoCompression()}, nil
	}
	return nil, fmt.Errorf("compression %q is none of snappy, lz4, zstd, gzip, none", name)
}

// filled returns o with its defaults in place.
func (o Options) filled() Options {
	o.Prefix = cmp.Or(o.Prefix, o.Name)
	o.Instance = cmp.Or(o.Instance, "tidemark")
	o.Shards = cmp.Or(o.Shards, defaultShards)
	o.Compression = cmp.Or(o.Compression, "snappy")
	o.SessionTimeout = cmp.Or(o.SessionTimeout, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if log := o.Log; o.Alarm == nil {
		o.Alarm = func(where, what string) { log.Warn(what, "where", where) }
	}
	d := &o.Deadlines
	d.Transaction = cmp.Or(d.Transaction, 60*time.Second)
	d.Delivery = cmp.Or(d.Delivery, 25*time.Second)
	d.Flush = cmp.Or(d.Flush, 20*time.Second)
	d.EndTxn = cmp.Or(d.EndTxn, 15*time.Second)
	d.Fence = cmp.Or(d.Fence, 60*time.Second)
	d.Revoke = cmp.Or(d.Revoke, 20*time.Second)
	d.Rebalance = cmp.Or(d.Rebalance, 60*time.Second)
	d.Stall = cmp.Or(d.Stall, 30*time.Second)
	d.Admin = cmp.Or(d.Admin, 30*time.Second)
	return o
}

// Validate checks what can be checked without a broker.
func (o Options) Validate() error {
	o = o.filled()
	var errs []error
	if len(o.Brokers) == 0 {
		errs = append(errs, errors.New("no brokers are given"))
	}
	if !cdc.ValidName(o.Name) { // K7
		errs = append(errs, fmt.Errorf("the deployment's name %q does not match [A-Za-z0-9_-]{1,64}", o.Name))
	}
	if o.Shards < 1 {
		errs = append(errs, fmt.Errorf("%d shards", o.Shards))
	}
	if _, err := codecs(o.Compression); err != nil {
		errs = append(errs, err)
	}
	if _, err := o.sasl(); err != nil {
		errs = append(errs, err)
	}
	if d := o.Deadlines; d.Flush+d.EndTxn >= d.Transaction {
		errs = append(errs, fmt.Errorf("the deadlines of flush (%v) and end (%v) together must stay below the transaction timeout (%v)",
			d.Flush, d.EndTxn, d.Transaction))
	}
	if len(errs) == 0 {
		return nil
	}
	return &cdc.Error{Op: "configure Kafka", Err: errors.Join(errs...), Remedy: cdc.Halt, Scope: cdc.Process,
		Hint: "Correct the Kafka settings (connector env lists them) and start again"}
}

// client returns a new client with what all clients have in common. It connects to nothing yet.
func (o Options) client(more ...kgo.Opt) (*kgo.Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.ClientID(o.Instance),
		kgo.WithLogger(&logger{o.Log}),
		kgo.DisableClientMetrics(),
		// A moved leader should cost a fraction of a second of an open transaction, not kgo's default of five.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryTimeout(o.Deadlines.Admin),
	}
	switch {
	case o.Dial != nil:
		opts = append(opts, kgo.Dialer(o.Dial))
	case o.TLS != nil:
		opts = append(opts, kgo.DialTLSConfig(o.TLS.Clone()))
	}
	mechanism, err := o.sasl()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, mechanism)
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, &cdc.Error{Op: "configure Kafka", Err: err, Remedy: cdc.Halt, Scope: cdc.Process,
			Hint: "Correct the Kafka settings (connector env lists them) and start again"}
	}
	return client, nil
}

// sasl returns the option for the configured mechanism; nil without one.
func (o Options) sasl() (kgo.Opt, error) {
	s := o.SASL
	switch strings.ToUpper(s.Mechanism) {
	case "":
		return nil, nil
	case "PLAIN":
		return kgo.SASL(plain.Auth{User: s.User, Pass: s.Password.Reveal()}.AsMechanism()), nil
	case "SCRAM-SHA-256":
		return kgo.SASL(scram.Auth{User: s.User, Pass: s.Password.Reveal()}.AsSha256Mechanism()), nil
	case "SCRAM-SHA-512":
		return kgo.SASL(scram.Auth{User: s.User, Pass: s.Password.Reveal()}.AsSha512Mechanism()), nil
	case "OAUTHBEARER":
		if s.Token == nil {
			return nil, errors.New("SASL OAUTHBEARER needs a source of tokens")
		}
		return kgo.SASL(oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := s.Token(ctx)
			return oauth.Auth{Token: token.Reveal()}, err
		})), nil
	}
	return nil, fmt.Errorf("SASL mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER", s.Mechanism)
}

// logger gives franz-go's log to ours, at debug: what matters of it comes back to us as an error, and is either returned or
// logged by whoever handles it.
type logger struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (l *logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log implements kgo.Logger.
func (l *logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug(msg, append([]any{"kgo", level.String()}, keyvals...)...)
}
