package rpc

import (
	"context"
	"regexp"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decode makes the stream put path values into what it receives, validate it, and keep quiet about
// what it could not decode.
func (c Config) decode(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		call := CallFrom(ctx)
		call.stream = decodingStream{ServerStream: stream, call: call}
		return next(ctx, spec, &call.stream)
	}
}

type decodingStream struct {
	connect.ServerStream
	call *Call
}

// Receive implements connect.ServerStream.
func (s *decodingStream) Receive(msg any) error {
	if err := s.ServerStream.Receive(msg); err != nil {
		return hideInput(err)
	}
	m, ok := msg.(proto.Message)
	if !ok {
		return nil
	}
	if err := setPathValues(m.ProtoReflect(), s.call.PathValues); err != nil {
		return err
	}
	return checkRules(m.ProtoReflect())
}

// setPathValues refuses text that is not UTF-8, as the decoders do: no message may have any.
func setPathValues(m protoreflect.Message, values []PathValue) error {
	for _, v := range values {
		if !utf8.ValidString(v.Value) {
			return connect.NewError(connect.CodeInvalidArgument, undecodable)
		}
		if fd := m.Descriptor().Fields().ByName(protoreflect.Name(v.Name)); fd != nil {
			m.Set(fd, protoreflect.ValueOfString(v.Value))
		}
	}
	return nil
}

const undecodable = "the request message can't be decoded"

var position = regexp.MustCompile(`\(line \d+:\d+\)`)

// hideInput replaces the text of a decoding error, because decoders quote what they stumble over
// and that may be a password. Where it was stays.
func hideInput(err error) error {
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		return err
	}
	text := undecodable
	switch said := err.Error(); {
	case strings.Contains(said, errTooManyValues.Error()):
		text = errTooManyValues.Error()
	case strings.Contains(said, "unknown field"):
		text = "the request message has a field that does not exist"
	case strings.Contains(said, "invalid value for enum"):
		text = "the request message has an enum value that does not exist"
	}
	if at := position.FindString(err.Error()); at != "" {
		return connect.NewError(connect.CodeInvalidArgument, text+" "+at)
	}
	return connect.NewError(connect.CodeInvalidArgument, text)
}
