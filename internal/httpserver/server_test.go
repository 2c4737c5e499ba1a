package httpserver_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/method"
)

// messages takes every message, and watches as watch does.
type messages struct {
	mailkeepv1connect.UnimplementedMessageServiceHandler
	watch func(stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error
}

func (messages) SendMessage(context.Context, *mailkeepv1.SendMessageRequest) (*mailkeepv1.SendMessageResponse, error) {
	return &mailkeepv1.SendMessageResponse{}, nil
}

func (messages) ListMessages(context.Context, *mailkeepv1.ListMessagesRequest) (*mailkeepv1.ListMessagesResponse, error) {
	return &mailkeepv1.ListMessagesResponse{}, nil
}

func (m messages) WatchMessages(_ context.Context, _ *mailkeepv1.WatchMessagesRequest, stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
	return m.watch(stream)
}

// serve serves the messages until the test ends and returns the URL.
func serve(t *testing.T, m messages, writeTimeout time.Duration) string {
	t.Helper()
	methods, err := method.Read(mailkeepv1.File_mailkeep_v1_message_proto.Services().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	rpc := connect.NewServer()
	mailkeepv1connect.RegisterMessageServiceHandler(rpc, m)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           httpserver.NewHandler(rpc, httpserver.Options{Methods: methods, WriteTimeout: writeTimeout}),
		Protocols:         protocols,
		ReadHeaderTimeout: time.Second,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String()
}

// client returns a client for one version of HTTP, 1 or 2.
func client(t *testing.T, version int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// post sends a request and returns the answer with its whole body.
func post(t *testing.T, c *http.Client, url string, header http.Header, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}
