package main

import (
	"fmt"
	"net/http"
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
	Timeout   time.Duration `group:"The service:" default:"30s" placeholder:"TIME" help:"How long one call may take (${default})."`
	JSON      bool          `name:"json" group:"The service:" help:"Print the API's own answer, in JSON."`
}

// client calls the service and prints what it answers.
type client struct {
	streams
	json         bool
	providers    adminv1connect.AdminServiceClient
	tokens       mailkeepv1connect.TokenServiceClient
	keys         mailkeepv1connect.KeyServiceClient
	deprecations mailkeepv1connect.DeprecationServiceClient
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
	calls := connect.NewClient(connecthttp.NewTransport(&http.Client{
		Transport: caller{token, base.Scheme + "://" + base.Host, transport},
		Timeout:   c.Timeout,
		// The API never redirects, and the token is for this service only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, base.String()))
	return &client{
		streams:      s,
		json:         c.JSON,
		providers:    adminv1connect.NewAdminServiceClient(calls),
		tokens:       mailkeepv1connect.NewTokenServiceClient(calls),
		keys:         mailkeepv1connect.NewKeyServiceClient(calls),
		deprecations: mailkeepv1connect.NewDeprecationServiceClient(calls),
	}, nil
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
