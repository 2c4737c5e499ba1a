package sqlstore

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

func acceptMail(t *testing.T, db *DB, content string) outbox.Message {
	t.Helper()
	m := newMail(start)
	m, err := db.Accept(t.Context(), m, outbox.Sealed{KeyID: 7, Ciphertext: []byte(content)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func claimAll(t *testing.T, db *DB) []outbox.ClaimedMail {
	t.Helper()
	c, err := db.Claim(t.Context(), outbox.ClaimRequest{Instance: "default", Now: start, Until: start.Add(time.Minute), Limit: 100})
	if err != nil || len(c.Mails) == 0 {
		t.Fatalf("Claim: %d mails, %v", len(c.Mails), err)
	}
	return c.Mails
}

// TestReleaseClaims: after a start nobody waits for the leases of those that were before.
func TestReleaseClaims(t *testing.T) {
	db := open(t)
	p := activeProvider(t, db)
	m := acceptMail(t, db, "content")
	before := claimAll(t, db)
	if err := db.ReleaseClaims(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Message(t.Context(), "default", m.ID); err != nil || got.State != outbox.Queued || got.Due.After(start.Add(time.Minute)) {
		t.Errorf("%+v, %v", got, err)
	}
	if refused, err := db.Settle(t.Context(), delivered(before, p, start)); err != nil || len(refused) != 1 {
		t.Errorf("a settlement from before: %v refused, %v", refused, err)
	}
	if again := claimAll(t, db); again[0].Version <= before[0].Version {
		t.Errorf("fence %d after %d", again[0].Version, before[0].Version)
	}
	if err := db.ReleaseClaims(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestClaimIsBounded: a claim of large mails takes few of them into memory, and one at least.
func TestClaimIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t)
		activeProvider(t, db)
		large := outbox.Sealed{KeyID: 7, Ciphertext: make([]byte, maxClaimed/3+1)}
		for range 7 {
			if _, err := db.Accept(t.Context(), newMail(start), large); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []int{3, 3, 1} {
			if got := len(claimAll(t, db)); got != want {
				t.Errorf("claimed %d mails, want %d", got, want)
			}
		}
	})
}

// TestSettleIsAtomic makes each statement of a batch fail in turn: nothing of it is recorded.
func TestSettleIsAtomic(t *testing.T) {
	for _, table := range []string{
		"UPDATE ON messages WHEN NEW.id = 'last'", "INSERT ON attempts", "DELETE ON message_contents", "INSERT ON credential_uses",
	} {
		t.Run(table, func(t *testing.T) {
			db := open(t)
			p := activeProvider(t, db)
			for _, id := range []string{"first", "last"} {
				m := newMail(start)
				m.ID = id
				if _, err := db.Accept(t.Context(), m, body); err != nil {
					t.Fatal(err)
				}
			}
			all := delivered(claimAll(t, db), p, start)
			again := all[0]
			again.State = outbox.Queued
			batch := []outbox.Settlement{again, all[1]}
			run(t, lite(db).writer, "CREATE TRIGGER broken BEFORE "+table+" BEGIN SELECT RAISE(ABORT, 'broken'); END")
			if refused, err := db.Settle(t.Context(), batch); err == nil {
				t.Errorf("Settle: %v refused, want an error", refused)
			}
			run(t, lite(db).writer, "DROP TRIGGER broken")
			if uses, err := db.CredentialUses(t.Context(), "default", p.ID, 9); err != nil || len(uses) > 0 {
				t.Errorf("uses after a failed batch: %v, %v", uses, err)
			}
			if refused, err := db.Settle(t.Context(), batch); err != nil || len(refused) > 0 {
				t.Errorf("Settle again: %v refused, %v", refused, err)
			}
		})
	}
}

// TestAcceptRefusals has mails that can not be stored as a whole: nothing of them is.
func TestAcceptRefusals(t *testing.T) {
	db := open(t)
	for name, m := range map[string]outbox.Message{
		"without recipients": {Instance: "default", ID: "1"},
		"of no instance":     {Instance: "none", ID: "1", Recipients: newMail(start).Recipients},
	} {
		if _, err := db.Accept(t.Context(), m, body); err == nil {
			t.Errorf("a mail %s was accepted", name)
		}
	}
	if _, err := db.Accept(t.Context(), newMail(start), outbox.Sealed{}); err == nil {
		t.Error("a mail without content was accepted")
	}
	kept := acceptMail(t, db, "content")
	if _, err := db.Accept(t.Context(), kept, body); err == nil {
		t.Error("two mails with one id were accepted")
	}
	all, err := db.Messages(t.Context(), "default", outbox.Filter{Limit: 9})
	if err != nil || len(all) != 1 || all[0].ID != kept.ID {
		t.Errorf("Messages: %+v, %v", all, err)
	}
}

// TestContentIsErased looks for what a settled mail said in every file. The write-ahead log has old
// pages until it is next emptied.
func TestContentIsErased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	p := activeProvider(t, db)
	found := func() (files []string) {
		t.Helper()
		run(t, lite(db).writer, "PRAGMA wal_checkpoint(TRUNCATE)")
		for _, name := range []string{path, path + "-wal", path + "-shm"} {
			if content, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			} else if bytes.Contains(content, []byte("c0nt3nt")) {
				files = append(files, name)
			}
		}
		return files
	}
	for range 20 {
		acceptMail(t, db, string(bytes.Repeat([]byte("c0nt3nt"), 1000)))
	}
	if len(found()) == 0 {
		t.Fatal("the content can't be found while it is stored")
	}
	if _, err := db.Settle(t.Context(), delivered(claimAll(t, db), p, start)); err != nil {
		t.Fatal(err)
	}
	if files := found(); len(files) > 0 {
		t.Errorf("the content is still in %v", files)
	}
}

// TestStates shows that the database itself refuses a state that is none, or in the wrong half.
func TestStates(t *testing.T) {
	db := open(t)
	acceptMail(t, db, "content")
	for _, state := range outbox.States() {
		open := "FALSE"
		if state.Open() {
			open = "TRUE"
		}
		run(t, lite(db).writer, "UPDATE messages SET state = '"+string(state)+"', open = "+open)
		for _, wrong := range []string{"open = NOT open", "state = 'lost'"} {
			if _, err := lite(db).writer.ExecContext(t.Context(), "UPDATE messages SET "+wrong); err == nil {
				t.Errorf("%s of a mail that is %s was taken", wrong, state)
			}
		}
	}
}

// TestLeasesInOrder has mails settled, in both ways, and their leases extended by several at once, each in an
// order of its own: nobody waits for somebody who waits for him.
func TestLeasesInOrder(t *testing.T) {
	db := openPostgres(t)
	p := provider(1)
	p.State = emailprovider.Active
	must(t, second(db.Apply(t.Context(), added(p))))
	const mails, rounds = 40, 15
	for n := range mails {
		must(t, second(db.Accept(t.Context(), mail(n), outbox.Sealed{KeyID: 1, Ciphertext: []byte("x")})))
	}
	began := time.Now()
	for range rounds {
		now := time.Now()
		claim, err := db.Claim(t.Context(), outbox.ClaimRequest{Instance: "default", Now: now.Add(time.Minute), Until: now.Add(time.Hour), Limit: mails})
		if err != nil || len(claim.Mails) != mails {
			t.Fatalf("%d mails are claimed, %v", len(claim.Mails), err)
		}
		var leases []outbox.Lease
		var settlements []outbox.Settlement
		for i, m := range claim.Mails {
			leases = append(leases, m.Lease())
			settlements = append(settlements, outbox.Settlement{Lease: m.Lease(), At: now, State: outbox.Queued, Due: now})
			if i%2 == 0 {
				settlements[i].State, settlements[i].Keep = outbox.Failed, true
			}
		}
		var all sync.WaitGroup
		for range 4 {
			mine := slices.Clone(leases)
			rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			all.Go(func() {
				if err := second(db.Extend(t.Context(), mine, now.Add(time.Hour))); err != nil {
					t.Errorf("Extend: %v", err)
				}
			})
		}
		rand.Shuffle(mails, func(i, j int) { settlements[i], settlements[j] = settlements[j], settlements[i] })
		all.Go(func() {
			if err := second(db.Settle(t.Context(), settlements)); err != nil {
				t.Errorf("Settle: %v", err)
			}
		})
		all.Wait()
		for _, s := range settlements {
			if s.State == outbox.Failed {
				must(t, second(db.Requeue(t.Context(), "default", s.ID, now, now.Add(time.Hour))))
			}
		}
	}
	var deadlocks int
	if err := sharedEngine(db).pool.QueryRow(t.Context(), `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks); err != nil || deadlocks > 0 {
		t.Errorf("%d deadlocks in %s, %v", deadlocks, time.Since(began), err)
	}
}
