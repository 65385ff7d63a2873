package capture

import (
	"fmt"
	"strings"
	"time"
)

// What a status says of deletions in words, for the status page and the command line alike.

// Withholding says which deletions of the stream the guard holds back, why, and what lets them go (D5, D6); "" where none is.
// There is no hint where an approval covers them all.
func (s StreamStatus) Withholding(connection string) (text, hint string) {
	if s.Withheld == 0 {
		return "", ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s withheld", many(s.Withheld, "deletion is", "deletions are"))
	if s.Guarded != "" {
		b.WriteString(": " + s.Guarded)
	}
	for i, key := range s.Sample {
		b.WriteString(map[bool]string{true: ". Keys: ", false: ", "}[i == 0])
		fmt.Fprintf(&b, "%q", key) // upstream chose it: nothing of it reaches a terminal as it is
	}
	if more := s.Withheld - len(s.Sample); more > 0 && len(s.Sample) > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	if s.Approved > 0 {
		fmt.Fprintf(&b, ". An approval lets %d go: what a listing missed, after another complete one", s.Approved)
	}
	if s.Approved >= int64(s.Withheld) {
		return b.String(), ""
	}
	command := "connector reconcile " + connection + "/" + s.Name
	return b.String(), fmt.Sprintf("Look at them: %s. If they are right, let them go: %s --approve %d", command, command, s.Withheld)
}

// Incomplete says that the last listings were not complete, and why (D2); "" where the last one was, or none has been.
func (l ListingStatus) Incomplete() string {
	if l.Failed == 0 {
		return ""
	}
	text := "the last listing was not complete"
	if l.Failed > 1 {
		text = fmt.Sprintf("the last %d listings were not complete", l.Failed)
	}
	switch {
	case !l.Alarm:
	case l.Complete.IsZero():
		text += ", and none before: what disappears upstream is not deleted"
	default: // D2: silence must not mean "never deleted"
		text += ": what has disappeared upstream since " + l.Complete.UTC().Format(time.RFC3339) + " is not deleted"
	}
	if l.Why != "" {
		text += ". The last one: " + l.Why
	}
	return text
}

// Alive says that keys are there which the listing does not show (D4); "" where there are none.
func (l ListingStatus) Alive() string {
	if l.Unlisted == 0 {
		return ""
	}
	return many(int(l.Unlisted), "key is", "keys are") + " alive but unlisted: the listing does not show what the lookup finds"
}

func many(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
