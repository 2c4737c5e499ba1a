package main

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAmongst has two callers share ten providers.
func TestAmongst(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]map[string]bool{} // client -> bodies
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if asked[r.RemoteAddr] == nil {
			asked[r.RemoteAddr] = map[string]bool{}
		}
		asked[r.RemoteAddr][string(body)] = true
	}))
	defer server.Close()
	dial, err := amongst(10, 2, getConnect)(endpoint{server.Listener.Addr().String(), "000000000000000095"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := dial(t.Context(), time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // that one of five is never chosen happens once in 10^18 runs
			if err := c.call(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]string
	for _, bodies := range asked {
		got = append(got, slices.Sorted(maps.Keys(bodies)))
	}
	slices.SortFunc(got, slices.Compare)
	want := [][]string{
		{`{"id":"000000000000000095"}`, `{"id":"000000000000000097"}`, `{"id":"000000000000000099"}`, `{"id":"000000000000000101"}`, `{"id":"000000000000000103"}`},
		{`{"id":"000000000000000096"}`, `{"id":"000000000000000098"}`, `{"id":"000000000000000100"}`, `{"id":"000000000000000102"}`, `{"id":"000000000000000104"}`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what each asked for (-want +got):\n%s", diff)
	}
	if _, err := amongst(10, 2, sendMessageConnect)(endpoint{"127.0.0.1:1", "000000000000000095"}); err == nil {
		t.Error("a request without the provider in it")
	}
}
