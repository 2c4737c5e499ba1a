package pgcluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// Kill ends the postmaster and all of its children with SIGKILL and waits until they are gone and the
// port is free. What the server had not written is lost, what it had not told to the disk is not: the
// machine goes on. A server that doesn't run is left as it is.
func (c *Cluster) Kill(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.running() {
		return nil
	}
	// While the postmaster is stopped, it starts no children, and their pids stay theirs.
	if err := c.freeze(ctx, func(all []process) []process { return all[:min(1, len(all))] }); err != nil {
		return err
	}
	all := family(c.server.pid())
	if err := signalAll(all, syscall.SIGKILL); err != nil {
		return err
	}
	return c.wait(ctx, "kill", func() (bool, error) {
		left := slices.ContainsFunc(all, func(p process) bool { return !p.gone() })
		return !left && !c.server.running() && loopback.IsFree(c.port), nil
	})
}

// Freeze stops all of the server's processes where they are: connections stay open and nothing answers,
// as with a machine that hangs. It returns when the last one has stopped.
func (c *Cluster) Freeze(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.running() {
		return errors.New(c.String() + " does not run and can't be frozen")
	}
	return c.freeze(ctx, func(all []process) []process { return all })
}

// freeze stops those of the family that which names. The postmaster comes first, so that there are no
// more of them soon.
func (c *Cluster) freeze(ctx context.Context, which func([]process) []process) error {
	return c.wait(ctx, "freeze", func() (bool, error) {
		going := slices.DeleteFunc(which(family(c.server.pid())), process.stopped)
		return len(going) == 0, signalAll(going, syscall.SIGSTOP)
	})
}

// Thaw lets what is frozen go on, the postmaster last.
func (c *Cluster) Thaw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.running() {
		return errors.New(c.String() + " does not run and can't be thawed")
	}
	all := family(c.server.pid())
	slices.Reverse(all)
	return signalAll(all, syscall.SIGCONT)
}

func signalAll(all []process, s syscall.Signal) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.signal(s))
	}
	return errors.Join(errs...)
}

// removeSegment frees the shared memory of a server that was killed: the system keeps that until the
// server starts again.
func (c *Cluster) removeSegment(ctx context.Context) {
	if _, id, ok := strings.Cut(c.pidFile(lineSegment), " "); ok {
		_ = c.home.run(c.home.command(ctx, "ipcrm", "-m", strings.TrimSpace(id))) // a few bytes, if it can't be had
	}
}
