package capture

import (
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/source"
)

// P22: a partition with a schedule waits for its moment, the first time and after a restart; what was cut, failed, or missed
// while nobody ran is not left for the next one.
func TestP22ScheduledPartitions(t *testing.T) {
	definition, err := source.Parse("nightly.yaml", []byte(`source: nightly
base_url: https://api.example.com
streams: {things: {path: /things, records: ., primary_key: id, schedule: {cron: "0 2 * * *", zone: Europe/Berlin}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	src, err := definition.Bind("c", nil, source.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	night := time.Date(2026, 3, 11, 1, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		p  partition
		at time.Time // zero: at once, or soon
	}{
		"never read":            {partition{}, night},
		"read last night":       {partition{committed: cdc.Checkpoint{Passes: 3, Ended: now.Add(-10 * time.Hour)}}, night},
		"last night was missed": {partition{committed: cdc.Checkpoint{Passes: 3, Ended: now.Add(-30 * time.Hour)}}, time.Time{}},
		"interrupted":           {partition{interrupted: true}, time.Time{}},
		"cut by a crash":        {partition{committed: cdc.Checkpoint{Passes: 1, Ended: now.Add(-10 * time.Hour), Anchor: "a"}}, time.Time{}},
		"failed":                {partition{failures: 1, committed: cdc.Checkpoint{Passes: 1, Ended: now.Add(-10 * time.Hour)}}, time.Time{}},
	} {
		p := c.p
		p.request, p.poll.slot = src.Requests[0], -1
		o := &ownership{Connection: &Connection{partitions: []*partition{&p}}}
		if err := o.planAll(now); err != nil {
			t.Fatal(err)
		}
		switch {
		case p.poll.slot < 0:
			t.Errorf("%s: it is not scheduled", name)
		case c.at.IsZero() && p.poll.due.After(now.Add(startWithin)), !c.at.IsZero() && !p.poll.due.Equal(c.at):
			t.Errorf("%s: due at %v, want %v", name, p.poll.due, c.at)
		}
		if o.plan(&p, now); !p.poll.due.Equal(night) { // after a pass
			t.Errorf("%s: after a pass due at %v", name, p.poll.due)
		}
	}
}
