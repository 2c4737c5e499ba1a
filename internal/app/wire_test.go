package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/httpserver/webtexttest"
	"github.com/mailkeep/mailkeep/internal/method"
)

// answer is what a call came back with, the same on every wire.
type answer struct {
	code    connect.Code // 0 for success
	message string
	id      string // of the ErrorDetail
	header  http.Header
	fields  fields
}

func (a answer) String() string {
	if a.code == 0 {
		return fmt.Sprintf("ok %v", a.fields)
	}
	return fmt.Sprintf("%s %q (%s)", a.code, a.message, a.id)
}

// wire is one way to make a call.
type wire struct {
	name string
	call func(t *testing.T, token string, m *method.Method, req proto.Message) answer
}

// wires returns every protocol over one version of HTTP.
func (s *service) wires(v httpVersion) []wire { return s.wiresOf(s.client(v), v) }

// wiresOf is wires for a client, which speaks the version.
func (s *service) wiresOf(client *http.Client, v httpVersion) []wire {
	rpc := func(name string, http connecthttp.HTTPClient, options ...connecthttp.Option) wire {
		return wire{name + "/" + string(v), func(t *testing.T, token string, m *method.Method, req proto.Message) answer {
			return callRPC(t, connecthttp.NewTransport(http, s.URL(), options...), token, m, req)
		}}
	}
	all := []wire{
		{"rest/" + string(v), func(t *testing.T, token string, m *method.Method, req proto.Message) answer {
			return s.callREST(t, client, token, m, req)
		}},
		rpc("connect+json", client, connecthttp.WithProtoJSON()),
		rpc("connect+proto", client),
		rpc("connect+gzip", client, connecthttp.WithSendGzip()),
		rpc("connect+get", client, connecthttp.WithHTTPGet()),
		rpc("grpcweb", client, connecthttp.WithGRPCWeb()),
		rpc("grpcweb+json", client, connecthttp.WithGRPCWeb(), connecthttp.WithProtoJSON()),
		rpc("grpcweb-text", webtexttest.Client{Next: client}, connecthttp.WithGRPCWeb()),
		rpc("grpcweb on the REST path", onRESTPath{client}, connecthttp.WithGRPCWeb()),
		rpc("grpcweb-text on the REST path", webtexttest.Client{Next: onRESTPath{client}}, connecthttp.WithGRPCWeb()),
	}
	if v == http2 {
		all = append(all,
			rpc("grpc", client, connecthttp.WithGRPC()),
			rpc("grpc+json", client, connecthttp.WithGRPC(), connecthttp.WithProtoJSON()),
			rpc("grpc on the REST path", onRESTPath{client}, connecthttp.WithGRPC()),
		)
	}
	return all
}

func callRPC(t *testing.T, transport connect.Transport, token string, m *method.Method, req proto.Message) answer {
	ctx, info := connect.NewClientContext(context.WithValue(t.Context(), targetKey{}, target{m, req}))
	if token != "" {
		info.RequestHeader().Set("Authorization", "Bearer "+token)
	}
	spec := connect.Spec{Procedure: m.Procedure, Schema: m.Descriptor}
	if m.Permission == "iam.read" {
		spec.IdempotencyLevel = connect.IdempotencyNoSideEffects
	}
	res := message(t, string(m.Descriptor.Output().FullName()), "{}")
	err := callOnce(ctx, connect.NewClient(transport), spec, req, res)
	a := answer{header: http.Header{}}
	for name, values := range info.ResponseHeader().All() {
		a.header[name] = values
	}
	if err != nil {
		a.code, a.message = connect.CodeOf(err), strings.TrimPrefix(err.Error(), connect.CodeOf(err).String()+": ")
		a.id = detailID(t, err)
		return a
	}
	a.fields = fieldsOf(t, res)
	return a
}

// callOnce makes a call; of a stream it receives the first message.
func callOnce(ctx context.Context, client *connect.Client, spec connect.Spec, req, res proto.Message) error {
	method, _ := spec.Schema.(protoreflect.MethodDescriptor)
	if !method.IsStreamingServer() {
		return client.CallUnary(ctx, spec, req, res)
	}
	spec.StreamType = connect.StreamTypeServer
	stream, err := client.CallServerStream(ctx, spec, req)
	if err != nil {
		return err
	}
	defer stream.Close()
	return stream.Receive(res)
}

func detailID(t *testing.T, err error) string {
	var e *connect.Error
	if !errors.As(err, &e) || len(e.Details()) == 0 {
		return ""
	}
	detail, unpacked := connectproto.UnmarshalErrorDetail(e.Details()[0])
	if unpacked != nil {
		t.Errorf("detail: %v", unpacked)
		return ""
	}
	return detail.(*zitadelv1.ErrorDetail).GetId()
}

// callREST makes the call as curl would: the message without what is in the path as JSON.
func (s *service) callREST(t *testing.T, client *http.Client, token string, m *method.Method, req proto.Message) answer {
	var body io.Reader
	if m.Route.Body {
		text, err := protojson.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(t.Context(), m.Route.Verb, s.URL()+restPath(m, req), body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{header: res.Header}
	if res.StatusCode == http.StatusOK {
		a.fields = fieldsOf(t, message(t, string(m.Descriptor.Output().FullName()), string(text)))
		return a
	}
	var status struct {
		Code    connect.Code    `json:"-"`
		Number  uint32          `json:"code"`
		Message string          `json:"message"`
		Details []fieldsOfError `json:"details"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		t.Fatalf("%d %s: %v", res.StatusCode, text, err)
	}
	a.code, a.message = connect.Code(status.Number), status.Message
	if len(status.Details) > 0 {
		a.id = status.Details[0].ID
		if status.Details[0].Type != "type.googleapis.com/zitadel.v1.ErrorDetail" {
			t.Errorf("detail of type %s", status.Details[0].Type)
		}
	}
	return a
}

type fieldsOfError struct {
	Type string `json:"@type"`
	ID   string `json:"id"`
}

func restPath(m *method.Method, req proto.Message) string {
	r := req.ProtoReflect()
	return m.Route.Expand(func(name string) string {
		return r.Get(r.Descriptor().Fields().ByTextName(name)).String()
	})
}

type targetKey struct{}

// target is what a client is about to call, for the transports below it.
type target struct {
	method *method.Method
	req    proto.Message
}

// onRESTPath sends an RPC to the REST route of its method: the framing and content type of the one,
// verb and path of the other.
type onRESTPath struct{ next connecthttp.HTTPClient }

// Do implements connecthttp.HTTPClient.
func (c onRESTPath) Do(r *http.Request) (*http.Response, error) {
	to := r.Context().Value(targetKey{}).(target)
	path := restPath(to.method, to.req)
	u, err := r.URL.Parse(path)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Method, r.URL = to.method.Route.Verb, u
	return c.next.Do(r)
}
