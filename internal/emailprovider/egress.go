package emailprovider

import (
	"context"
	"net"
	"net/url"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// Egress knows where nothing may be sent.
type Egress interface {
	// Denies reports whether nothing may be sent to host:port. It is for telling callers in time: a
	// Mailer is the one who must not connect.
	Denies(ctx context.Context, address string) bool
}

// mayReach refuses SMTP settings with a host or a token endpoint that nothing may be sent to.
func (s *Service) mayReach(ctx context.Context, smtp SMTP) error {
	if s.denies(ctx, smtp.Host) {
		return errEgress("host")
	}
	if smtp.Auth == AuthXOAuth2 && s.denies(ctx, addressOf(smtp.XOAuth2.TokenEndpoint)) {
		return errEgress("token_endpoint")
	}
	return nil
}

// mayPost is mayReach for a webhook.
func (s *Service) mayPost(ctx context.Context, endpoint string) error {
	if s.denies(ctx, addressOf(endpoint)) {
		return errEgress("endpoint")
	}
	return nil
}

func (s *Service) denies(ctx context.Context, address string) bool {
	return s.Egress != nil && s.Egress.Denies(ctx, address)
}

// errEgress says the same whatever is there, and whether anything is.
func errEgress(setting string) error {
	return fault.New(fault.FailedPrecondition, "MAILKEEP-EGRESS",
		setting+" is somewhere that nothing may be sent to; the operator can allow some with --egress-allow")
}

// addressOf returns the host:port that a request to a URL, which checkURL accepts, connects to.
func addressOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
