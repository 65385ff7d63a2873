package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// pageBlock is a block of a page that is acted: a file to write (```yaml NAME) or commands with what they print (```console).
var pageBlock = regexp.MustCompile("(?ms)^```(yaml [^\n]+|console)\n(.*?)^```")

var pageEcho = regexp.MustCompile(`^echo '(.*)' >> (\S+)$`)

// TestYourAPIInTenMinutes acts docs/your-api.md: it writes its files, runs its commands in their order, and looks for the output
// that the page shows, where … stands for anything.
func TestYourAPIInTenMinutes(t *testing.T) {
	text := read(t, filepath.Join("..", "..", "docs", "your-api.md"))
	a := &actor{stage: newStage(t)}
	delete(a.env, "CONNECTIONS") // the default, in the reader's directory
	t.Chdir(t.TempDir())
	for _, m := range pageBlock.FindAllStringSubmatch(text, -1) {
		if name, ok := strings.CutPrefix(m[1], "yaml "); ok {
			if err := os.WriteFile(name, []byte(a.here(m[2])), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for _, command := range strings.Split("\n"+m[2], "\n$ ")[1:] {
			line, output, _ := strings.Cut(command, "\n")
			a.act(line, output)
		}
	}
	if a.acted < 12 {
		t.Errorf("only %d commands were found on the page", a.acted)
	}
}

// actor is somebody who follows a page.
type actor struct {
	*stage
	simulated string // where the simulated API listens, in place of the page's port
	acted     int
}

// here puts the test's addresses in the place of the page's.
func (a *actor) here(text string) string {
	return strings.ReplaceAll(text, "http://127.0.0.1:8585", a.simulated)
}

func (a *actor) act(line, output string) {
	a.Helper()
	a.acted++
	if rest, ok := strings.CutPrefix(line, "export "); ok {
		for _, pair := range strings.Fields(rest) {
			if name, value, _ := strings.Cut(pair, "="); name != "KAFKA_BROKERS" { // the stage has brokers of its own
				a.env[name] = value
			}
		}
		return
	}
	if m := pageEcho.FindStringSubmatch(line); m != nil {
		if err := os.WriteFile(m[2], []byte(read(a.T, m[2])+m[1]+"\n"), 0o600); err != nil {
			a.Fatal(err)
		}
		return
	}
	args, ok := strings.CutPrefix(a.here(line), "connector ")
	if !ok {
		a.Fatalf("%q is no command of ours", line)
	}
	args, file, _ := strings.Cut(args, " > ")
	args, background := strings.CutSuffix(args, " &")
	words := strings.Fields(args)
	switch {
	case background && words[0] == "run":
		a.run(words[1:]...)
		a.until("there are events", func() bool { _, out, _ := a.main("tail", "crm/people", "--count", "1"); return out != "" })
		return
	case background:
		a.background(words, output)
		return
	}
	code, out, errs := a.main(words...)
	if want := strings.Contains(output, "DIFFERS"); (code != 0) != want { // the probe ends with 1 then
		a.Fatalf("%s: exit code %d\n%s%s", line, code, out, errs)
	}
	if file != "" {
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			a.Fatal(err)
		}
	}
	a.shows(line, output, out+errs)
}

// shows looks for each line of the page in what a command printed.
func (a *actor) shows(line, output, printed string) {
	a.Helper()
	for want := range strings.Lines(a.here(output)) {
		parts := strings.Split(strings.TrimSuffix(want, "\n"), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if !regexp.MustCompile("(?m)^" + strings.Join(parts, ".*")).MatchString(printed) {
			a.Errorf("$ %s\ndoes not print\n%s\nbut\n%s", line, want, printed)
		}
	}
}

// background starts the simulated API on a free port, until the test ends.
func (a *actor) background(words []string, output string) {
	a.Helper()
	for i, w := range words {
		if w == "8585" {
			words[i] = "0"
		}
	}
	var out shared
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p := &program{out: &out, err: &out, env: func(string) (string, bool) { return "", false }}
	go func() {
		defer close(done)
		p.main(ctx, words)
	}()
	a.Cleanup(sync.OnceFunc(func() { cancel(); <-done }))
	at := regexp.MustCompile(`at (http://\S+)\n`)
	a.until(words[0]+" listens", func() bool { return at.MatchString(out.String()) })
	a.simulated = string(bytes.TrimSpace([]byte(at.FindStringSubmatch(out.String())[1])))
	a.shows(strings.Join(words, " "), output, out.String())
}
