package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds what is waited for when ctx does not.
const patience = time.Minute

// pollInterval is how often a condition is looked at that nobody announces.
const pollInterval = 5 * time.Millisecond

// server is one run of a cluster's postmaster, which is a child of ours: its pid is nobody else's until
// ended is closed.
type server struct {
	command *exec.Cmd
	ended   chan struct{}
}

func (s *server) pid() int { return s.command.Process.Pid }

func (s *server) running() bool {
	if s == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Running says whether the server runs; one that is frozen does.
func (c *Cluster) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server.running()
}

// PID is the postmaster's, from its own file; 0 if there is none.
func (c *Cluster) PID() int {
	pid, _ := strconv.Atoi(c.pidFile(linePID))
	return pid
}

// The lines of postmaster.pid that matter here.
const (
	linePID     = 1
	lineSegment = 7 // key and id of shared memory
	lineStatus  = 8
)

func (c *Cluster) pidFile(line int) string {
	text, _ := os.ReadFile(filepath.Join(c.data(), "postmaster.pid")) // there is none when it doesn't run
	lines := strings.Split(string(text), "\n")
	if len(lines) < line {
		return ""
	}
	return strings.TrimSpace(lines[line-1])
}

// StartAgain starts a server that was stopped or killed, with the same port and data: an old primary as
// a primary, on its old timeline. It returns when connections are taken.
func (c *Cluster) StartAgain(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server.running() {
		return fmt.Errorf("%v runs already", c)
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own copy
	command := c.home.command(context.WithoutCancel(ctx), "postgres", "-D", c.data())
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr.Setsid = true // ^C is not for it
	if err := command.Start(); err != nil {
		return err
	}
	s := &server{command: command, ended: make(chan struct{})}
	c.server = s
	go func() {
		defer close(s.ended)
		_ = command.Wait() // the log has the reason
	}()
	return c.ready(ctx)
}

// ready waits until the server says so in its file.
func (c *Cluster) ready(ctx context.Context) error {
	return c.wait(ctx, "start", func() (bool, error) {
		if !c.server.running() {
			return false, errors.New("it ended")
		}
		return c.PID() == c.server.pid() && c.pidFile(lineStatus) == "ready", nil
	})
}

// Stop shuts the server down in order; clients are disconnected. It fails if that takes longer than ctx
// or a minute, as it does when a standby is frozen.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.running() {
		return nil
	}
	if err := c.server.command.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return c.wait(ctx, "stop", func() (bool, error) { return !c.server.running(), nil })
}

// Restart stops the server in order and starts it again.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	return c.StartAgain(ctx)
}

// wait waits until done, for a minute at most.
func (c *Cluster) wait(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); err != nil {
			return c.errorf("%s: %w", what, err)
		} else if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return c.errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
