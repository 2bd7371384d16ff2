package actors

import (
	"errors"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

func TestAMessagePostedWhileItsActorStopsStillEnds(t *testing.T) {
	disp := &queueDispatcher{}
	system := actor.NewActorSystem()
	var box *drainMailbox
	late := &result{t: t}
	pid := system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}, actor.WithDispatcher(disp),
		actor.WithMailbox(func() actor.Mailbox { box = &drainMailbox{}; return box })))
	disp.run()
	system.Root.Stop(pid)
	disp.run()
	// Somebody who had seen the mailbox open posts now.
	box.mu.Lock()
	box.user = append(box.user, &Propose{Reply: late})
	box.mu.Unlock()
	box.waiting.Add(1)
	box.schedule()
	disp.run()
	if !late.ended || !errors.Is(late.Err, ErrStopped) {
		t.Fatalf("%+v", late)
	}
}
