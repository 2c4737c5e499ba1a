package sqlstore

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func BenchmarkProvider(b *testing.B) {
	db := open(b)
	p := addProvider(b, db, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.Provider(b.Context(), p.Instance, p.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenByHash(b *testing.B) {
	db := open(b)
	t := auth.Token{Instance: "default", ID: "1", Name: "terraform", Hash: sha256.Sum256(nil), Roles: []string{"IAM_OWNER"}}
	if err := db.PutToken(b.Context(), t); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.TokenByHash(b.Context(), t.Hash); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply has so many callers change a provider each. At 1 a change is a commit; the ratio of
// 64 to it is what sharing commits is worth.
func BenchmarkApply(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("durable/%d", callers), func(b *testing.B) { benchmarkApply(b, callers, Options{}) })
	}
	// Shows what is left when the disk costs nothing.
	b.Run("unsafe/1", func(b *testing.B) {
		benchmarkApply(b, 1, Options{UnsafeDurability: true, Settings: map[string]string{"synchronous": "OFF"}})
	})
}

func benchmarkApply(b *testing.B, callers int, o Options) {
	path := filepath.Join(b.TempDir(), "db")
	db := openAt(b, path, o)
	before := commits(b, path)
	applyFrom(b, db, callers)
	b.ReportMetric(float64(commits(b, path)-before)/float64(b.N), "commits/op")
}

// BenchmarkApplyPostgres is BenchmarkApply in PostgreSQL, each change after a look at the provider.
func BenchmarkApplyPostgres(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) { applyFrom(b, openPostgres(b), callers) })
	}
}

// applyFrom has so many callers change a provider each.
func applyFrom(b *testing.B, db *DB, callers int) {
	providers := make([]emailprovider.Provider, callers)
	for n := range providers {
		providers[n] = addProvider(b, db, n)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for _, p := range providers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				p, err := db.Provider(b.Context(), p.Instance, p.ID)
				if err == nil {
					_, err = db.Apply(b.Context(), updated(p))
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}
