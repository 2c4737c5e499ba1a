// Package instance knows the tenants and which of them a request is for. There is one so far,
// Default, for any host.
package instance

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Default is the id of the instance that every installation has.
const Default = "default"

// Single is an installation with one instance.
type Single struct{ policy emailprovider.Policy }

// NewSingle returns an installation whose one instance has the policy.
func NewSingle(policy emailprovider.Policy) Single { return Single{policy} }

// ByHost returns the id of the instance that a host belongs to.
func (Single) ByHost(context.Context, string) (string, error) { return Default, nil }

// Policy implements emailprovider.Policies.
func (s Single) Policy(context.Context, string) (emailprovider.Policy, error) { return s.policy, nil }
