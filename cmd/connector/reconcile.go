package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// reconciling is what `reconcile` is asked.
type reconciling struct {
	p       *program
	d       *deployment
	target  string // connection/stream
	command offsets.Command
	wait    time.Duration
	expires time.Duration
	keys    int
}

// reconcileCommand shows what is missing or withheld of a stream, or asks its owner to list it, or to let deletions go. The
// owner is reached through the controls topic (K1), so that it may run anywhere.
func reconcileCommand(ctx context.Context, p *program, args []string) error {
	r := reconciling{p: p}
	f := p.flags("reconcile", "CONNECTION/STREAM [--now | --dry-run | --approve N]")
	now := f.Bool("now", false, "list every partition of the stream now")
	dry := f.Bool("dry-run", false, "list them, and say what would be deleted and why; nothing is")
	approve := f.Int64("approve", 0, "let the `N` deletions go that are withheld now, after another complete listing")
	f.DurationVar(&r.wait, "wait", 10*time.Minute, "how long to wait for the outcome; 0: not at all")
	f.DurationVar(&r.expires, "expires", 24*time.Hour, "how long the command, or the approval, holds")
	f.IntVar(&r.keys, "keys", 20, "how many keys to show")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	asked := 0
	for _, c := range []struct {
		set bool
		do  offsets.CommandKind
	}{{*now, offsets.List}, {*dry, offsets.DryRun}, {*approve != 0, offsets.Approve}} {
		if c.set {
			r.command.Do = c.do
			asked++
		}
	}
	if len(rest) == 0 || asked > 1 || *approve < 0 {
		return fmt.Errorf("%w: connector reconcile CONNECTION/STREAM [--now | --dry-run | --approve N]", errUsage)
	}
	r.target, r.command.N = rest[0], *approve
	if r.command.Connection, r.command.Stream, err = streamName(r.target); err != nil {
		return err
	}
	if r.d, err = p.distant("reconcile"); err != nil {
		return err
	}
	if asked == 0 {
		return r.show(ctx)
	}
	return r.ask(ctx)
}

// show prints the marks of the stream's partitions and the keys that wait.
func (r *reconciling) show(ctx context.Context) error {
	h, err := r.holdings(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.p.out, "%s: %s\n\n", r.target, counted(h.streams[r.command.Stream].Count, "key"))
	cursors := h.cursors[h.request(r.d, r.command.Stream)]
	rows := [][]string{{"PARTITION", "LAST COMPLETE LISTING", "MISSING", "OF THESE ALIVE", "NOTE"}}
	for _, name := range slices.Sorted(maps.Keys(cursors)) {
		m := cursors[name].Reconciled
		if m == nil {
			rows = append(rows, []string{name, "none yet", "", "", ""})
			continue
		}
		note := m.Held
		if m.Failed > 0 {
			note = fmt.Sprintf("%s since then not complete: %s", counted(int64(m.Failed), "listing"), m.Why)
		}
		at := "none yet"
		if !m.Ended.IsZero() {
			at = m.Ended.Format(time.RFC3339)
		}
		rows = append(rows, []string{name, at, strconv.FormatInt(m.Missing, 10), strconv.FormatInt(m.Unlisted, 10), note})
	}
	aligned(r.p.out, rows)
	return r.waiting(h)
}

// waiting prints the keys whose deletion waits.
func (r *reconciling) waiting(h *holdings) error {
	rows := [][]string{{"KEY", "STATE", "REASON", "SINCE", "LAST SEEN"}}
	n := 0
	for _, k := range h.of(r.command.Stream, offsets.KindCandidate) {
		c, err := offsets.Decode[offsets.Candidate](h.values[k.String()])
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		if c.Kind == offsets.Older {
			continue
		}
		if n++; n > r.keys {
			continue
		}
		seen := "-"
		if !c.Seen.IsZero() {
			seen = c.Seen.Format(time.RFC3339)
		}
		rows = append(rows, []string{clipped(k.Name, 60), string(c.Kind), string(c.Reason), c.At.Format(time.RFC3339), seen})
	}
	fmt.Fprintln(r.p.out)
	if n == 0 {
		fmt.Fprintln(r.p.out, "No deletion waits.")
		return nil
	}
	aligned(r.p.out, rows)
	if n > r.keys {
		fmt.Fprintf(r.p.out, "… and %d more (--keys)\n", n-r.keys)
	}
	return nil
}

