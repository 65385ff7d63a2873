package source

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/record"
)

// records reads where the records lie: one path, a list of paths with what each means, or several streams by name.
func (s *streamReader) records(n *yaml.Node) {
	switch {
	case n == nil:
		s.fail(s.name, "stream %s has no `records`: where they lie in an answer, or . for the whole of it", s.name.Value)
		s.kind(s.name.Value) // what else is wrong is said in the same breath
	case n.Kind == yaml.MappingNode:
		s.several(n)
	default:
		s.selections(n)
		s.kind(s.name.Value)
		for i := range s.b.request.records {
			s.b.request.records[i].stream = s.b.stream
		}
		s.b.request.Streams = s.b.streams
	}
	s.apart(n, &s.b.request)
}

// selections reads a path, or a list of {path, op}.
func (s *streamReader) selections(n *yaml.Node) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if list = n.Content; len(list) == 0 {
			s.fail(n, "records is an empty list")
		}
	}
	for _, e := range list {
		var sel selection
		at := e
		if n.Kind == yaml.SequenceNode && e.Kind == yaml.MappingNode {
			f := s.fields(e, "an element of records", selectionTable)
			if at = f["path"]; at == nil {
				s.fail(e, "an element of records needs `path`")
				continue
			}
			sel.gone = s.choice(f["op"], "op", selectionTable.options("op")...) != ""
		}
		p := s.lists(at, "records")
		if p == nil {
			continue
		}
		sel.path = *p
		s.b.request.records = append(s.b.request.records, sel)
	}
	if i := slices.IndexFunc(s.b.request.records, func(sel selection) bool { return !sel.gone }); i >= 0 {
		s.found = s.b.request.records[i].path
	} else if len(s.b.request.records) > 0 {
		s.fail(n, "records names only what is gone: a stream of deletions alone has nothing to delete")
	}
}

// lists reads a path that may lead to many places.
func (r *linter) lists(n *yaml.Node, what string) *record.Path {
	text := r.text(n, what)
	if p, err := record.ParsePath(text); err == nil && p.Wild() {
		return &p
	}
	return r.place(n, what)
}

// several reads streams that come from one request: the name above is the request's, the cursor lies under it and commits with
// all of them; keys, topics and schemas lie under the streams.
func (s *streamReader) several(n *yaml.Node) {
	if len(n.Content) == 0 {
		s.fail(n, "records is an empty map: the streams of the request belong there")
	}
	if f := s.f["topic"]; f != nil && f.Kind == yaml.MappingNode && child(f, "name") != nil {
		s.fail(f, "topic.name stands above several streams: each has a topic of its own")
	}
	common, request := s.f, s.name
	s.each(n, "records", func(k, v *yaml.Node) {
		if !validStream.MatchString(k.Value) {
			s.fail(k, "a stream's name is made of a-z, 0-9, _ and -, and begins with a letter, unlike %q", k.Value)
			return
		}
		s.name, s.f = k, common
		at := v
		if v.Kind == yaml.MappingNode {
			own := s.fields(v, "stream "+k.Value, kindTable)
			if at = own["path"]; at == nil {
				s.fail(v, "stream %s needs `path`: where its records lie in the answer", k.Value)
				return
			}
			s.f = overlaid(common, own)
			for _, key := range []string{"listing", "total", "cap", "order"} {
				if r := own["reconcile"]; r != nil && child(r, key) != nil {
					s.fail(r, "reconcile.%s belongs to the request %s, which has one listing for all of its streams", key, request.Value)
				}
			}
		}
		if p := s.lists(at, "records"); p != nil {
			s.found = *p
		}
		s.kind(k.Value)
		s.b.request.records = append(s.b.request.records, selection{path: s.found, stream: s.b.stream})
	})
	s.f, s.name = common, request
	s.b.request.Streams = s.b.streams
}

// overlaid lays a stream's own keys over those of its request, as streams are laid over `defaults`.
func overlaid(common, own map[string]*yaml.Node) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	for key, n := range common {
		out[key] = n
	}
	for key, n := range own {
		switch base := common[key]; {
		case base == nil:
			out[key] = n
		case n.ShortTag() == "!!null":
			delete(out, key)
		default:
			out[key] = merge(base, n)
		}
	}
	return out
}

// apart checks that the lists, and the places that are read beside them, lie outside of each other, as the envelope wants it.
func (s *streamReader) apart(n *yaml.Node, req *Request) {
	if len(req.records) == 0 {
		return
	}
	places, lists, _ := req.envelope()
	if _, err := record.NewEnvelope(places, lists, record.Limits{}); err != nil {
		s.fail(n, "records, and the places beside them, must lie apart from each other: %v", err)
	}
}

// names checks that every stream, and every request of several streams, can be told apart by its name.
func (r *linter) names(d *Definition, root *yaml.Node) {
	seen := map[string]string{}
	note := func(name, what string) {
		if before, ok := seen[name]; ok {
			r.fail(root, "%s and %s have one name, %s: it would not be clear which of them a connection chooses", before, what, name)
		}
		seen[name] = what
	}
	for _, b := range d.streams {
		for _, st := range b.streams {
			if st.Name == b.request.Name && len(b.streams) == 1 {
				note(st.Name, "stream "+st.Name)
			} else {
				note(st.Name, "stream "+st.Name+" of "+b.request.Name)
			}
		}
		if len(b.streams) > 1 || len(b.streams) == 1 && b.streams[0].Name != b.request.Name {
			note(b.request.Name, "request "+b.request.Name)
		}
	}
}
