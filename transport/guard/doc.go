// Package guard stands between strangers and a node's gRPC servers, so that what they may send costs the node a
// bounded amount of memory. It knows HTTP/2 and gRPC framing, and nothing of ours.
//
// A Listener refuses connections above a number, in all and from one host, ends those that do not take what is
// written to them, and follows the frames on each connection, because gRPC leaves three things unbounded:
//
//   - Messages that have begun and do not end. gRPC grants a message its whole announced size at once, so that
//     streams x the largest message can be held for nothing. Above Limits.PartialBytes, of all connections
//     together, the connection that has been sending its message for longest is closed.
//   - Calls. HTTP/2 bounds them per connection only. Above Limits.Streams in all, a connection that has
//     StreamsFloor of them gets no more; one that has fewer does, so that a flood locks nobody out. A call counts
//     once its HEADERS have been read, so what comes in a burst counts before it is judged.
//   - What a message unpacks to. An empty element of a list takes two bytes on the wire and a hundred in
//     memory. Codec counts elements first and refuses a message that has too many for its size.
//
// It does not end calls, but for whole connections (Sever): what gRPC has queued for a client that takes nothing
// can't be taken back otherwise.
//
//	Accept -> conn.Read  -> [frames -> uploads: what each stream has of a message] -> too much? -> close the oldest
//	          conn.Write -> [frames -> which streams have ended]
//	gRPC's reader -> Tap: may this call begin?
//
// With TLS (Credentials) the frames are those within it: a connection is counted, and its writes bounded, from Accept on,
// and what it says is looked at above the TLS connection. A handshake may have so many bytes, and ends with gRPC's
// ConnectionTimeout. Which certificates are right is the tls.Config's affair.
//
//	Accept -> conn -> ServerHandshake: tls.Conn -> opened.Read, opened.Write -> [frames, as above]
//
// It starts no goroutine.
package guard
