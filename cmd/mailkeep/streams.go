package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// streams are what a command reads and writes. Answers go to out, everything else to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// terminal returns the descriptor of the terminal that in is, if it is one.
func (s streams) terminal() (fd int, ok bool) {
	f, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// note tells people something that is no part of the answer.
func (s streams) note(format string, args ...any) {
	fmt.Fprintf(s.err, format+"\n", args...)
}
