package actors

import "github.com/asynkron/protoactor-go/actor"

// stopAndReport is a supervisor that never restarts: a panic is a broken invariant, and the state that broke
// it must not serve again. The child is stopped and report is told, in the parent's turn.
type stopAndReport struct {
	report func(child *actor.PID, reason any)
}

// StopAndReport returns the supervisor for a parent of replicas. protoactor's default restarts.
func StopAndReport(report func(child *actor.PID, reason any)) actor.SupervisorStrategy {
	return &stopAndReport{report}
}

// HandleFailure is part of actor.SupervisorStrategy.
func (s *stopAndReport) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	sup.StopChildren(child)
	s.report(child, reason)
}
