package main

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// moment is a point in time as flags take it: in RFC 3339, or how long ago.
type moment struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) error {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return errors.New("must be a time such as 2027-01-31T09:00:00Z, or how long ago it was, such as 90m")
	}
	m.Time = at
	return nil
}

// stamp is nil for no moment.
func (m *moment) stamp() *timestamppb.Timestamp {
	if m == nil {
		return nil
	}
	return timestamppb.New(m.Time)
}
