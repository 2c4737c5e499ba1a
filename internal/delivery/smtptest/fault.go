package smtptest

import (
	"crypto/tls"
	"io"
	"sync/atomic"
)

// Fault is a way in which a server fails at one point of a session.
type Fault string

// The faults.
const (
	FaultTemporary    Fault = "4xx"
	FaultPermanent    Fault = "5xx"
	FaultReset        Fault = "reset" // the connection, with RST
	FaultStall        Fault = "stall"
	FaultWrongCode    Fault = "wrong code" // one that belongs to another command
	FaultGarbage      Fault = "garbage"
	FaultEndlessLine  Fault = "endless line"
	FaultEndlessReply Fault = "endless reply"
	FaultClose        Fault = "close"
)

// Faults returns every fault.
func Faults() []Fault {
	return []Fault{
		FaultTemporary, FaultPermanent, FaultReset, FaultStall, FaultWrongCode, FaultGarbage,
		FaultEndlessLine, FaultEndlessReply, FaultClose,
	}
}

// Points returns the stages at which a session can meet a Fault, in their order.
func Points() []string {
	return []string{Greeting, EHLO, Upgrade, Auth, MailFrom, RcptTo, Data, Body, Quit}
}

// FaultScript makes a script that has one fault at one point each time, and is friendly otherwise. A
// certificate offers STARTTLS; that point needs one. To have the fault only sometimes, wrap the answer
// of the point in First or Nth.
func FaultScript(point string, fault Fault, cert *tls.Certificate) Script {
	return Script{Certificate: cert, Answers: map[string]Answer{point: fault.at(point)}}
}

func (f Fault) at(point string) Answer {
	switch f {
	case FaultTemporary:
		return Say("451 4.3.0 not now\r\n")
	case FaultPermanent:
		if point == Auth {
			return Say("535 5.7.8 never\r\n")
		}
		return Say("550 5.7.1 never\r\n")
	case FaultReset:
		return Reset()
	case FaultStall:
		return Stall()
	case FaultWrongCode:
		return Say(wrongAt(point))
	case FaultGarbage:
		return Say("\x00\xff what is this\r\n")
	case FaultEndlessLine:
		return Endless("aaaaaaaa")
	case FaultEndlessReply:
		// Each line is one that the client would be glad to see the last of.
		return Endless(rightAt(point) + "-more\r\n")
	}
	return Hangup()
}

// wrongAt returns a good reply to another command.
func wrongAt(point string) string {
	if point == Data {
		return "250 2.0.0 fine\r\n"
	}
	return "354 go ahead\r\n"
}

// rightAt returns the code of a good reply.
func rightAt(point string) string {
	switch point {
	case Greeting, Upgrade:
		return "220"
	case Auth:
		return "235"
	case Data:
		return "354"
	case Quit:
		return "221"
	}
	return "250"
}

// First gives an answer the first n times that the server is asked, over all its sessions, and a
// friendly one afterwards.
func First(n int, a Answer) Answer {
	return counted(a, func(time int) bool { return time <= n })
}

// Nth gives an answer the nth time that the server is asked, over all its sessions, and a friendly one
// otherwise.
func Nth(n int, a Answer) Answer {
	return counted(a, func(time int) bool { return time == n })
}

func counted(a Answer, now func(time int) bool) Answer {
	var times atomic.Int64
	return func(w io.Writer, line string) error {
		if !now(int(times.Add(1))) {
			return errFriendly
		}
		return a(w, line)
	}
}
