package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
)

const (
	// pollInterval is how often a starting program is asked whether it answers.
	pollInterval = 200 * time.Microsecond
	// idle is how long a program is left alone before its memory is read.
	idle = 2 * time.Second
	mib  = 1 << 20
)

// program is the stripped binary, and a data folder with one provider that it finds when it starts.
type program struct {
	path     string
	dataDir  string
	provider string
}

func (b *bed) build(ctx context.Context) (*program, error) {
	p := &program{path: filepath.Join(b.dir, "mailkeep"), dataDir: filepath.Join(b.dir, "existing")}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", p.path, "./cmd/mailkeep")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./cmd/mailkeep: %w\n%s", err, output)
	}
	provider, err := prepare(ctx, b.settings(p.dataDir, database{}))
	p.provider = provider
	return p, err
}

// size returns the size of the binary in MiB.
func (p *program) size(context.Context) (sample, error) {
	info, err := os.Stat(p.path)
	if err != nil {
		return sample{}, err
	}
	return sample{value: float64(info.Size()) / mib}, nil
}

// startTime returns the milliseconds from the start of the program to its first answer.
func (p *program) startTime(ctx context.Context) (s sample, err error) {
	start := time.Now()
	run, err := p.start(ctx)
	if err != nil {
		return s, err
	}
	s.value = float64(time.Since(start)) / float64(time.Millisecond)
	return s, run.stop()
}

// memory returns the MiB of RAM that the program holds after one call and some idle time.
func (p *program) memory(ctx context.Context) (s sample, err error) {
	run, err := p.start(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, run.stop()) }()
	request, err := getREST(run.url, p.provider)
	if err != nil {
		return s, err
	}
	if err := check(request, p.provider); err != nil {
		return s, err
	}
	if err := wait(ctx, idle); err != nil {
		return s, err
	}
	s.value, err = run.rss()
	return s, err
}

// process is the program, running and ready.
type process struct {
	command *exec.Cmd
	url     string
}

// start starts the program and returns as soon as it says that it is ready.
func (p *program) start(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := filepath.Join(p.dataDir, app.AddressFile)
	if err := os.Remove(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	command := exec.Command(p.path, "serve", "--listen", "127.0.0.1:0", "--data-dir", p.dataDir)
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAILKEEP_") })
	command.Env = append(command.Env, "MAILKEEP_CALLS_PER_SECOND=0") // one instance alone is what is measured
	if err := command.Start(); err != nil {
		return nil, err
	}
	run := &process{command: command}
	for !run.ready(ctx, address) {
		if err := wait(ctx, pollInterval); err != nil {
			return nil, errors.Join(fmt.Errorf("%s was not ready: %w", p.path, err), run.stop())
		}
	}
	return run, nil
}

// ready reports whether the program has told its address and answers there.
func (r *process) ready(ctx context.Context, addressFile string) bool {
	address, err := os.ReadFile(addressFile)
	if err != nil {
		return false
	}
	r.url = strings.TrimSpace(string(address))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/readyz", nil)
	return err == nil && check(request, "ok") == nil
}

// stop ends the program in an orderly way and waits for it.
func (r *process) stop() error {
	return errors.Join(r.command.Process.Signal(syscall.SIGTERM), r.command.Wait())
}

// rss returns VmRSS in MiB (proc_pid_status(5)).
func (r *process) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the status of the process has no VmRSS")
}
