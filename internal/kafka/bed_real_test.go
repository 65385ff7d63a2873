//go:build kafka

package kafka

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The suite runs on the brokers of KAFKA_BROKERS, or on one that deploy/kafka/kafka starts in a temporary folder and that ends
// with the tests; KAFKA_DIR is that folder then, for the tests that kill the broker.

const script = "../../deploy/kafka/kafka"

func TestMain(m *testing.M) {
	code, err := withKafka(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withKafka(run func() int) (int, error) {
	if os.Getenv("KAFKA_BROKERS") != "" {
		return run(), nil
	}
	dir, err := os.MkdirTemp("", "kafka")
	if err != nil {
		return 1, err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	port, err := freePort()
	if err != nil {
		return 1, err
	}
	defer func() {
		if err := exec.Command(script, "stop", dir).Run(); err != nil {
			fmt.Fprintln(os.Stderr, script, "stop:", err) // a broker may be left behind
		}
	}()
	out, err := kafkaScript("start", dir, "1", fmt.Sprint(port))
	if err != nil {
		return 1, err
	}
	if err := errors.Join(os.Setenv("KAFKA_BROKERS", strings.TrimSpace(out)), os.Setenv("KAFKA_DIR", dir)); err != nil {
		return 1, err
	}
	return run(), nil
}

// freePort returns a port that is free together with its controller's, 101 above.
func freePort() (int, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close() // the broker's bind will tell
		if c, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+101)); err == nil {
			_ = c.Close() // as above
			return port, nil
		}
	}
}

func kafkaScript(args ...string) (string, error) {
	c := exec.Command(script, args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", script, strings.Join(args, " "), err)
	}
	return string(out), nil
}

func newBed(t testing.TB) *bed { return startBed(t, strings.Split(os.Getenv("KAFKA_BROKERS"), ",")) }
