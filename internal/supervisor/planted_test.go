package supervisor

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Bugs are planted by `go test -overlay` (DESIGN §11): testdata/planted holds, for each, the rule that it breaks and what it
// replaces in a file of the product; those under deletions are for TestDeletions. A simulation that does not find them proves
// nothing. Those under rules are for one test each: see rules_test.go.
var (
	simPlanted = flag.String("sim.planted", "", "plant the bugs that match this pattern, one at a time, and expect the simulation to find each")
	simUntil   = flag.Int("sim.until", 60, "with -sim.planted: the last seed that is tried on a bug")
)

// hunts are the simulations with the bugs that each has to find, by the folder of those under testdata/planted.
var hunts = map[string]struct{ test, seed string }{
	"":          {"TestSimulation", "-sim.seed"},
	"deletions": {"TestDeletions", "-deletions.seed"},
}

// planted is one bug.
type planted struct {
	name, rule, what, file string
	folder                 string
	room, test             string // under rules, of the test that finds it
	old, new               []string
}

func plantedBugs(t *testing.T) []planted {
	var all []planted
	for folder := range hunts {
		some := plantedIn(t, folder)
		if len(some) < 10 {
			t.Errorf("only %d bugs are planted for %s", len(some), hunts[folder].test)
		}
		all = append(all, some...)
	}
	return all
}

func plantedIn(t *testing.T, folder string) []planted {
	paths, err := filepath.Glob(filepath.Join("testdata", "planted", folder, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []planted
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p := planted{folder: folder, name: strings.TrimSuffix(filepath.Base(path), ".txt")}
		head, body, _ := strings.Cut(string(text), "--- old\n")
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "rule":
				p.rule = value
			case "what":
				p.what = value
			case "file":
				p.file = value
			case "test":
				p.room, p.test, _ = strings.Cut(value, " ")
			}
		}
		body = strings.TrimSuffix(body, "\n--- end\n")
		for part := range strings.SplitSeq(body, "\n--- old\n") {
			before, after, ok := strings.Cut(part, "\n--- new\n")
			if !ok {
				t.Fatalf("%s: an old part without a new one", path)
			}
			p.old, p.new = append(p.old, before), append(p.new, after)
		}
		if p.rule == "" || p.what == "" || p.file == "" || (p.test == "") != (folder != rulesFolder) {
			t.Fatalf("%s: rule, what and file are needed, and under rules the test", path)
		}
		all = append(all, p)
	}
	return all
}

// plant returns the file with the bug in it. Each old part must stand there once, so that a change of the product that moves
// it is noticed.
func (p planted) plant() ([]byte, error) {
	source, err := os.ReadFile(filepath.Join("..", "..", p.file))
	if err != nil {
		return nil, err
	}
	for i, old := range p.old {
		if n := bytes.Count(source, []byte(old)); n != 1 {
			return nil, fmt.Errorf("%s holds this part %d times:\n%s", p.file, n, old)
		}
		source = bytes.Replace(source, []byte(old), []byte(p.new[i]), 1)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), p.file, source, 0); err != nil {
		return nil, err
	}
	return source, nil
}

// TestPlantedBugsStillApply: a planted bug that no longer fits the source would pass for one that was found.
func TestPlantedBugsStillApply(t *testing.T) {
	for _, p := range append(plantedBugs(t), plantedIn(t, rulesFolder)...) {
		if _, err := p.plant(); err != nil {
			t.Errorf("%s (%s): %v", p.name, p.rule, err)
		}
	}
}

// TestPlantedBugsAreFound runs the simulation with each bug planted, seed after seed, until one finds it. It takes minutes and
// runs only with -sim.planted.
func TestPlantedBugsAreFound(t *testing.T) {
	if *simPlanted == "" {
		return // go test -tags synctests ./internal/supervisor -run TestPlantedBugsAreFound -sim.planted . -v
	}
	wanted := regexp.MustCompile(*simPlanted)
	for _, p := range plantedBugs(t) {
		if wanted.MatchString(filepath.Join(p.folder, p.name)) {
			t.Run(filepath.Join(p.folder, p.name), func(t *testing.T) { p.hunt(t) })
		}
	}
}

// hunt builds the tests with the bug in them and runs them.
func (p planted) hunt(t *testing.T) {
	source, err := p.plant()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.go")
	if err := os.WriteFile(bad, source, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := buildWith(t, "internal/supervisor", map[string]string{p.file: bad})
	began := time.Now()
	for seed := 1; seed <= *simUntil; seed++ {
		hunt := hunts[p.folder]
		run := exec.Command(binary, "-test.run", "^"+hunt.test+"$", "-test.timeout", "5m", hunt.seed, fmt.Sprint(seed))
		run.Env = append(os.Environ(), "TMPDIR="+dir)
		out, err := run.CombinedOutput()
		if err == nil {
			continue
		}
		t.Logf("%s: %s: found by seed %d after %v: %s", p.rule, p.what, seed, time.Since(began).Round(time.Second), symptom(string(out)))
		return
	}
	t.Errorf("%s: %s: not found by seeds 1 to %d in %v", p.rule, p.what, *simUntil, time.Since(began).Round(time.Second))
}

// buildWith builds the tests of a room with other files in the place of some of the product's, which are named as in the module.
func buildWith(t *testing.T, room string, files map[string]string) (binary string) {
	replace := map[string]string{}
	for name, file := range files {
		original, err := filepath.Abs(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		replace[original] = file
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "bad.test")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "test", "-c", "-vet=off", "-tags", "synctests", "-overlay", overlay, "-o", binary, "tidemark/"+room)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with the bug: %v\n%s", err, out)
	}
	return binary
}

// symptom is the first line that says what was wrong.
func symptom(out string) string {
	for line := range strings.Lines(out) {
		if _, what, ok := strings.Cut(line, ": seed "); ok && !strings.Contains(what, "instances,") && !strings.Contains(what, "virtual:") {
			return "seed " + strings.TrimSpace(what[:min(len(what), 240)])
		}
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
	}
	return "no line says why"
}
