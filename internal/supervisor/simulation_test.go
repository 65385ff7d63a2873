//go:build synctests

package supervisor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulation (DESIGN §11) runs the production code in a bubble of its own time: several instances, a real Kafka client, a
// broker and two APIs on a virtual network, and faults. A seed fixes the scenario, not the interleaving; so a failure saves its
// whole history, which -sim.history judges again, and -sim.repeat says how often a seed fails.
var (
	simSeed    = flag.Int64("sim.seed", 0, "run this seed alone")
	simSeeds   = flag.String("sim.seeds", "", "run the seeds A-B")
	simRepeat  = flag.Int("sim.repeat", 1, "run each seed so often, and print how many runs failed")
	simHistory = flag.String("sim.history", "", "judge a saved history instead")
	simLevel   = flag.Int("sim.log", 0, "level of the log that is kept: -4 debug, 0 info, 4 warn")
	simKeep    = flag.Bool("sim.keep", false, "save the history of runs that pass, too")
)

// usualSeeds are run by make test.
const usualSeeds = "5-16"

func seeds(t *testing.T) (from, to int64) {
	text := *simSeeds
	switch {
	case *simSeed != 0:
		return *simSeed, *simSeed
	case text == "":
		text = usualSeeds
	}
	a, b, ok := strings.Cut(text, "-")
	from, err := strconv.ParseInt(a, 10, 64)
	if err == nil && ok {
		to, err = strconv.ParseInt(b, 10, 64)
	}
	if err != nil || !ok {
		t.Fatalf("-sim.seeds %q is not A-B", text)
	}
	return from, to
}

func TestSimulation(t *testing.T) {
	if *simHistory != "" {
		h, err := load[history](*simHistory)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range h.judge() {
			t.Error(f)
		}
		return
	}
	from, to := seeds(t)
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			failed := 0
			for range *simRepeat {
				if !simulate(t, seed) {
					failed++
				}
			}
			if *simRepeat > 1 {
				t.Logf("seed %d: %d of %d runs failed", seed, failed, *simRepeat)
			}
		})
	}
}

// simulate runs a seed once and reports whether nothing was wrong.
func simulate(t *testing.T, seed int64) bool {
	began, cpu := time.Now(), cpuTime()
	var h *history
	synctest.Test(t, func(t *testing.T) {
		s := raise(t, imagine(seed))
		s.play()
		s.close()
		h = s.result
		h.Log, h.Fired = s.log.String(), s.plan.fired
	})
	found := h.judge()
	t.Logf("seed %d: %s; real %v, cpu %v", seed, h.summary(), time.Since(began).Round(time.Millisecond), (cpuTime() - cpu).Round(time.Millisecond))
	if len(found) == 0 && !*simKeep {
		return true
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("simulation-%d-%d.json", seed, began.UnixNano()))
	if err := save(path, h); err != nil {
		t.Error(err)
	}
	if len(found) == 0 {
		t.Logf("history: %s", path)
		return true
	}
	for _, f := range found {
		t.Errorf("seed %d: %s", seed, f)
	}
	t.Errorf("seed %d failed; its history is judged again by: go test -tags synctests ./internal/supervisor -run 'TestSimulation$' -sim.history %s", seed, path)
	return false
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
