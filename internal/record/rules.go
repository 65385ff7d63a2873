package record

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"
)

// Algorithm is the version of the hash that this package computes. It is stored with the state.
const Algorithm = 1

// Rules says what the content of a record is (P23): the fingerprint of what the hash is made of. Stored with the state, so
// that a changed rule re-hashes silently instead of publishing everything.
type Rules struct {
	// Algorithm is the version of the hash; 0 means 1.
	Algorithm int `json:"algorithm"`
	// Value is the path of the published value in the record; "" is the record itself.
	Value string `json:"value,omitempty"`
	// Include or Exclude, never both, are paths of the published value: only these count, or all but these. A container
	// on the way to an included place counts as a container; anything else in its place counts as it is.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// Fields says which fields are added and removed when the value is published, in the words of whoever does that: the hash is
	// made of the value after it, which a plan is given as it is.
	Fields string `json:"fields,omitempty"`
}

// Fingerprint returns a short text that is the same for rules that mean the same: the order of paths, their spelling and
// their repetition do not count.
func (r Rules) Fingerprint() string {
	r.Algorithm = max(r.Algorithm, 1)
	if r.Value = spelled(r.Value); r.Value == "." {
		r.Value = ""
	}
	r.Include, r.Exclude = spelledAll(r.Include), spelledAll(r.Exclude)
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and an int always marshal
	}
	return fmt.Sprintf("%016x", xxh3.Hash(text))
}

// Check reports what is wrong with the rules: an unknown algorithm, a path that does not parse, include and exclude
// together, or a value that is more than one place.
func (r Rules) Check() error {
	_, err := NewPlan(nil, r, 0)
	return err
}

// spelled returns the path's own spelling; a text that is no path stays itself, NewPlan refuses it.
func spelled(text string) string {
	if p, err := ParsePath(text); err == nil {
		return p.String()
	}
	return text
}

func spelledAll(texts []string) []string {
	var all []string
	for _, t := range texts {
		all = append(all, spelled(t))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
