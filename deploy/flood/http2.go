package main

import (
	"bytes"
	"context"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

const (
	appendPath     = "/multiraft.v1.LogService/Append"
	appendOncePath = "/multiraft.v1.LogService/AppendOnce"
	readPath       = "/multiraft.v1.LogService/Read"
)

// dial connects to the client address. A node that is full, or wants no more of this host, closes the connection:
// what is written to it then fails, and ends the turn.
func (t *target) dial(ctx context.Context, settings ...http2.Setting) (*guardtest.Client, error) {
	return guardtest.Dial(ctx, t.from, t.client, settings...)
}

// closed waits until the node has closed a connection, or ctx ends.
func closed(ctx context.Context, c *guardtest.Client) {
	_ = c.Await(ctx, func(seen *guardtest.Seen) bool { return seen.Closed }) // its only error is that of ctx
}

// untilClosed does something on a connection until that fails, and closes it. Failing is what the node is for.
func (t *target) untilClosed(ctx context.Context, f func(c *guardtest.Client) error, settings ...http2.Setting) error {
	c, err := t.dial(ctx, settings...)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the node may have closed it
	for ctx.Err() == nil {
		if f(c) != nil {
			return nil
		}
		t.did.Add(1)
	}
	return nil
}

func silence(ctx context.Context, t *target) error {
	c, err := guardtest.DialTCP(ctx, t.from, t.client)
	if err != nil {
		return err
	}
	t.did.Add(1)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // so that Read returns
	defer stop()
	_, _ = c.Write([]byte(http2.ClientPreface)[:10]) // a connection that is closed already ends below
	for err == nil {
		_, err = c.Read(make([]byte, 100))
	}
	_ = c.Close() // as above
	return nil
}

// connect keeps as many connections as it gets, and opens more.
func connect(ctx context.Context, t *target) error {
	var kept []net.Conn
	defer func() {
		for _, c := range kept {
			_ = c.Close() // the node may have closed it
		}
	}()
	for ctx.Err() == nil {
		for _, addr := range []string{t.client, t.peer} {
			c, err := guardtest.DialTCP(ctx, t.from, addr)
			if err != nil {
				return err
			}
			t.did.Add(1)
			if kept = append(kept, c); len(kept) > 1000 {
				_ = kept[0].Close() // as above
				kept = kept[1:]
			}
		}
	}
	return nil
}

func streams(ctx context.Context, t *target) error {
	n := 0
	return t.untilClosed(ctx, func(c *guardtest.Client) error {
		if n++; n > 10_000 {
			closed(ctx, c)
		}
		_, err := c.Open(appendPath)
		return err
	})
}

func resets(ctx context.Context, t *target) error {
	return t.untilClosed(ctx, func(c *guardtest.Client) error {
		id, err := c.Open(appendPath)
		if err != nil {
			return err
		}
		return c.Reset(id)
	})
}

func unfinished(ctx context.Context, t *target) error {
	const size = 15 << 20
	content := make([]byte, size-1)
	n := 0
	return t.untilClosed(ctx, func(c *guardtest.Client) error {
		if n++; n > 4 {
			closed(ctx, c)
		}
		id, err := c.Open(appendOncePath)
		if err == nil {
			err = c.Send(id, guardtest.Prefix(false, size), false)
		}
		if err == nil { // gRPC makes room for a message when it has seen how large it is
			err = c.Await(ctx, func(seen *guardtest.Seen) bool { return seen.Closed || seen.Window[id] >= size-8<<20 })
		}
		if err == nil {
			err = c.Send(id, content, false)
		}
		return err
	})
}

func headers(ctx context.Context, t *target) error {
	long := make([]hpack.HeaderField, 10_000) // in some sixty CONTINUATION frames
	for i := range long {
		long[i] = hpack.HeaderField{Name: "x-many", Value: strings.Repeat("x", 100), Sensitive: true} // never indexed
	}
	return t.untilClosed(ctx, func(c *guardtest.Client) error {
		_, err := c.Open(appendPath, long...)
		closed(ctx, c)
		return err
	})
}

func pings(ctx context.Context, t *target) error {
	return t.untilClosed(ctx, func(c *guardtest.Client) error { return c.Ping() })
}

// slowReaders ask for all there is, on a hundred streams, and give no window.
func slowReaders(ctx context.Context, t *target) error {
	req, err := guardtest.Message(&multiraftv1.ReadRequest{TopicId: t.topic, From: &multiraftv1.ReadRequest_Offset{}, Follow: true, MaxBytes: 8 << 20})
	if err != nil {
		return err
	}
	return t.deaf(ctx, 100, readPath, func(c *guardtest.Client, id uint32) error { return c.Send(id, req, true) })
}

// deafAppends send what is answered at once, with errors.
func deafAppends(ctx context.Context, t *target) error {
	req := &multiraftv1.AppendRequest{}
	for i := range uint64(1000) {
		req.Items = append(req.Items, &multiraftv1.AppendItem{RequestId: i, TopicId: 1 << 40})
	}
	b, err := guardtest.Message(req)
	if err != nil {
		return err
	}
	b = bytes.Repeat(b, 8) // as much as a window takes
	return t.deaf(ctx, 40, appendPath, func(c *guardtest.Client, id uint32) error { return c.Send(id, b, false) })
}

// deaf opens calls on a connection whose answers nobody takes, and stays.
func (t *target) deaf(ctx context.Context, calls int, path string, send func(*guardtest.Client, uint32) error) error {
	n := 0
	return t.untilClosed(ctx, func(c *guardtest.Client) error {
		if n++; n > calls {
			closed(ctx, c)
		}
		id, err := c.Open(path)
		if err == nil {
			err = send(c, id)
		}
		return err
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
}
