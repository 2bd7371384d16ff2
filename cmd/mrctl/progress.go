package main

import "time"

// progressInterval is how often long work says how far it is.
const progressInterval = time.Second

// repeat calls f in a goroutine, now and then. The function that it returns ends that.
func repeat(interval time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
