package main

import (
	"errors"
	"io"
)

// receiver is a stream of answers.
type receiver[M any] interface {
	Receive() (M, error)
	Close() error
}

// follow shows see each answer of a stream until the stream ends or see fails. The context of the
// call must be cancelled when it returns.
func follow[M any](answers receiver[M], see func(M) error) error {
	defer func() { _ = answers.Close() }()
	for {
		answer, err := answers.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := see(answer); err != nil {
			return err
		}
	}
}
