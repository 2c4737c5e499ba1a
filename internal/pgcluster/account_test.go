package pgcluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReaches checks that a folder that the account can't get at is named, with what to do about it.
func TestReaches(t *testing.T) {
	open, err := os.MkdirTemp("/tmp", "mailkeep-reaches-") //nolint:usetesting // that is for us only
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(open) })
	closed := filepath.Join(open, "closed")
	inner := filepath.Join(closed, "inner")
	must(t, os.MkdirAll(inner, 0o755))
	must(t, os.Chmod(open, 0o711))
	other := &account{name: "somebody"}
	if err := other.reaches(inner); err != nil {
		t.Error(err)
	}
	must(t, os.Chmod(closed, 0o700))
	if err := other.reaches(inner); err == nil || !strings.Contains(err.Error(), closed+":") || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("below a closed folder: %v", err)
	}
	if err := (*account)(nil).reaches(inner); err != nil {
		t.Errorf("our own account: %v", err)
	}
}
