package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/source"
	"tidemark/internal/supervisor"
)

// The file of connections is read again on SIGHUP and when it changes. What did not change goes on without a pause; a file that
// cannot be run changes nothing, and the log and the status say why.

// lookEvery is how often the file is looked at for a change. Its content is compared, not its time: a ConfigMap changes by a link. It
// has to be the same twice, since half a file may well be a list of fewer connections.
const lookEvery = 2 * time.Second

// reloader keeps what runs, as it was declared.
type reloader struct {
	d     *deployment
	sup   *supervisor.Supervisor
	live  map[string]*capture.Connection
	print map[string][sha256.Size]byte
	text  []byte // of the file, as it was tried last; nil at first, since it may have changed after it was read
	seen  []byte // the same, as it was looked at last
}

// newReloader takes what was declared and runs now.
func newReloader(d *deployment, sup *supervisor.Supervisor, all []declared, fleet []*capture.Connection) (*reloader, error) {
	r := &reloader{d: d, sup: sup, live: map[string]*capture.Connection{}, print: map[string][sha256.Size]byte{}}
	for i, c := range all {
		said, err := c.print()
		if err != nil {
			return nil, err
		}
		r.live[c.Name], r.print[c.Name] = fleet[i], said
	}
	return r, nil
}

// print identifies everything that is said of a connection, secrets included; it never leaves the process.
func (c declared) print() ([sha256.Size]byte, error) {
	said, err := json.Marshal(c.Connection)
	if err != nil || slices.Contains(source.Catalog(), c.Source) {
		return sha256.Sum256(said), err
	}
	definition, err := os.ReadFile(c.Source)
	return sha256.Sum256(slices.Concat(said, []byte{0}, definition)), err
}

// run looks at the file until ctx ends.
func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-hangup:
		case <-ticker.C:
			if !r.changed() {
				continue
			}
		case <-ctx.Done():
			return
		}
		r.text, _ = os.ReadFile(r.d.settings.Connections) // reload says what is wrong with it
		if err := r.reload(ctx); err != nil {
			r.d.log.Error("the connections are not reloaded: those that run go on as they are", "file", r.d.settings.Connections, "error", err)
			r.sup.Refuse(err)
		}
	}
}

// changed looks at the file. One that cannot be read is said once.
func (r *reloader) changed() bool {
	text, err := os.ReadFile(r.d.settings.Connections)
	if err != nil {
		return r.text != nil
	}
	still := r.seen != nil && bytes.Equal(text, r.seen)
	r.seen = text
	return still && !bytes.Equal(text, r.text)
}

// reload makes what runs equal to the file. Everything that can be wrong with it is found before anything is touched.
func (r *reloader) reload(ctx context.Context) error {
	all, err := r.d.connections()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return cdc.Errorf(cdc.Halt, cdc.Process, "read connections", "Stop the connector instead, or declare some", "%s declares no connection", r.d.settings.Connections)
	}
	now := map[string][sha256.Size]byte{}
	var fresh []declared
	for _, c := range all {
		if now[c.Name], err = c.print(); err != nil {
			return err
		}
		if now[c.Name] != r.print[c.Name] {
			fresh = append(fresh, c)
		}
	}
	gone := slices.DeleteFunc(slices.Sorted(maps.Keys(r.print)), func(name string) bool { return now[name] == r.print[name] })
	made, err := r.d.fleet(all, fresh, nil)
	if err != nil {
		return err
	}
	r.d.limit(all)
	old := make([]*capture.Connection, 0, len(gone))
	for _, name := range gone {
		old = append(old, r.live[name])
		delete(r.live, name)
	}
	for _, c := range made {
		r.live[c.Name()] = c
	}
	r.print = now
	for _, c := range fresh {
		for _, w := range c.bound.Warnings {
			r.d.log.Warn(w, "connection", c.Name)
		}
	}
	r.sup.Replace(ctx, gone, made)
	disband(old)
	if len(gone)+len(made) == 0 {
		r.d.log.Debug("the file of connections says what runs", "file", r.d.settings.Connections)
		return nil
	}
	names := make([]string, 0, len(made))
	for _, c := range made {
		names = append(names, c.Name())
	}
	r.d.log.Info("connections reloaded", "file", r.d.settings.Connections, "stopped", gone, "started", names, "connections", len(all))
	return nil
}

// close gives back what still runs, after the supervisor has returned.
func (r *reloader) close() { disband(slices.Collect(maps.Values(r.live))) }
