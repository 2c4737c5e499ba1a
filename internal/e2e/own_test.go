//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// TestOwnServices has Mailkeep's own services called, which no npm package has code for: mails are
// sent and followed across a rotation.
func TestOwnServices(t *testing.T) {
	mail := startMail(t)
	s := startService(t, mail)
	file := filepath.Join(t.TempDir(), "descriptors.binpb")
	if err := os.WriteFile(file, descriptors(t), 0o600); err != nil {
		t.Fatal(err)
	}
	runNode(t, "mailkeep.test.js", append(s.env(), "PAGE="+servePage(t), "DESCRIPTORS="+file)...)

	var want []string
	for _, user := range []string{"connect-web.gRPC-Web", "connect-web.Connect", "node.gRPC"} {
		for _, version := range []int{1, 1, 2} {
			want = append(want, fmt.Sprintf("[%s.v%d@example.com] with %d", user, version, version))
		}
	}
	var got []string
	for _, m := range mail.Mails() {
		got = append(got, fmt.Sprintf("%s with %d", m.To, m.Version))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mails at the mail server (-want +got):\n%s", diff)
	}

	s.stop()
	const pages = 2
	if diff := cmp.Diff(map[string]int{
		procedures + "AddEmailProviderSMTP": pages, procedures + "ActivateEmailProvider": pages,
		"/mailkeep.v1.MessageService/SendMessage": pages, "/mailkeep.v1.MessageService/WatchMessages": pages,
		"/mailkeep.v1.ProviderService/RotatePassword": pages,
	}, preflights(s.log())); diff != "" {
		t.Errorf("preflights (-want +got):\n%s", diff)
	}
}

// descriptors is a FileDescriptorSet of Mailkeep's own API and all that it imports.
func descriptors(t *testing.T) []byte {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(mailkeepv1.File_mailkeep_v1_message_proto)
	add(mailkeepv1.File_mailkeep_v1_provider_proto)
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
