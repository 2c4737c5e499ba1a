package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxValues bounds what a request message may be made of: fields and elements of lists. An empty
// element has two bytes on the wire and a hundred in memory.
const maxValues = 10_000

var errTooManyValues = errors.New("the message has too many values")

// BinaryCodec is Connect's binary codec with a bound of what a message is made of.
type BinaryCodec struct{ *connectproto.BinaryCodec }

// NewBinaryCodec returns the codec of every binary message.
func NewBinaryCodec() BinaryCodec { return BinaryCodec{connectproto.NewBinaryCodec()} }

// UnmarshalRead implements connect.Codec.
func (c BinaryCodec) UnmarshalRead(_ context.Context, src io.Reader, msg any) error {
	m, ok := msg.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: got %T", connectproto.ErrNotProtoMessage, msg)
	}
	data, err := readAll(src)
	if err != nil {
		return err
	}
	if tooManyFields(data) {
		return errTooManyValues
	}
	return c.UnmarshalOptions.Unmarshal(data, m) // copies what it keeps
}

// readAll returns what src has, without a copy of what is in memory already.
func readAll(src io.Reader) ([]byte, error) {
	if b, ok := src.(*bytes.Buffer); ok {
		return b.Next(b.Len()), nil
	}
	return io.ReadAll(src)
}

// tooManyFields counts the fields of a message, not those of the messages in it: lists are at the top
// of all requests. What is no message is left to the decoder.
func tooManyFields(data []byte) bool {
	for count := 0; len(data) > 0; count++ {
		_, _, n := protowire.ConsumeField(data)
		if n < 0 {
			return false
		}
		if count == maxValues {
			return true
		}
		data = data[n:]
	}
	return false
}

// tooManyElements counts the commas and brackets of a JSON text outside of strings.
func tooManyElements(text []byte) bool {
	count, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == '[' || c == '{'):
			if count++; count > maxValues {
				return true
			}
		}
	}
	return false
}
