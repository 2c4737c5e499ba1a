package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
	"github.com/mailkeep/mailkeep/internal/delivery"
)

// connection has the flags that every client command has.
type connection struct {
	URL       string        `name:"url" env:"MAILKEEP_URL" group:"The service:" placeholder:"URL" help:"Where the service is, such as https://mail.example.com (what the data folder says)."`
	TokenFile string        `env:"MAILKEEP_TOKEN_FILE" group:"The service:" type:"path" placeholder:"FILE" help:"File with the token to call with; MAILKEEP_TOKEN has the token itself (the data folder's admin token)."`
	DataDir   string        `env:"MAILKEEP_DATA_DIR" group:"The service:" type:"path" default:"./mailkeep-data" placeholder:"FOLDER" help:"Data folder of a service on this machine, which has its address and admin token (${default})."`
	CAFile    string        `name:"ca-file" env:"MAILKEEP_CLIENT_CA_FILE" group:"The service:" type:"path" placeholder:"FILE" help:"Certificate authorities in PEM to trust for the service, besides the system's."`
	Insecure  bool          `group:"The service:" help:"Send the token over plain http to another machine too."`
	Timeout   time.Duration `group:"The service:" default:"30s" placeholder:"TIME" help:"How long one call may take that does not stream (${default})."`
	JSON      bool          `name:"json" group:"The service:" help:"Print the API's own answer, in JSON."`
}

// client calls the service and prints what it answers.
type client struct {
	streams
	json         bool
	providers    adminv1connect.AdminServiceClient
	tokens       mailkeepv1connect.TokenServiceClient
	keys         mailkeepv1connect.KeyServiceClient
	instances    mailkeepv1connect.InstanceServiceClient
	deprecations mailkeepv1connect.DeprecationServiceClient
	messages     mailkeepv1connect.MessageServiceClient
	credentials  mailkeepv1connect.ProviderServiceClient
	audit        mailkeepv1connect.AuditServiceClient
	live         live
}

// live has the calls that stream: they take as long as they take.
type live struct {
	messages    mailkeepv1connect.MessageServiceClient
	credentials mailkeepv1connect.ProviderServiceClient
}

// ProvideClient makes the argument of the Run methods; kong finds it by its name.
func (c *connection) ProvideClient(s streams) (*client, error) {
	base, err := c.locate()
	if err != nil {
		return nil, err
	}
	token, err := c.token(base)
	if err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	trip := caller{token, base.Scheme + "://" + base.Host, transport}
	calls, unlimited := dial(base, trip, c.Timeout), dial(base, trip, 0)
	return &client{
		streams:      s,
		json:         c.JSON,
		providers:    adminv1connect.NewAdminServiceClient(calls),
		tokens:       mailkeepv1connect.NewTokenServiceClient(calls),
		keys:         mailkeepv1connect.NewKeyServiceClient(calls),
		instances:    mailkeepv1connect.NewInstanceServiceClient(calls),
		deprecations: mailkeepv1connect.NewDeprecationServiceClient(calls),
		messages:     mailkeepv1connect.NewMessageServiceClient(calls),
		credentials:  mailkeepv1connect.NewProviderServiceClient(calls),
		audit:        mailkeepv1connect.NewAuditServiceClient(calls),
		live: live{
			messages:    mailkeepv1connect.NewMessageServiceClient(unlimited),
			credentials: mailkeepv1connect.NewProviderServiceClient(unlimited),
		},
	}, nil
}

// dial makes calls that may take as long as timeout, body included; without limit if it is 0.
func dial(base *url.URL, trip http.RoundTripper, timeout time.Duration) *connect.Client {
	return connect.NewClient(connecthttp.NewTransport(&http.Client{
		Transport: trip,
		Timeout:   timeout,
		// The API never redirects, and the token is for this service only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, base.String()))
}

func (c *connection) transport() (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // a command makes a call or two and ends
	if c.CAFile == "" {
		return transport, nil
	}
	roots, err := delivery.Roots(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	transport.TLSClientConfig.RootCAs = roots
	return transport, nil
}
