package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// othersCPU starts to watch how much CPU other programs use. The function it returns says the share
// of all CPUs' time since then, 0 to 1. Children count as our own once they have been waited for, and so
// does a server with its children, of whom serverPID returns the pid, or 0 if there is none.
func othersCPU(serverPID func() int) (func() (float64, error), error) {
	before, err := readCPU(serverPID())
	if err != nil {
		return nil, err
	}
	return func() (float64, error) {
		after, err := readCPU(serverPID())
		return after.othersSince(before), err
	}, nil
}

// fewestTicks is how many clock ticks, of mostly 10 ms and of each CPU, a share is formed over; for
// fewer it is 0.
const fewestTicks = 10

func (c cpu) othersSince(before cpu) float64 {
	all := c.all - before.all
	if all < fewestTicks {
		return 0
	}
	others := (c.busy - before.busy) - (c.own - before.own)
	return max(0, float64(others)/float64(all)) // the clocks differ: own may be ahead
}

// cpu is CPU time since the start, of the machine and of this program, in clock ticks.
type cpu struct{ all, busy, own int64 }

func readCPU(server int) (cpu, error) {
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpu{}, fmt.Errorf("CPU time can be read on Linux only: %w", err)
	}
	self, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return cpu{}, err
	}
	c, err := parseCPU(machine, self)
	if err != nil || server == 0 {
		return c, err
	}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return c, err
	}
	for _, name := range all {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		p, err := parseProcess(stat)
		if err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
		if p.pid == server || p.parent == server {
			c.own += p.cpu
		}
	}
	return c, nil
}

// parseCPU reads the first line of /proc/stat (proc_stat(5)) and all of /proc/self/stat.
func parseCPU(machine, self []byte) (cpu, error) {
	line, _, _ := bytes.Cut(machine, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return cpu{}, errors.New("/proc/stat is not as expected")
	}
	p, err := parseProcess(self)
	c := cpu{own: p.cpu}
	// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
	for i, f := range fields[1:9] {
		if err = add(&c.all, f, err); i != 3 && i != 4 {
			err = add(&c.busy, f, err)
		}
	}
	return c, err
}

// processTimes are a line of /proc/pid/stat (proc_pid_stat(5)).
type processTimes struct {
	pid, parent int
	cpu         int64 // with that of children that were waited for
}

func parseProcess(stat []byte) (p processTimes, err error) {
	pid, _, _ := bytes.Cut(stat, []byte(" "))
	// The name of the program is in parentheses and may have spaces in it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return p, errors.New("it is not as expected")
	}
	p.pid, err = strconv.Atoi(string(pid))
	if err == nil {
		p.parent, err = strconv.Atoi(string(fields[1]))
	}
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		err = add(&p.cpu, f, err)
	}
	return p, err
}

// add adds a number to sum, unless there was an error before.
func add(sum *int64, number []byte, before error) error {
	n, err := strconv.ParseInt(string(number), 10, 64)
	if before != nil || err != nil {
		return errors.Join(before, err)
	}
	*sum += n
	return nil
}
