package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Options says where the broker and the registry listen. The zero value binds two free loopback ports.
type Options struct {
	// KafkaPort is the broker's port on 127.0.0.1; 0 takes a free one. With Brokers above 1 it is the first of as many
	// consecutive ports.
	KafkaPort int
	// RegistryPort is the registry's port on 127.0.0.1; 0 takes a free one.
	RegistryPort int
	// Brokers is how many brokers the cluster has; 0 is one.
	Brokers int
	// Listen replaces net.Listen, for tests on kfake's VirtualNetwork, which needs ports that are not 0. The registry
	// needs it to give real connections to whoever dials it.
	Listen func(network, address string) (net.Listener, error)
	// Settings are broker settings beside our own, which they override; see kfake.BrokerConfigs.
	Settings map[string]string
	// Extra is passed on to kfake, for what only tests want: SASL, ACLs, faults of old versions.
	Extra []kfake.Opt
}

// Cluster is a running broker and its registry.
type Cluster struct {
	kafka    *kfake.Cluster
	registry *Registry
	server   *http.Server
	url      string
	served   chan struct{}
}

// Start binds the ports and returns when both answer. The error names the port that could not be had.
func Start(o Options) (*Cluster, error) {
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	kafka, err := startKafka(o)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(o.RegistryPort))
	listener, err := o.Listen("tcp", address)
	if err != nil {
		kafka.Close()
		return nil, fmt.Errorf("embedded registry: listen on %s: %w", address, err)
	}
	c := &Cluster{kafka: kafka, registry: NewRegistry(), served: make(chan struct{})}
	if o.RegistryPort == 0 {
		address = listener.Addr().String()
	}
	c.url = "http://" + address
	c.server = &http.Server{Handler: c.registry, ReadHeaderTimeout: 30 * time.Second}
	go func() { // the registry's server; ends with Close
		defer close(c.served)
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			// Serve ends otherwise only when the listener broke under it: clients see refused connections, and
			// that is what they report.
			_ = listener.Close()
		}
	}()
	return c, nil
}

// startKafka starts kfake with the settings that KAFKA.md's facts about it ask for.
func startKafka(o Options) (*kfake.Cluster, error) {
	settings := map[string]string{
		// kfake's compaction passes open transactions and so destroys what a restore reads; ten years keep it away.
		"log.cleaner.backoff.ms": "315360000000",
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	brokers := max(1, o.Brokers)
	options := []kfake.Opt{
		kfake.NumBrokers(brokers),
		kfake.ClusterID("tidemark-embedded"),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(settings),
		kfake.ListenFn(o.Listen),
	}
	if o.KafkaPort != 0 {
		ports := make([]int, brokers)
		for i := range ports {
			ports[i] = o.KafkaPort + i
		}
		options = append(options, kfake.Ports(ports...))
	}
	kafka, err := kfake.NewCluster(append(options, o.Extra...)...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: listen on 127.0.0.1:%d: %w", o.KafkaPort, err)
	}
	return kafka, nil
}

// Brokers returns the brokers' addresses, host:port.
func (c *Cluster) Brokers() []string { return c.kafka.ListenAddrs() }

// RegistryURL returns the registry's base URL, without a slash at its end.
func (c *Cluster) RegistryURL() string { return c.url }

// Registry returns the registry behind RegistryURL.
func (c *Cluster) Registry() *Registry { return c.registry }

// Kafka returns the broker, for tests that plant faults in it.
func (c *Cluster) Kafka() *kfake.Cluster { return c.kafka }

// Compact compacts the compacted topics now. It is to be called only while no transaction is open, since kfake's
// compaction does not respect one.
func (c *Cluster) Compact() { c.kafka.Compact() }

// Close cuts every connection, frees the ports and forgets everything.
func (c *Cluster) Close() {
	_ = c.server.Close() // no Shutdown: nothing here is worth waiting for clients
	<-c.served
	c.kafka.Close()
}
