package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/backup"
)

func init() { errands["cramped"] = crampedErrand }

// TestBackupOnFullDisk has a disk that takes one backup and not two, in a namespace of its own.
func TestBackupOnFullDisk(t *testing.T) {
	f := startFull(t)
	cmd := command(t, "cramped", f.config.DataDir, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings:  []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings:  []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if os.Geteuid() == 0 { // who needs no namespace of users, which may be forbidden
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	said, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this user may not mount a disk of its own, and this was not tested")
	}
	if err != nil {
		t.Errorf("%v: %s", err, said)
	}
	f.setPassword(t, "p1") // the service was not harmed
}

// crampedErrand fills a small disk with backups and a restore. Each must fail clearly, leave what was
// there before, and nothing else.
func crampedErrand(args []string) error {
	dir, disk := args[0], args[1]
	size, err := sizeOfBackup(dir, filepath.Join(disk, "measure"))
	if err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", size*3/2)); err != nil {
		return err
	}
	file, data := filepath.Join(disk, "backup"), filepath.Join(disk, "data")
	if err := backupOnce(dir, file); err != nil {
		return err
	}
	if err := backupOnce(dir, file); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), disk) {
		return fmt.Errorf("a second backup: %w", err)
	}
	if err := backupOnce(dir, file+"-2"); err == nil || !strings.Contains(err.Error(), "no space left") {
		return fmt.Errorf("another backup: %w", err)
	}
	_, err = app.Restore(context.Background(), app.RestoreOptions{From: file, DataDir: data})
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("a restore: %w", err)
	}
	f, err := backup.Open(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Extract(context.Background(), io.Discard, func(int64, int64) {}), f.Close()); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(disk, "*"))
	hidden, err2 := filepath.Glob(filepath.Join(disk, ".*"))
	restored, err3 := filepath.Glob(filepath.Join(data, "*"))
	if got := fmt.Sprint(left, hidden, restored); got != fmt.Sprint([]string{file, data}, []string{}, []string{filepath.Join(data, "lock")}) {
		return fmt.Errorf("left are %s", got)
	}
	return errors.Join(err, err2, err3)
}

func sizeOfBackup(dir, file string) (int64, error) {
	made, err := app.Backup(context.Background(), app.BackupOptions{DataDir: dir, To: file})
	return made.Size, errors.Join(err, os.Remove(file))
}
