package capture

import (
	"testing"

	"tidemark/internal/offsets"
	"tidemark/internal/state"
)

// TestFlagsAreThoseOfTheHashesTopic: the table's flags go to Kafka as they are; neither room can see the other.
func TestFlagsAreThoseOfTheHashesTopic(t *testing.T) {
	if byte(state.Parked) != byte(offsets.HashParked) || byte(state.Grave) != byte(offsets.HashGrave) {
		t.Fatal("the bits of state.Flags are not those of offsets.HashFlags")
	}
}
