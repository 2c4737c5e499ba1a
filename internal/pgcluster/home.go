package pgcluster

import (
	"crypto/rand"
	_ "embed" // the watchdog
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// home is what all clusters of this process share.
type home struct {
	binaries Binaries
	account  *account // nil: ourselves
	disk     string   // the folder that everything is in
	memory   string   // the same for what is to be in memory; disk if there is no room
	password string   // of every role
	watcher  *os.Process
	alive    *os.File // held open until this process ends, which is what the watcher waits for

	mu          sync.Mutex
	initialised string // the template, once it is complete
}

var ours struct {
	sync.Mutex
	home *home
}

// ourHome makes it at first use, with its watchdog.
func ourHome() (*home, error) {
	ours.Lock()
	defer ours.Unlock()
	if ours.home == nil {
		h, err := newHome()
		if err != nil {
			return nil, err
		}
		ours.home = h
	}
	return ours.home, nil
}

func newHome() (*home, error) {
	binaries, err := Find()
	if err != nil {
		return nil, err
	}
	account, err := unprivileged()
	if err != nil {
		return nil, err
	}
	h := &home{binaries: binaries, account: account, password: rand.Text()}
	if h.disk, err = h.makeRoot(os.TempDir()); err != nil {
		return nil, err
	}
	h.memory = h.disk
	if hasRoom(inMemory) {
		if memory, err := h.makeRoot(inMemory); err == nil {
			h.memory = memory
		}
	}
	if err := h.watch(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(h.disk), os.RemoveAll(h.memory))
	}
	return h, nil
}

// makeRoot makes a folder that the account can enter and nobody else can list.
func (h *home) makeRoot(parent string) (string, error) {
	root, err := os.MkdirTemp(parent, "mailkeep-postgres-")
	if err != nil {
		return "", err
	}
	err = os.Chmod(root, 0o711)
	if err == nil {
		err = h.account.reaches(root)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(root))
	}
	return root, nil
}

// inMemory is where Linux has files in memory.
const inMemory = "/dev/shm"

// hasRoom says whether a folder really is in memory, with a gigabyte to spare; in containers it often has
// a few megabytes.
func hasRoom(folder string) bool {
	const tmpfs = 0x01021994
	var s syscall.Statfs_t
	err := syscall.Statfs(folder, &s)
	return err == nil && s.Type == tmpfs && s.Bavail*uint64(s.Bsize) >= 1<<30
}

//go:embed watchdog.sh
var watchdog string

// watch starts the watchdog. It holds no output of ours open: `go test` would wait for it.
func (h *home) watch() error {
	theirs, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }() // it has its own copy
	command := exec.Command("sh", "-c", watchdog, "watchdog", h.disk, h.memory)
	command.Stdin = theirs
	command.Dir = "/"
	command.SysProcAttr = (*account)(nil).attributes()
	command.SysProcAttr.Setsid = true // ^C is for us, and then it is needed
	if err := command.Start(); err != nil {
		return errors.Join(fmt.Errorf("a watchdog for PostgreSQL: %w", err), alive.Close())
	}
	h.watcher, h.alive = command.Process, alive
	return nil
}

// makeFolder makes a folder that the account can write and nobody else can see into.
func (h *home) makeFolder(root string) (string, error) {
	folder, err := os.MkdirTemp(root, "")
	if err != nil {
		return "", err
	}
	return folder, h.account.own(folder)
}

// write makes or replaces a file of the account's.
func (h *home) write(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return h.account.own(path)
}
