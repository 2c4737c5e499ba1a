package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type instanceCommands struct {
	Add    addInstanceCommand    `cmd:"" help:"Make an instance and print the token of its owner, this once."`
	List   listInstancesCommand  `cmd:"" help:"List the instances with their domains and policies."`
	Update updateInstanceCommand `cmd:"" help:"Change what is given of an instance."`
	Remove removeInstanceCommand `cmd:"" help:"Remove an instance, and all that it has, for good."`
}

// instancePolicy has the flags that limit an instance.
type instancePolicy struct {
	CallsPerSecond *uint32 `name:"max-calls-per-second" group:"Policy:" placeholder:"N" help:"Calls per second; 0 for the service's default."`
	OpenMails      *uint32 `name:"max-open-mails" group:"Policy:" placeholder:"N" help:"Mails on their way at a time; 0 for the service's default."`
	Providers      *uint32 `name:"max-providers" group:"Policy:" placeholder:"N" help:"Providers; 0 for the service's default."`
	Tokens         *uint32 `name:"max-tokens" group:"Policy:" placeholder:"N" help:"Tokens; 0 for the service's default."`
}

type addInstanceCommand struct {
	ID           string   `arg:"" name:"id" help:"Id: lower-case letters, digits and hyphens. It is never given again."`
	Name         string   `help:"What people call it (the id)."`
	Domain       []string `placeholder:"HOST" help:"Host whose requests are for the instance, without port; may be repeated."`
	SenderDomain []string `group:"Policy:" placeholder:"DOMAIN" help:"Domain that senders must be in; may be repeated (any)."`
	instancePolicy
	connection
}

// Help implements kong.HelpProvider.
func (*addInstanceCommand) Help() string {
	return `Standard output has the owner's token and nothing else:

    (umask 077; mailkeep instance add acme --domain mail.acme.example > acme.token)

From the second instance on, hosts that are nobody's get no answer but an error; this machine's own
(localhost, 127.0.0.1) stay the default instance's. Give that its domains too:

    mailkeep instance update default --domain mail.example.com`
}

// Run implements the command.
func (a *addInstanceCommand) Run(ctx context.Context, c *client) error {
	res, err := c.instances.AddInstance(ctx, &mailkeepv1.AddInstanceRequest{
		Id: a.ID, Name: a.Name, Domains: a.Domain,
		Policy: &mailkeepv1.InstancePolicy{
			SenderDomains: a.SenderDomain, CallsPerSecond: orZero(a.CallsPerSecond), OpenMails: orZero(a.OpenMails),
			Providers: orZero(a.Providers), Tokens: orZero(a.Tokens),
		},
	})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(res)
	}
	c.note("instance %s, and the token of its owner, which is not shown again", res.GetInstance().GetId())
	_, err = fmt.Fprintln(c.out, res.GetSecret())
	return err
}

// orZero is what was given, or 0.
func orZero(n *uint32) uint32 {
	if n == nil {
		return 0
	}
	return *n
}

type listInstancesCommand struct {
	Removed bool `help:"Also list what is left of those that were removed."`
	connection
}

// Run implements the command.
func (l *listInstancesCommand) Run(ctx context.Context, c *client) error {
	res, err := c.instances.ListInstances(ctx, &mailkeepv1.ListInstancesRequest{Removed: l.Removed})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, in := range res.GetInstances() {
		rows = append(rows, []string{
			in.GetId(), in.GetName(), strings.Join(in.GetDomains(), ","), limits(in.GetPolicy()), local(in.GetCreationDate()), "",
		})
	}
	for _, r := range res.GetRemoved() {
		rows = append(rows, []string{r.GetId(), r.GetName(), "", "", local(r.GetCreationDate()), local(r.GetRemovalDate())})
	}
	return c.table(res, []string{"ID", "NAME", "DOMAINS", "POLICY", "CREATED", "REMOVED"}, rows)
}

