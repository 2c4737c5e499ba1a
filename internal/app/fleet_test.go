package app_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// answerTime is how long a change may take, and slack what a busy machine may add to a time.
const (
	answerTime = 5500 * time.Millisecond
	slack      = 3 * time.Second
)

// fleet is several replicas in this process.
type fleet struct {
	mu       sync.Mutex // of services
	keyset   string
	services []*service
	turn     atomic.Int64
}

// startFleet starts replicas on a database, with one keyset. change may alter the config of each.
func startFleet(t *testing.T, n int, url string, change func(i int, c *app.Config)) *fleet {
	t.Helper()
	f := &fleet{keyset: filepath.Join(t.TempDir(), "keyset.json")}
	for i := range n {
		c := replica(t, url, f.keyset)
		if change != nil {
			change(i, &c)
		}
		f.join(start(t, c))
	}
	return f
}

// join adds a replica, whatever calls are under way.
func (f *fleet) join(s *service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.services = append(f.services, s)
}

// any is the URL of one after the other.
func (f *fleet) any() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[int(f.turn.Add(1))%len(f.services)].URL()
}

// friendly starts a mail server that takes every mail.
func friendly(t *testing.T) *smtptest.Hostile {
	t.Helper()
	return hostile(t, smtptest.Script{})
}

func hostile(t *testing.T, script smtptest.Script) *smtptest.Hostile {
	t.Helper()
	server, err := smtptest.StartHostile(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func (f *fleet) urls() (all []string) {
	for _, s := range f.services {
		all = append(all, s.URL())
	}
	return all
}
