// Package disktest is a disk of a test's own that can lose its power, fill up, and refuse writes: an
// ext4 in a file, mounted over a loop device. It takes root.
package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// Disk is mounted until its test ends, however that ends.
type Disk struct {
	t     testing.TB
	image string
	path  string
	guard io.Closer
}

// New mounts a new disk of that many MiB. Where that can't be, the test is skipped and says why.
func New(t testing.TB, mebibytes int64) *Disk {
	t.Helper()
	if why := impossible(); why != nil {
		t.Skipf("NOT PROVEN on this machine: a disk to break takes root, loop devices, e2fsprogs and util-linux: %v", why)
	}
	dir := t.TempDir()
	d := &Disk{t: t, image: filepath.Join(dir, "image"), path: filepath.Join(dir, "disk")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, mebibytes<<20), os.Mkdir(d.path, 0o700)); err != nil {
		t.Fatal(err)
	}
	// Nothing is kept back for root, which would not see the disk full.
	d.must("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", d.image)
	d.watch()
	d.mount()
	t.Cleanup(d.release)
	return d
}

// impossible returns why there can be no disk.
func impossible() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return err
	}
	for _, program := range []string{"mkfs.ext4", "chattr", "mount", "umount", "findmnt"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// Path returns where the disk is mounted.
func (d *Disk) Path() string { return d.path }

// watch has a process wait for the end of this one, to unmount what a test that was killed, or ran
// out of time, has left mounted.
func (d *Disk) watch() {
	d.t.Helper()
	guard := exec.Command("sh", "-c", `cat; umount -l "$0"`, d.path)
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not ended by an interrupt from the terminal
	input, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.guard = closer(func() error { return errors.Join(input.Close(), ignoreExit(guard.Wait())) })
}

type closer func() error

func (c closer) Close() error { return c() }

// ignoreExit leaves out that the guard had nothing to unmount.
func ignoreExit(err error) error {
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil
	}
	return err
}

func (d *Disk) mount() {
	d.t.Helper()
	d.must("mount", "-o", "loop,errors=remount-ro", d.image, d.path)
}

func (d *Disk) release() {
	if out, err := exec.Command("umount", d.path).CombinedOutput(); err != nil {
		d.t.Errorf("umount: %v: %s", err, out)
	}
	if err := d.guard.Close(); err != nil {
		d.t.Error(err)
	}
}

// Cut takes the power away: nothing more is written, and what was not synced is lost. Everything on
// the disk fails until Restore.
func (d *Disk) Cut() {
	d.t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush = uint32(2)  // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	dir, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	how := noLogFlush
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.t.Fatalf("cutting the power: %v", errno)
	}
}

// Restore mounts the disk anew, with what has reached it. Nobody may have a file of it open.
func (d *Disk) Restore() {
	d.t.Helper()
	d.must("umount", d.path)
	d.mount()
}

// Fail has the kernel meet an error in the file system, which makes it read-only until Restore.
func (d *Disk) Fail() {
	d.t.Helper()
	out, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.path).Output()
	if err != nil {
		d.t.Fatal(err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte(d.t.Name()), 0); err != nil {
		d.t.Fatal(err)
	}
}

// Fill leaves no space on the disk. What it returns gives it back.
func (d *Disk) Fill() (free func()) {
	d.t.Helper()
	f, err := os.CreateTemp(d.path, "ballast-*")
	if err != nil {
		d.t.Fatal(err)
	}
	for block := bytes.Repeat([]byte{1}, 1<<20); len(block) >= 4096; {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("filling the disk: %v", err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
	return func() {
		d.t.Helper()
		if err := os.Remove(f.Name()); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Protect lets nobody change the files, not even those who have them open. What it returns ends that.
func (d *Disk) Protect(files ...string) (undo func()) {
	d.t.Helper()
	d.must("chattr", append([]string{"+i"}, files...)...)
	return func() {
		d.t.Helper()
		d.must("chattr", append([]string{"-i"}, files...)...)
	}
}

func (d *Disk) must(program string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		d.t.Fatal(fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out))
	}
}
