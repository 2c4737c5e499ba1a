package app_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// The test program is also the service that it kills: with these variables it serves from a data folder
// until its input ends, with a flaw if one is named.
const (
	childVariable = "MAILKEEP_TEST_SERVE"
	flawVariable  = "MAILKEEP_TEST_FLAW"
	tokenVariable = "MAILKEEP_TEST_ADMIN_TOKEN"
)

// childLease is short, so that the mails of a killed process are taken up again within a test.
const childLease = 3 * time.Second

func TestMain(m *testing.M) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		pgtest.Main(m)
	}
	if err := serve(dir, flaws[os.Getenv(flawVariable)]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(dir string, flaw func(app.Store) app.Store) error {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := app.Open(ctx, app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, AdminToken: secret.New(os.Getenv(tokenVariable)), DrainTimeout: 5 * time.Second,
		Lease: childLease, WrapStore: flaw, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		cancel()
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println(s.URL())
	return s.Run(ctx)
}

// flaws are stores that break a promise.
var flaws = map[string]func(app.Store) app.Store{
	"hurried":   func(s app.Store) app.Store { return hurried{s} },
	"forgetful": func(s app.Store) app.Store { return &forgetful{Store: s} },
	"careless":  func(s app.Store) app.Store { return careless{s} },
}

// hurried answers before a mail is stored.
type hurried struct{ app.Store }

func (h hurried) Accept(ctx context.Context, m outbox.Message, content outbox.Sealed) (outbox.Message, error) {
	time.AfterFunc(20*time.Millisecond, func() { _, _ = h.Store.Accept(context.WithoutCancel(ctx), m, content) })
	return m, nil
}

// forgetful does not record some of the first deliveries, without saying so.
type forgetful struct {
	app.Store
	forgotten atomic.Int64
}

func (f *forgetful) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	return f.Store.Settle(ctx, slices.DeleteFunc(slices.Clone(all), func(s outbox.Settlement) bool {
		return s.State == outbox.Delivered && f.forgotten.Add(1) <= 20
	}))
}

// careless says that a mail is cancelled and leaves it in the queue.
type careless struct{ app.Store }

func (c careless) Cancel(ctx context.Context, instance, id string, _ time.Time, _ bool) (outbox.Message, error) {
	return c.Store.Message(ctx, instance, id)
}
