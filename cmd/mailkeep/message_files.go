package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// maxFile bounds what is read of a file, in bytes. The API takes less and says so itself.
const maxFile = 2 << 20

// body returns what a file says, standard input if it is "-"; without a file, text.
func (s streams) body(ctx context.Context, flag, path, text string) (string, error) {
	var data []byte
	var err error
	switch path {
	case "":
		return text, nil
	case "-":
		data, err = interruptible(ctx, func() ([]byte, error) { return readBounded(s.in) })
	default:
		data, err = readFile(path)
	}
	if err == nil && !utf8.Valid(data) {
		err = errors.New("the text is not UTF-8")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return string(data), nil
}

// attachments reads files.
func attachments(paths []string) ([]*mailkeepv1.Attachment, error) {
	var all []*mailkeepv1.Attachment
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, fmt.Errorf("--attach: %w", err)
		}
		all = append(all, &mailkeepv1.Attachment{Name: filepath.Base(path), ContentType: contentType(path, data), Data: data})
	}
	return all, nil
}

// contentType returns the media type that a file's name says, empty if it says none. The charset that
// the table of types has for text is a guess, and stays only where it is right.
func contentType(path string, data []byte) string {
	known := mime.TypeByExtension(filepath.Ext(path))
	kind, params, err := mime.ParseMediaType(known)
	if err != nil || strings.EqualFold(params["charset"], "utf-8") && utf8.Valid(data) {
		return known
	}
	return kind
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(file)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return data, errors.Join(err, file.Close())
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("too large for a mail")
	}
	return data, err
}
