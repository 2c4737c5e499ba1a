package limit

import (
	"cmp"
	"context"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// Config is the bounds of calls.
type Config struct {
	Policies Policies

	InFlight         int // calls that are not streams, of everybody; 0 for no bound
	Streams          int // of everybody; 0 for no bound
	FailuresByRemote int // calls in a second without a valid token, of one address; 0 for no bound

	Now func() time.Time
}

const (
	// linePerSlot is how many calls may wait for each that may be in flight. They have not been read yet.
	linePerSlot = 4
	// lineWait is how long a call waits. It is less than callers wait before they repeat a call.
	lineWait = time.Second
	// maxRemotes and maxInstances are how many are remembered at a time.
	maxRemotes   = 1 << 16
	maxInstances = 1 << 16
	// unbounded is more streams than a machine has memory for.
	unbounded = 1 << 30
)

var (
	errBusy = fault.New(fault.Unavailable, idBusy,
		"the service is busy: as many calls are in flight as --max-calls-in-flight allows").After(laterAfter)
	errStreams = fault.New(fault.Unavailable, idBusy,
		"the service is busy: there are as many streams as --max-streams allows").After(laterAfter)
)

// Calls bounds calls. A call that is refused was neither authenticated nor read, unless it is over its
// instance's rate. Admitting a call allocates nothing. A nil Calls has no bounds.
type Calls struct {
	Config
	calls    *Gate // nil for no bound
	streams  *Gate
	rates    *Rates[string]
	failures *Rates[netip.Addr]
	heard    *familiar
}

// NewCalls returns the bounds of calls.
func NewCalls(c Config) *Calls {
	l := &Calls{
		Config: c, rates: NewRates[string](maxInstances, c.Now), failures: NewRates[netip.Addr](maxRemotes, c.Now),
		heard: &familiar{seed: maphash.MakeSeed()},
	}
	if c.InFlight > 0 {
		l.calls = NewGate(c.InFlight, linePerSlot*c.InFlight, lineWait)
	}
	l.streams = NewGate(cmp.Or(c.Streams, unbounded), 0, 0)
	return l
}

// Enter lets a call for an instance in, or returns why not. After nil there must be a Leave.
func (l *Calls) Enter(ctx context.Context, instance string, streams bool) error {
	switch {
	case l == nil:
		return nil
	case streams:
		return l.enterStream(ctx, instance)
	case l.calls != nil && !l.calls.Enter(ctx, instance, 0):
		return errBusy
	}
	return nil
}

func (l *Calls) enterStream(ctx context.Context, instance string) error {
	limits, err := l.Policies.Limits(ctx, instance)
	if err != nil {
		return err
	}
	if l.streams.Enter(ctx, instance, limits.Streams) {
		return nil
	}
	if limits.Streams > 0 && l.streams.In(instance) >= limits.Streams {
		return overQuota(limits.Streams, "streams")
	}
	return errStreams
}

// Leave ends a call that was let in.
func (l *Calls) Leave(instance string, streams bool) {
	switch {
	case l == nil:
	case streams:
		l.streams.Leave(instance)
	case l.calls != nil:
		l.calls.Leave(instance)
	}
}

// Take counts a call of an authenticated caller, or returns why it is one too many.
func (l *Calls) Take(ctx context.Context, instance string) error {
	if l == nil {
		return nil
	}
	limits, err := l.Policies.Limits(ctx, instance)
	if err != nil || limits.CallsPerSecond == 0 {
		return err
	}
	if wait := l.rates.Take(instance, limits.CallsPerSecond); wait > 0 {
		return overRate(limits.CallsPerSecond, wait)
	}
	return nil
}

// Hear returns nil if the token of a call is to be looked at. From an address that had too many calls with
// none that is valid, only those are which were valid before: others who come by the same proxy go on.
func (l *Calls) Hear(remote string, authorization []string) error {
	if l == nil || l.FailuresByRemote == 0 {
		return nil
	}
	wait := l.failures.Wait(addressOf(remote), l.FailuresByRemote)
	if wait == 0 || l.heard.has(authorization) {
		return nil
	}
	return fault.Newf(fault.ResourceExhausted, idRate,
		"more than %d calls per second without a valid token come from your address", l.FailuresByRemote).After(wait)
}

// Heard notes whether the token of a call was valid.
func (l *Calls) Heard(remote string, authorization []string, valid bool) {
	switch {
	case l == nil || l.FailuresByRemote == 0:
	case valid:
		l.heard.add(authorization)
	default:
		l.failures.Take(addressOf(remote), l.FailuresByRemote)
	}
}

// addressOf returns whom a call comes from: an IPv4 address, or the network that one gets of IPv6 (RFC 6177).
func addressOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{} // one for all that have none
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	network, _ := addr.Prefix(64) // an IPv6 address has that many bits
	return network.Addr()
}

// familiar remembers tokens that were valid, by a hash that nobody outside can know. A token that takes the
// place of another makes that forgotten.
type familiar struct {
	seed  maphash.Seed
	slots [1 << 12]atomic.Uint64
}

func (f *familiar) add(authorization []string) {
	if slot, sum := f.at(authorization); slot.Load() != sum { // it mostly is
		slot.Store(sum)
	}
}

func (f *familiar) has(authorization []string) bool {
	slot, sum := f.at(authorization)
	return len(authorization) == 1 && slot.Load() == sum
}

func (f *familiar) at(authorization []string) (*atomic.Uint64, uint64) {
	var text string
	if len(authorization) == 1 {
		text = authorization[0]
	}
	sum := maphash.String(f.seed, text)
	return &f.slots[sum%uint64(len(f.slots))], sum
}
