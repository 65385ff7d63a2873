package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// strangersEvery is how often the owner records of the deployment are compared with our configuration, beside at the start: it
// costs a read of the offsets topic.
const strangersEvery = time.Hour

// strangers compares the owner records in the offsets topic with what is configured here (K10). A connection that stands there
// and not here, or that another instance runs under another configuration, says that somebody else uses this deployment's
// name, or that a connection was left behind: nobody captures it now.
func (s *Supervisor) strangers(ctx context.Context) {
	ours := map[string]string{}
	for _, m := range s.members() {
		ours[m.connection.Name()] = m.connection.Config()
	}
	found := map[string]string{}
	err := kafka.Read(ctx, s.kafka, kafka.Query{Topics: []string{s.kafka.OffsetsTopic()}}, func(r kafka.Record) error {
		k, err := offsets.ParseKey(r.Key)
		if err != nil || k.Kind != offsets.KindOwner {
			return nil //nolint:nilerr // what cannot be read is the restore's to refuse, with its place
		}
		delete(found, k.Connection)
		if r.Value == nil {
			return nil
		}
		o, err := offsets.Decode[offsets.Owner](r.Value)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		switch config, configured := ours[k.Connection]; {
		case !configured:
			found[k.Connection] = fmt.Sprintf("there is state of connection %s, last owned by instance %s at %s, and this configuration does not have it: "+
				"nobody may be capturing it. Configure it, or give this deployment another DEPLOYMENT, or forget it with `connector offsets reset`",
				k.Connection, o.Instance, o.At.Format(time.RFC3339))
		case o.Config != config && o.Instance != s.kafka.Instance:
			found[k.Connection] = fmt.Sprintf("instance %s runs connection %s under another configuration (%s, ours is %s): another deployment uses "+
				"the name %q, or a roll-out is under way", o.Instance, k.Connection, o.Config, config, s.kafka.Name)
		}
		return nil
	})
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.log.Warn("the owners of this deployment's connections could not be compared with its configuration", "error", err)
		}
		return
	}
	var all []string
	for _, text := range found {
		all = append(all, text)
	}
	slices.Sort(all)
	s.mu.Lock()
	news := !slices.Equal(all, s.foreign)
	s.foreign = all
	s.mu.Unlock()
	if !news {
		return
	}
	for _, text := range all {
		s.log.Error(text)
	}
}
