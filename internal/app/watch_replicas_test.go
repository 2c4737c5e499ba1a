package app_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// TestWatchReplicas watches mails through one replica that are sent through another, which may send them too.
func TestWatchReplicas(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	first, second := start(t, replica(t, url, keyset)), start(t, replica(t, url, keyset))
	server := inbox(t, "p1")
	id := first.addProvider(t, server.Addr(), "p1")
	r := &mailRun{t: t, s: second, wire: second.wires(http1)[0], provider: id}
	clients := first.streaming()
	var watches []watching
	for _, name := range []string{"connect/h1", "grpcweb/h2", "grpc/h2"} {
		watches = append(watches, watch(t, clients[name], &mailkeepv1.WatchMessagesRequest{Tag: "watched"}))
	}
	r.begun("watched", watches...)

	const mails = 200
	var mu sync.Mutex
	sent, told := map[string]bool{}, 0
	for range mails {
		id, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x","tag":"watched"}`).at("id").(string)
		sent[id] = true
	}
	var all sync.WaitGroup
	for _, w := range watches {
		all.Go(func() {
			left := len(sent)
			seen := w.until(func(m *mailkeepv1.Message) bool {
				if sent[m.GetId()] && settled(m) {
					left--
					mu.Lock()
					told++
					mu.Unlock()
				}
				return left == 0
			})
			for id := range sent {
				if states := strings.Join(seen[id], " "); !strings.HasSuffix("queued sending delivered", states) && states != "queued delivered" {
					t.Errorf("mail %s was seen as %s", id, states)
				}
			}
		})
	}
	all.Wait()
	t.Logf("REL watch_replicas watchers=%d mails=%d told=%d missed=%d", len(watches), mails, told, len(watches)*mails-told)

	for name, client := range clients {
		id, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`).at("id").(string)
		one := watch(t, client, &mailkeepv1.WatchMessagesRequest{Id: id})
		if states := one.until(settled)[id]; states[len(states)-1] != "delivered" {
			t.Errorf("%s: %v", name, states)
		}
		one.ends(0, "")
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	for _, w := range watches {
		var err error
		for err == nil {
			_, err = w.stream.Receive()
		}
		if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "going down") {
			t.Errorf("the stream ends with %v", err)
		}
	}
}
