package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/rpc"
)

// stream is one REST call as the interceptor chain sees it: one message in, one out.
type stream struct {
	ctx      context.Context
	request  *http.Request
	codec    rpc.JSONCodec
	readBody bool
	maxBytes int // of the message
	received bool
	response bytes.Buffer
}

// Receive implements connect.ServerStream.
func (s *stream) Receive(msg any) error {
	if s.received {
		return io.EOF
	}
	s.received = true
	if !s.readBody {
		return nil
	}
	body, err := s.body()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(body, int64(s.maxBytes)+1))
	if err != nil {
		return s.readError(err)
	}
	if len(data) > s.maxBytes {
		return s.tooLarge()
	}
	if err := s.codec.UnmarshalRead(s.ctx, bytes.NewBuffer(data), msg); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err.Error()) // the chain hides the text
	}
	return nil
}

func (s *stream) body() (io.Reader, error) {
	switch encoding := s.request.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return s.request.Body, nil
	case "gzip":
		r, err := gzip.NewReader(s.request.Body)
		if err != nil {
			return nil, s.readError(err)
		}
		return r, nil
	default:
		return nil, connect.NewError(connect.CodeUnimplemented, "unknown content encoding: supported encodings are gzip and identity")
	}
}

func (s *stream) readError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return s.tooLarge()
	}
	return connect.NewError(connect.CodeInvalidArgument, err.Error()) // the chain hides the text
}

func (s *stream) tooLarge() error {
	return connect.Errorf(connect.CodeResourceExhausted, "message is larger than configured max %d", s.maxBytes)
}

// SendHeaders implements connect.ServerStream. The headers go out with the answer, whose status is
// not known before the call has ended.
func (s *stream) SendHeaders() error { return nil }

// Send implements connect.ServerStream.
func (s *stream) Send(msg any) error { return s.codec.MarshalWrite(s.ctx, &s.response, msg) }
