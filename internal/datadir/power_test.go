package datadir

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailkeep/mailkeep/internal/disktest"
)

// cutAfter writes a file anew, each time with the power cut right after, and returns how often the
// disk had something else under its name then.
func cutAfter(t *testing.T, cuts int, write func(path string, data []byte) error) (lost int) {
	t.Helper()
	disk := disktest.New(t, 16)
	for i := range cuts {
		path, want := filepath.Join(disk.Path(), fmt.Sprint("key", i%3)), fmt.Sprint("content ", i)
		if err := write(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		disk.Cut()
		disk.Restore()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			lost++
		}
	}
	return lost
}

func TestPowerCut(t *testing.T) {
	const cuts = 10
	lost := cutAfter(t, cuts, WriteFile)
	t.Logf("REL file_power_cut cuts=%d lost=%d", cuts, lost)
	if lost > 0 {
		t.Errorf("%d of %d files were lost", lost, cuts)
	}
}

// TestPowerCutIsMeasured sees that the test above would notice what it is there for: a file that was
// synced and moved, in a folder that was not.
func TestPowerCutIsMeasured(t *testing.T) {
	lost := cutAfter(t, 4, func(path string, data []byte) error {
		temp, err := writeTemp(filepath.Dir(path), data)
		if err != nil {
			return err
		}
		return os.Rename(temp, path)
	})
	if lost == 0 {
		t.Error("a folder that was not synced was not noticed")
	}
}
