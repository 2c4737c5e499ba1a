package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

const (
	noon     = "2027-03-01T14:30:00+02:30"
	noonJSON = "2027-03-01T12:00:00Z"
)

// at is some minutes after noon of a day.
func at(minutes int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2027, 3, 1, 12, minutes, 0, 0, time.UTC))
}

func inState(id string, s mailkeepv1.MessageState, reason string) *mailkeepv1.Message {
	return &mailkeepv1.Message{Id: id, State: s, Reason: reason, ChangeDate: at(0)}
}

const (
	queued    = mailkeepv1.MessageState_MESSAGE_STATE_QUEUED
	sending   = mailkeepv1.MessageState_MESSAGE_STATE_SENDING
	delivered = mailkeepv1.MessageState_MESSAGE_STATE_DELIVERED
	failed    = mailkeepv1.MessageState_MESSAGE_STATE_FAILED
	cancelled = mailkeepv1.MessageState_MESSAGE_STATE_CANCELLED
	expired   = mailkeepv1.MessageState_MESSAGE_STATE_EXPIRED
)

func change1(s mailkeepv1.MessageState, reason string) *mailkeepv1.WatchMessagesResponse {
	return &mailkeepv1.WatchMessagesResponse{Message: inState("m1", s, reason)}
}

// Every state of the API has a name, and is settled or not as its comment says.
func TestStates(t *testing.T) {
	want := map[string]bool{"queued": false, "sending": false, "delivered": true, "failed": true, "cancelled": true, "expired": true}
	for n := range mailkeepv1.MessageState_name {
		s := mailkeepv1.MessageState(n)
		if n == 0 {
			continue
		}
		if is, ok := want[stateName(s)]; !ok || is != settled(s) {
			t.Errorf("%s is settled: %v", stateName(s), settled(s))
		}
	}
}

func TestMoment(t *testing.T) {
	var m moment
	before := time.Now()
	if err := m.UnmarshalText([]byte("90m")); err != nil {
		t.Fatal(err)
	}
	if ago := before.Sub(m.Time); ago > 90*time.Minute || time.Since(m.Time) < 90*time.Minute {
		t.Error(ago)
	}
	if err := m.UnmarshalText([]byte("2027-03-01T14:30:00+02:30")); err != nil || !m.Equal(at(0).AsTime()) {
		t.Error(m, err)
	}
}
