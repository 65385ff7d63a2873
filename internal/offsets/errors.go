package offsets

import (
	"strings"

	"tidemark/internal/cdc"
)

const op = "read state"

// newer is state of a version after ours. K12: it is refused, since what we do not understand we would lose.
func newer(where string, err error) error {
	return &cdc.Error{
		Op: op, Where: clip(where, 200), Err: err, Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: "A newer version wrote it: upgrade this connector; an older one cannot go on from there",
	}
}

// damaged is state that no version writes. (7): it is not skipped and not defaulted.
func damaged(where string, err error) error {
	return &cdc.Error{
		Op: op, Where: clip(where, 200), Err: err, Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: "Something other than a connector of this deployment wrote to its offsets or hashes topic: look at the record " +
			"(kcat -C), and write the right value or a tombstone under the key, or restore an export; then start again",
	}
}

// clip cuts s after at most n bytes, at the border of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
