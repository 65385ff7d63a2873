//go:build synctests

package supervisor

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeletions is the proof that deletions can be trusted: the production code against an API that lies about what there is,
// with crashes, in a bubble of its own time. A seed fixes the plot, not the interleaving; a failure saves its whole history, which
// -deletions.history judges again, and -sim.repeat says how often a seed fails.
var (
	delSeed    = flag.Int64("deletions.seed", 0, "run this seed alone")
	delPasses  = flag.Int64("deletions.passes", 2000, "run seeds until so many passes have been made")
	delFrom    = flag.Int64("deletions.from", 1, "begin with this seed")
	delHistory = flag.String("deletions.history", "", "judge a saved history instead")
)

func TestDeletions(t *testing.T) {
	if *delHistory != "" {
		h, err := load[trial](*delHistory)
		if err != nil {
			t.Fatal(err)
		}
		found, _ := h.judge()
		for _, f := range found {
			t.Error(f)
		}
		return
	}
	began, cpu := time.Now(), cpuTime()
	all := count{Incomplete: map[string]int{}, Told: map[string]int{}}
	for seed := max(*delSeed, *delFrom); ; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			failed := 0
			for range *simRepeat {
				c, ok := haggle(t, seed)
				if all.add(c); !ok {
					failed++
				}
			}
			if *simRepeat > 1 {
				t.Logf("seed %d: %d of %d runs failed", seed, failed, *simRepeat)
			}
		})
		if *delSeed != 0 || all.Passes >= *delPasses {
			break
		}
	}
	t.Logf("%s\nreal %v, cpu %v", all, time.Since(began).Round(time.Second), (cpuTime() - cpu).Round(time.Second))
}

// String is what is printed at the end.
func (c count) String() string {
	var b strings.Builder
	incomplete := 0
	for _, n := range c.Incomplete {
		incomplete += n
	}
	fmt.Fprintf(&b, "%d seeds, %d passes, %d complete listings, %d incomplete ones; %d true tombstones, %d false; %d missed, %d withheld, %d approvals; %d crashes, %d halts",
		c.Seeds, c.Passes, c.Complete, incomplete, c.True, c.False, c.Missed, c.Withheld, c.Approvals, c.Crashes, c.Halts)
	for _, why := range slices.Sorted(maps.Keys(c.Incomplete)) {
		fmt.Fprintf(&b, "\n\tincomplete %d times: %s", c.Incomplete[why], why)
	}
	for _, what := range slices.Sorted(maps.Keys(c.Told)) {
		fmt.Fprintf(&b, "\n\tlied %d times: %s", c.Told[what], what)
	}
	return b.String()
}

// haggle runs a seed once and reports whether nothing was wrong.
func haggle(t *testing.T, seed int64) (count, bool) {
	began, cpu := time.Now(), cpuTime()
	var h *trial
	synctest.Test(t, func(t *testing.T) {
		p := invent(seed)
		b := open(t, &p)
		b.play()
		b.close()
		h = b.result
	})
	found, c := h.judge()
	t.Logf("seed %d: %s, %v virtual: %d passes, %d complete listings, %d events, %d true tombstones, %d withheld, %d crashes; real %v, cpu %v", seed, h.Plot.Shape,
		h.Virtual.Round(time.Second), c.Passes, c.Complete, len(h.Events), c.True, c.Withheld, c.Crashes, time.Since(began).Round(time.Millisecond), (cpuTime() - cpu).Round(time.Millisecond))
	if len(found) == 0 && !*simKeep {
		return c, true
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("deletions-%d-%d.json", seed, began.UnixNano()))
	if err := save(path, h); err != nil {
		t.Error(err)
	}
	for _, f := range found {
		t.Errorf("seed %d: %s", seed, f)
	}
	t.Logf("seed %d: its history is judged again by: go test -tags synctests ./internal/supervisor -run 'TestDeletions$' -deletions.history %s", seed, path)
	return c, len(found) == 0
}
