package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type trustCommand struct {
	target
	Only string `type:"path" placeholder:"FILE" help:"Trust the certificate authorities in this PEM file, and no others."`
	None bool   `help:"Have no authorities for this provider alone, but those that all have."`
	connection
}

// Help implements kong.HelpProvider.
func (*trustCommand) Help() string {
	return `For a mail server or webhook with a certificate of your own authority. Without a flag the
authorities are shown:

    mailkeep provider trust 123456789012345678 --only our-ca.pem`
}

// AfterApply refuses flags that do not go together.
func (c *trustCommand) AfterApply() error {
	if c.Only != "" && c.None {
		return errors.New("provider trust: --only and --none can't both be")
	}
	return nil
}

// Run implements the command.
func (c *trustCommand) Run(ctx context.Context, to *client) error {
	if c.Only == "" && !c.None {
		res, err := to.credentials.GetProviderCA(ctx, &mailkeepv1.GetProviderCARequest{Id: c.ID})
		if err != nil {
			return err
		}
		return to.authorities(res, res.GetCertificates())
	}
	req := &mailkeepv1.SetProviderCARequest{Id: c.ID}
	if c.Only != "" {
		pem, err := os.ReadFile(c.Only)
		if err != nil {
			return fmt.Errorf("--only: %w", err)
		}
		if len(pem) == 0 {
			return fmt.Errorf("--only: %s is empty", c.Only)
		}
		req.CaPem = string(pem)
	}
	res, err := to.credentials.SetProviderCA(ctx, req)
	if err != nil {
		return err
	}
	return to.authorities(res, res.GetCertificates())
}

// authorities prints certificate authorities.
func (c *client) authorities(answer proto.Message, all []*mailkeepv1.CertificateDetails) error {
	var rows [][]string
	for _, a := range all {
		rows = append(rows, []string{a.GetSubject(), a.GetIssuer(), local(a.GetExpirationDate())})
	}
	return c.table(answer, []string{"SUBJECT", "ISSUER", "EXPIRES"}, rows)
}
