package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
)

// Assignment is told which shards this process should work on (K6). It is only a hint: who owns is decided by the fence (3).
// The functions are called one at a time.
type Assignment struct {
	// Gained must not block.
	Gained func(shards []int32)
	// Lost blocks until the connections of the shards are closed; ctx ends with the revoke budget (K11), and what is not done
	// by then is abandoned: fencing makes that safe.
	Lost func(ctx context.Context, shards []int32)
	// Trouble hears errors of the group. Remedy Halt and scope Process: another process has our Options.Instance
	// (FENCED_INSTANCE_ID) or we are not allowed in. Otherwise the group is retried by itself. It must not block. May be nil.
	Trouble func(err error)
}

// Group is this process's membership in the deployment's group.
type Group struct {
	o      Options
	on     Assignment
	client *kgo.Client

	// budget ends when Leave's context does: then Lost has no more time, whatever the revoke budget says.
	budget context.Context
	spent  context.CancelFunc

	mu   sync.Mutex // never held while waiting
	mine map[int32]bool
}

// Join joins the group {Name} on the offsets topic (K6). The topic has to exist. Shards arrive through on.
func Join(ctx context.Context, o Options, on Assignment) (*Group, error) {
	o = o.filled()
	g := &Group{o: o, on: on, mine: map[int32]bool{}}
	g.budget, g.spent = context.WithCancel(context.Background())
	topic := o.OffsetsTopic()
	opts := []kgo.Opt{
		kgo.ConsumerGroup(o.Name),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		kgo.RebalanceTimeout(o.Deadlines.Rebalance),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { g.gained(m[topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { g.lost(m[topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { g.lost(m[topic]) }),
		kgo.WithHooks(&groupHook{g}), // K6: kgo tells nobody else of the group's errors
		kgo.RetryTimeout(o.SessionTimeout),
	}
	if o.KIP848 {
		opts = append(opts, kgo.ServerSideBalancer()) // dynamic: a static member would wait for the broker's session timeout
	} else {
		opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.InstanceID(o.Instance),
			kgo.SessionTimeout(o.SessionTimeout), kgo.HeartbeatInterval(o.SessionTimeout/5))
	}
	client, err := o.client(opts...)
	if err != nil {
		return nil, err
	}
	client.PauseFetchTopics(topic) // K6: the group hands out shards; nothing is fetched through it
	g.client = client
	limited, cancel := context.WithTimeout(ctx, o.Deadlines.Admin)
	defer cancel()
	if err := client.Ping(limited); err != nil {
		client.Close()
		return nil, classify("join group", o.Name, "", false, err)
	}
	return g, nil
}

// Assigned reports whether the shard is assigned to this process, for Claim.Assigned (K8 a).
func (g *Group) Assigned(shard int32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mine[shard]
}

func (g *Group) gained(shards []int32) {
	if len(shards) == 0 {
		return
	}
	g.mark(shards, true)
	g.on.Gained(slices.Sorted(slices.Values(shards)))
}

// lost runs inside kgo's callback: the group waits for it, so it has a budget (K11). It must not close the client: that waits
// for this callback (K6).
func (g *Group) lost(shards []int32) {
	if len(shards) == 0 {
		return
	}
	g.mark(shards, false) // first, so that nobody owns again what is being given back
	ctx, cancel := context.WithTimeout(g.budget, g.o.Deadlines.Revoke)
	defer cancel()
	g.on.Lost(ctx, slices.Sorted(slices.Values(shards)))
}

func (g *Group) mark(shards []int32, mine bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range shards {
		if mine {
			g.mine[s] = true
		} else {
			delete(g.mine, s)
		}
	}
}

type groupHook struct{ g *Group }

// OnGroupManageError implements kgo.HookGroupManageError.
func (h *groupHook) OnGroupManageError(err error) {
	if h.g.on.Trouble == nil || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	e := &cdc.Error{Op: "group", Where: h.g.o.Name, Err: err, Remedy: cdc.Retry, Scope: cdc.Process}
	switch {
	case errors.Is(err, kerr.FencedInstanceID): // K6
		e.Remedy = cdc.Halt
		e.Hint = "Another process joined as instance " + h.g.o.Instance + ": give each process its own instance name, then start again"
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		e.Remedy, e.Hint = cdc.Halt, hintACL
	case errors.Is(err, kerr.InvalidSessionTimeout):
		e.Remedy = cdc.Halt
		e.Hint = "The brokers allow session timeouts between group.min.session.timeout.ms and group.max.session.timeout.ms: choose one of them, then start again"
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		e.Hint = "Instances with and without the new group protocol (KIP-848) are in one group: let them have the same setting"
	}
	h.g.on.Trouble(e)
}

// Members returns the instances in the group (K10: is a foreign owner one of us?).
func (g *Group) Members(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, g.o.Deadlines.Admin)
	defer cancel()
	if g.o.KIP848 {
		return g.members848(ctx)
	}
	described, err := kadm.NewClient(g.client).DescribeGroups(ctx, g.o.Name)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return nil, classify("describe group", g.o.Name, "", false, err)
	}
	var all []string
	for _, m := range described[g.o.Name].Members {
		if m.InstanceID != nil {
			all = append(all, *m.InstanceID)
		} else {
			all = append(all, m.ClientID)
		}
	}
	slices.Sort(all)
	return all, nil
}

// members848 asks for the members of a group of the new protocol, which DescribeGroups does not see.
func (g *Group) members848(ctx context.Context) ([]string, error) {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{g.o.Name}
	resp, err := req.RequestWith(ctx, g.client)
	if err != nil {
		return nil, classify("describe group", g.o.Name, "", false, err)
	}
	var all []string
	for _, d := range resp.Groups {
		if err := kerr.ErrorForCode(d.ErrorCode); err != nil {
			return nil, classify("describe group", g.o.Name, "", false, err)
		}
		for _, m := range d.Members {
			all = append(all, m.ClientID) // Options.Instance
		}
	}
	slices.Sort(all)
	return all, nil
}

// Leave gives the shards back (Lost is called) and leaves the group, also as a static member, so that others take over at once
// (K6). When ctx ends, Lost's budget does too. Never call it from a function of Assignment.
func (g *Group) Leave(ctx context.Context) error {
	stop := context.AfterFunc(ctx, g.spent)
	g.client.Close() // calls Lost and waits for it
	stop()
	g.spent()
	if g.o.KIP848 {
		return nil // a dynamic member has left with Close
	}
	// K6: a static member does not leave by itself. Its shards would wait for the session timeout.
	client, err := g.o.client()
	if err != nil {
		return err
	}
	defer client.Close()
	left, err := kadm.NewClient(client).LeaveGroup(ctx, kadm.LeaveGroup(g.o.Name).InstanceIDs(g.o.Instance).Reason("shutdown"))
	err = cmp.Or(err, left.Error())
	if errors.Is(err, kerr.UnknownMemberID) {
		return nil // kgo has left already, or the session ended before
	}
	return classify("leave group", strings.Join([]string{g.o.Name, g.o.Instance}, "/"), "", false, err)
}
