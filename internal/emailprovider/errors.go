package emailprovider

import "github.com/mailkeep/mailkeep/internal/fault"

// commandIDs are the ids of the admin API that clients match on, for one command.
type commandIDs struct{ noID, notFound string }

var (
	updateSMTP = commandIDs{"COMMAND-2JPlSRzuHy", "COMMAND-j5IDFtt3T1"}
	updateHTTP = commandIDs{"COMMAND-2JPlSRzuHy", "COMMAND-xIrdledqv4"}
	password   = commandIDs{"COMMAND-BCkAf7LcJA", "COMMAND-rDHzqjGuKQ"}
	rotate     = commandIDs{"", idQuery}
	activate   = commandIDs{"COMMAND-1hPl6oVMJa", "COMMAND-E9K20hxOS9"}
	deactivate = commandIDs{"COMMAND-jLTIMrtApO", "COMMAND-k39PJ"}
	remove     = commandIDs{"COMMAND-0ZV5whuUfu", "COMMAND-09CXlTDL6w"}
	testStored = commandIDs{"SMTP-99oki", "SMTP-99klw"}
	testValues = commandIDs{"", "SMTP-p9cc"} // works without an id
)

const idQuery = "QUERY-fwofw"

// idBind is the id of every refusal to carry a stored secret somewhere else.
const idBind = "MAILKEEP-BIND"

func notFound(id string) error {
	return fault.New(fault.NotFound, id, "email provider not found")
}

func invalid(id, text string) error { return fault.New(fault.InvalidArgument, id, text) }

var (
	errBusy = fault.New(fault.Aborted, "MAILKEEP-BUSY",
		"the provider was changed by somebody else each time; try again")
	errSealed = fault.New(fault.FailedPrecondition, "MAILKEEP-SEALED",
		"the stored secret can't be opened with the keyset in use; set it again or bring back the key")
	errNotPlain = fault.New(fault.FailedPrecondition, idXOAuth2,
		"the provider authenticates with XOAUTH2; update its settings instead")
	errNoUser = fault.New(fault.FailedPrecondition, idValue,
		"user is empty, so nothing would log in with the password; give a user with it")
	errNoPrevious = fault.New(fault.FailedPrecondition, "MAILKEEP-NOPREVIOUS",
		"no previous password is kept, or its time is up, or it can't be opened")
	errNoID = fault.New(fault.Unavailable, "MAILKEEP-IDS", "no free provider id was found; try again")
)