// limits says what a policy bounds.
func limits(p *mailkeepv1.InstancePolicy) string {
	var all []string
	if d := p.GetSenderDomains(); len(d) > 0 {
		all = append(all, "sender-domains="+strings.Join(d, ","))
	}
	for _, limit := range []struct {
		name string
		n    uint32
	}{
		{"max-calls-per-second", p.GetCallsPerSecond()}, {"max-open-mails", p.GetOpenMails()}, {"max-providers", p.GetProviders()}, {"max-tokens", p.GetTokens()},
	} {
		if limit.n > 0 {
			all = append(all, fmt.Sprintf("%s=%d", limit.name, limit.n))
		}
	}
	return strings.Join(all, " ")
}

type updateInstanceCommand struct {
	ID             string   `arg:"" name:"id" help:"Id of the instance."`
	Name           *string  `help:"What people call it."`
	Domain         []string `placeholder:"HOST" help:"Host whose requests are for the instance, in place of all that it had; may be repeated."`
	NoDomain       bool     `help:"Leave it without domains."`
	SenderDomain   []string `group:"Policy:" placeholder:"DOMAIN" help:"Domain that senders must be in, in place of all that there were; may be repeated."`
	NoSenderDomain bool     `group:"Policy:" help:"Let senders be in any domain."`
	instancePolicy
	connection
}

// Validate implements kong's check of the flags.
func (u *updateInstanceCommand) Validate() error {
	switch {
	case u.NoDomain && len(u.Domain) > 0:
		return errors.New("--domain and --no-domain: give one of them")
	case u.NoSenderDomain && len(u.SenderDomain) > 0:
		return errors.New("--sender-domain and --no-sender-domain: give one of them")
	}
	return nil
}

// Run implements the command.
func (u *updateInstanceCommand) Run(ctx context.Context, c *client) error {
	req := &mailkeepv1.UpdateInstanceRequest{
		Id: u.ID, Name: u.Name, CallsPerSecond: u.CallsPerSecond, OpenMails: u.OpenMails, Providers: u.Providers, Tokens: u.Tokens,
	}
	if u.NoDomain || len(u.Domain) > 0 {
		req.Domains = &mailkeepv1.DomainList{Domains: u.Domain}
	}
	if u.NoSenderDomain || len(u.SenderDomain) > 0 {
		req.SenderDomains = &mailkeepv1.DomainList{Domains: u.SenderDomain}
	}
	res, err := c.instances.UpdateInstance(ctx, req)
	if err != nil {
		return err
	}
	in := res.GetInstance()
	return c.object(res, field{"id", in.GetId()}, field{"name", in.GetName()},
		field{"domains", strings.Join(in.GetDomains(), ",")}, field{"policy", limits(in.GetPolicy())})
}

type removeInstanceCommand struct {
	ID  string `arg:"" name:"id" help:"Id of the instance."`
	Yes bool   `short:"y" help:"Don't ask; needed where nobody can be asked."`
	connection
}

// Help implements kong.HelpProvider.
func (*removeInstanceCommand) Help() string {
	return `The instance's keys are destroyed first: its secrets and the texts of its mails open nowhere any
more, in no copy of its rows. Then all of it is deleted. A backup of the whole database from before has
the keys, too; see SECURITY.md.`
}

// AfterApply refuses to ask where nobody can answer.
func (r *removeInstanceCommand) AfterApply(s streams) error {
	if _, ok := s.terminal(); !ok && !r.Yes {
		return errors.New("instance remove: --yes is needed when standard input is not a terminal")
	}
	return nil
}

// Run implements the command.
func (r *removeInstanceCommand) Run(ctx context.Context, c *client) error {
	if !r.Yes {
		ok, err := c.confirm(ctx, printable(fmt.Sprintf("Remove the instance %s with its providers, mails and tokens for good?", r.ID)))
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("nothing was removed")
		}
	}
	res, err := c.instances.RemoveInstance(ctx, &mailkeepv1.RemoveInstanceRequest{Id: r.ID})
	if err != nil {
		return err
	}
	return c.object(res, field{"removed", r.ID})
}
