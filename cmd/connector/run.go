package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/admin"
	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/supervisor"
)

// run is the connector.
func run(ctx context.Context, p *program, args []string) error {
	f := p.flags("run", "[--adopt | --rebaseline]")
	adopt := f.Bool("adopt", false, "go on from what an events topic without checkpoint holds: its events become the state (K10)")
	rebaseline := f.Bool("rebaseline", false, "publish everything anew into an events topic without checkpoint (K10)")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if *adopt && *rebaseline {
		return errors.Join(errUsage, errors.New("--adopt and --rebaseline contradict each other"))
	}
	s, err := loadSettings(p.env)
	if err != nil {
		return err
	}
	d, err := p.deploy(s)
	if err != nil {
		return err
	}
	defer d.close()
	hangup := p.hangup
	if hangup == nil {
		own := make(chan os.Signal, 1)
		signal.Notify(own, syscall.SIGHUP)
		defer signal.Stop(own)
		hangup = own
	}
	all, err := d.connections()
	if err != nil {
		return err
	}
	for _, c := range all {
		for _, w := range c.bound.Warnings {
			d.log.Warn(w, "connection", c.Name)
		}
	}
	return d.capture(ctx, all, hangup, func(o *capture.Options) { o.Adopt, o.Rebaseline = *adopt, *rebaseline })
}

// capture runs connections until ctx ends, with the admin page beside them. A signal of hangup has the file of connections read again.
func (d *deployment) capture(ctx context.Context, all []declared, hangup <-chan os.Signal, change func(*capture.Options)) error {
	cluster, err := d.reach(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	for _, w := range cluster.Warnings {
		d.log.Warn(w)
	}
	fleet, err := d.fleet(all, all, change)
	if err != nil {
		return err
	}
	sup := supervisor.New(supervisor.Options{Kafka: d.kafka, Connections: fleet, Log: d.log})
	reload, err := newReloader(d, sup, all, fleet)
	if err != nil {
		disband(fleet)
		return err
	}
	defer reload.close()
	stop, err := d.serve(sup)
	if err != nil {
		return err
	}
	defer stop()
	d.log.Info("connector started", "version", version, "name", d.settings.Name, "instance", d.kafka.Instance, "kafka", cluster.Version,
		"connections", len(all), "status", "http://"+d.settings.Admin)
	looking, end := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { reload.run(looking, hangup) }) // follows the file of connections
	err = sup.Run(ctx)
	end()
	wait.Wait()
	d.log.Info("connector stopped")
	return err
}

// reach asks the brokers who they are, and fails loudly where that can never work. Brokers that are down may be starting as we
// are: it says so and tries again until ctx ends, which is no error.
func (d *deployment) reach(ctx context.Context) (kafka.Cluster, error) {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		cluster, err := kafka.Inspect(ctx, d.kafka)
		if remedy, _ := cdc.Verdict(err); err == nil || remedy == cdc.Halt {
			return cluster, err
		}
		d.log.Warn("the brokers cannot be reached yet", "again_in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return cluster, nil
		}
	}
}

// serve opens the admin server; stop closes it.
func (d *deployment) serve(sup *supervisor.Supervisor) (stop func(), err error) {
	listener, err := net.Listen("tcp", d.settings.Admin)
	if err != nil {
		return nil, err
	}
	d.settings.Admin = listener.Addr().String()
	server := &http.Server{
		Handler:           admin.New(admin.Options{Fleet: sup, Version: version}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	done := make(chan struct{})
	go func() { // serves the admin page
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("the admin server ended", "error", err)
		}
	}()
	return func() { server.Close(); <-done }, nil
}
