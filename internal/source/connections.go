package source

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/cdc"
)

// Connection is one entry of the file of connections: a named instance of a source with its settings.
type Connection struct {
	Name    string // cdc.ValidName
	Source  string // a name of the catalog, or the path of a definition; a relative path is one beside the file of connections
	Account string // whose budget it shares; default: Name
	Config  map[string]any
	// Proxy and CAFile are for requests to upstream; AllowHosts are hosts with private addresses that answers may name.
	Proxy, CAFile string
	AllowHosts    []string
	Overrides     Overrides
}

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// ParseConnections reads a file of connections: strict YAML, a list. A text that is ${VAR} as a whole is taken from env; a
// setting that is {file: PATH} is the content of the file. The error is a cdc.Error around Problems: all that is wrong, each
// with file, line and column.
func ParseConnections(file string, data []byte, env func(string) (string, bool)) ([]Connection, error) {
	p := connectionParser{linter: linter{file: file}, env: env}
	var all []Connection
	if root := p.document(data); root != nil {
		if root.Kind != yaml.SequenceNode {
			p.fail(root, "a file of connections is a list: - name: …, not %s", describe(root))
		}
		for _, n := range root.Content {
			if root.Kind == yaml.SequenceNode {
				all = append(all, p.connection(n, all))
			}
		}
	}
	if len(p.problems) > 0 {
		return nil, &cdc.Error{
			Op: "read connections", Where: file, Err: p.problems, Remedy: cdc.Halt, Scope: cdc.Process,
			Hint: "Mend the file; docs/connections.md has every key",
		}
	}
	return all, nil
}

type connectionParser struct {
	linter
	env func(string) (string, bool)
}

func (p *connectionParser) connection(n *yaml.Node, before []Connection) Connection {
	var c Connection
	f := p.fields(n, "a connection", connectionTable)
	if f == nil {
		return c
	}
	c.Name = p.value(f["name"], "name")
	switch {
	case f["name"] == nil:
		p.fail(n, "a connection has no name")
	case !cdc.ValidName(c.Name):
		p.fail(f["name"], "name %q: 1 to 64 of A-Z a-z 0-9 _ -, since it is part of topic names and of the transactional id", c.Name)
	case slices.ContainsFunc(before, func(b Connection) bool { return b.Name == c.Name }):
		p.fail(f["name"], "a second connection is named %q", c.Name)
	}
	if f["source"] == nil {
		p.fail(n, "connection %q has no source: a name of the catalog (%s) or a file", c.Name, strings.Join(Catalog(), ", "))
	} else {
		c.Source = p.source(f["source"])
	}
	if c.Account = c.Name; f["account"] != nil {
		c.Account = p.value(f["account"], "account")
	}
	c.Proxy, c.CAFile = p.value(f["proxy"], "proxy"), p.value(f["ca_file"], "ca_file")
	for _, h := range p.items(f["allow_hosts"], "allow_hosts") {
		c.AllowHosts = append(c.AllowHosts, p.value(h, "allow_hosts"))
	}
	c.Config = map[string]any{}
	p.each(f["config"], "config", func(k, v *yaml.Node) { c.Config[k.Value] = p.setting(v, "config."+k.Value) })
	if f["streams"] != nil {
		c.Overrides.Streams = p.streams(f["streams"])
	}
	c.Overrides.Rate = p.rate(f["rate_limit"])
	return c
}

// source resolves a path against the file of connections, so that the two can be moved together.
func (p *connectionParser) source(n *yaml.Node) string {
	name := p.value(n, "source")
	if slices.Contains(Catalog(), name) || filepath.IsAbs(name) || name == "" {
		return name
	}
	if !strings.ContainsAny(name, "/.") {
		p.fail(n, "source %q is not in the catalog%s, and a file would have an ending", name, suggest(name, Catalog()))
		return name
	}
	return filepath.Join(filepath.Dir(p.file), name)
}

// value is a text in which ${VAR} as a whole stands for a variable of the environment.
func (p *connectionParser) value(n *yaml.Node, what string) string {
	s := p.text(n, what)
	if m := variable.FindStringSubmatch(s); m != nil {
		v, ok := p.env(m[1])
		if !ok {
			p.fail(n, "%s: the variable %s is not set", what, m[1])
		}
		return v
	}
	if strings.Contains(s, "${") {
		p.fail(n, "%s: ${VAR} stands only for a whole value, not within %q", what, s)
	}
	return s
}

