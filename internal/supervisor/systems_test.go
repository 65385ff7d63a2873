//go:build synctests

package supervisor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestSystems is the proof for each of the four systems: the shipped definition in the production code against its simulator, with
// every kind of fault that the simulator has, and a process that dies, for hours; then the topics equal the truth, nothing was said
// twice, and no state is missing that stood for longer than a lookback. A failure saves its whole history, which -systems.history
// judges again.
var (
	sysHours   = flag.Float64("systems.hours", 0, "so many simulated hours of faults for each system; 0: a short run")
	sysSeed    = flag.Int64("systems.seed", 1, "what happens when follows from it")
	sysOnly    = flag.String("systems.only", "", "this system alone")
	sysHistory = flag.String("systems.history", "", "judge a saved history instead")
)

func TestSystems(t *testing.T) {
	if *sysHistory != "" {
		v, err := load[voyage](*sysHistory)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range v.judge() {
			t.Error(f)
		}
		return
	}
	trouble, calm := 15*time.Minute, 8*time.Minute
	if *sysHours > 0 {
		trouble, calm = time.Duration(*sysHours*float64(time.Hour)), 30*time.Minute
	}
	for _, system := range playedSystems() {
		if *sysOnly == "" || *sysOnly == system.name {
			t.Run(system.name, func(t *testing.T) { voyages(t, &system, *sysSeed, trouble, calm) })
		}
	}
}

func voyages(t *testing.T, system *playedSystem, seed int64, trouble, calm time.Duration) {
	began, cpu := time.Now(), cpuTime()
	var v *voyage
	synctest.Test(t, func(t *testing.T) {
		h := embark(t, system, seed)
		h.sail(trouble, calm)
		h.close()
		v = h.result
	})
	found := v.judge()
	if *sysHours >= 5 {
		found = append(found, v.spared()...)
	}
	t.Logf("%s, seed %d: %s; real %v, cpu %v", system, seed, v.tally(), time.Since(began).Round(time.Millisecond), (cpuTime() - cpu).Round(time.Millisecond))
	if len(found) == 0 && !*simKeep {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("system-%s-%d-%d.json", system.name, seed, began.UnixNano()))
	if err := save(path, v); err != nil {
		t.Error(err)
	}
	for _, f := range found {
		t.Errorf("seed %d: %s", seed, f)
	}
	t.Logf("seed %d: its history is judged again by: go test -tags synctests ./internal/supervisor -run 'TestSystems$' -systems.history %s", seed, path)
}
