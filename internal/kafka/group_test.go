package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/internal/cdc"
)

// member is an instance in a group, as the supervisor is one.
type member struct {
	group *Group

	mu      sync.Mutex
	mine    map[int32]bool
	trouble []error
	lost    int
}

func (b *bed) join(instance string) *member {
	b.Helper()
	m := &member{mine: map[int32]bool{}}
	o := b.Options
	o.Instance = instance
	g, err := Join(b.ctx(), o, Assignment{
		Gained: func(shards []int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, s := range shards {
				m.mine[s] = true
			}
		},
		Lost: func(_ context.Context, shards []int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, s := range shards {
				if m.group != nil && m.group.Assigned(s) {
					b.Errorf("shard %d still counts as assigned while it is being given back", s)
				}
				delete(m.mine, s)
				m.lost++
			}
		},
		Trouble: func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.trouble = append(m.trouble, err)
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	m.mu.Lock()
	m.group = g
	m.mu.Unlock()
	b.Cleanup(g.client.Close)
	return m
}

func (m *member) shards() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []int32
	for s := range m.mine {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// shared reports whether the shards are spread over the members, each once.
func shared(members ...*member) bool {
	var all []int32
	for _, m := range members {
		if len(m.shards()) == 0 {
			return false
		}
		all = append(all, m.shards()...)
	}
	slices.Sort(all)
	return slices.Equal(all, []int32{0, 1, 2})
}

// TestK6GroupSharesShards: one instance has all, two share, and who leaves hands over at once, also as a static member.
func TestK6GroupSharesShards(t *testing.T) {
	for name, kip848 := range map[string]bool{"classic": false, "848": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.KIP848 = kip848
			b.SessionTimeout = 40 * time.Second // nothing below may wait for it
			start := time.Now()
			one := b.join("one")
			b.until("the first instance to have all shards", func() bool { return shared(one) })
			if !one.group.Assigned(2) {
				t.Error("shard 2 is not assigned")
			}
			two := b.join("two")
			b.until("the second to have some", func() bool { return shared(one, two) })
			members, err := one.group.Members(b.ctx())
			if err != nil || !slices.Equal(members, []string{"one", "two"}) {
				t.Errorf("members %v %v (K10)", members, err)
			}
			left := time.Now()
			if err := one.group.Leave(b.ctx()); err != nil {
				t.Fatal(err)
			}
			if len(one.shards()) != 0 {
				t.Errorf("Leave returned and Lost was not called for %v", one.shards())
			}
			b.until("the second to have all", func() bool { return shared(two) })
			if time.Since(left) > b.SessionTimeout {
				t.Errorf("it took %v since the start and %v since the leave: the session timeout was waited for", time.Since(start), time.Since(left))
			}
		})
	}
}

// TestK6LostHasABudget: when Leave's context ends, so does Lost's.
func TestK6LostHasABudget(t *testing.T) {
	b := newBed(t)
	b.KIP848 = true
	b.Deadlines.Revoke = time.Hour
	gained, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	g, err := Join(b.ctx(), b.Options, Assignment{
		Gained: func([]int32) { gained <- struct{}{} },
		Lost: func(ctx context.Context, _ []int32) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("no deadline")
			}
			<-ctx.Done()
			ended <- struct{}{}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	<-gained
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	_ = g.Leave(ctx) // whether it left in order is not the question here
	<-ended
}

// TestK6TroubleHalts: what a person has to mend halts the process with a hint; the rest is tried again.
func TestK6TroubleHalts(t *testing.T) {
	for _, c := range []struct {
		err    error
		remedy cdc.Remedy
	}{
		{kerr.FencedInstanceID, cdc.Halt}, {kerr.GroupAuthorizationFailed, cdc.Halt}, {kerr.InvalidSessionTimeout, cdc.Halt},
		{kerr.CoordinatorNotAvailable, cdc.Retry}, {errors.New("EOF"), cdc.Retry},
	} {
		var heard []error
		g := &Group{o: Options{Name: "n", Instance: "i"}, on: Assignment{Trouble: func(err error) { heard = append(heard, err) }}}
		(&groupHook{g}).OnGroupManageError(c.err)
		(&groupHook{g}).OnGroupManageError(context.Canceled) // our own Close
		if len(heard) != 1 {
			t.Fatalf("%v: heard %v", c.err, heard)
		}
		verdict(t, heard[0], c.remedy, cdc.Process)
	}
}
