package sqlstore

import (
	"errors"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// settlingJobs are callers who wait with these settlements.
func settlingJobs(t *testing.T, all ...[]outbox.Settlement) (jobs []*job[[]settlementRow]) {
	t.Helper()
	for _, settlements := range all {
		rows := make([]settlementRow, len(settlements))
		for i := range settlements {
			var err error
			if rows[i], err = newSettlementRow(&settlements[i]); err != nil {
				t.Fatal(err)
			}
		}
		jobs = append(jobs, &job[[]settlementRow]{ask: rows, begun: true, done: make(chan struct{})})
	}
	return jobs
}

// TestSettleTogether has callers whose settlements share a transaction: what is wrong with one's, or held by
// somebody else, is nobody else's trouble.
func TestSettleTogether(t *testing.T) {
	db := openPostgres(t)
	provider := activeProvider(t, db)
	for range 6 {
		acceptMail(t, db, "content")
	}
	settlements := delivered(claimAll(t, db), provider, start.Add(2*time.Hour))
	settlements[2].Reason = "PostgreSQL has no \x00"
	settlements[5].Fence++
	jobs := settlingJobs(t, settlements[:2], settlements[2:4], settlements[4:])
	p := db.engine.(*postgresEngine)
	conn, err := p.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	p.settleTogether(t.Context(), conn.Conn(), jobs)
	for i, want := range []bool{true, false, true} {
		if err := jobs[i].outcome(); (err == nil) != want || errors.Is(err, errOutcomeUnknown) {
			t.Errorf("caller %d is answered with %v", i, err)
		}
	}
	for i, want := range []outbox.State{"delivered", "delivered", "sending", "sending", "delivered", "sending"} {
		m, err := db.Message(t.Context(), "default", settlements[i].ID)
		if err != nil || m.State != want {
			t.Errorf("mail %d is %s (%v), want %s", i, m.State, err, want)
		}
	}
	if last := jobs[2].ask; last[0].refused || !last[1].refused {
		t.Errorf("refused: %v and %v, want the second only", last[0].refused, last[1].refused)
	}
	uses, err := db.CredentialUses(t.Context(), "default", provider.ID, 9)
	if err != nil || len(uses) != 1 || uses[0].Mails != 3 {
		t.Errorf("uses %+v, %v; want 3 mails", uses, err)
	}
}

// TestSettleMeanwhile settles a mail whose lease is extended at the same time, so that its row is another one
// when it is written: that refuses nothing.
func TestSettleMeanwhile(t *testing.T) {
	db := openPostgres(t)
	provider := activeProvider(t, db)
	acceptMail(t, db, "content")
	claimed := claimAll(t, db)
	p := db.engine.(*postgresEngine)
	extending, err := p.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = extending.Rollback(t.Context()) }()
	m := claimed[0]
	if _, err := extending.Exec(t.Context(), updateLease, 1, m.Instance, m.ID, signed(m.Version)); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() {
		refused, err := db.Settle(t.Context(), delivered(claimed, provider, start))
		if err == nil && len(refused) > 0 {
			err = errors.New("it was refused")
		}
		settled <- err
	}()
	waitForLock(t, db)
	if err := extending.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if kept, err := db.Message(t.Context(), m.Instance, m.ID); err != nil || kept.State != outbox.Delivered {
		t.Errorf("%s, %v", kept.State, err)
	}
}

// waitForLock waits until somebody waits for a row.
func waitForLock(t *testing.T, db *DB) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); ; time.Sleep(time.Millisecond) {
		n := sessions(t, db, `wait_event_type = 'Lock'`)
		if n == 0 && time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
		if n > 0 {
			return
		}
	}
}

// sessions counts those of the database.
func sessions(t *testing.T, db *DB, which string) (n int) {
	t.Helper()
	query := `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND ` + which
	must(t, db.reader.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}
