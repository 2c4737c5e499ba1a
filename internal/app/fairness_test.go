package app_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestOwnBounds: what an instance may have is its own, and says nothing of others.
func TestOwnBounds(t *testing.T) {
	s := start(t, open(t, config(t)))
	a, b := s.addTenant(t, "a"), s.addTenant(t, "b")
	s.asSystem(t, "UpdateInstance", `{"id":"a","providers":2}`)
	add := func(n *tenant) connect.Code {
		const body = `{"senderAddress":"s@example.com","senderName":"S","host":"127.0.0.1:25"}`
		m := methods()["AddEmailProviderSMTP"]
		return n.wires()[0].call(t, n.token, m, message(t, string(m.Descriptor.Input().FullName()), body)).code
	}
	if code := add(a); code != 0 {
		t.Errorf("the second: %v", code)
	}
	for range 3 {
		if code := add(a); code != connect.CodeResourceExhausted {
			t.Errorf("the third: %v", code)
		}
		if code := add(b); code != 0 {
			t.Errorf("another instance's: %v", code)
		}
	}
}

// narrow is a store that answers few at a time, in the order in which they ask.
type narrow struct {
	app.Store
	slots chan struct{}
}

// List implements emailprovider.Store.
func (n narrow) List(ctx context.Context, instance string, q emailprovider.Query) (emailprovider.Page, error) {
	n.slots <- struct{}{}
	defer func() { <-n.slots }()
	<-time.After(lookup)
	return n.Store.List(ctx, instance, q)
}

// ask makes one call and returns its status, 0 if there is no answer.
func (n *tenant) ask(ctx context.Context, c *http.Client) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.s.URL()+asks["REST"].path, strings.NewReader("{}"))
	if err != nil {
		return 0
	}
	r.Host = n.host
	r.Header.Set("Authorization", "Bearer "+n.token)
	res, err := c.Do(r)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// p99 has two clients of a tenant call for a time and returns what 99 of 100 calls did not take.
func (n *tenant) p99(t *testing.T, length time.Duration) time.Duration {
	var mu sync.Mutex
	var group sync.WaitGroup
	var took []time.Duration
	transport := &http.Transport{MaxIdleConnsPerHost: 2}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	end := time.Now().Add(length)
	for range 2 {
		group.Go(func() {
			for time.Now().Before(end) {
				began := time.Now()
				if status := n.ask(t.Context(), c); status != http.StatusOK {
					t.Errorf("%s is answered %d", n.id, status)
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

// hammer has clients of a tenant call until stop is called; those that are refused wait for as long as they are told.
func (n *tenant) hammer(t *testing.T, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	c := &http.Client{Transport: transport}
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				if n.ask(ctx, c) != http.StatusOK {
					select {
					case <-ctx.Done():
					case <-time.After(laterAfter): // as it is told: its own clients share this machine
					}
				}
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
		transport.CloseIdleConnections()
	}
}

// TestFairness: an instance that makes hundreds of calls at a time slows no other. Red control: without a bound of
// calls in flight it does.
func TestFairness(t *testing.T) {
	if os.Getenv("MAILKEEP_PROVE") == "" { // task prove
		t.Skip("this measures the machine too; the test of this name in internal/limit does not")
	}
	const slots, clients, length, most = 20, 200, 20 * time.Second, 1.2
	measure := func(inFlight int) (alone, beside time.Duration) {
		c := open(t, config(t))
		c.MaxInFlight = inFlight
		c.WrapStore = func(s app.Store) app.Store { return narrow{s, make(chan struct{}, slots)} }
		s := start(t, c)
		hog, quiet := s.addTenant(t, "hog"), s.addTenant(t, "quiet")
		alone = quiet.p99(t, length)
		defer hog.hammer(t, clients)()
		return alone, quiet.p99(t, length)
	}
	alone, beside := measure(slots)
	_, red := measure(0)
	ratio := float64(beside) / float64(alone)
	if ratio > most {
		t.Errorf("p99 beside the hog is %s, alone %s", beside, alone)
	}
	if float64(red) <= most*float64(alone) {
		t.Errorf("without the bound it is %s, hardly more than %s", red, alone)
	}
	t.Logf("REL fairness_measured others_p99_ratio=%.2f p99_ms=%d red_control=%.2f hog_clients=%d",
		ratio, beside.Milliseconds(), float64(red)/float64(alone), clients)
}
