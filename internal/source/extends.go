package source

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// extended lays a definition over the shipped one that it extends: maps merge, null removes, anything else replaces. What stands
// in the shipped file is reported by its name, since a patch can spoil what it does not touch. nil where there is none to extend.
func (r *linter) extended(root *yaml.Node, above ...string) *yaml.Node {
	if root.Kind != yaml.MappingNode || child(root, "extends") == nil {
		return root
	}
	n := child(root, "extends")
	name := r.text(n, "extends")
	data, err := catalog.ReadFile("catalog/" + name + ".yaml")
	switch {
	case name == "":
		return nil
	case err != nil:
		r.fail(n, "extends names a shipped definition, and there is no %q%s: there are %s", name, suggest(name, Catalog()), strings.Join(Catalog(), ", "))
		return nil
	case slices.Contains(above, name):
		r.fail(n, "extends goes round in a circle: %s", strings.Join(append(above, name), ", "))
		return nil
	}
	shipped := &linter{file: name + ".yaml"}
	base := shipped.document(data)
	if base != nil {
		base = shipped.extended(base, append(above, name)...)
	}
	if r.problems = append(r.problems, shipped.problems...); base == nil {
		return nil
	}
	if r.files == nil {
		r.files = map[*yaml.Node]string{}
	}
	for node, file := range shipped.files {
		r.files[node] = file
	}
	r.borrow(base, shipped.file)
	return overlay(base, root)
}

// borrow notes the file of nodes that are not this one's.
func (r *linter) borrow(n *yaml.Node, file string) {
	if r.files[n] == "" {
		r.files[n] = file
	}
	for _, c := range n.Content {
		r.borrow(c, file)
	}
}

// overlay lays the document over on base. What `defaults` of both say becomes part of the streams, in the order in which one
// knows of the other: the base's defaults, the patch's, the base's stream, the patch's. So a null in the patch's stream removes
// a key wherever it came from.
func overlay(base, over *yaml.Node) *yaml.Node {
	defaults, streams := laid(child(base, "defaults"), child(over, "defaults")), child(over, "streams")
	out := merge(except(base, "defaults", "streams"), except(over, "extends", "defaults", "streams"))
	if defaults != nil && defaults.Kind != yaml.MappingNode {
		return with(with(out, "defaults", defaults), "streams", laid(child(base, "streams"), streams))
	}
	whole := *child(base, "streams")
	if streams != nil {
		if whole = *streams; streams.Kind != yaml.MappingNode {
			return with(out, "streams", streams)
		}
	}
	whole.Content = nil
	below := child(base, "streams")
	for i := 0; i+1 < len(below.Content); i += 2 {
		k, v := below.Content[i], laid(defaults, below.Content[i+1])
		for j := 0; streams != nil && j+1 < len(streams.Content); j += 2 {
			if own := streams.Content[j]; own.Value == k.Value {
				k, v = own, laid(v, streams.Content[j+1]) // what is wrong with it is the patch's doing
			}
		}
		if v != nil {
			whole.Content = append(whole.Content, k, v)
		}
	}
	for i := 0; streams != nil && i+1 < len(streams.Content); i += 2 {
		if k, v := streams.Content[i], streams.Content[i+1]; child(below, k.Value) == nil {
			if v.Kind == yaml.MappingNode {
				v = laid(defaults, v)
			}
			whole.Content = append(whole.Content, k, v)
		}
	}
	return with(out, "streams", &whole)
}

// laid is merge where either may be missing: no patch leaves the base, null removes it.
func laid(base, over *yaml.Node) *yaml.Node {
	switch {
	case over == nil:
		return base
	case over.ShortTag() == "!!null":
		return nil
	case base == nil:
		return over
	}
	return merge(base, over)
}

// except returns a map without some of its keys.
func except(n *yaml.Node, keys ...string) *yaml.Node {
	out := *n
	out.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !slices.Contains(keys, n.Content[i].Value) {
			out.Content = append(out.Content, n.Content[i], n.Content[i+1])
		}
	}
	return &out
}

// with returns a map with one key more.
func with(n *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	if value == nil {
		return n
	}
	out := *n
	out.Content = append(slices.Clone(n.Content), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: value.Line, Column: value.Column}, value)
	return &out
}
