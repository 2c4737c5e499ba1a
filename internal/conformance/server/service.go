package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	conformancev1 "github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1"
	"github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
)

// service answers each call with what its request tells it to, and with what
// it saw of the call. Unimplemented stays with the embedded handler: that it is
// not implemented is the test.
type service struct {
	conformancev1connect.UnimplementedConformanceServiceHandler
}

func (service) Unary(ctx context.Context, request *conformancev1.UnaryRequest) (*conformancev1.UnaryResponse, error) {
	payload, err := answer(ctx, request.GetResponseDefinition(), request)
	if err != nil {
		return nil, err
	}
	return &conformancev1.UnaryResponse{Payload: payload}, nil
}

func (service) IdempotentUnary(ctx context.Context, request *conformancev1.IdempotentUnaryRequest) (*conformancev1.IdempotentUnaryResponse, error) {
	payload, err := answer(ctx, request.GetResponseDefinition(), request)
	if err != nil {
		return nil, err
	}
	return &conformancev1.IdempotentUnaryResponse{Payload: payload}, nil
}

func (service) ClientStream(ctx context.Context, stream conformancev1connect.ConformanceServiceClientStreamServerStream) (*conformancev1.ClientStreamResponse, error) {
	var definition *conformancev1.UnaryResponseDefinition
	var requests []proto.Message
	for {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(requests) == 0 {
			definition = request.GetResponseDefinition()
		}
		requests = append(requests, request)
	}
	payload, err := answer(ctx, definition, requests...)
	if err != nil {
		return nil, err
	}
	return &conformancev1.ClientStreamResponse{Payload: payload}, nil
}

// answer is the payload or the error that definition asks for; without a
// definition, a payload that only repeats the requests.
func answer(ctx context.Context, definition *conformancev1.UnaryResponseDefinition, requests ...proto.Message) (*conformancev1.ConformancePayload, error) {
	seen, err := requestInfo(ctx, requests)
	if err != nil {
		return nil, err
	}
	setMetadata(ctx, definition)
	wait(definition.GetResponseDelayMs())
	if definition.GetError() != nil {
		return nil, asError(definition.GetError(), seen)
	}
	return &conformancev1.ConformancePayload{Data: definition.GetResponseData(), RequestInfo: seen}, nil
}

// setMetadata sets the response headers and trailers that a definition lists.
func setMetadata(ctx context.Context, definition interface {
	GetResponseHeaders() []*conformancev1.Header
	GetResponseTrailers() []*conformancev1.Header
}) {
	call, _ := connect.CallInfoForServerContext(ctx)
	addHeaders(call.ResponseHeader(), definition.GetResponseHeaders())
	addHeaders(call.ResponseTrailer(), definition.GetResponseTrailers())
}

func addHeaders(to *connect.Header, listed []*conformancev1.Header) {
	for _, header := range listed {
		for _, value := range header.GetValue() {
			to.Add(header.GetName(), value)
		}
	}
}

// requestInfo is what the server saw of the call: headers, timeout, query
// parameters of a Connect GET, and the given requests.
func requestInfo(ctx context.Context, requests []proto.Message) (*conformancev1.ConformancePayload_RequestInfo, error) {
	call, _ := connect.CallInfoForServerContext(ctx)
	info := &conformancev1.ConformancePayload_RequestInfo{RequestHeaders: headers(call.RequestHeader().All())}
	if deadline, ok := ctx.Deadline(); ok {
		info.TimeoutMs = new(time.Until(deadline).Milliseconds())
	}
	if transport, ok := connecthttp.ServerInfoForContext(ctx); ok && len(transport.HTTPGetQueryParams()) > 0 {
		info.ConnectGetInfo = &conformancev1.ConformancePayload_ConnectGetInfo{
			QueryParams: headers(maps.All(transport.HTTPGetQueryParams())),
		}
	}
	for _, request := range requests {
		packed, err := anypb.New(request)
		if err != nil {
			return nil, err
		}
		info.Requests = append(info.Requests, packed)
	}
	return info, nil
}

func headers(values iter.Seq2[string, []string]) []*conformancev1.Header {
	var all []*conformancev1.Header
	for name, value := range values {
		all = append(all, &conformancev1.Header{Name: name, Value: value})
	}
	return all
}

// asError is the wanted error; more follows the details it lists.
func asError(wanted *conformancev1.Error, more ...proto.Message) error {
	details := make([]proto.Message, 0, len(wanted.GetDetails())+len(more))
	for _, detail := range wanted.GetDetails() {
		details = append(details, detail)
	}
	err := connect.NewError(connect.Code(wanted.GetCode()), wanted.GetMessage())
	for _, detail := range append(details, more...) {
		packed, packErr := connectproto.NewErrorDetail(detail)
		if packErr != nil {
			return packErr
		}
		err = err.WithDetail(packed)
	}
	return err
}

// wait lets the whole delay pass, also when the call's deadline ends before it,
// as the service is specified to. The runner's client gives up at that same
// deadline: an answer sent at that moment is sometimes cut off between its
// headers and its body by the client's RST_STREAM, and then judged malformed.
func wait(milliseconds uint32) {
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
}
