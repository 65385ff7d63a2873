package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
)

// settings are what the environment says of a deployment. `connector env` prints them from the tags below.
type settings struct {
	Name        string `env:"DEPLOYMENT" envDefault:"tidemark" doc:"the deployment's name: names of topics, transactional ids and the group begin with it"`
	Prefix      string `env:"TOPIC_PREFIX" doc:"first part of the names of events topics; default: DEPLOYMENT"`
	Connections string `env:"CONNECTIONS" envDefault:"connections.yaml" doc:"the file of connections"`
	Instance    string `env:"INSTANCE" doc:"this process in the group (group.instance.id); default: host name and admin port"`

	Brokers        []string      `env:"KAFKA_BROKERS" doc:"host:port, separated by commas; empty: the embedded broker, in memory"`
	TLS            bool          `env:"KAFKA_TLS" doc:"TLS to the brokers"`
	CAFile         string        `env:"KAFKA_CA_FILE" doc:"PEM certificates that are trusted beside the system's"`
	CertFile       string        `env:"KAFKA_CERT_FILE" doc:"PEM client certificate (mTLS)"`
	KeyFile        string        `env:"KAFKA_KEY_FILE" doc:"PEM key of the client certificate"`
	SASLMechanism  string        `env:"KAFKA_SASL_MECHANISM" doc:"PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"`
	SASLUser       string        `env:"KAFKA_SASL_USER" doc:"user for SASL"`
	SASLPassword   string        `env:"KAFKA_SASL_PASSWORD" doc:"password for SASL, or the token for OAUTHBEARER" secret:"yes"`
	Plaintext      bool          `env:"KAFKA_PLAINTEXT" doc:"allow a broker that is not on loopback without TLS"`
	Compression    string        `env:"KAFKA_COMPRESSION" envDefault:"snappy" doc:"snappy, lz4, zstd, gzip or none"`
	Replication    int16         `env:"KAFKA_REPLICATION_FACTOR" doc:"of topics that are created; default: 3 where there are three brokers, else 1"`
	Shards         int32         `env:"SHARDS" envDefault:"8" doc:"partitions of the offsets and hashes topics; fixed once they exist"`
	SessionTimeout time.Duration `env:"KAFKA_SESSION_TIMEOUT" envDefault:"10s" doc:"how long a silent instance keeps its shards"`
	KIP848         bool          `env:"KAFKA_KIP848" doc:"the new group protocol; its session timeout is the broker's"`
	Records        int           `env:"TRANSACTION_RECORDS" envDefault:"10000" doc:"records in a transaction, at most"`
	Bytes          int           `env:"TRANSACTION_BYTES" envDefault:"16777216" doc:"bytes in a transaction, at most"`

	Format           string `env:"VALUE_FORMAT" envDefault:"avro" doc:"avro (needs a registry) or json"`
	Shape            string `env:"VALUE_SHAPE" envDefault:"plain" doc:"plain (the record) or envelope (op, source, record)"`
	Registry         string `env:"SCHEMA_REGISTRY_URL" doc:"a registry that speaks the Confluent API; several, separated by commas"`
	RegistryUser     string `env:"SCHEMA_REGISTRY_USER" doc:"user for the registry"`
	RegistryPassword string `env:"SCHEMA_REGISTRY_PASSWORD" doc:"password for the registry" secret:"yes"`

	SecretKey string `env:"SECRET_KEY" doc:"32 bytes in base64 that rotated tokens are sealed with (openssl rand -base64 32)" secret:"yes"`

	FilesDir string `env:"FILES_DIR" doc:"the folder that files of records are downloaded into (files: in a definition); every instance must see the same one"`

	Admin      string `env:"ADMIN_ADDRESS" envDefault:"127.0.0.1:8484" doc:"where the status page, the metrics and the health checks listen"`
	AdminToken string `env:"ADMIN_TOKEN" doc:"bearer token that changes of state want; none: nothing can be changed over HTTP" secret:"yes"`

	PageBytes   int64  `env:"PAGE_BYTES" envDefault:"268435456" doc:"bytes of pages in flight, in the process"`
	MemoryLimit int64  `env:"MEMORY_LIMIT" doc:"soft limit of the Go heap in bytes; the tables lie outside it; 0: none"`
	LogLevel    string `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
	LogFormat   string `env:"LOG_FORMAT" doc:"text or json; default: text on a terminal, json elsewhere"`
}

// loadSettings reads the environment.
func loadSettings(lookup func(string) (string, bool)) (*settings, error) {
	var s settings
	fields, err := env.GetFieldParams(&s)
	if err != nil {
		return nil, err
	}
	environment := map[string]string{}
	for _, f := range fields {
		if v, ok := lookup(f.Key); ok {
			environment[f.Key] = v
		}
	}
	if err := env.ParseWithOptions(&s, env.Options{Environment: environment}); err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "read the environment", "`connector env` lists every variable with its default", "%w", err)
	}
	return &s, s.validate()
}

func (s *settings) validate() error {
	bad := func(variable, hint, format string, args ...any) error {
		e := cdc.Errorf(cdc.Halt, cdc.Process, "read the environment", hint, format, args...)
		e.Where = variable
		return e
	}
	switch {
	case !cdc.ValidName(s.Name):
		return bad("DEPLOYMENT", "Use 1 to 64 of A-Z a-z 0-9 _ -", "%q cannot name a deployment", s.Name)
	case s.Format != "avro" && s.Format != "json":
		return bad("VALUE_FORMAT", "Write avro or json", "%q is no format", s.Format)
	case s.Format == "avro" && s.Registry == "" && len(s.Brokers) > 0:
		return bad("SCHEMA_REGISTRY_URL", "Set it, or VALUE_FORMAT=json", "Avro needs a schema registry")
	case s.Shards < 1 || s.Shards > 1000:
		return bad("SHARDS", "8 is enough for most", "%d shards", s.Shards)
	case s.SecretKey != "" && s.sealKey() == nil:
		return bad("SECRET_KEY", "Make one with `openssl rand -base64 32`", "it is not 32 bytes in base64")
	case s.LogFormat != "" && s.LogFormat != "text" && s.LogFormat != "json":
		return bad("LOG_FORMAT", "Write text or json", "%q is no log format", s.LogFormat)
	}
	for _, b := range s.Brokers {
		host, _, err := net.SplitHostPort(b)
		if err != nil {
			return bad("KAFKA_BROKERS", "Write host:port, separated by commas", "%w", err)
		}
		if !s.TLS && !s.Plaintext && !loopback(host) {
			return bad("KAFKA_BROKERS", "Set KAFKA_TLS=true, or KAFKA_PLAINTEXT=true where the network is trusted",
				"broker %s is not on loopback and the connection would be in clear", b)
		}
	}
	_, err := codec.ParseShape(s.Shape)
	return err
}

// sealKey returns the key of tokens; nil where there is none, or none that can be read.
func (s *settings) sealKey() *[32]byte {
	b, err := base64.StdEncoding.DecodeString(s.SecretKey)
	if err != nil || len(b) != 32 {
		return nil
	}
	return (*[32]byte)(b)
}

// instance names this process.
func (s *settings) instance() string {
	if s.Instance != "" {
		return s.Instance
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	_, port, _ := net.SplitHostPort(s.Admin)
	return cmp.Or(host, "unknown") + "-" + cmp.Or(port, "0")
}

// kafkaOptions are the options of everything that talks to the brokers.
func (s *settings) kafkaOptions(log *slog.Logger) (kafka.Options, error) {
	o := kafka.Options{
		Brokers: s.Brokers, Name: s.Name, Prefix: s.Prefix, Instance: s.instance(), Shards: s.Shards, Log: log,
		Compression: s.Compression, ReplicationFactor: s.Replication, SessionTimeout: s.SessionTimeout, KIP848: s.KIP848,
		SASL: kafka.SASL{Mechanism: s.SASLMechanism, User: s.SASLUser, Password: cdc.NewSecret(s.SASLPassword)},
	}
	if s.SASLMechanism == "OAUTHBEARER" {
		o.SASL.Token = func(context.Context) (cdc.Secret, error) { return o.SASL.Password, nil }
	}
	if !s.TLS {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return o, fmt.Errorf("KAFKA_CA_FILE: %w", err)
		}
		if o.TLS.RootCAs, err = x509.SystemCertPool(); err != nil {
			o.TLS.RootCAs = x509.NewCertPool()
		}
		if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("KAFKA_CA_FILE %s holds no certificate", s.CAFile)
		}
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return o, fmt.Errorf("KAFKA_CERT_FILE and KAFKA_KEY_FILE: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}

// logger returns the process's log.
func (s *settings) logger(p *program) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "text" || s.LogFormat == "" && p.terminal {
		return slog.New(slog.NewTextHandler(p.err, o))
	}
	return slog.New(slog.NewJSONHandler(p.err, o))
}

// limits bounds the Go heap; the tables are mapped memory outside it.
func (s *settings) limits() {
	if s.MemoryLimit > 0 {
		debug.SetMemoryLimit(s.MemoryLimit)
	}
}

// print identifies a configuration (K10): two deployments of one name that differ in it are told apart. Secrets are not in it.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// docOf is the documentation of the i-th setting.
func docOf(i int) string { return reflect.TypeFor[settings]().Field(i).Tag.Get("doc") }
