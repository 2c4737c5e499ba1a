package sqlstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// BenchmarkClaim claims batches of 100 from stores with few and with many settled mails; the program in
// internal/bench forms the ratios. The store is opened anew, so that what the process holds is not
// what filling it took.
func BenchmarkClaim(b *testing.B) {
	const batch = 100
	for _, settled := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("settled=%d", settled), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "db")
			db := openAt(b, path, Options{})
			activeProvider(b, db)
			insertMails(b, db, "delivered", settled)
			insertMails(b, db, "queued", batch*b.N)
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
			debug.FreeOSMemory()
			db = openAt(b, path, Options{})
			b.ResetTimer()
			for range b.N {
				c, err := db.Claim(b.Context(), outbox.ClaimRequest{
					Instance: "default", Now: start.Add(time.Hour), Until: start.Add(2 * time.Hour), Limit: batch,
				})
				if err != nil || len(c.Mails) != batch {
					b.Fatalf("Claim: %d mails, %v", len(c.Mails), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "claim-ns/op")
			reportMemory(b)
		})
	}
}

// reportMemory tells what is left after the garbage is collected: of Go's heap, and in all (proc_pid_status(5)).
func reportMemory(b *testing.B) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc), "heap-B")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // not Linux
	}
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(kib)*1024, "rss-B")
		}
	}
}
