package cdc

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var name = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ValidName reports whether s can name a deployment or a connection (K7): 1 to 64 of A-Z a-z 0-9 _ -.
func ValidName(s string) bool { return name.MatchString(s) }

// NoPartition is the name of the only partition of a stream that is not partitioned (K5).
const NoPartition = "-"

// PartitionName writes partition values as K5 has them in keys: name=value, URL-escaped, sorted by name, joined by
// commas; "-" for none.
func PartitionName(values map[string]string) string {
	if len(values) == 0 {
		return NoPartition
	}
	parts := make([]string, 0, len(values))
	for _, k := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, url.QueryEscape(k)+"="+url.QueryEscape(values[k]))
	}
	return strings.Join(parts, ",")
}
