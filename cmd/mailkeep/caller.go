package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// caller says on every request who calls, and on every failure where there was no service.
type caller struct {
	token   secret.Text
	service string // scheme and host, for errors
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c caller) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	req.Header.Set("User-Agent", "mailkeep-cli/"+buildVersion())
	res, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, &noService{c.service, err}
	}
	// The service answers with JSON or protobuf, also when it refuses.
	if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/") {
		err := fmt.Errorf("answered %s with no message of the API; is this mailkeep?", res.Status)
		return nil, &noService{c.service, errors.Join(err, res.Body.Close())}
	}
	return res, nil
}

// noService is the failure to reach the service.
type noService struct {
	address string
	cause   error
}

// Error implements error, with what to do about it.
func (n *noService) Error() string {
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(n.cause, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing answers at %s: is `mailkeep serve` running? "+
			"--url names a service elsewhere, --data-dir the data folder of one on this machine", n.address)
	case errors.As(n.cause, &authority):
		return fmt.Sprintf("%s: %v; --ca-file names a certificate authority to trust", n.address, n.cause)
	}
	return fmt.Sprintf("%s: %v", n.address, n.cause)
}

// Unwrap returns the cause.
func (n *noService) Unwrap() error { return n.cause }
