package outbox_test

import (
	"context"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// bed is an outbox on a real store in a bubble of time, with a carrier that a test plays.
type bed struct {
	t         *testing.T
	db        *sqlstore.DB
	keys      *seal.Ring
	providers *emailprovider.Service
	carrier   *carrier
	service   *outbox.Service

	keepBodies bool
	others     outbox.Others         // of the outboxes that are run from now on
	recipients func(*outbox.Message) // forges those of claimed mails
	stop       func()
}

// memory is a file in memory.
type memory struct{ data []byte }

func (m *memory) Read() ([]byte, error) {
	if m.data == nil {
		return nil, fs.ErrNotExist
	}
	return m.data, nil
}

func (m *memory) Write(data []byte) error { m.data = data; return nil }

// carried is one mail that a carrier was given.
type carried struct {
	at   time.Time
	via  emailprovider.Route
	mail emailprovider.Mail
}

// carrier plays a provider. Unless play says otherwise it accepts every mail.
type carrier struct {
	mu   sync.Mutex
	seen []carried
	play func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery
}

// Carry implements outbox.Carrier. As delivery does, it leaves mails untried after a session failed.
func (c *carrier) Carry(ctx context.Context, via emailprovider.Route, mails []emailprovider.Mail, done func(int, emailprovider.Delivery) bool) {
	over := false
	for i, mail := range mails {
		if over {
			done(i, emailprovider.Delivery{Untried: true})
			continue
		}
		c.mu.Lock()
		c.seen = append(c.seen, carried{time.Now(), via, mail})
		play := c.play
		c.mu.Unlock()
		d := accept(ctx, via, mail)
		if play != nil {
			d = play(ctx, via, mail)
		}
		over = !done(i, d) || d.Failed != nil && d.Failed.Step == emailprovider.StepAuth
	}
}

func (c *carrier) carried() []carried {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]carried(nil), c.seen...)
}

func (c *carrier) playing(play func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.play = play
}

func accept(_ context.Context, _ emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
	return emailprovider.Delivery{Started: time.Now(), Verdicts: make([]emailprovider.Verdict, len(mail.Recipients)), Steps: newSession}
}

// newSession are the steps of the first mail of a session.
var newSession = []emailprovider.StepTime{{Step: emailprovider.StepDial}, {Step: emailprovider.StepAuth}, {Step: emailprovider.StepData}}

func failing(step emailprovider.Step, code int, temporary bool) func(context.Context, emailprovider.Route, emailprovider.Mail) emailprovider.Delivery {
	return func(context.Context, emailprovider.Route, emailprovider.Mail) emailprovider.Delivery {
		return emailprovider.Delivery{Started: time.Now(), Steps: newSession, Failed: &emailprovider.DeliveryError{
			Step: step, Code: code, Text: "said", Temporary: temporary,
		}}
	}
}

// store is a store whose calls a test may break.
type store struct {
	*sqlstore.DB
	claim  func() error
	extend func() error
	settle func() error
	forge  func(*outbox.Message)
	looks  *atomic.Int64 // counts how often it is looked for work
}

func (s store) Waiting(ctx context.Context) ([]outbox.Wait, error) {
	if s.looks != nil {
		s.looks.Add(1)
	}
	return s.DB.Waiting(ctx)
}

func (s store) Claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	if s.claim != nil {
		if err := s.claim(); err != nil {
			return outbox.Claim{}, err
		}
	}
	claim, err := s.DB.Claim(ctx, c)
	for i := range claim.Mails {
		if s.forge != nil {
			s.forge(&claim.Mails[i].Message)
		}
	}
	return claim, err
}

func (s store) Extend(ctx context.Context, claims []outbox.Lease, until time.Time) ([]outbox.Lease, error) {
	if s.extend != nil {
		if err := s.extend(); err != nil {
			return nil, err
		}
	}
	return s.DB.Extend(ctx, claims, until)
}

func (s store) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	if s.settle != nil {
		if err := s.settle(); err != nil {
			return nil, err
		}
	}
	return s.DB.Settle(ctx, all)
}

