package capture

import "tidemark/internal/kafka"

// FleetStatus is what a process knows of itself: the shards that the group gave it, and every connection that is configured,
// wherever it runs. A connection runs here when its Shard is one of Shards.
type FleetStatus struct {
	Name     string          `json:"name"`
	Instance string          `json:"instance"`
	Shards   []int32         `json:"shards"`
	Trouble  string          `json:"trouble,omitempty"` // the last of the group; it stays when it is over
	Hanging  []kafka.Hanging `json:"hanging,omitempty"` // K20
	Foreign  []string        `json:"foreign,omitempty"` // K10: connections of other configurations under our name
	// Refused is why the configuration as it stands now does not run: the one before it does.
	Refused     string   `json:"refused,omitempty"`
	RefusedHint string   `json:"refused_hint,omitempty"`
	Connections []Status `json:"connections"`
}
