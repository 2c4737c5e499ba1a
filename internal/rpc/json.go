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
	data, err := readAll(src)
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
	return options.Unmarshal(data, m) // copies what it keeps
}

// MarshalWrite implements connect.Codec. A buffer is written to in place.
func (c JSONCodec) MarshalWrite(_ context.Context, dst io.Writer, msg any) error {
	m, ok := msg.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: got %T", connectproto.ErrNotProtoMessage, msg)
	}
	var free []byte
	if b, ok := dst.(*bytes.Buffer); ok {
		free = b.AvailableBuffer()
	}
	text, err := c.MarshalOptions.MarshalAppend(free, m)
	if err != nil {
		return err
	}
	_, err = dst.Write(compact(text))
	return err
}

// compact takes the spaces out of a JSON text in its place, but not out of strings.
func compact(text []byte) []byte {
	out, inString := text[:0], false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\' && i+1 < len(text):
			out = append(out, c)
			i++
		case c == '"':
			inString = !inString
		case c == ' ' && !inString:
			continue
		}
		out = append(out, text[i])
	}
	return out
}
