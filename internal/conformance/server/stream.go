package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1"
	"github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
)

func (service) ServerStream(ctx context.Context, request *conformancev1.ServerStreamRequest, stream conformancev1connect.ConformanceServiceServerStreamServerStream) error {
	out := replies{
		definition: request.GetResponseDefinition(),
		unanswered: []proto.Message{request},
		flush:      stream.SendHeaders,
		send: func(payload *conformancev1.ConformancePayload) error {
			return stream.Send(&conformancev1.ServerStreamResponse{Payload: payload})
		},
	}
	if err := out.begin(ctx); err != nil {
		return err
	}
	return out.finish(ctx)
}

func (service) BidiStream(ctx context.Context, stream conformancev1connect.ConformanceServiceBidiStreamServerStream) error {
	first, err := stream.Receive()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	out := &replies{
		definition: first.GetResponseDefinition(),
		unanswered: []proto.Message{first},
		flush:      stream.SendHeaders,
		send: func(payload *conformancev1.ConformancePayload) error {
			return stream.Send(&conformancev1.BidiStreamResponse{Payload: payload})
		},
	}
	if first.GetFullDuplex() {
		err = fullDuplex(ctx, stream, out)
	} else {
		err = halfDuplex(ctx, stream, out)
	}
	if err != nil {
		return err
	}
	return out.finish(ctx)
}

// fullDuplex answers each request as it comes, while there are replies to give.
func fullDuplex(ctx context.Context, stream conformancev1connect.ConformanceServiceBidiStreamServerStream, out *replies) error {
	if err := out.begin(ctx); err != nil {
		return err
	}
	for out.pending() {
		if err := out.next(ctx); err != nil {
			return err
		}
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out.unanswered = append(out.unanswered, request)
	}
	return nil
}

// halfDuplex sends nothing, not even headers, before all requests are in.
func halfDuplex(ctx context.Context, stream conformancev1connect.ConformanceServiceBidiStreamServerStream, out *replies) error {
	for {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return out.begin(ctx)
		}
		if err != nil {
			return err
		}
		out.unanswered = append(out.unanswered, request)
	}
}

// replies is the response side of a stream: what the definition lists, in order.
type replies struct {
	definition *conformancev1.StreamResponseDefinition
	unanswered []proto.Message // requests that no reply has repeated yet
	sent       int

	flush func() error // sends the response headers
	send  func(*conformancev1.ConformancePayload) error
}

// begin sets headers and trailers. It sends the headers ahead of the first
// delay, except for a stream without replies: its error may then stand alone.
func (r *replies) begin(ctx context.Context) error {
	setMetadata(ctx, r.definition)
	if !r.pending() {
		return nil
	}
	return r.flush()
}

func (r *replies) pending() bool { return r.sent < len(r.definition.GetResponseData()) }

// next sends one reply. The first repeats all of the call, the others only the
// requests received since the one before.
func (r *replies) next(ctx context.Context) error {
	payload := &conformancev1.ConformancePayload{Data: r.definition.GetResponseData()[r.sent]}
	if len(r.unanswered) > 0 {
		seen, err := requestInfo(ctx, r.unanswered)
		if err != nil {
			return err
		}
		if r.sent > 0 {
			seen = &conformancev1.ConformancePayload_RequestInfo{Requests: seen.GetRequests()}
		}
		payload.RequestInfo = seen
		r.unanswered = nil
	}
	wait(r.definition.GetResponseDelayMs())
	r.sent++
	return r.send(payload)
}

// finish sends the remaining replies, then the error if there is one to send.
// An error without a reply before it repeats the call in its details.
func (r *replies) finish(ctx context.Context) error {
	for r.pending() {
		if err := r.next(ctx); err != nil {
			return err
		}
	}
	wanted := r.definition.GetError()
	if wanted == nil {
		return nil
	}
	if r.sent > 0 {
		return asError(wanted)
	}
	seen, err := requestInfo(ctx, r.unanswered)
	if err != nil {
		return err
	}
	return asError(wanted, seen)
}
