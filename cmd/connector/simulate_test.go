package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/simulator"
)

// called runs a command that ends by itself.
func called(args ...string) (code int, out string) {
	var o shared
	p := &program{out: &o, err: &o, env: func(string) (string, bool) { return "", false }}
	return p.main(context.Background(), args), o.String()
}

// TestSimulate: each system is served until the interrupt, and what is printed is what a connection needs.
func TestSimulate(t *testing.T) {
	for name, settings := range map[string][]string{
		"salesloft":    {"base_url", "token_url", "client_id", "client_secret", "refresh_token", simulator.APIKey},
		"crf-exchange": {"base_url", "api_key", "partner_id"},
		"focus":        {"base_url", "client_id", "api_key", "username"},
		"givergy":      {"base_url", "namespace", "username", "password"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			out, in := io.Pipe()
			p := &program{out: in, err: in, env: func(string) (string, bool) { return "", false }}
			done := make(chan int, 1)
			go func() {
				code := p.main(ctx, []string{"simulate", name, "--port", "0", "--records", "30", "--deletes", "0.2", "--faults", "503:every=1:times=1"})
				_ = in.Close() // a pipe always closes
				done <- code
			}()
			var text strings.Builder
			buffer := make([]byte, 4096)
			truth := regexp.MustCompile(`the truth +(\S+)\n`)
			for truth.FindString(text.String()) == "" {
				n, err := out.Read(buffer)
				if text.Write(buffer[:n]); err != nil {
					t.Fatalf("%v after:\n%s", err, text.String())
				}
			}
			for _, setting := range settings {
				if !strings.Contains(text.String(), setting+" ") && !strings.Contains(text.String(), setting+"\n") {
					t.Errorf("no %s in:\n%s", setting, text.String())
				}
			}
			client := http.Client{Timeout: time.Minute}
			answer, err := client.Get(truth.FindStringSubmatch(text.String())[1])
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if answer.Body.Close(); err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), "\n") {
				t.Errorf("the truth: %d %v %.200s", answer.StatusCode, err, body)
			}
			stop()
			if code := <-done; code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestSimulateFaults(t *testing.T) {
	code, out := called("simulate", "--faults", "help")
	if code != 0 {
		t.Errorf("help: exit code %d", code)
	}
	for _, k := range simulator.Faults() {
		if !strings.Contains(out, "\n"+string(k.Kind)+" ") {
			t.Errorf("help does not list %s", k.Kind)
		}
	}
	got, err := parseFaults("429:after=30,stale:resource=people:n=9,reset:resource=oauth/token:skip=1:times=1:every=1")
	want := []simulator.Fault{
		{Kind: simulator.Status, Status: 429, RetryAfter: "30", Times: -1, Every: 20},
		{Kind: simulator.Stale, Resource: "people", N: 9, Times: -1, Every: 20},
		{Kind: simulator.Reset, Resource: "oauth/token", Skip: 1, Times: 1, Every: 1},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
	for args, says := range map[string]string{
		"salesloft --faults stail":      `there is no fault "stail"`,
		"salesloft --faults stale:x=1":  `there is no "x"`,
		"salesloft --faults stale:n=x":  "invalid syntax",
		"hubspot":                       "which API? connector simulate salesloft|crf-exchange|focus|givergy",
		"":                              "which API?",
		"salesloft crf-exchange":        "one argument too many",
		"salesloft --faults 429:people": `there is no "people"`,
	} {
		if code, out := called(append([]string{"simulate"}, strings.Fields(args)...)...); code != 2 || !strings.Contains(out, says) {
			t.Errorf("%q: exit code %d, %s; want %q", args, code, out, says)
		}
	}
}
