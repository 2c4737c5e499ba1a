package outbox_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// counted is a store that counts claimed mails.
type counted struct {
	store
	claimed *atomic.Int64
}

func (c counted) Claim(ctx context.Context, r outbox.ClaimRequest) (outbox.Claim, error) {
	claim, err := c.store.Claim(ctx, r)
	c.claimed.Add(int64(len(claim.Mails)))
	return claim, err
}

// TestBatchesThatAreCutOff has providers changed so often that batches seldom come to their end: no more mails
// are claimed then than there is time for.
func TestBatchesThatAreCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		b.stop()
		var claimed atomic.Int64
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(time.Millisecond)
			return accept(ctx, via, mail)
		})
		const mails = 1500
		for range mails {
			b.send(us)
		}
		b.stop = b.run(counted{store{DB: b.db}, &claimed}, b.carrier)
		for i := 0; len(b.carrier.carried()) < mails; i++ {
			time.Sleep(20 * time.Millisecond)
			_, err := b.providers.UpdateSMTP(t.Context(), emailprovider.Caller{Instance: us}, provider, emailprovider.SMTPSettings{
				SenderAddress: "noreply@example.com", Host: "127.0.0.1:25", User: "u", Description: time.Now().String(),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := claimed.Load(); n > 2*mails {
			t.Errorf("%d mails were claimed to carry %d", n, mails)
		}
	})
}
