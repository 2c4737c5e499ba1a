// Command server is the server under test of the Connect conformance suite:
// the suite's service behind the HTTP stack that Mailkeep serves its own
// services with. The runner starts it once per combination of HTTP version,
// protocol and TLS, says on stdin which one, and learns the port on stdout.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"connectrpc.com/connect/v2"

	conformancev1 "github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1"
	"github.com/mailkeep/mailkeep/internal/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance server:", err)
		os.Exit(1)
	}
}

// run serves as the request on in wants, until ctx ends.
func run(ctx context.Context, in io.Reader, out io.Writer) error {
	var request conformancev1.ServerCompatRequest
	if err := readMessage(in, &request); err != nil {
		return err
	}
	certificates, err := tlsConfig(&request)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpc := connect.NewServer()
	conformancev1connect.RegisterConformanceServiceHandler(rpc, service{})
	server, err := stack(rpc, int(request.GetMessageReceiveLimit()))
	if err != nil {
		return err
	}
	server.TLSConfig = certificates

	// A closed server makes Serve return; whatever else ends it is a failure.
	unregister := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer unregister()
	address := listener.Addr().(*net.TCPAddr)
	// Connections wait in the listener's queue until Serve accepts them.
	if err := writeMessage(out, &conformancev1.ServerCompatResponse{
		Host:    address.IP.String(),
		Port:    uint32(address.Port),
		PemCert: request.GetServerCreds().GetCert(),
	}); err != nil {
		return err
	}
	if err := serve(server, listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func serve(server *http.Server, listener net.Listener) error {
	if server.TLSConfig == nil {
		return server.Serve(listener)
	}
	return server.ServeTLS(listener, "", "")
}

// tlsConfig is nil when the request does not want TLS. The runner brings the
// server's key pair and, for some runs, the one certificate a client must show.
func tlsConfig(request *conformancev1.ServerCompatRequest) (*tls.Config, error) {
	if !request.GetUseTls() {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(request.GetServerCreds().GetCert(), request.GetServerCreds().GetKey())
	if err != nil {
		return nil, fmt.Errorf("server_creds: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if trusted := request.GetClientTlsCert(); len(trusted) > 0 {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(trusted) {
			return nil, errors.New("client_tls_cert: no certificate in it")
		}
	}
	return config, nil
}
