package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // Some tests have closed it.
	return d
}

func wantFile(t *testing.T, d *Dir, name, want string) {
	t.Helper()
	got, err := d.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %#o, want %#o", path, got, want)
	}
}

// wantNames fails unless the folder holds exactly these files and the lock.
func wantNames(t *testing.T, d *Dir, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(d.path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Name() != lockName {
			got = append(got, e.Name())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %v, want %v", got, want)
	}
}

func TestFiles(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "data"))
	if _, err := d.ReadFile("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of none: %v, want fs.ErrNotExist", err)
	}
	for _, content := range []string{"first, and long", "second", ""} {
		if err := d.WriteFile("key", []byte(content)); err != nil {
			t.Fatal(err)
		}
		wantFile(t, d, "key", content)
	}
	wantNames(t, d, "key")
}

// TestModes runs under the widest and the narrowest umask.
func TestModes(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		t.Run(fmt.Sprintf("umask %#o", umask), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			defer syscall.Umask(syscall.Umask(umask))
			d := open(t, path)
			if err := d.WriteFile("key", nil); err != nil {
				t.Fatal(err)
			}
			wantMode(t, path, 0o700)
			for _, name := range []string{"key", lockName} {
				wantMode(t, d.Path(name), 0o600)
			}
		})
	}
}

func TestModesAreTightened(t *testing.T) {
	path := t.TempDir()
	for name, mode := range map[string]fs.FileMode{path: 0o755, filepath.Join(path, "key"): 0o644} {
		if name != path {
			if err := os.WriteFile(name, []byte("secret"), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, path)
	wantFile(t, d, "key", "secret")
	wantMode(t, path, 0o700)
	wantMode(t, d.Path("key"), 0o600)
}

// TestPlantedFiles has a folder that others could write to before it was ours.
func TestPlantedFiles(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Close(); err != nil { // empty but for our own lock, afterwards
		t.Fatal(err)
	}
	wantMode(t, path, 0o700)
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "0700") {
		t.Errorf("Open of a folder that others can write to: %v", err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Chmod(linked, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(linked, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(linked); err == nil {
		t.Error("Open follows a link in place of the lock file")
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "untouched" {
		t.Errorf("the victim of the link holds %q, %v", content, err)
	}
}

func TestInUse(t *testing.T) {
	path := t.TempDir()
	if InUse(path) || InUse(filepath.Join(path, "none")) {
		t.Error("a folder that nobody has opened is in use")
	}
	d := open(t, path)
	if !InUse(path) {
		t.Error("an open folder is not in use")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if InUse(path) {
		t.Error("a closed folder is in use")
	}
}

func TestRefusedFolders(t *testing.T) {
	parent := t.TempDir()
	file, foreign := filepath.Join(parent, "file"), filepath.Join(parent, "foreign")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(foreign, 0o750); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		file:                                    "is not a folder",
		filepath.Join(parent, "none", "folder"): "the folder above must exist",
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		cases[foreign] = "belongs to user 12345"
	}
	for path, want := range cases {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open %s: %v, want an error with %q and the path", path, err, want)
		}
	}
}

// TestLock has two holders in one process, which is as good as two: the lock belongs to the open
// file.
func TestLock(t *testing.T) {
	path := t.TempDir()
	first := open(t, path)
	_, err := Open(path)
	if want := fmt.Sprintf("%s is in use by another process (pid %d)", path, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("second Open: %v, want an error with %q", err, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestStaleLockFile(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, lockName), []byte("1234567890\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	content, err := os.ReadFile(d.Path(lockName))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintln(os.Getpid()); string(content) != want {
		t.Errorf("the lock file holds %q, want %q", content, want)
	}
}

// TestCrash has what a crash between any two steps of WriteFile leaves: files without a name, whole
// or not, and never another content under the name.
func TestCrash(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	if err := d.WriteFile("key", []byte("old")); err != nil {
		t.Fatal(err)
	}
	half, err := writeTemp(path, []byte("ne"))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, d, "key", "old")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", half, err)
	}
	wantFile(t, d, "key", "old")
	wantNames(t, d, "key")
	// A move that fails changes nothing and leaves nothing.
	if err := os.Mkdir(d.Path("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile("folder", []byte("new")); err == nil {
		t.Error("WriteFile over a folder succeeds")
	}
	wantNames(t, d, "folder", "key")
}

func TestNames(t *testing.T) {
	d := open(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", lockName, ".tmp-1"} {
		if err := d.WriteFile(name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("WriteFile %q: %v, want fs.ErrInvalid", name, err)
		}
		if _, err := d.ReadFile(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("ReadFile %q: %v, want fs.ErrInvalid", name, err)
		}
	}
}

func TestRename(t *testing.T) {
	d := open(t, t.TempDir())
	for name, content := range map[string]string{"old": "old", "other": "other"} {
		if err := d.WriteFile(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	temp := TempName("new")
	if err := os.WriteFile(d.Path(temp), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{"old", "other", fs.ErrExist},
		{"none", "other", fs.ErrNotExist},
		{"none", "name", fs.ErrNotExist},
		{"old", "../name", fs.ErrInvalid},
		{"../old", "name", fs.ErrInvalid},
		{lockName, "name", fs.ErrInvalid},
		{"old", lockName, fs.ErrInvalid},
		{"old", "former", nil},
		{temp, "old", nil},
	} {
		if err := d.Rename(c.from, c.to); !errors.Is(err, c.want) {
			t.Errorf("Rename %s to %s: %v, want %v", c.from, c.to, err, c.want)
		}
	}
	for name, content := range map[string]string{"former": "old", "old": "new", "other": "other"} {
		wantFile(t, d, name, content)
	}
	wantNames(t, d, "former", "old", "other")
}
