package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// service is a running service in this process.
type service struct {
	*app.App
	address  string     // host:port
	hello    string     // its name in SMTP
	all      []endpoint // that callers share out
	replicas []*service // itself, and what shares its database
}

// endpoint is what calls are made to.
type endpoint struct {
	address  string // host:port
	provider string // its id
}

func serviceOf(a *app.App) *service {
	s := &service{App: a, address: strings.TrimPrefix(a.URL(), "http://")}
	s.replicas = []*service{s}
	return s
}

// with shares the endpoints of a service out among it and another replica.
func (s *service) with(other *service) *service {
	both := *s
	both.all = slices.Clone(s.all)
	for i := 1; i < len(both.all); i += 2 {
		both.all[i].address = other.address
	}
	return &both
}

// closeReplicas closes a service that will not run.
func (s *service) closeReplicas() (err error) {
	for _, replica := range s.replicas {
		err = errors.Join(err, replica.Close())
	}
	return err
}

// who makes changes in this process.
var who = emailprovider.Caller{Instance: instance.Default}

// add adds providers.
func (s *service) add(ctx context.Context, n int) error {
	for range n {
		p, err := s.Providers.AddSMTP(ctx, who, emailprovider.SMTPSettings{
			Description: "Production relay", SenderAddress: "noreply@example.com", SenderName: "Example",
			ReplyTo: "support@example.com", Host: "smtp.example.com:587", TLS: true, User: "mailer@example.com",
			Auth: emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(password)},
		})
		if err != nil {
			return err
		}
		s.all = append(s.all, endpoint{s.address, p.ID})
	}
	return nil
}

// activate adds a mail server as the active provider. It demands AUTH or not.
func (s *service) activate(ctx context.Context, address string, auth bool) error {
	in := emailprovider.SMTPSettings{SenderAddress: sender, SenderName: "Example", Host: address}
	if auth {
		in.User, in.Auth = user, emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(password)}
	}
	p, err := s.Providers.AddSMTP(ctx, who, in)
	if err == nil {
		s.all = append(s.all, endpoint{s.address, p.ID})
		_, err = s.Providers.Activate(ctx, who, p.ID)
	}
	return err
}

// mails returns how many mails there are in one of the states, or in any if none is named.
func (s *service) mails(ctx context.Context, states ...outbox.State) (n int, err error) {
	f := outbox.Filter{States: states, Limit: 1000}
	for {
		page, next, err := s.Messages.List(ctx, instance.Default, f)
		if n += len(page); err != nil || next == "" {
			return n, err
		}
		f.After = next
	}
}

// sequence returns that of the latest change.
func (s *service) sequence(ctx context.Context) (uint64, error) {
	page, _, err := s.Providers.List(ctx, instance.Default, emailprovider.Query{Limit: 1})
	return page.Sequence, err
}

// reconcile returns an error unless the changes recorded after a sequence are as many as the calls that
// were answered.
func (s *service) reconcile(ctx context.Context, after uint64, calls int) error {
	recorded := 0
	for more := true; more; {
		page, next, err := s.Providers.Events(ctx, instance.Default, "", after, emailprovider.MaxLimit)
		if err != nil {
			return err
		}
		recorded += len(page)
		after, more = next, next > 0
	}
	if recorded != calls {
		return fmt.Errorf("%d changes were acknowledged, and %d are recorded", calls, recorded)
	}
	return nil
}

// reconciled runs calls that change something, and reconciles them.
func (s *service) reconciled(ctx context.Context, run func(context.Context) (sample, int, error)) (sample, error) {
	before, err := s.sequence(ctx)
	if err != nil {
		return sample{}, err
	}
	measured, calls, err := run(ctx)
	if err != nil {
		return sample{}, err
	}
	return measured, s.reconcile(ctx, before, calls)
}
