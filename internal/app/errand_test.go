package app_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
)

// errandVariable makes the test program do one of the errands, with its arguments, as a process of its
// own that can be killed.
const errandVariable = "MAILKEEP_TEST_ERRAND"

var errands = map[string]func(args []string) error{
	"backup":   func(args []string) error { return backupOnce(args[0], args[1]) },
	"backups":  func(args []string) error { return again(func() error { return backupOnce(args[0], args[1]) }) },
	"naive":    func(args []string) error { return again(func() error { return copyNaively(args[0], args[1]) }) },
	"restores": restoreInTurn,
	"issuer":   func([]string) error { return serveIssuer() },
}

func backupOnce(dir, to string) error {
	_, err := app.Backup(context.Background(), app.BackupOptions{DataDir: dir, To: to, Overwrite: true})
	return err
}

// again does something over and over and says so each time, until it is killed.
func again(do func() error) error {
	for {
		fmt.Println("begins")
		if err := do(); err != nil {
			return err
		}
	}
}

// copyNaively writes a file in its place, bit by bit.
func copyNaively(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(content, 1<<10) {
		if _, err := out.Write(part); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return out.Close()
}

// restoreInTurn restores each of the backups into the folder, again and again.
func restoreInTurn(args []string) error {
	turn := 0
	return again(func() error {
		turn++
		_, err := app.Restore(context.Background(), app.RestoreOptions{
			DataDir: args[0], From: args[1+turn%(len(args)-1)], Replace: true,
		})
		return err
	})
}

// command is an errand that has not begun.
func command(t *testing.T, errand string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), errandVariable+"="+errand)
	return cmd
}

// doErrand runs an errand to its end and returns what it says in case of an error.
func doErrand(t *testing.T, errand string, args ...string) error {
	t.Helper()
	cmd := command(t, errand, args...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(string(said))))
	}
	return nil
}

// killMidway kills an errand that goes on and on, within the time that doing it twice takes, after it was
// done once.
func killMidway(t *testing.T, errand string, args ...string) {
	t.Helper()
	cmd := command(t, errand, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	begun := time.Now()
	lines.Scan()
	timer := time.AfterFunc(rand.N(1+2*time.Since(begun)), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() { // until it is killed
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s ended by itself: %v", errand, err)
	}
}
