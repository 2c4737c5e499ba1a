// Command bench measures Mailkeep against its targets and prints the result as Markdown. It is
// started from the root of the module:
//
//	go run ./internal/bench
//
// Figures that depend on the machine are formed into ratios: each cell runs once a round in a random
// order, and a ratio has both its cells from the same round. What is judged is the quartiles over
// all rounds, so that a noisy neighbour makes a row undecided, not wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/mailkeep/mailkeep/internal/app"
)

// leastRounds is how many rounds quartiles need to mean something.
const leastRounds = 5

// flags are the command line.
type flags struct {
	Row        []string      `sep:"none" placeholder:"TEXT" help:"Measure only rows with this text in their name, in whatever case; may be repeated (all rows)."`
	Rounds     int           `default:"5" help:"Rounds that every row gets, 5 or more (${default})."`
	MostRounds int           `default:"15" help:"Rounds after which a row that neither passes nor fails stays undecided (${default})."`
	Length     time.Duration `default:"1s" help:"How long a cell is measured in a round (${default})."`
	Profile    string        `type:"path" placeholder:"FOLDER" help:"Write cpu.pprof and allocs.pprof of the whole run to this folder, for go tool pprof."`
	List       bool          `help:"Print the names of the rows, and measure nothing."`
}

// Validate implements kong's check of the flags.
func (f *flags) Validate() error {
	switch {
	case f.Rounds < leastRounds:
		return fmt.Errorf("--rounds must be %d or more", leastRounds)
	case f.MostRounds < f.Rounds:
		return errors.New("--most-rounds must not be less than --rounds")
	case f.Length <= 0:
		return errors.New("--length must be more than nothing")
	}
	return nil
}

const description = `Measures Mailkeep against its targets and prints the result as Markdown.

Run it from the root of the module, on a machine that does little else: the table says how much CPU
other programs used. Everything stays on loopback and in a temporary folder. Mails are measured
against Postfix's smtp-source, or else a bare loop, and PostgreSQL against its pgbench, if it is
installed; setup.sh beside this program fetches both.

A row passes when its worse quartile reaches "must" and fails when its better quartile misses it;
until then it gets more rounds, up to --most-rounds. The exit status is 1 when a row fails, or when
something could not be measured.`

func main() {
	var f flags
	kong.Parse(&f, kong.Name("bench"), kong.Description(description), kong.UsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (err error) {
	app.Tune()
	bed, err := newBed(f.Length)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	chosen := slices.DeleteFunc(rows(bed), func(r *row) bool { return !f.chooses(r.name) })
	if len(chosen) == 0 {
		return errors.New("--row chooses no row; --list shows them all")
	}
	if bed.lacks != nil {
		fmt.Fprintln(os.Stderr, "bench: without the rows of PostgreSQL:", bed.lacks)
	}
	if f.List {
		for _, r := range chosen {
			fmt.Println(r.name)
		}
		return nil
	}
	stopProfile, err := profile(f.Profile)
	if err != nil {
		return err
	}
	rounds := rounds{least: f.Rounds, most: f.MostRounds, others: bed.othersCPU, progress: func(string) {}}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		rounds.progress = func(line string) { fmt.Fprintf(os.Stderr, "\r\x1b[K%s", line) }
	}
	err = errors.Join(rounds.run(ctx, chosen), stopProfile())
	rounds.progress("")
	if err != nil {
		return err
	}
	return report(os.Stdout, f, chosen, bed.lacks)
}

// chooses reports whether a row is to be measured.
func (f *flags) chooses(name string) bool {
	return len(f.Row) == 0 || slices.ContainsFunc(f.Row, func(part string) bool {
		return strings.Contains(strings.ToLower(name), strings.ToLower(part))
	})
}
