package app

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/limit"
)

// limitsOf returns the bounds of an instance's own.
func (a *App) limitsOf(instance string) (limit.Limits, error) {
	own, err := a.tenants.Limits(instance)
	return limit.Limits{
		CallsPerSecond: int(own.CallsPerSecond), OpenMails: int(own.OpenMails), Providers: int(own.Providers), Tokens: int(own.Tokens),
	}, err
}

// room is what tells the domains whether an instance may have one more.
type room struct {
	provider, token, mail func(ctx context.Context, instance string) error
}

func (a *App) newRoom(p limit.Policies) room {
	return room{
		provider: limit.Room(p, "providers", func(l limit.Limits) int { return l.Providers }, a.countProviders),
		token:    limit.Room(p, "tokens", func(l limit.Limits) int { return l.Tokens }, a.countTokens),
		mail: limit.NewTally(p, "mails on their way", func(l limit.Limits) int { return l.OpenMails },
			a.store.CountOpen, a.config.Now).Add,
	}
}

func (a *App) countProviders(ctx context.Context, instance string) (int, error) {
	page, err := a.store.List(ctx, instance, emailprovider.Query{Limit: 1})
	return int(page.Total), err
}

func (a *App) countTokens(ctx context.Context, instance string) (int, error) {
	tokens, err := a.store.Tokens(ctx, instance)
	return len(tokens), err
}
