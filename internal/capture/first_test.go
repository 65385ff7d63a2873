package capture_test

import (
	"testing"
	"tidemark/internal/simulator"
)

func TestX(t *testing.T) {
	b := lay(t)
	tm := b.team(simulator.Options{Seed: 1, People: 250, PageCap: 20})
	c := b.start(settings{definition: people, config: tm.config()})
	c.passes(2)
	tm.Change("people", 20)
	tm.TouchCounts("people", 20)
	c.passes(2)
	b.clean(tm)
	c.end()
	b.audit(b.options(settings{definition: people, config: tm.config()}).Source, false)
	for _, x := range b.transactions() {
		t.Log(x.at, len(x.records), x.of("test.offsets", ""))
	}
}
