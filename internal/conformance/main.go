// Command conformance runs the Connect conformance suite against Mailkeep's
// HTTP stack. It is started from the root of the module:
//
//	go run ./internal/conformance
//
// It fails when a case fails, and when the cases that passed are not as many
// as this repository's configuration is known to select.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server := filepath.Join(dir, "server")
	if err := goCommand(ctx, os.Stdout, "build", "-o", server, "./internal/conformance/server"); err != nil {
		return fmt.Errorf("build the server under test: %w", err)
	}
	var report bytes.Buffer
	if err := goCommand(ctx, io.MultiWriter(os.Stdout, &report),
		"tool", "-modfile=internal/tools/conformance/go.mod", "connectconformance",
		"--mode", "server", "--conf", "internal/conformance/config.yaml", "--", server,
	); err != nil {
		return fmt.Errorf("run the suite: %w", err)
	}
	return verdict(report.String())
}

// goCommand runs the go command. A run that is cut short is interrupted rather
// than killed, so that it can end the processes it started.
func goCommand(ctx context.Context, stdout io.Writer, args ...string) error {
	command := exec.CommandContext(ctx, "go", args...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.Stdout, command.Stderr = stdout, os.Stderr
	return command.Run()
}
