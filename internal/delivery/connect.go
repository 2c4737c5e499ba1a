package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// mode is how a connection becomes a secure one.
type mode int

const (
	plain mode = iota
	startTLS
	implicitTLS
	eitherTLS // implicit, or STARTTLS if the server turns out to speak plain
)

// modeOf decides by port: 465 is TLS from the first byte (RFC 8314, section 3.3).
func modeOf(useTLS bool, port string) mode {
	switch {
	case !useTLS:
		return plain
	case port == "465":
		return implicitTLS
	case port == "25" || port == "587" || port == "2525":
		return startTLS
	}
	return eitherTLS
}

// connect returns a session on a new connection that has not read the greeting yet. The session may
// carry credentials if withLogin is true; that is decided by the address really connected to, before
// anything is sent.
func (t *Transport) connect(ctx context.Context, to emailprovider.SMTP, roots *x509.CertPool, withLogin bool, clean *redactor) (*session, error) {
	host, port, err := net.SplitHostPort(to.Host)
	if err != nil {
		return nil, refused(emailprovider.StepDial, "host is not host:port")
	}
	mode := modeOf(to.TLS, port)
	conn, err := t.dial(ctx, to.Host)
	if err != nil {
		return nil, err
	}
	if mode == plain && withLogin && !t.mayCarryLogin(conn, host) {
		_ = conn.Close()
		return nil, refused(emailprovider.StepAuth, "credentials are not sent over a connection without TLS; "+
			"turn tls on, or let the operator list the host with --plaintext-auth-host")
	}
	if mode == plain || mode == startTLS {
		return t.newSession(conn, host, roots, mode, clean), nil
	}
	secured, err := t.tryTLS(ctx, conn, t.tlsConfig(host, roots), mode)
	if err != nil {
		return nil, err
	}
	if secured != nil {
		return t.newSession(secured, host, roots, implicitTLS, clean), nil
	}
	if conn, err = t.dial(ctx, to.Host); err != nil {
		return nil, err
	}
	return t.newSession(conn, host, roots, startTLS, clean), nil
}

func (t *Transport) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	ctx, ended := watching(ctx).dial(ctx, address)
	defer ended(&err)
	ctx, cancel := context.WithTimeout(ctx, t.stepTimeout)
	defer cancel()
	conn, err = t.dialer.DialContext(ctx, "tcp", address)
	return conn, at(emailprovider.StepDial, err)
}

// tryTLS returns nil without an error if the server turns out to speak plain and the mode allows it.
// Without a secure connection conn is closed.
func (t *Transport) tryTLS(ctx context.Context, conn net.Conn, config *tls.Config, mode mode) (secured *tls.Conn, err error) {
	defer watching(ctx).begin(ctx, seenTLS)(&err)
	secured, err = t.handshake(ctx, conn, config)
	if mode == eitherTLS && speaksSMTP(err) {
		watching(ctx).spokePlain()
		return nil, nil
	}
	return secured, at(emailprovider.StepTLS, err)
}

// handshake closes conn if it fails.
func (t *Transport) handshake(ctx context.Context, conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.stepTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(ctx)
	watching(ctx).shookHands(secured)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

func (t *Transport) tlsConfig(host string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12, Time: t.now}
}

// speaksSMTP reports whether a handshake failed because the other side sent an SMTP reply.
func speaksSMTP(err error) bool {
	var header tls.RecordHeaderError
	if !errors.As(err, &header) {
		return false
	}
	h := header.RecordHeader
	return bytes.IndexByte([]byte("245"), h[0]) >= 0 && isDigit(h[1]) && isDigit(h[2]) && (h[3] == ' ' || h[3] == '-')
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func (t *Transport) mayCarryLogin(conn net.Conn, host string) bool {
	return isLoopback(conn.RemoteAddr()) || t.plainHosts[foldHost(host)]
}

func isLoopback(a net.Addr) bool {
	ip, ok := ipOf(a)
	return ok && ip.IsLoopback()
}

// ipOf returns the IP address of a TCP address.
func ipOf(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	return ip, ip.IsValid()
}

// foldHost makes host names comparable.
func foldHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// Roots returns the system's certificate authorities and those in a PEM file.
func Roots(caFile string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system certificate authorities: %w", err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", caFile)
	}
	return pool, nil
}
