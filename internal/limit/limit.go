// Package limit keeps what one instance, one address or everybody together takes of the service within
// bounds: calls in a second, calls in flight, streams, and what an instance may have. Who is over a bound is
// refused at once, and told which bound it is and when to try again; nobody waits behind those who are over
// theirs.
//
// Everything is counted in this process: with several replicas each grants the bounds anew.
package limit

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// Limits are the bounds of an instance; 0 is no bound.
type Limits struct {
	CallsPerSecond int // of authenticated callers
	Streams        int // at a time
	OpenMails      int // queued or being sent
	Providers      int
	Tokens         int
}

// With returns l with the bounds of o that are not 0.
func (l Limits) With(o Limits) Limits {
	return Limits{
		CallsPerSecond: cmp.Or(o.CallsPerSecond, l.CallsPerSecond), Streams: cmp.Or(o.Streams, l.Streams),
		OpenMails: cmp.Or(o.OpenMails, l.OpenMails), Providers: cmp.Or(o.Providers, l.Providers), Tokens: cmp.Or(o.Tokens, l.Tokens),
	}
}

// Policies knows the bounds of each instance. It is asked for every call, so it answers from memory.
type Policies interface {
	Limits(ctx context.Context, instance string) (Limits, error)
}

// Everybody gives every instance the same bounds.
type Everybody Limits

// Limits implements Policies.
func (e Everybody) Limits(context.Context, string) (Limits, error) { return Limits(e), nil }

// Overrides gives instances the bounds that Of has for them, in place of those of everybody.
type Overrides struct {
	Everybody
	Of func(instance string) (Limits, error) // 0 is that of everybody
}

// Limits implements Policies.
func (o Overrides) Limits(_ context.Context, instance string) (Limits, error) {
	own, err := o.Of(instance)
	return Limits(o.Everybody).With(own), err
}

// The ids of failures that a bound makes.
const (
	idRate  = "MAILKEEP-RATE"
	idQuota = "MAILKEEP-QUOTA"
	idBusy  = "MAILKEEP-BUSY"
)

// laterAfter is when a caller may try again who was refused for what others do, and for what does not pass
// by itself.
const (
	laterAfter = time.Second
	quotaAfter = 10 * time.Second
)

func overRate(perSecond int, wait time.Duration) error {
	return fault.Newf(fault.ResourceExhausted, idRate, "the instance makes more than the %d calls per second that it may", perSecond).After(wait)
}

func overQuota(most int, what string) error {
	return fault.Newf(fault.ResourceExhausted, idQuota, "the instance has the %d %s that it may", most, what).After(quotaAfter)
}

// Room returns a check that an instance may have one more of something, told by count. What is rare is
// counted each time; two that are added at once may both find the last place.
func Room(p Policies, what string, most func(Limits) int, count func(ctx context.Context, instance string) (int, error)) func(ctx context.Context, instance string) error {
	return func(ctx context.Context, instance string) error {
		limits, err := p.Limits(ctx, instance)
		if err != nil || most(limits) == 0 {
			return err
		}
		n, err := count(ctx, instance)
		if err != nil {
			return fmt.Errorf("counting %s: %w", what, err)
		}
		if n >= most(limits) {
			return overQuota(most(limits), what)
		}
		return nil
	}
}
