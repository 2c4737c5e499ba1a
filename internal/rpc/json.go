package rpc

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"
)

// ownPackage is the package of Mailkeep's own messages.
const ownPackage = "mailkeep.v1"

// JSONCodec is Connect's JSON codec with what clients of the admin API rely on: an empty body and
// null are the empty message, and the output is compact (protojson adds spaces at random).
type JSONCodec struct{ *connectproto.JSONCodec }

// NewJSONCodec returns the codec of every JSON body, REST or RPC. It ignores unknown fields and enum
// values, but not in Mailkeep's own messages: a filter that is not heeded, or a password that is not
// the one verified, would be worse than an error.
func NewJSONCodec() JSONCodec { return JSONCodec{connectproto.NewJSONCodec()} }

// UnmarshalRead implements connect.Codec.
func (c JSONCodec) UnmarshalRead(_ context.Context, src io.Reader, msg any) error {
	m, ok := msg.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: got %T", connectproto.ErrNotProtoMessage, msg)
	}
	data, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || string(trimmed) == "null" {
		proto.Reset(m)
		return nil
	}
	if tooManyElements(data) {
		return errTooManyValues
	}
	options := c.UnmarshalOptions
	options.DiscardUnknown = m.ProtoReflect().Descriptor().ParentFile().Package() != ownPackage
	return options.Unmarshal(data, m)
}

// MarshalWrite implements connect.Codec.
func (c JSONCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	return c.MarshalWriteStable(ctx, dst, msg)
}
