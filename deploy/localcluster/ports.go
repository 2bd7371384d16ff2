package localcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports come from below the range from which Linux takes the local ends of outgoing connections (32768 and up).
// A node that is down would else find its port taken when it comes back: by a neighbour's dial, or, on loopback,
// by a dial to the very port that happened to be given the same port as its source, which connects to itself.
const (
	portMin   = 10000
	portMax   = 32000
	portTries = 200
)

// ErrNoPorts says that no run of free loopback ports was found.
var ErrNoPorts = errors.New("no free loopback ports found")

// FreePorts returns the first of n neighbouring loopback ports for whatever else a test starts beside a cluster.
func FreePorts(n int) (int, error) { return freePorts(n) }

// freePorts returns the first of n neighbouring loopback ports that are free now. Nothing reserves them: a node
// that loses the race for one says so and ends.
func freePorts(n int) (int, error) {
	for range portTries {
		base := portMin + rand.IntN(portMax-portMin-n)
		if allFree(base, n) {
			return base, nil
		}
	}
	return 0, ErrNoPorts
}

func allFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			return false
		}
		if err := l.Close(); err != nil {
			return false
		}
	}
	return true
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
