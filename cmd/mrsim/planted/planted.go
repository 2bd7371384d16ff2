package planted

// active is the bug that is on; empty = none.
var active string

// On says whether a bug is on.
func On(name string) bool { return active == name }

// Activate turns one bug on for the rest of the process. It fails where there are none.
func Activate(name string) error {
	if !compiled {
		return ErrNone
	}
	active = name
	return nil
}
