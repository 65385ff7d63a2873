package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// sourcesSchema reads some pages of a stream and prints an Avro schema that fits their records. What it asks goes to the error
// output, so that the schema alone can be sent into a file.
func sourcesSchema(ctx context.Context, p *program, args []string) error {
	var t trialFlags
	f := p.flags("sources schema", "NAME_OR_FILE --stream S --config name=value ... [--replay DIR]")
	t.asks(f)
	t.reads(f, 5)
	f.StringVar(&t.stream, "stream", "", "the stream whose records are looked at")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 || t.stream == "" || t.pages < 1 {
		return fmt.Errorf("%w: connector sources schema NAME_OR_FILE --stream S --config name=value ..., at least one page", errUsage)
	}
	d, err := source.Open(rest[0])
	if err != nil {
		return err
	}
	if names := d.StreamNames(); !slices.Contains(names, t.stream) {
		return fmt.Errorf("%w: %s has no stream %s%s: it has %s", errUsage, d.Name, t.stream, nearest(t.stream, names), strings.Join(names, ", "))
	}
	src, err := t.bind(p, rest[0])
	if err != nil {
		return err
	}
	i := slices.IndexFunc(src.Streams, func(st *source.Stream) bool { return st.Name == t.stream })
	r, err := t.open(&program{out: p.err, err: p.err, env: p.env}, src)
	if err != nil {
		return err
	}
	defer r.close()
	var learner codec.Learner
	for _, request := range r.order(t) {
		of := t
		if !slices.Contains(request.Streams, src.Streams[i]) { // a parent, one of whose children is read
			of.partition, of.since, of.pages = "", "", 1
		}
		if err := r.sample(ctx, request, of, i, &learner); err != nil {
			return err
		}
	}
	st := src.Streams[i]
	namespace := "tidemark." + strings.ReplaceAll(src.Name, "-", "_")
	text, extras, err := learner.Schema(namespace, st.Name, fmt.Sprintf("Learnt from %d records.", learner.Records()), st.KeyFields())
	if err != nil {
		return cdc.Errorf(cdc.Halt, cdc.Stream, "sources schema", "See what `connector sources test` shows of the stream; --since and --partition choose others", "%w", err)
	}
	r.say("%d records. What all of them have is no promise of the API: look at what is not nullable%s.", learner.Records(), fewer(learner.Records()))
	for _, text := range extras {
		r.say("left to _extra: %s", text)
	}
	_, err = p.out.Write(text)
	return err
}

func fewer(n int) string {
	if n < codec.Sure {
		return fmt.Sprintf(" (of fewer than %d records only the key is not)", codec.Sure)
	}
	return ""
}

// sample reads pages of a request and shows what would be published of a stream to the learner.
func (r *trial) sample(ctx context.Context, request *source.Request, t trialFlags, stream int, l *codec.Learner) error {
	spec, _, err := choose(request, t.partition, r.children[request])
	if err != nil {
		return err
	}
	cp, err := since(request, spec, t.since, r.now)
	if err != nil {
		return err
	}
	position, err := request.Begin(spec, cp, r.now)
	if err != nil {
		return err
	}
	defer position.Abandon()
	var page source.Page
	seen := map[uint64]bool{} // a page begins with records of the one before
	for position.Pages() < t.pages && !page.Done {
		asked, err := request.Compose(&position)
		if err != nil {
			return err
		}
		var answer *fetch.Response
		if asked != nil { // P13: a spool is played without asking
			if answer, err = r.do(ctx, asked); err != nil {
				return err
			}
		}
		if err := request.Split(&position, answer, nil, &page); err != nil {
			answer.Release()
			return err
		}
		for i := range page.Records {
			rec := &page.Records[i]
			r.beget(r.src.Streams[rec.Stream], rec, page.Body)
			if rec.Stream == stream && rec.Kind == source.Live && rec.Err == nil && !rec.Value.IsZero() && !seen[rec.RawHash] {
				seen[rec.RawHash] = true
				l.Add(rec.Content(page.Body))
			}
		}
		answer.Release()
		position = page.Next
	}
	return nil
}
