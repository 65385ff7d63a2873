package source

import (
	"strings"
	"testing"
	"time"
)

// TestD5GuardOfAConnection: what a connection says of a stream's reconciliation counts instead of the definition's.
func TestD5GuardOfAConnection(t *testing.T) {
	const file = `
- name: crm
  source: salesloft
  config: {client_id: a, client_secret: b, refresh_token: c}
  streams:
    people: {reconcile: {every: 6h, guard: {records: 100, percent: 50}}}
    notes:  {reconcile: {guard: {percent: 10}}}
    calls:  {reconcile: false}
    users:
`
	all, err := ParseConnections("c.yaml", []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(all[0].Source)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Bind(all[0].Name, all[0].Config, all[0].Overrides)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Reconcile{
		"people": {Every: 6 * time.Hour, Orphans: "withhold", GuardKeys: 100, GuardShare: 0.5},
		"notes":  {Every: 24 * time.Hour, Orphans: "withhold", GuardKeys: guardKeys, GuardShare: 0.1},
		"calls":  {Orphans: "withhold", GuardKeys: guardKeys, GuardShare: guardShare},
		"users":  {Orphans: "withhold", GuardKeys: guardKeys, GuardShare: guardShare},
	} {
		for _, st := range s.Streams {
			if st.Name == name && st.Reconcile != want {
				t.Errorf("%s: %+v, want %+v", name, st.Reconcile, want)
			}
		}
	}
	_, err = ParseConnections("c.yaml", []byte(strings.Replace(file, "percent: 50", "percent: 500", 1)), nil)
	if err == nil || !strings.Contains(err.Error(), "c.yaml:6:68: streams.people.reconcile.guard.percent is at most 100") {
		t.Error(err)
	}
}
