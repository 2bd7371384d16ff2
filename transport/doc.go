// Package transport carries the peer protocol: one connection per direction and pair of nodes, on which the
// Raft messages of all groups travel in coalesced frames, and the receiving side of it.
//
// It knows envelopes, not Raft. It does not judge what is in an envelope (raftcore does), does not know
// which groups exist (router does), does not retry and does not promise: a frame may be lost with its
// connection, and what does not fit is dropped, counted by reason, and for appends reported (rule 21).
//
// # Who sends what on which stream
//
// Each node opens one Exchange to each peer and sends its frames in the requests. The serving side answers
// with its handshake, and afterwards only with controls, and only while its own Exchange to that node is
// not connected. So between two nodes there are two streams, each with one writer of frames, and neither
// has to decide who dials.
//
//	Send -> queue (Outbox) -> peer.run: connect, handshake, [drain -> one frame -> stream.Send]*, lost -> back off
//	Exchange -> inbound.serve: handshake -> inbound.read: [frame -> Receiver.Frame]*
//
// The first envelope after a flush wakes the sender once; what arrives while it marshals and writes goes
// into the next frame. Nothing waits for a timer, and an envelope costs one lock, no goroutine and no timer.
//
// # What is pure
//
// Outbox, with fifo, latest and losses, decides what is folded, dropped, sent next and reported. It has no
// lock, goroutine, clock or randomness. queue puts a lock around it for Transport, and Inproc, the faulty
// network inside one process, uses it under its own: both networks drop and fold alike.
//
// # Goroutines
//
//	Listen                  Transport.serve, until Close; and gRPC's own, per connection and call
//	SetPeers and Start      peer.run per peer, until SetPeers drops it or Close
//	an Exchange to a peer   peer.readAnswers, until it ends
//	SendSnapshot            one, until the snapshot has ended or Close
//	a snapshot served       receiveChunks, ends soon after the call
//	an Exchange served      awaitHandshake's reader, then inbound.read, until it ends
//
// Close waits for all of them.
//
// # Identity
//
// incarnations holds rule 19. A handshake is refused for another cluster, another node, another store than
// the one registered or seen, a start number lower than registered or seen, and a start that does not
// come from the one registered or seen: rule 19 asks that of an equal number only, but a copy of a store that is started
// twice has a higher one (package lineage). Both sides check. Every frame's header must equal its handshake's. A node's newer Exchange ends
// the older one, and hands over no frame before that has handed over its last. A unary call is checked
// alike, but not remembered; it is ABORTED while another incarnation holds an Exchange (rule 20). In plaintext all
// of this is a claim, only as good as the network.
//
// With Config.TLS both sides verify the other's certificate, and one that is bound to nodes (tlsfiles.NodeIDs) speaks for
// these only: who dials a node wants it to speak for that one, and the serving side wants it to speak for the sender of
// each handshake, unary call and snapshot. One that is bound to none speaks for all.
//
// A node whose address is not known here and that metadata do not name is a stranger, perhaps one that joins.
// Few strangers are served at once, and what was seen of them is forgotten when they go: whatever they say, the
// others get in. What connections may cost is package guard's to bound.
//
// # Snapshots
//
// A snapshot goes to a peer through InstallSnapshot, on a connection of its own. Its content comes from a
// SnapshotSource and goes to RPC.InstallSnapshot, chunk by chunk; a stream that breaks is followed by another one
// that goes on where the receiver is (course). Rate and number are bounded for the node, in each direction.
package transport
