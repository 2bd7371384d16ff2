package main

import "fmt"

// Replicas of every partition, in every system.
const replicas = 3

// workload is what every system is put under. Where a system cannot take it as it is, its adapt says what it gets.
type workload struct {
	name       string
	partitions int
	clients    int
	window     int // records in flight, all clients together
	size       int // bytes of a record
}

var workloads = []workload{
	{name: "16B", partitions: 48, clients: 16, window: 16 * 1024, size: 16},
	{name: "1KiB", partitions: 48, clients: 16, window: 16 * 1024, size: 1024},
	{name: "one", partitions: 1, clients: 1, window: 1, size: 16},
	{name: "256clients", partitions: 48, clients: 256, window: 256 * 64, size: 16},
}

func (w workload) called() string { return w.name }

// String says all of it.
func (w workload) String() string {
	return fmt.Sprintf("%d partitions, %d replicas, records of %d B, %d clients, %d records in flight", w.partitions, replicas, w.size, w.clients, w.window)
}
