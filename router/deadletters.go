package router

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"

	"github.com/multiraftd/multiraftd/actors"
)

// ownDeadLetters makes requests end that were sent to an actor which is gone. It takes the place of protoactor's
// subscribers, whose throttle starts a goroutine with a timer for the first dead letter of each second: a Core
// starts none. What else they do is kept: who watches an actor that is gone is told so.
func ownDeadLetters(system *actor.ActorSystem) {
	system.EventStream = eventstream.NewEventStream()
	system.EventStream.Subscribe(func(event any) {
		letter, ok := event.(*actor.DeadLetterEvent)
		if !ok {
			return
		}
		switch m := letter.Message.(type) {
		case *actor.Watch:
			if watcher, ok := system.ProcessRegistry.Get(m.Watcher); ok {
				watcher.SendSystemMessage(m.Watcher, &actor.Terminated{Who: letter.PID, Why: actor.TerminatedReason_NotFound})
			}
		case *Frame:
			if m.Done != nil {
				m.Done()
			}
		case *Dispatch:
			for _, it := range m.Items {
				actors.End(it.Msg, actors.ErrStopped)
			}
		default:
			actors.End(m, actors.ErrStopped)
		}
	})
}
