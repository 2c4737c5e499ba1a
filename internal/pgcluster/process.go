package pgcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is what Linux says of a process at a moment. A pid is given to another one some day; with
// when it was started it is this one's.
type process struct {
	pid, parent int
	started     string
	state       string // T is stopped, Z is dead
}

// statOf reads /proc/PID/stat. The name, the second field, is in parentheses and may contain any.
func statOf(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	const state, parent, started = 0, 1, 19
	if len(fields) <= started {
		return process{}, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	p := process{pid: pid, state: fields[state], started: fields[started]}
	p.parent, err = strconv.Atoi(fields[parent])
	return p, err
}

func (p process) stopped() bool { return p.state == "T" || p.dead() }
func (p process) dead() bool    { return p.state == "Z" || p.state == "X" }

// gone says whether it runs no more, even if nobody has asked yet how it ended.
func (p process) gone() bool {
	now, err := statOf(p.pid)
	return err != nil || now.started != p.started || now.dead()
}

// signal reaches it unless it is gone.
func (p process) signal(s syscall.Signal) error {
	if p.gone() {
		return nil
	}
	if err := syscall.Kill(p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %v to process %d: %w", s, p.pid, err)
	}
	return nil
}

// family returns a process and its descendants, parents before children. Neither a session nor a group
// holds a server's processes together. There are none if the process is gone.
func family(pid int) []process {
	root, err := statOf(pid)
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	folders, _ := filepath.Glob("/proc/[0-9]*") // fails on a bad pattern only
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		if p, err := statOf(pid); err == nil { // else it has just ended
			children[p.parent] = append(children[p.parent], p)
		}
	}
	found := []process{root}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}
