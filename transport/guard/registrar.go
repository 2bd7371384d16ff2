package guard

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Registrar registers services with s so that a message that can't be unpacked is an offence of the host that sent it:
// reading and refusing megabytes costs more than sending them.
func Registrar(s grpc.ServiceRegistrar) grpc.ServiceRegistrar { return registrar{s} }

type registrar struct{ grpc.ServiceRegistrar }

// RegisterService is part of grpc.ServiceRegistrar.
func (r registrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	own := *d
	own.Methods, own.Streams = slices.Clone(d.Methods), slices.Clone(d.Streams)
	for i, m := range d.Methods {
		own.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(srv, ctx, func(into any) error { return unpacked(ctx, dec(into)) }, in)
		}
	}
	for i, s := range d.Streams {
		own.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error { return s.Handler(srv, unpacking{stream}) }
	}
	r.ServiceRegistrar.RegisterService(&own, impl)
}

type unpacking struct{ grpc.ServerStream }

// RecvMsg is part of grpc.ServerStream.
func (u unpacking) RecvMsg(m any) error { return unpacked(u.Context(), u.ServerStream.RecvMsg(m)) }

// unpacked takes note of how that went. Internal is gRPC's word for a message that it can't decompress or decode.
func unpacked(ctx context.Context, err error) error {
	if status.Code(err) != codes.Internal {
		return err
	}
	if c := connOf(ctx); c != nil {
		c.listener.offended(c, 1)
	}
	return err
}
