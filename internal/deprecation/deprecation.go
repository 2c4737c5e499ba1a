// Package deprecation counts who still calls deprecated methods, so that an operator can see whom a
// cut-over would hit.
package deprecation

import (
	"context"
	"time"
)

// Use is the use of one deprecated method by one caller with one user agent.
type Use struct {
	Instance  string
	Method    string // such as UpdateSMTPConfigPassword
	Caller    string // name of the token
	UserAgent string
	Calls     uint64
	First     time.Time
	Last      time.Time
}

// Store keeps uses. Its contract is the suite in storetest.
type Store interface {
	// AddUses adds each entry's calls to the stored entry with the same instance, method, caller
	// and user agent, and widens its dates; all entries or none.
	AddUses(ctx context.Context, uses []Use) error
	// Uses returns the uses of an instance, the latest first, ties by method, caller, user agent.
	Uses(ctx context.Context, instance string) ([]Use, error)
}
