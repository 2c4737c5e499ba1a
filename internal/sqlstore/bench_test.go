package sqlstore

import (
	"crypto/sha256"
	"testing"

	"github.com/mailkeep/mailkeep/internal/auth"
)

func BenchmarkProvider(b *testing.B) {
	db := open(b)
	p := addProvider(b, db, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.oneProvider(b.Context(), db.hot.provider, p.Instance, p.ID); err != nil {
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
		if _, err := db.readToken(b.Context(), t.Hash); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for name, o := range map[string]Options{
		"durable": {},
		// Shows what is left when the disk costs nothing.
		"unsafe": {UnsafeDurability: true, Settings: map[string]string{"synchronous": "OFF"}},
	} {
		b.Run(name, func(b *testing.B) {
			db := openAt(b, b.TempDir()+"/db", o)
			p := addProvider(b, db, 1)
			b.ReportAllocs()
			for b.Loop() {
				sequence, err := db.Apply(b.Context(), updated(p))
				if err != nil {
					b.Fatal(err)
				}
				p.Sequence = sequence
			}
		})
	}
}
