package supervisor

import (
	"context"
	"slices"
	"time"

	"tidemark/internal/capture"
)

// Replace takes the connections named gone out of the fleet and puts fresh ones into it; one that changed is in both. The others go
// on without a pause: nothing of theirs is touched. A connection that goes commits what it began and closes its session, and what
// has not ended after a while is abandoned to the fence (K11), of its successor too. Replace returns when those that went have ended,
// and whoever made them closes them. It may be called while Run runs, by one at a time.
func (s *Supervisor) Replace(ctx context.Context, gone []string, fresh []*capture.Connection) {
	var leaving []*member
	s.mu.Lock()
	// This one is taken, however long those that go take for it.
	s.refused = nil
	s.fleet = slices.DeleteFunc(slices.Clone(s.fleet), func(m *member) bool { // a status that was asked for goes through the old one
		if !slices.Contains(gone, m.connection.Name()) {
			return false
		}
		leaving = append(leaving, m)
		if m.assigned = false; m.stop != nil {
			m.stop()
		}
		return true
	})
	s.mu.Unlock()
	s.wait(ctx, leaving)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range fresh {
		m := s.member(c)
		s.fleet = append(s.fleet, m)
		for id, command := range s.open { // K1
			if command.Connection == c.Name() && time.Now().Before(command.Expires) {
				c.Order(id, command)
			}
		}
		if slices.Contains(s.shards, m.shard) && s.ctx.Err() == nil {
			m.assigned = true
			s.start(m)
		}
	}
}

// wait waits until members have ended, as long as the end of a process may take.
func (s *Supervisor) wait(ctx context.Context, leaving []*member) {
	patience := time.NewTimer(leaveFor)
	defer patience.Stop()
	for _, m := range leaving {
		if m.done == nil {
			continue
		}
		select {
		case <-m.done:
		case <-patience.C:
			patience.Reset(0) // the others have had their time, too
			s.log.Warn("the connection did not end in time and is abandoned to the fence", "connection", m.connection.Name())
		case <-ctx.Done():
			return
		}
	}
}

// Refuse notes why a configuration was not taken: it is shown until one is.
func (s *Supervisor) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = err
}
