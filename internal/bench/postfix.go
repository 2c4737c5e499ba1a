package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// postfix are the test programs of Debian's package postfix, installed or unpacked by setup.sh.
type postfix struct {
	folder string   // of the programs
	env    []string // that they need
}

// findPostfix returns nil if the programs are not there or don't run.
func findPostfix(ctx context.Context) *postfix {
	var folders []postfix
	if path, err := exec.LookPath("smtp-source"); err == nil {
		folders = append(folders, postfix{folder: filepath.Dir(path)})
	}
	folders = append(folders, postfix{folder: "/usr/sbin"})
	if cache, err := os.UserCacheDir(); err == nil {
		unpacked := filepath.Join(cache, "mailkeep-bench", "postfix", "usr")
		folders = append(folders, postfix{
			folder: filepath.Join(unpacked, "sbin"), env: []string{"LD_LIBRARY_PATH=" + filepath.Join(unpacked, "lib", "postfix")},
		})
	}
	for _, p := range folders {
		if p.works(ctx) {
			return &p
		}
	}
	return nil
}

// works hands one mail over.
func (p *postfix) works(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := p.openSink()
	if err != nil {
		return false
	}
	_, err = p.source(ctx, s.address(), 1)
	n, err2 := s.close()
	return errors.Join(err, err2) == nil && n == 1
}

func (p *postfix) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(p.folder, name), args...)
	command.Env = append(os.Environ(), p.env...)
	return command
}

// source lets smtp-source hand over mails in so many sessions that it keeps, and returns how long it
// took.
func (p *postfix) source(ctx context.Context, address string, n int) (time.Duration, error) {
	command := p.command(ctx, "smtp-source", "-d", "-s", strconv.Itoa(min(sessions, n)), "-l", strconv.Itoa(mailSize),
		"-m", strconv.Itoa(n), "-f", sender, "-t", recipient, "-S", subject, "inet:"+address)
	start := time.Now()
	if output, err := command.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("smtp-source: %w\n%s", err, output)
	}
	return time.Since(start), nil
}

// postfixSink is smtp-sink, running.
type postfixSink struct {
	listens string
	command *exec.Cmd
	counter *os.File      // what it has counted; a file, so that nobody is woken for each mail
	ended   chan struct{} // closed when it has
}

// openSink starts smtp-sink on a port of its own.
func (p *postfix) openSink() (server, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &postfixSink{listens: free.Addr().String(), ended: make(chan struct{})}
	if err := free.Close(); err != nil {
		return nil, err
	}
	if s.counter, err = os.CreateTemp("", "mailkeep-bench-sink-"); err != nil {
		return nil, err
	}
	args := []string{"-c"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody") // root's rights it will not have
	}
	s.command = p.command(context.Background(), "smtp-sink", append(args, "inet:"+s.listens, "100")...)
	s.command.Stdout = s.counter
	if err := s.command.Start(); err != nil {
		return nil, errors.Join(err, s.removeCounter())
	}
	go func() {
		defer close(s.ended)
		_ = s.command.Wait() // it ends by our signal
	}()
	if err := s.ready(); err != nil {
		_, _ = s.close()
		return nil, err
	}
	return s, nil
}

// ready waits until the port answers.
func (s *postfixSink) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.listens)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return errors.New("smtp-sink does not run")
		default:
		}
		if wait(ctx, pollInterval) != nil {
			return fmt.Errorf("smtp-sink does not answer: %w", err)
		}
	}
}

func (s *postfixSink) address() string { return s.listens }

func (s *postfixSink) close() (int, error) {
	err := s.command.Process.Signal(syscall.SIGTERM) // fails if it has ended by itself
	<-s.ended
	counted, readErr := os.ReadFile(s.counter.Name())
	n, countErr := lastCount(counted)
	return n, errors.Join(err, readErr, countErr, s.removeCounter())
}

func (s *postfixSink) removeCounter() error {
	return errors.Join(s.counter.Close(), os.Remove(s.counter.Name()))
}

// lastCount reads how many messages smtp-sink has counted: "sess=1 quit=1 mesg=1", again and again.
func lastCount(counted []byte) (int, error) {
	i := bytes.LastIndex(counted, []byte("mesg="))
	if i < 0 {
		return 0, nil
	}
	return strconv.Atoi(string(bytes.TrimSpace(counted[i+len("mesg="):])))
}
