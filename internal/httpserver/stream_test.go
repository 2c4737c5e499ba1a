package httpserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/httpserver/webtexttest"
)

// wires are the protocols that have streams, over each version of HTTP.
func wires(t *testing.T, url string) map[string]mailkeepv1connect.MessageServiceClient {
	all := map[string]mailkeepv1connect.MessageServiceClient{}
	for _, version := range []int{1, 2} {
		for name, options := range map[string][]connecthttp.Option{
			"connect": nil, "web": {connecthttp.WithGRPCWeb()}, "web text": {connecthttp.WithGRPCWeb()}, "grpc": {connecthttp.WithGRPC()},
		} {
			if name != "grpc" || version == 2 {
				options = append(options, connecthttp.WithCompressors()) // what a test sends is as large as it looks
				var over connecthttp.HTTPClient = client(t, version)
				if name == "web text" {
					over = webtexttest.Client{Next: over}
				}
				transport := connecthttp.NewTransport(over, url, options...)
				all[fmt.Sprintf("%s/%d", name, version)] = mailkeepv1connect.NewMessageServiceClient(connect.NewClient(transport))
			}
		}
	}
	return all
}

// TestStreamIdles has a stream that says nothing for longer than a client may take to read.
func TestStreamIdles(t *testing.T) {
	const timeout = 300 * time.Millisecond
	url := serve(t, messages{watch: func(stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
		if err := stream.SendHeaders(); err != nil {
			return err
		}
		for range 2 {
			<-time.After(2 * timeout)
			if err := stream.Send(&mailkeepv1.WatchMessagesResponse{}); err != nil {
				return err
			}
		}
		<-time.After(2 * timeout)
		return nil
	}}, timeout)
	for name, c := range wires(t, url) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream, err := c.WatchMessages(t.Context(), &mailkeepv1.WatchMessagesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			for i := range 2 {
				if _, err := stream.Receive(); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			if _, err := stream.Receive(); err == nil || !strings.Contains(err.Error(), "EOF") {
				t.Errorf("the stream ends with %v", err)
			}
		})
	}
}

// TestStreamIsNotRead has a client that reads nothing: its stream ends.
func TestStreamIsNotRead(t *testing.T) {
	ended := make(chan error)
	text := strings.Repeat("x", 1<<20)
	url := serve(t, messages{watch: func(stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
		var err error
		for range 256 { // far more than the buffers and windows of a connection hold
			if err = stream.Send(&mailkeepv1.WatchMessagesResponse{Message: &mailkeepv1.Message{Reason: text}}); err != nil {
				break
			}
		}
		ended <- err
		return err
	}}, 300*time.Millisecond)
	for name, c := range wires(t, url) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := c.WatchMessages(ctx, &mailkeepv1.WatchMessagesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("everything was sent to a client that does not read")
				}
			case <-time.After(10 * time.Second):
				t.Error("the stream to a client that does not read still waits")
				cancel()
				<-ended
			}
		})
	}
}
