package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"connectrpc.com/connect/v2"
)

// explain returns the one line that is printed for an error. For a refusal it is the API's own
// message.
func explain(err error) string {
	call, isCall := errors.AsType[*connect.Error](err)
	unreached, isUnreached := errors.AsType[*noService](err)
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	case isCall && !call.IsRemote() && call.Code() == connect.CodeDeadlineExceeded:
		text = "the service did not answer in time; --timeout allows more"
	case isUnreached:
		text = unreached.Error()
	case isCall && call.Message() == "":
		text = call.Code().String()
	case isCall:
		text = call.Message()
	}
	return printable(text)
}

// printable makes text safe to print on one line of a terminal: what is not printable, line breaks
// and escape sequences included, is escaped.
func printable(text string) string {
	var out strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			out.WriteRune(r)
		} else {
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return out.String()
}
