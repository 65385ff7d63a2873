package source

import "go.yaml.in/yaml/v3"

// scalar returns text as a definition would hold it in quotes.
func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle, Line: 1, Column: 1}
}
