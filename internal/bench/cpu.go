package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// othersCPU starts to watch how much CPU other programs use. The function it returns says the share
// of all CPUs' time since then, 0 to 1. Children count as our own once they have been waited for.
func othersCPU() (func() (float64, error), error) {
	before, err := readCPU()
	if err != nil {
		return nil, err
	}
	return func() (float64, error) {
		after, err := readCPU()
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

func readCPU() (cpu, error) {
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpu{}, fmt.Errorf("CPU time can be read on Linux only: %w", err)
	}
	self, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return cpu{}, err
	}
	return parseCPU(machine, self)
}

// parseCPU reads the first line of /proc/stat and all of /proc/self/stat (proc_stat(5),
// proc_pid_stat(5)).
func parseCPU(machine, self []byte) (cpu, error) {
	line, _, _ := bytes.Cut(machine, []byte("\n"))
	fields := bytes.Fields(line)
	// The name of the program is in parentheses and may have spaces in it.
	own := bytes.Fields(self[bytes.LastIndexByte(self, ')')+1:])
	if len(fields) < 9 || string(fields[0]) != "cpu" || len(own) < 15 {
		return cpu{}, errors.New("/proc/stat or /proc/self/stat is not as expected")
	}
	var c cpu
	var err error
	// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
	for i, f := range fields[1:9] {
		if err = add(&c.all, f, err); i != 3 && i != 4 {
			err = add(&c.busy, f, err)
		}
	}
	for _, f := range own[11:15] { // utime, stime, cutime, cstime
		err = add(&c.own, f, err)
	}
	return c, err
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