// inBubble runs a test with an outbox whose clock stands still while everybody waits.
func inBubble(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}()
		keys, err := seal.Create(&memory{})
		if err != nil {
			t.Fatal(err)
		}
		b := &bed{t: t, db: db, keys: seal.NewRing(keys, db, time.Now), carrier: &carrier{}}
		b.providers = emailprovider.NewService(emailprovider.Config{
			Store: db, Sealer: b.keys, Policies: policies{}, Log: slog.New(slog.DiscardHandler),
		})
		b.stop = b.run(store{DB: db}, b.carrier)
		defer func() { b.stop() }()
		test(t, b)
	})
}

type policies struct{}

func (policies) Policy(context.Context, string) (emailprovider.Policy, error) {
	return emailprovider.Policy{}, nil
}

// run starts an outbox on the store. The last one started takes what the test sends.
func (b *bed) run(s interface {
	outbox.Store
	outbox.Queue
}, c outbox.Carrier) (stop func()) {
	b.t.Helper()
	service, worker := outbox.NewService(outbox.Config{
		Store: s, Queue: s, Sealer: b.keys, Providers: b.providers, Carrier: c, Log: slog.New(slog.DiscardHandler),
		KeepBodies: b.keepBodies, Others: b.others,
	})
	b.service = service
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); worker.Run(ctx, 10*time.Second) }()
	synctest.Wait()
	b.providers.Store = changes{b.db, worker}
	return sync.OnceFunc(func() { cancel(); <-done })
}

// addInstance adds an instance with a key of its own.
func (b *bed) addInstance(id string) {
	b.t.Helper()
	key, err := b.keys.NewKey(id)
	if err == nil {
		owner, _ := auth.NewOwner(id, time.Now())
		err = b.db.CreateInstance(b.t.Context(), instance.New{Instance: instance.Instance{ID: id}, Key: key, Owner: owner})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// restart starts the outbox anew.
func (b *bed) restart() {
	b.stop()
	b.stop = b.run(store{DB: b.db, forge: b.recipients}, b.carrier)
}

// changes tells the worker of changes, as the application does.
type changes struct {
	*sqlstore.DB
	worker *outbox.Worker
}

func (c changes) Apply(ctx context.Context, change emailprovider.Change) (uint64, error) {
	sequence, err := c.DB.Apply(ctx, change)
	if err == nil {
		c.worker.Changed(change.Event.Instance, sequence)
	}
	return sequence, err
}

// activate gives an instance an active provider and returns its id.
func (b *bed) activate(instance string) string {
	b.t.Helper()
	by := emailprovider.Caller{Instance: instance}
	p, err := b.providers.AddSMTP(b.t.Context(), by, emailprovider.SMTPSettings{
		SenderAddress: "noreply@example.com", Host: "127.0.0.1:25", User: "u", Auth: emailprovider.AuthSettings{Secret: secret.New("first")},
	})
	if err == nil {
		_, err = b.providers.Activate(b.t.Context(), by, p.ID)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return p.ID
}

// lifetime of the mails of these tests.
const lifetime = 6 * time.Hour

// send sends a mail and returns its id.
func (b *bed) send(instance string) string {
	b.t.Helper()
	id, err := b.service.Send(b.t.Context(), instance, outbox.Draft{
		To: []string{"r@example.com"}, Subject: "s", Text: "t", ExpiresIn: lifetime,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// message returns a mail and its attempts.
func (b *bed) message(instance, id string) (outbox.Message, []outbox.Attempt) {
	b.t.Helper()
	m, attempts, err := b.service.Get(b.t.Context(), instance, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return m, attempts
}

// until waits, in the time of the bubble, until a mail is in a state.
func (b *bed) until(instance, id string, want outbox.State) outbox.Message {
	b.t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(24 * time.Hour); ; time.Sleep(pause) {
		pause = min(2*pause, time.Second)
		m, _ := b.message(instance, id)
		if m.State == want {
			return m
		}
		if time.Now().After(deadline) || !m.State.Open() {
			b.t.Fatalf("mail %s is %s (%s), want %s", id, m.State, m.Reason, want)
		}
	}
}
