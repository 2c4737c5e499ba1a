package pgcluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

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