// setting is one entry of config: a scalar, a list of scalars, or {file: PATH}.
func (p *connectionParser) setting(n *yaml.Node, what string) any {
	switch {
	case n.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			list = append(list, p.element(e, what))
		}
		return list
	case n.Kind == yaml.MappingNode:
		f := p.fields(n, what, fileTable)
		if f["file"] == nil {
			return nil
		}
		data, err := os.ReadFile(p.value(f["file"], what+".file"))
		if err != nil {
			p.fail(n, "%s: %v", what, err)
		}
		return strings.TrimRight(string(data), "\r\n") // editors end files with a line break that no secret has
	case n.ShortTag() == "!!str":
		return p.value(n, what)
	default:
		return literal(n)
	}
}

// element is one of a list: as a setting, or a map of what is known of a parent's record (P21).
func (p *connectionParser) element(n *yaml.Node, what string) any {
	if n.Kind != yaml.MappingNode || child(n, "file") != nil {
		return p.setting(n, what)
	}
	out := map[string]any{}
	p.each(n, what, func(k, v *yaml.Node) { out[k.Value] = p.setting(v, what+"."+k.Value) })
	return out
}

// streams is a list of names, or a map from name to what is changed of the stream.
func (p *connectionParser) streams(n *yaml.Node) map[string]StreamOverride {
	out := map[string]StreamOverride{}
	if n.Kind == yaml.SequenceNode {
		for _, e := range n.Content {
			out[p.value(e, "streams")] = StreamOverride{}
		}
		return out
	}
	p.each(n, "streams", func(k, v *yaml.Node) { out[k.Value] = p.stream(v, "streams."+k.Value) })
	return out
}

func (p *connectionParser) stream(n *yaml.Node, what string) StreamOverride {
	var o StreamOverride
	if n.ShortTag() == "!!null" {
		return o
	}
	f := p.fields(n, what, overrideTable)
	if f == nil {
		return o
	}
	o.Interval = p.positive(f["interval"], what+".interval", 0)
	if h := f["hash"]; h != nil {
		o.Hash = p.hash(h, what+".hash")
	}
	if r := f["reconcile"]; r != nil {
		if o.ReconcileEvery = -1; r.ShortTag() != "!!bool" || r.Value != "false" {
			o.ReconcileEvery, o.Guard = p.reconcile(r, what+".reconcile")
		}
	}
	if t := f["topic"]; t != nil {
		tf := p.fields(t, what+".topic", topicTable)
		o.Topic.Name = p.value(tf["name"], what+".topic.name")
		o.Topic.Partitions = int32(p.integer(tf["partitions"], what+".topic.partitions", 1, 10_000))
		o.Topic.Cleanup = p.choice(tf["cleanup"], what+".topic.cleanup", topicTable.options("cleanup")...)
	}
	if r := f["retention"]; r != nil && r.Value == "forever" {
		o.Topic.Retention = -1
	} else {
		o.Topic.Retention = p.positive(r, what+".retention", 0)
	}
	return o
}

func (p *connectionParser) reconcile(n *yaml.Node, what string) (every time.Duration, guard *Reconcile) {
	f := p.fields(n, what, everyTable)
	if f["guard"] != nil {
		guard = &Reconcile{GuardKeys: guardKeys, GuardShare: guardShare}
		p.guard(f["guard"], what+".guard", guard)
	}
	return p.positive(f["every"], what+".every", 0), guard
}

func (p *connectionParser) hash(n *yaml.Node, what string) *HashOverride {
	f := p.fields(n, what, hashTable)
	o := &HashOverride{}
	for _, e := range p.items(f["include"], what+".include") {
		o.Include = append(o.Include, p.value(e, what+".include"))
	}
	for _, e := range p.items(f["exclude"], what+".exclude") {
		o.Exclude = append(o.Exclude, p.value(e, what+".exclude"))
	}
	if len(o.Include) > 0 && len(o.Exclude) > 0 {
		p.fail(n, "%s has both include and exclude: one of them says it all", what)
	}
	return o
}

func (p *connectionParser) rate(n *yaml.Node) *RateOverride {
	if n == nil {
		return nil
	}
	f := p.fields(n, "rate_limit", rateOverrideTable)
	return &RateOverride{
		Budget: p.number(f["budget"], "rate_limit.budget"), Per: p.positive(f["per"], "rate_limit.per", 0),
		MaxConcurrent: int(p.integer(f["max_concurrent"], "rate_limit.max_concurrent", 1, 1000)),
	}
}
