package pgcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victim makes this test binary a process that has clusters and waits until it is killed.
const (
	victim    = "PGCLUSTER_TEST_VICTIM"
	watched   = "watched"
	unwatched = "unwatched" // its watchdog is dead
)

func TestMain(m *testing.M) {
	kind := os.Getenv(victim)
	if kind == "" {
		code := m.Run()
		if ours := shared.cluster; ours != nil && ours.Close() != nil {
			code = 1
		}
		os.Exit(code)
	}
	if err := beVictim(context.Background(), kind); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beVictim has a cluster that runs and, if it is watched, its standby, which is frozen, and one that was
// killed. It prints where all that is, on disk and in memory, and the pids of the postmasters.
func beVictim(ctx context.Context, kind string) error {
	primary, err := Start(ctx, Options{})
	if err != nil {
		return err
	}
	pids := []any{primary.home.disk, primary.home.memory, primary.PID()}
	if kind == unwatched {
		err = primary.home.watcher.Kill()
	} else {
		err = beMore(ctx, primary, &pids)
	}
	if err != nil {
		return err
	}
	fmt.Println(pids...)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func beMore(ctx context.Context, primary *Cluster, pids *[]any) error {
	frozen, err := primary.Standby(ctx, "frozen", Options{InMemory: true})
	if err != nil {
		return err
	}
	killed, err := Start(ctx, Options{})
	if err != nil {
		return err
	}
	*pids = append(*pids, frozen.PID())
	return errors.Join(frozen.Freeze(ctx), killed.Kill(ctx))
}

// remains are what a victim leaves unless somebody clears up.
type remains struct {
	folders   []string
	processes []process
	segments  []string
}

func (r remains) gone(t *testing.T) bool {
	files := slices.ContainsFunc(r.folders, func(folder string) bool {
		_, err := os.Stat(folder)
		return !os.IsNotExist(err)
	})
	return !files &&
		!slices.ContainsFunc(r.processes, func(p process) bool { return !p.gone() }) &&
		!slices.ContainsFunc(r.segments, func(id string) bool { return hasSegment(t, id) })
}

// remove clears up, whatever of it is left.
func (r remains) remove(t *testing.T) {
	must(t, signalAll(r.processes, syscall.SIGKILL))
	for _, id := range r.segments {
		_ = exec.Command("ipcrm", "-m", id).Run() // fails if it is gone
	}
	for _, folder := range r.folders {
		eventually(t, "the folder is removed", func() bool { return os.RemoveAll(folder) == nil })
	}
}

// startVictim returns when it has all of its clusters.
func startVictim(t *testing.T, kind string, as *account) (*exec.Cmd, remains) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	command := exec.Command(program)
	if as != nil {
		folder, err := os.MkdirTemp("", "mailkeep-victim-") //nolint:usetesting // that is for us only
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(folder) })
		must(t, os.Chmod(folder, 0o755))
		command.Path = filepath.Join(folder, "victim")
		must(t, exec.Command("cp", program, command.Path).Run())
	}
	command.Env = append(os.Environ(), victim+"="+kind)
	command.Stderr = os.Stderr
	command.SysProcAttr = as.attributes()
	stdin, err := command.StdinPipe()
	must(t, err)
	t.Cleanup(func() { stdin.Close() })
	stdout, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	var left remains
	t.Cleanup(func() { left.remove(t) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	words := strings.Fields(line)
	left.folders = words[:2]
	for _, word := range words[2:] {
		pid, err := strconv.Atoi(word)
		must(t, err)
		left.processes = append(left.processes, family(pid)...)
	}
	for _, folder := range left.folders {
		files, _ := filepath.Glob(folder + "/*/data/postmaster.pid")
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			left.segments = append(left.segments, strings.Fields(strings.Split(string(text), "\n")[lineSegment-1])[1])
		}
	}
	if len(left.processes) < 5*(len(words)-2) || len(left.segments) == 0 {
		t.Fatalf("the victim has only %d processes and %d segments of shared memory", len(left.processes), len(left.segments))
	}
	return command, left
}

// TestWatchdog kills a process that has clusters, with -9. Nothing of them may be left: no process, even
// a frozen one, no file, no shared memory. The control is the same without the watchdog.
func TestWatchdog(t *testing.T) {
	if _, err := Find(); errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	accounts := map[string]*account{"as who we are": nil}
	if us, err := unprivileged(); err == nil && us != nil {
		accounts["as an ordinary user"] = us
	}
	for name, as := range accounts {
		t.Run(name, func(t *testing.T) {
			command, left := startVictim(t, watched, as)
			if left.gone(t) {
				t.Fatal("it is gone before the victim is killed")
			}
			began := time.Now()
			must(t, command.Process.Kill())
			eventually(t, "all is gone", func() bool { return left.gone(t) })
			t.Logf("REL watchdog processes=%d left=0 ms=%d", len(left.processes), time.Since(began).Milliseconds())
		})
	}
	t.Run("red", func(t *testing.T) {
		command, left := startVictim(t, unwatched, nil)
		must(t, command.Process.Kill())
		if within(time.Second, func() bool { return left.gone(t) }) {
			t.Error("all is gone without a watchdog: that it is with one proves nothing")
		}
	})
}
