package sqlstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/deprecation"
)

// TestUsesInOrder has several add the same uses at once, each in an order of its own: nobody waits for somebody
// who waits for him.
func TestUsesInOrder(t *testing.T) {
	db := openPostgres(t)
	var uses []deprecation.Use
	for n := range 30 {
		uses = append(uses, deprecation.Use{
			Instance: "default", Method: fmt.Sprintf("M%d", n%5), Caller: "c", UserAgent: fmt.Sprint(n), Calls: 1, First: time.Now(), Last: time.Now(),
		})
	}
	const callers, rounds = 6, 20
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range rounds {
				mine := slices.Clone(uses)
				rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				if err := db.AddUses(t.Context(), mine); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var deadlocks int
	if err := sharedEngine(db).pool.QueryRow(t.Context(), `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks); err != nil || deadlocks > 0 {
		t.Errorf("%d deadlocks, %v", deadlocks, err)
	}
	kept, err := db.Uses(t.Context(), "default")
	if err != nil || len(kept) != len(uses) || kept[0].Calls != callers*rounds {
		t.Errorf("%d uses are kept, the first with %d calls; %v", len(kept), kept[0].Calls, err)
	}
}
