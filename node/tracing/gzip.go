package tracing

import (
	"errors"
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
)

// errInflate is what a compressed message is answered with, whoever sends it.
var errInflate = errors.New("compressed messages are not taken")

// deflateOnly takes the place of gRPC's gzip, which the exporter registers for the whole process, servers included: a
// stranger must not make a node inflate anything. Exports may be compressed (OTEL_EXPORTER_OTLP_COMPRESSION); what a
// collector says in compressed words, a partial success at most, is lost.
type deflateOnly struct{ encoding.Compressor }

// Decompress is part of encoding.Compressor.
func (deflateOnly) Decompress(io.Reader) (io.Reader, error) { return nil, errInflate }

func init() {
	encoding.RegisterCompressor(deflateOnly{encoding.GetCompressor(gzip.Name)})
}