// holdings reads what the offsets topic holds of the connection.
func (r *reconciling) holdings(ctx context.Context) (*holdings, error) {
	all, err := readHoldings(ctx, r.d.kafka)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(h *holdings) bool { return h.connection == r.command.Connection })
	if i < 0 || all[i].streams[r.command.Stream].Topic == "" {
		return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "reconcile", "`connector offsets list` shows what there is", "nothing is stored of a stream %s", r.target)
	}
	return all[i], nil
}

// ask writes the command and waits for its outcome.
func (r *reconciling) ask(ctx context.Context) error {
	if _, err := r.holdings(ctx); err != nil {
		return err
	}
	now := time.Now().UTC()
	r.command.Author, r.command.At, r.command.Expires = author(), now, now.Add(r.expires)
	id := now.Format("20060102T150405Z-") + rand.Text()[:8]
	value, err := offsets.Encode(r.command)
	if err != nil {
		return err
	}
	if err := kafka.Command(ctx, r.d.kafka, []byte(id), value); err != nil {
		return err
	}
	fmt.Fprintf(r.p.out, "command %s is given; it holds until %s\n", id, r.command.Expires.Format(time.RFC3339))
	if r.wait == 0 {
		return nil
	}
	outcome, err := r.await(ctx, id)
	if err != nil {
		return err
	}
	if outcome == nil {
		return cdc.Errorf(cdc.Halt, cdc.Connection, "reconcile", "See `connector status`: is an instance running, and the listing long? The command holds until it expires",
			"no outcome after %v", r.wait)
	}
	return r.tell(outcome)
}

// author names who asks: it is a claim, for the log.
func author() string {
	if u, err := user.Current(); err == nil {
		return cmp.Or(u.Username, "unknown")
	}
	return "unknown"
}

var errArrived = errors.New("it has arrived")

// await follows the controls topic until the command's outcome is there; nil when the time is over.
func (r *reconciling) await(ctx context.Context, id string) (*offsets.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	var outcome *offsets.Outcome
	query := kafka.Query{Topics: []string{r.d.kafka.ControlsTopic()}, Follow: true}
	err := kafka.Read(ctx, r.d.kafka, query, func(k kafka.Record) error {
		if string(k.Key) != id || k.Value == nil {
			return nil
		}
		c, err := offsets.Decode[offsets.Command](k.Value)
		if err != nil || c.Outcome == nil {
			return err
		}
		outcome = c.Outcome
		return errArrived
	})
	if errors.Is(err, errArrived) {
		err = nil
	}
	return outcome, err
}

// tell prints an outcome; one that was refused is an error.
func (r *reconciling) tell(o *offsets.Outcome) error {
	if o.Error != "" {
		return cdc.Errorf(cdc.Halt, cdc.Stream, "reconcile", "`connector reconcile "+r.target+"` shows what waits", "%s", o.Error)
	}
	for _, v := range o.Partitions {
		fmt.Fprintf(r.p.out, "\npartition %s: ", v.Partition)
		switch {
		case r.command.Do == offsets.Approve:
			fmt.Fprintf(r.p.out, "%s approved\n", counted(v.Missing, "deletion"))
		case v.Why != "":
			fmt.Fprintf(r.p.out, "the listing is not complete, so nothing is decided: %s\n", v.Why)
			continue
		default:
			fmt.Fprintf(r.p.out, "%s listed, %s missing\n", counted(int64(v.Rows), "record"), counted(v.Missing, "key"))
		}
		if v.Held != "" {
			fmt.Fprintf(r.p.out, "  withheld: %s\n", v.Held)
		}
		if v.Next != "" {
			fmt.Fprintf(r.p.out, "  before they are deleted: %s\n", v.Next)
		}
		for _, key := range v.Sample {
			fmt.Fprintf(r.p.out, "  %s\n", key)
		}
		if more := v.Missing - int64(len(v.Sample)); more > 0 && len(v.Sample) > 0 {
			fmt.Fprintf(r.p.out, "  … and %d more\n", more)
		}
	}
	return nil
}

// request is the name under which the checkpoints of a stream's request stand: its own, but where one request feeds several
// streams.
func (h *holdings) request(d *deployment, stream string) string {
	if h.cursors[stream] != nil {
		return stream
	}
	all, err := d.connections()
	if err != nil {
		return stream
	}
	for _, c := range all {
		for _, r := range c.bound.Requests {
			for _, s := range r.Streams {
				if c.Name == h.connection && s.Name == stream {
					return r.Name
				}
			}
		}
	}
	return stream
}
