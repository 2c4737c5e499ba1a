package pgcluster

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the watchdog
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// home is what all clusters of this process share.
type home struct {
	binaries Binaries
	account  *account // nil: ourselves
	folder   string   // everything is in here
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
	if h.folder, err = os.MkdirTemp("", "mailkeep-postgres-"); err != nil {
		return nil, err
	}
	err = os.Chmod(h.folder, 0o711) // entered by the account, listed by nobody
	if err == nil {
		err = account.reaches(h.folder)
	}
	if err == nil {
		err = h.watch()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(h.folder))
	}
	return h, nil
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
	command := exec.Command("sh", "-c", watchdog, "watchdog", h.folder)
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
func (h *home) makeFolder() (string, error) {
	folder, err := os.MkdirTemp(h.folder, "")
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

// command is a program, one of PostgreSQL's if it has one by that name, run as the account. What the
// environment says about other PostgreSQL servers is kept from it.
func (h *home) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if path, err := exec.LookPath(filepath.Join(h.binaries.Folder, name)); err == nil {
		name = path
	}
	command := exec.CommandContext(ctx, name, args...)
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	command.Env = append(command.Env, "LC_ALL=C")
	command.Dir = "/"
	command.WaitDelay = patience // initdb has children that hold its output open
	command.SysProcAttr = h.account.attributes()
	return command
}

// run runs a command; what it said is in the error.
func (h *home) run(command *exec.Cmd) error {
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(command.Path), err, bytes.TrimSpace(output))
	}
	return nil
}
