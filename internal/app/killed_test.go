package app_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
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

	databaseVariable = "MAILKEEP_TEST_DATABASE_URL" // of a replica
	keysetVariable   = "MAILKEEP_TEST_KEYSET_FILE"
)

// childLease is short, so that the mails of a killed process are taken up again within a test.
const childLease = 3 * time.Second

func TestMain(m *testing.M) {
	var err error
	if errand := errands[os.Getenv(errandVariable)]; errand != nil {
		err = errand(os.Args[1:])
	} else if dir := os.Getenv(childVariable); dir != "" {
		err = serve(dir, flaws[os.Getenv(flawVariable)])
	} else {
		besideEachOther()
		pgtest.Main(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// besideEachOther lets more parallel tests run at a time than there are processors, unless the command line says
// how many: mostly they wait for servers.
func besideEachOther() {
	flag.Parse()
	if limit := flag.Lookup("test.parallel"); limit.Value.String() == limit.DefValue {
		_ = limit.Value.Set("4") // which is a number
	}
}

func serve(dir string, flaw func(*app.Config)) error {
	ctx, cancel := context.WithCancel(context.Background())
	c := app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, AdminToken: secret.New(os.Getenv(tokenVariable)), DrainTimeout: 5 * time.Second,
		Lease: childLease, Log: slog.New(slog.DiscardHandler),
		DatabaseURL: secret.New(os.Getenv(databaseVariable)), KeysetFile: os.Getenv(keysetVariable),
	}
	if flaw != nil {
		flaw(&c)
	}
	s, err := app.Open(ctx, c)
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

// flaws break a promise.
var flaws = map[string]func(*app.Config){
	"hurried":   wrap(func(s app.Store) app.Store { return hurried{s} }),
	"rash":      wrap(func(s app.Store) app.Store { return &rash{Store: s} }),
	"doubtful":  wrap(func(s app.Store) app.Store { return &doubtful{Store: s} }),
	"brittle":   wrap(func(s app.Store) app.Store { return &brittle{Store: s} }),
	"forgetful": wrap(func(s app.Store) app.Store { return &forgetful{Store: s} }),
	"careless":  wrap(func(s app.Store) app.Store { return careless{s} }),
	"replica":   beReplica,
	"unsynced": func(c *app.Config) {
		c.StoreSettings, c.UnsafeDurability = map[string]string{"synchronous": "NORMAL"}, true
	},
}

// replicaFile is beside the data folder of a replica, and names its database and keyset.
const replicaFile = ".replica"

func writeReplicaFile(t *testing.T, dir, url, keyset string) {
	t.Helper()
	if err := os.WriteFile(dir+replicaFile, []byte(url+"\n"+keyset), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replicaLease is longer than a failover takes.
const replicaLease = 6 * time.Second

// beReplica is no flaw.
func beReplica(c *app.Config) {
	text, err := os.ReadFile(c.DataDir + replicaFile)
	if err != nil {
		panic(err)
	}
	url, keyset, _ := strings.Cut(string(text), "\n")
	c.DatabaseURL, c.KeysetFile, c.Lease = secret.New(url), keyset, replicaLease
}

func wrap(flaw func(app.Store) app.Store) func(*app.Config) {
	return func(c *app.Config) { c.WrapStore = flaw }
}

// hurry is how long after it was acknowledged something is stored.
const hurry = 20 * time.Millisecond

// hurried answers before a mail is stored.
type hurried struct{ app.Store }

func (h hurried) Accept(ctx context.Context, m outbox.Message, content outbox.Sealed) (outbox.Message, error) {
	time.AfterFunc(hurry, func() { _, _ = h.Store.Accept(context.WithoutCancel(ctx), m, content) })
	return m, nil
}

// rash answers before a change is stored.
type rash struct {
	app.Store
	mu       sync.Mutex
	sequence uint64 // that was promised last
}

func (r *rash) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sequence == 0 {
		page, err := r.Store.List(ctx, c.Event.Instance, emailprovider.Query{Limit: 1})
		if err != nil {
			return 0, err
		}
		r.sequence = page.Sequence
	}
	r.sequence++
	time.AfterFunc(hurry, func() { _, _ = r.Store.Apply(context.WithoutCancel(ctx), c) })
	return r.sequence, nil
}

// doubtful makes some changes and says that it has not.
type doubtful struct {
	app.Store
	changes atomic.Int64
}

func (d *doubtful) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	sequence, err := d.Store.Apply(ctx, c)
	if err == nil && d.changes.Add(1)%5 == 0 {
		return 0, fault.New(fault.Unavailable, "MAILKEEP-STORE", "the store is busy, try again later")
	}
	return sequence, err
}

// brittle can't read while it can't write.
type brittle struct {
	app.Store
	broken atomic.Bool
}

func (b *brittle) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	sequence, err := b.Store.Apply(ctx, c)
	b.broken.Store(fault.KindOf(err) == fault.ResourceExhausted)
	return sequence, err
}

func (b *brittle) List(ctx context.Context, instance string, q emailprovider.Query) (emailprovider.Page, error) {
	if b.broken.Load() {
		return emailprovider.Page{}, fault.New(fault.Unavailable, "MAILKEEP-STORE", "the store can not be reached at present")
	}
	return b.Store.List(ctx, instance, q)
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
