package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// yaml writes all that was found as a piece of a definition: what a key declares as that key, the rest as comments, each with
// its evidence.
func (s *survey) yaml() string {
	var out strings.Builder
	sent := 0
	for _, b := range s.probers {
		sent += b.sent
	}
	fmt.Fprintf(&out, "# %s at %s, asked on %s with %s.\n", s.source.Name, s.source.BaseURL, s.began.UTC().Format(time.DateTime), counted(int64(sent), "request"))
	out.WriteString("# What a key declares can be pasted; DIFFERS marks what the definition has otherwise. null removes a key.\n")
	top, streams := &branch{}, &branch{}
	for _, b := range s.probers {
		one := &branch{}
		snapshot := slices.ContainsFunc(b.findings, func(f learned) bool { return f.key == "incremental" })
		for _, f := range b.findings {
			switch text := f.text(); {
			case strings.HasPrefix(f.key, "/"):
				top.put(strings.Split(f.key[1:], "."), f.value, text)
			case f.key == "", snapshot && strings.HasPrefix(f.key, "incremental."): // of a filter that is ignored there is nothing to declare
				one.notes = append(one.notes, text)
			default:
				one.put(strings.Split(f.key, "."), f.value, text)
			}
		}
		streams.children, streams.names = append(streams.children, one), append(streams.names, b.request.Name)
	}
	top.names, top.children = append(top.names, "streams"), append(top.children, streams)
	top.write(&out, "")
	return out.String()
}

func (f *learned) text() string {
	mark := ""
	if f.differs {
		mark = "DIFFERS: "
	}
	return f.fact + ": " + mark + strings.Join(strings.Fields(f.evidence), " ")
}

// branch is a map of the piece of YAML, or a value with the words on it.
type branch struct {
	notes    []string
	names    []string
	children []*branch
	leaf     bool
	value    any
}

func (t *branch) put(path []string, value any, note string) {
	if len(path) == 0 {
		t.leaf, t.value, t.notes = true, value, append(t.notes, note)
		return
	}
	i := slices.Index(t.names, path[0])
	if i < 0 {
		i = len(t.names)
		t.names, t.children = append(t.names, path[0]), append(t.children, &branch{})
	}
	t.children[i].put(path[1:], value, note)
}

func (t *branch) write(out *strings.Builder, indent string) {
	for _, note := range t.notes {
		out.WriteString(indent + "# " + note + "\n")
	}
	for i, name := range t.names {
		child := t.children[i]
		if !child.leaf {
			if len(child.names) == 0 {
				fmt.Fprintf(out, "%s%s: {}\n", indent, name)
			} else {
				fmt.Fprintf(out, "%s%s:\n", indent, name)
			}
			child.write(out, indent+"  ")
			continue
		}
		for _, note := range child.notes {
			out.WriteString(indent + "# " + note + "\n")
		}
		fmt.Fprintf(out, "%s%s: %s\n", indent, name, flow(child.value))
	}
}

// flow writes a value on one line.
func flow(v any) string {
	if v == nil {
		return "null"
	}
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		panic(err) // texts, numbers, truth values, maps and lists of them
	}
	n.Style = yaml.FlowStyle
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	if err := e.Encode(&n); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
