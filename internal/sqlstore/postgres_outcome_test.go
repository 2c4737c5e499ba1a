package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// lonely is a primary whose commits can be made to wait for a standby that never comes.
type lonely struct {
	*pgcluster.Cluster
	t  *testing.T
	db *DB
}

func startLonely(t *testing.T) *lonely {
	t.Helper()
	c := pgtest.Cluster(t, pgcluster.Options{})
	if err := c.CreateDatabase(t.Context(), "mailkeep"); err != nil {
		t.Fatal(err)
	}
	return &lonely{c, t, openURL(t, c.URL("mailkeep"), Options{})}
}

func (l *lonely) query(statements ...string) string {
	l.t.Helper()
	text, err := l.Query(context.Background(), "mailkeep", statements...)
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}

// await sets what commits wait for; with "" those that do go on. That is the checkpointer's to say, which
// reads its settings before a checkpoint; the first one may have begun too early.
func (l *lonely) await(standby string) {
	l.t.Helper()
	l.query("ALTER SYSTEM SET synchronous_standby_names = '"+standby+"'", "SELECT pg_reload_conf()", "CHECKPOINT", "CHECKPOINT")
}

const fromWaiting = ` FROM pg_stat_activity WHERE wait_event = 'SyncRep'`

// waiting waits until n commits wait.
func (l *lonely) waiting(n int) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); l.query("SELECT count(*)"+fromWaiting) != strconv.Itoa(n); {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s commits wait, want %d", l.query("SELECT count(*)"+fromWaiting), n)
		}
	}
}

// cancel ends the waits as an administrator does.
func (l *lonely) cancel() { l.query("SELECT pg_cancel_backend(pid)" + fromWaiting) }

// TestWaitCancelled has the wait of commits for a standby cancelled: PostgreSQL reports success then, with
// a warning. Nobody is told that it was one, and nothing is done twice.
func TestWaitCancelled(t *testing.T) {
	t.Parallel()
	l := startLonely(t)
	for name, change := range map[string]func(n int) error{
		"changes": func(n int) error { _, err := l.db.Apply(t.Context(), added(provider(n))); return err },
		"mails": func(n int) error {
			_, err := l.db.Accept(t.Context(), mail(n), outbox.Sealed{KeyID: 1, Ciphertext: []byte("x")})
			return err
		},
		"writes": func(n int) error { return l.db.AddInstance(t.Context(), fmt.Sprint(n)) },
	} {
		t.Run(name, func(t *testing.T) {
			const callers = 6
			l.await("nobody")
			outcomes := make(chan error, callers)
			ask := func(n int) { go func() { outcomes <- change(n) }() }
			ask(0)
			l.waiting(1)
			for n := 1; n < callers; n++ {
				ask(n) // they queue up behind the first, or wait beside it
			}
			for answered := 0; answered < callers; {
				l.cancel()
				select {
				case err := <-outcomes:
					if answered++; !errors.Is(err, errOutcomeUnknown) {
						t.Errorf("outcome %v, want it unknown", err)
					}
				case <-time.After(10 * time.Millisecond):
				}
			}
			l.await("")
		})
	}
	wantEvents(t, l.db, 6)
	if n := l.query("SELECT count(*) FROM messages"); n != "6" {
		t.Errorf("%s mails, want 6", n)
	}
}

// TestStandbyIsStuck: while commits wait for a standby that hangs, changes are refused before they begin. They
// go on by themselves when it is back.
func TestStandbyIsStuck(t *testing.T) {
	t.Parallel()
	l := startLonely(t)
	engine := sharedEngine(l.db)
	engine.patience = time.Second
	l.await("nobody")
	unknown, refused := 0, 0
	for n := range 10 {
		for what, err := range map[string]error{
			"Apply":       second(l.db.Apply(t.Context(), added(provider(n)))),
			"Accept":      second(l.db.Accept(t.Context(), mail(n), outbox.Sealed{KeyID: 1, Ciphertext: []byte("x")})),
			"AddInstance": l.db.AddInstance(t.Context(), fmt.Sprint(n)),
		} {
			switch {
			case errors.Is(err, errOutcomeUnknown):
				unknown++
			case errors.Is(err, errStandby):
				refused++
			default:
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if stuck := l.query("SELECT count(*)" + fromWaiting); refused == 0 || stuck != strconv.Itoa(unknown) || unknown > 3 {
		t.Errorf("%s sessions wait for the standby; %d outcomes are unknown and %d changes were refused", stuck, unknown, refused)
	}
	l.await("")
	l.waiting(0)
	engine.patience = postgresPatience
	addProvider(t, l.db, 100)
	if engine.doubt.Load() {
		t.Error("the store is in doubt for ever")
	}
}

func second[T any](_ T, err error) error { return err }

// mail is one to be accepted.
func mail(n int) outbox.Message {
	now := time.Now()
	return outbox.Message{
		Instance: "default", ID: outbox.NewID(now), Recipients: []outbox.Recipient{{Address: fmt.Sprintf("r%d@example.com", n), Kind: outbox.To}},
		Due: now, Expires: now.Add(time.Hour), Changed: now, Created: now,
	}
}

// TestUnknownIsUnknown: whatever an unknown outcome was caused by, it is no reason to do it again.
func TestUnknownIsUnknown(t *testing.T) {
	p := new(postgresEngine)
	for _, code := range []string{"40001", "40P01", "23505"} {
		err := errOutcomeUnknown.Because(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"})
		if c := p.class(err); c == collided || c == uniqueViolation {
			t.Errorf("%v is of class %d", err, c)
		}
		if divisible(t.Context(), p, err) {
			t.Errorf("%v is taken for that of one among several", err)
		}
	}
	for _, definite := range []error{emailprovider.ErrConflict, errBusy} {
		if errors.Is(definite, errOutcomeUnknown) {
			t.Errorf("%v is taken for an unknown outcome", definite)
		}
	}
}
