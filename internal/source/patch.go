package source

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/record"
)

// patch is how the published value differs from the one that the record holds: members that are added, at its top, and members
// that are removed. It is compiled again from what the state says of it, since a value that was published under an older patch
// is compared under that one (P23).
type patch struct {
	add     *body // a map; nil: nothing is added
	removal *record.Removal
	said    patchSaid
	used    []string // settings that add names
}

// patchSaid is a patch as the definition has it, with the settings that it uses: the state's Rules.Fields, as JSON.
type patchSaid struct {
	Add    any            `json:"add,omitempty"`
	Remove []string       `json:"remove,omitempty"`
	Config map[string]any `json:"config,omitempty"`
}

// patch reads add_fields and remove_fields; nil where there is neither.
func (r *linter) patch(add, remove *yaml.Node, sc *scope) *patch {
	if add == nil && remove == nil {
		return nil
	}
	p := &patch{}
	var gone []record.Path
	switch {
	case add == nil:
	case add.Kind != yaml.MappingNode:
		r.fail(add, "add_fields must be a map of names and values, not %s", describe(add))
	case len(add.Content) == 0:
		r.fail(add, "add_fields is an empty map")
	default:
		p.add, p.said.Add = r.body(add, "add_fields", sc), plainValue(add)
		for _, f := range p.add.fields {
			gone = append(gone, record.Member(f.name)) // what is added takes the place of what is there
		}
		p.add.each(func(t *template) { t.bindings(func(b binding) { r.settingOfPatch(p, add, sc, b) }) })
	}
	for _, n := range r.items(remove, "remove_fields") {
		text := r.text(n, "remove_fields")
		path, err := record.ParsePath(text)
		if err == nil {
			_, err = record.NewRemoval([]record.Path{path})
		}
		if err != nil {
			r.fail(n, "remove_fields: %v", err)
			continue
		}
		gone, p.said.Remove = append(gone, path), append(p.said.Remove, path.String())
	}
	slices.Sort(p.said.Remove)
	p.said.Remove = slices.Compact(p.said.Remove)
	var err error
	if p.removal, err = record.NewRemoval(gone); err != nil {
		return nil // it was said of the one path
	}
	return p
}

func (r *linter) settingOfPatch(p *patch, at *yaml.Node, sc *scope, b binding) {
	switch s := sc.setting(b.member); {
	case b.root != "config" || slices.Contains(p.used, b.member):
	case s != nil && s.secret:
		r.fail(at, "add_fields names the secret config.%s: what is published is no place for it", b.member)
	default:
		p.used = append(p.used, b.member)
	}
}

// fields is the patch as rules hold it: with the settings of a connection, so that a setting that changes is a rule that changes.
func (p *patch) fields(config map[string]any) string {
	if p == nil {
		return ""
	}
	said := p.said
	for _, name := range p.used {
		if said.Config == nil {
			said.Config = map[string]any{}
		}
		said.Config[name] = config[name]
	}
	text, err := json.Marshal(said)
	if err != nil {
		panic(err) // texts, numbers, truth values, and lists and maps of them always marshal
	}
	return string(text)
}

// patchOf compiles what rules hold: a patch, the places of the record that it wants, and the settings it was made with.
func patchOf(fields string, partitions []dimension) (p *patch, places []record.Path, config map[string]any, err error) {
	r := &linter{file: "fields"}
	sc := &scope{where: "add_fields", names: patchNames}
	for _, d := range partitions {
		sc.partitions = append(sc.partitions, d.name)
	}
	sc.slot = func(place record.Path) int {
		places = append(places, place)
		return len(places) - 1
	}
	config = map[string]any{}
	if root := r.document([]byte(fields)); root != nil {
		r.each(child(root, "config"), "config", func(k, v *yaml.Node) {
			config[k.Value] = plainValue(v)
			sc.config = append(sc.config, &setting{name: k.Value, optional: true}) // of any type: they were checked when they were set
		})
		p = r.patch(child(root, "add"), child(root, "remove"), sc)
	}
	if len(r.problems) > 0 || p == nil {
		return nil, nil, nil, unknownRules(fmt.Errorf("the fields that were added to published values: %w", r.problems))
	}
	return p, places, config, nil
}

// patchNames are what added fields may speak of: what does not change unless the record does, or the rules.
var patchNames = []string{"record", "partition", "config"}

// append appends the patched value. at is a map of buf; the vars' view is the record.
func (p *patch) append(dst, buf []byte, at record.Span, v *vars) ([]byte, error) {
	dst = p.removal.Append(dst, buf, at)
	if p.add == nil {
		return dst, nil
	}
	dst, err := appendFields(dst[:len(dst)-1], p.add.fields, v)
	if err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

// patched is the reader's way from a patched value to its hash.
type patched struct {
	*patch
	config  map[string]any
	scanner *record.Scanner
}

// newPatched returns how a patched value is read under the rules.
func newPatched(p *patch, config map[string]any, rules record.Rules, seed uint64, limits record.Limits) (*patched, error) {
	rules.Value = "" // what is scanned is the value itself
	plan, err := record.NewPlan(nil, rules, seed)
	if err != nil {
		return nil, err
	}
	return &patched{p, config, record.NewScanner(plan, limits)}, nil
}

// apply appends the patched value of a record to dst and returns it with its hash.
func (p *patched) apply(dst, buf []byte, value record.Span, spans []record.Span, partition map[string]any) (out []byte, hash uint64, err error) {
	if kind := record.KindAt(buf, value); kind != record.Object {
		return dst, 0, fmt.Errorf("its value is %s: only a map has fields to add or remove", kind)
	}
	v := vars{partition: partition, config: p.config, view: &view{buf, spans}}
	if out, err = p.append(dst, buf, value, &v); err != nil {
		return dst, 0, cause(err)
	}
	_, err = p.scanner.Scan(out, len(dst))
	return out, p.scanner.Hash, err
}

// patch puts the value that is published instead of the record's own into the page's arena. What goes wrong parks the record.
func (s *splitter) patch(rd *reader, rec *Record) {
	start := len(s.page.arena)
	out, hash, err := rd.patched.apply(s.page.arena, s.body, rec.Value, rd.scanner.Spans, s.vars.partition)
	if err != nil {
		s.park(rec, "add_fields", parked("add_fields", err))
		return
	}
	s.page.arena = out
	rec.content, rec.Hash = out[start:len(out):len(out)], hash
}
