package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// File is a backup that is read.
type File struct {
	Manifest Manifest

	path     string
	file     *os.File
	end      end
	manifest int64 // its size
}

// Open opens a backup. It refuses what is not one as far as its end tells; Extract tells the rest.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, file: file}
	if err := f.readEnd(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

func (f *File) readEnd() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", f.path)
	}
	line := make([]byte, lastLine)
	if info.Size() < int64(len(line)) {
		return f.foreign()
	}
	if _, err := f.file.ReadAt(line, info.Size()-int64(len(line))); err != nil {
		return err
	}
	switch f.end, err = parseEnd(string(line)); {
	case errors.Is(err, errNewer):
		return fmt.Errorf("%s is a backup of a newer Mailkeep: run that one", f.path)
	case err != nil:
		return f.foreign()
	}
	f.manifest = info.Size() - int64(len(line)) - f.end.size
	if f.manifest <= 0 || f.manifest > maxManifest {
		return f.foreign()
	}
	manifest := make([]byte, f.manifest)
	if _, err := f.file.ReadAt(manifest, f.end.size); err != nil {
		return err
	}
	if json.Unmarshal(manifest, &f.Manifest) != nil {
		return f.damaged()
	}
	return nil
}

// foreign says what a file without the end of a backup is.
func (f *File) foreign() error {
	magic := []byte("SQLite format 3\x00")
	start := make([]byte, len(magic))
	if _, err := f.file.ReadAt(start, 0); err == nil && bytes.Equal(start, magic) {
		return fmt.Errorf("%s is a database, but not a whole backup: it was cut off or changed, or not made by `mailkeep backup`", f.path)
	}
	return fmt.Errorf("%s is not a backup made by `mailkeep backup`, or was cut off", f.path)
}

func (f *File) damaged() error {
	return fmt.Errorf("%s is damaged: its content is not what was written", f.path)
}

// Extract writes the database to a file. If the backup is damaged it fails at the end.
func (f *File) Extract(ctx context.Context, to io.Writer, progress func(done, total int64)) error {
	digest := sha256.New()
	from := io.NewSectionReader(f.file, 0, f.end.size+f.manifest)
	if err := copyN(ctx, io.MultiWriter(to, digest), from, f.end.size, progress); err != nil {
		return err
	}
	if _, err := io.Copy(digest, from); err != nil {
		return err
	}
	if !bytes.Equal(digest.Sum(nil), f.end.digest[:]) {
		return f.damaged()
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }
