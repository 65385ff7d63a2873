package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/source"
)

// sourcesProbe asks the API what its documentation leaves out, and prints the answers as YAML, each with its evidence: what the
// rules of reading and deleting (P5 to P11, D1 to D4) rest on is settled by the API itself.
func sourcesProbe(ctx context.Context, p *program, args []string) error {
	var t trialFlags
	f := p.flags("sources probe", "NAME_OR_FILE --config name=value ... [--stream S]")
	t.asks(f)
	f.StringVar(&t.stream, "stream", "", "only this stream, or this request of several; default: all")
	most := f.Int("requests", 150, "requests for each stream, at the most; the definition's rate limit holds besides")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 || *most < 1 {
		return fmt.Errorf("%w: connector sources probe NAME_OR_FILE --config name=value ..., at least one request", errUsage)
	}
	src, err := t.bind(p, rest[0])
	if err != nil {
		return err
	}
	r, err := t.open(&program{out: p.err, err: p.err, env: p.env}, src)
	if err != nil {
		return err
	}
	defer r.close()
	s := &survey{source: src, began: r.now}
	for _, request := range r.order(t) {
		if t.stream != "" && !asked(request, t.stream) {
			if err := r.sample(ctx, request, trialFlags{pages: 1}, -1, nil); err != nil { // a parent, one of whose children is asked for
				return err
			}
			continue
		}
		b := &prober{trial: r, request: request, left: *most, review: request.Review()}
		if err := b.probe(ctx, t.partition); err != nil {
			return err
		}
		s.probers = append(s.probers, b)
	}
	if _, err := p.out.Write([]byte(r.hide(s.yaml()))); err != nil {
		return err
	}
	if s.differing() > 0 {
		r.say("%d of these answers contradict the definition: they are marked DIFFERS", s.differing())
		return errVerdict
	}
	return nil
}

// asked reports whether a request is the one of that name, or reads the stream of that name.
func asked(request *source.Request, name string) bool {
	return request.Name == name || slices.ContainsFunc(request.Streams, func(st *source.Stream) bool { return st.Name == name })
}

// learned is one fact that the API was asked for.
type learned struct {
	fact     string // its name, for people: "filter"
	key      string // the key that declares it, below the stream: "incremental.inclusive"; "": there is none
	value    any    // what to write there
	evidence string
	differs  bool // the definition says something else
}

// prober asks about one request of a source.
type prober struct {
	*trial
	request   *source.Request
	trait     source.Trait
	partition source.Partition
	left      int // requests that may still be sent
	sent      int
	findings  []learned
	base      *answer // the first page, from the beginning
	review    *source.Review
	page      *int64 // where pages are counted from, where the definition is wrong about that
}

// question is one thing to find out. Its errors are the API's: the fact is not known then, and the others are asked all the same.
type question struct {
	fact string
	ask  func(ctx context.Context, fact string) error
}

// errSpent ends a question: the requests that were allowed are spent.
var errSpent = errors.New("the requests that were allowed are spent (--requests)")

// questions are what a request is asked, in the order in which one answer helps the next.
func (b *prober) questions() []question {
	var all []question
	if b.trait.Paginator == "page" { // what follows looks at first pages
		all = append(all, question{"first page", b.firstPage})
	}
	all = append(all, question{"server", b.headers}, question{"etag", b.etag}, question{"unknown parameter", b.parameter})
	if b.trait.Incremental == "timestamp" {
		all = append(all, question{"order", b.order}, question{"time format", b.format}, question{"filter", b.filter}, question{"inclusive", b.inclusive},
			question{"granularity", b.granularity}, question{"future", b.future})
	}
	if b.trait.Incremental == "opaque" || b.trait.Incremental == "sequence" {
		all = append(all, question{"cursor of an empty page", b.emptyPage}, question{"cursor asked again", b.again}, question{"unknown cursor", b.unknownCursor})
	}
	if b.trait.SizeName != "" {
		all = append(all, question{"page size", b.size}, question{"largest page", b.largest})
	}
	switch b.trait.Paginator {
	case "token":
		all = append(all, question{"unknown token", b.unknownToken})
	case "page":
		all = append(all, question{"past the end", b.pastTheEnd})
	case "offset":
		all = append(all, question{"overlap", b.overlap}, question{"past the end", b.pastTheEnd})
	}
	return append(all, question{"total", b.total}, question{"lookup", b.lookups}, question{"signs of the end", b.signs})
}

// probe asks everything about the request.
func (b *prober) probe(ctx context.Context, partition string) error {
	var note string
	var err error
	if b.partition, note, err = choose(b.request, partition, b.children[b.request]); errors.Is(err, errNoParent) {
		b.find(learned{fact: "records", evidence: err.Error()})
		return nil
	} else if err != nil {
		return err
	}
	b.trait = b.request.Trait()
	b.say("%s%s", b.request.Name, note)
	if b.base, err = b.ask(ctx, source.Question{}); err != nil {
		return err
	}
	if b.base.glimpse == nil {
		return b.contradict("first request", "it is answered by %d: %s", b.base.status, b.base.why)
	}
	if err := b.breed(ctx); err != nil {
		return err
	}
	for _, q := range b.questions() {
		b.say("  %s?", q.fact)
		if err := q.ask(ctx, q.fact); err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.find(learned{fact: q.fact, evidence: "not known: " + firstLine(err)})
		}
	}
	return nil
}

// breed finds the children of the first record, where there are streams of such (P21).
func (b *prober) breed(ctx context.Context) error {
	for _, st := range b.request.Streams {
		if len(st.Children) > 0 {
			return b.sample(ctx, b.request, trialFlags{pages: 1, partition: b.partitionName()}, -1, nil)
		}
	}
	return nil
}

func (b *prober) partitionName() string {
	if b.partition.Name == cdc.NoPartition {
		return ""
	}
	return b.partition.Name
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return clipped(line, 300)
}

func (b *prober) find(f learned) { b.findings = append(b.findings, f) }

// clear says a fact for which there is no key.
func (b *prober) clear(fact, format string, args ...any) error {
	return b.declare(fact, "", nil, false, format, args...)
}

// contradict says what the definition has wrong, where no key mends it.
func (b *prober) contradict(fact, format string, args ...any) error {
	return b.declare(fact, "", nil, true, format, args...)
}

// declare says a fact for which there is a key; differs says whether the definition has something else there.
func (b *prober) declare(fact, key string, value any, differs bool, format string, args ...any) error {
	b.find(learned{fact: fact, key: key, value: value, differs: differs, evidence: fmt.Sprintf(format, args...)})
	return nil
}

// survey is what all the questions came to.
type survey struct {
	source  *source.Source
	began   time.Time
	probers []*prober
}

func (s *survey) differing() int {
	n := 0
	for _, b := range s.probers {
		for _, f := range b.findings {
			if f.differs {
				n++
			}
		}
	}
	return n
}
