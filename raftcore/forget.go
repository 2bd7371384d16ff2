package raftcore

// ForgetLeader makes a follower let go of its leader, of whose end there is other evidence than silence: it
// then grants pre-votes without waiting for its election timeout. It changes neither term nor vote; a leader
// that lives after all is followed again at its next heartbeat.
func (c *Core) ForgetLeader() error {
	if c.quarantined {
		return ErrQuarantine
	}
	return c.rn.ForgetLeader()
}
