package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

// TestIs: a failure stays what it is, whatever it is given besides.
func TestIs(t *testing.T) {
	down := New(Unavailable, "MAILKEEP-STORE", "the store is down")
	for name, err := range map[string]error{
		"itself": down, "with a cause": down.Because(io.EOF), "with a reason": down.For("DOWN"), "wrapped": fmt.Errorf("found: %w", down.Because(io.EOF)),
	} {
		if !errors.Is(err, down) {
			t.Errorf("%s: %v is taken for another failure", name, err)
		}
	}
	if !errors.Is(down.Because(io.EOF), io.EOF) {
		t.Error("the cause is lost")
	}
	for name, other := range map[string]error{
		"kind": New(Internal, down.ID, down.Text), "id": New(down.Kind, "", down.Text), "text": New(down.Kind, down.ID, "another"), "type": io.EOF,
	} {
		if errors.Is(down, other) || errors.Is(other, down) {
			t.Errorf("one of another %s is taken for it", name)
		}
	}
}
