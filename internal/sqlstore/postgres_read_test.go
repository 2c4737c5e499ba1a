package sqlstore

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestSlowLookup: those who ask while a query hangs are answered.
func TestSlowLookup(t *testing.T) {
	errNone := errors.New("none")
	hanging, hang := make(chan struct{}, 8), make(chan struct{})
	l := newLookup(sharedEngine(openPostgres(t)), func(_ context.Context, _ *pgx.Conn, keys []int) (map[int]int, error) {
		found := map[int]int{}
		for _, key := range keys {
			if key < 0 {
				hanging <- struct{}{}
				<-hang
			}
			if key != 0 {
				found[key] = 2 * key
			}
		}
		return found, nil
	})
	want := func(key, want int, wantErr error) {
		t.Helper()
		if got, err := l.get(t.Context(), key, errNone); got != want || !errors.Is(err, wantErr) {
			t.Errorf("%d: %d, %v, want %d, %v", key, got, err, want, wantErr)
		}
	}
	want(1, 2, nil)
	want(0, 0, errNone)

	slow := make(chan struct{})
	go func() {
		defer close(slow)
		want(-1, -2, nil)
	}()
	<-hanging
	for key := 1; key < 4; key++ {
		want(key, 2*key, nil)
	}
	close(hang)
	<-slow
	want(5, 10, nil)
}
