package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// callTimeout bounds a whole call over HTTP/2, from its headers until the client has read the answer: that may
// be held back for as long as a client likes (RFC 9113, section 6.9). It is more than a call to a mail server
// takes. Streams have writeTimeout for each message instead, and so has everything on HTTP/1.
const callTimeout = time.Minute

// New returns a server for HTTP/1.1, HTTP/2 and, without TLS, HTTP/2 by prior knowledge.
func New(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		ConnContext:       withConn,
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      callTimeout,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     30 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Serve serves on l until ctx ends, then stops accepting, lets calls under way finish for at most
// drain, and closes what is left. With a certificate it speaks TLS only, 1.2 or newer.
func Serve(ctx context.Context, server *http.Server, l net.Listener, certificate *tls.Certificate, drain time.Duration) error {
	if certificate != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	}
	failed := make(chan error, 1)
	go func() {
		if certificate != nil {
			failed <- server.ServeTLS(l, "", "")
			return
		}
		failed <- server.Serve(l)
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := server.Shutdown(draining)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(fmt.Errorf("calls were still under way after %s and were cut off", drain), server.Close())
	}
	return err
}
