// Command dragonboatload puts mrbench's load on dragonboat. It is a library without a client protocol, so this one process
// is all of it: three NodeHosts that talk over loopback, a Raft group per partition, and the clients, who propose to the
// NodeHost that leads. No record passes a client's connection, and the state machine does nothing: both are in
// dragonboat's favour.
package main
