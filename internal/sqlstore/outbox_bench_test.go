package sqlstore

import (
	"bytes"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// start is when the tests' mails are taken.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// body has 2 KiB, as the mails that transports are measured with.
var body = outbox.Sealed{KeyID: 7, Ciphertext: bytes.Repeat([]byte("x"), 2<<10)}

func newMail(at time.Time) outbox.Message {
	return outbox.Message{
		Instance: "default", ID: outbox.NewID(at), Created: at, Changed: at, Due: at, Expires: at.Add(120 * time.Hour),
		Recipients: []outbox.Recipient{{Address: "somebody@example.com", Kind: outbox.To, State: outbox.Pending}},
	}
}

// reportCPU adds the processor time per operation, of this whole process: others share the machine.
func reportCPU(b *testing.B) (end func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkAccept has 64 callers.
func BenchmarkAccept(b *testing.B) {
	db := open(b)
	var n atomic.Int64
	defer reportCPU(b)()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := db.Accept(b.Context(), newMail(start.Add(time.Duration(n.Add(1))*time.Microsecond)), body); err != nil {
				b.Error(err)
			}
		}
	})
}

// delivered is what becomes of nearly every mail.
func delivered(mails []outbox.ClaimedMail, p emailprovider.Provider, at time.Time) (all []outbox.Settlement) {
	for _, m := range mails {
		recipients := []outbox.Recipient{m.Recipients[0]}
		recipients[0].State, recipients[0].Code, recipients[0].Text = outbox.Accepted, 250, "2.1.5 Ok"
		all = append(all, outbox.Settlement{
			Lease: m.Lease(), At: at, State: outbox.Delivered, Recipients: recipients,
			Attempt: &outbox.Attempt{
				Number: 1, ProviderID: p.ID, CredentialVersion: 1, Started: at, Ended: at, Accepted: true, Code: 250,
				Text: "2.0.0 Ok: queued as 4Zf0Xk2v1Nz9",
				Steps: []emailprovider.StepTime{
					{Step: emailprovider.StepFrom, Took: 123456}, {Step: emailprovider.StepRecipient, Took: 12345}, {Step: emailprovider.StepData, Took: 234567},
				},
			},
		})
	}
	return all
}

// BenchmarkDrain claims and settles batches of 100. An operation is one mail.
func BenchmarkDrain(b *testing.B) {
	for _, size := range []struct{ settled, queued int }{{1000, 0}, {1_000_000, 0}, {1000, 100_000}} {
		b.Run(fmt.Sprintf("settled=%d/queued=%d", size.settled, size.queued), func(b *testing.B) {
			db := open(b)
			p := activeProvider(b, db)
			insertMails(b, db, "delivered", size.settled)
			insertMails(b, db, "queued", size.queued+b.N)
			var claiming, settling time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			report := reportCPU(b)
			for left := b.N; left > 0; {
				at := time.Now()
				c, err := db.Claim(b.Context(), outbox.ClaimRequest{
					Instance: "default", Now: start.Add(time.Hour), Until: start.Add(2 * time.Hour), Limit: 100,
				})
				if err != nil || len(c.Mails) == 0 {
					b.Fatalf("Claim: %d mails, %v", len(c.Mails), err)
				}
				claiming += time.Since(at)
				left -= len(c.Mails)
				at = time.Now()
				if _, err := db.Settle(b.Context(), delivered(c.Mails, p, start)); err != nil {
					b.Fatal(err)
				}
				settling += time.Since(at)
			}
			report()
			b.ReportMetric(float64(claiming.Nanoseconds())/float64(b.N), "claim-ns/op")
			b.ReportMetric(float64(settling.Nanoseconds())/float64(b.N), "settle-ns/op")
		})
	}
}

func activeProvider(tb testing.TB, db *DB) emailprovider.Provider {
	tb.Helper()
	p := provider(1)
	p.State = emailprovider.Active
	sequence, err := db.Apply(tb.Context(), added(p))
	if err != nil {
		tb.Fatal(err)
	}
	p.Sequence = sequence
	return p
}

// insertMails puts many mails in one state into the store at once.
func insertMails(tb testing.TB, db *DB, state string, n int) {
	tb.Helper()
	for _, query := range []string{
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
		INSERT INTO messages (instance, id, state, open, due, expires, fence, changed, created, attempts, provider_id,
			credential_version, tag, recipient, recipients, reason)
		SELECT 'default', $1 || printf('%020d', i), $1, $1 = 'queued', $3 + i, $3 + 432000000000, 0, $3, $3, 0, '', 0, '',
			'somebody@example.com', '[{"address":"somebody@example.com","kind":"to","state":"pending"}]', '' FROM n WHERE $2 > 0`,
		`INSERT INTO message_contents SELECT instance, id, 7, zeroblob(2048) FROM messages WHERE state = $1 AND open AND $2 > 0 AND $3 > 0`,
	} {
		if _, err := lite(db).writer.ExecContext(tb.Context(), query, state, n, micros(start)); err != nil {
			tb.Fatal(err)
		}
	}
}
