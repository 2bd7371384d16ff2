// Command natsload puts mrbench's load on NATS JetStream: one replicated file stream per partition, and for each client
// a connection of its own that publishes asynchronously, which is the client library's means for many messages in flight.
// There is no batch of several records in one message.
//
// It starts no servers: deploy/peers does.
package main
