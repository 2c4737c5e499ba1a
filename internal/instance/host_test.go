package instance

import "testing"

func TestNormalize(t *testing.T) {
	for host, want := range map[string]string{
		"a.example": "a.example", "A.Example": "a.example", "a.example.": "a.example", "a.example:8443": "a.example",
		"A.EXAMPLE.:80": "a.example", "xn--BCHER-KVA.example": "xn--bcher-kva.example",
		"10.0.0.1:80": "10.0.0.1", "10.0.0.1": "10.0.0.1", "[::1]:80": "::1", "[::1]": "::1", "[FD00::A]": "fd00::a", "::1": "::1",
		"": "", ":80": "",
	} {
		if got := Normalize(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestValidDomain(t *testing.T) {
	for domain, want := range map[string]bool{
		"a.example": true, "mail": true, "xn--bcher-kva.example": true, "a-1.example": true, "10.0.0.1": true, "fd00::a": true,
		"": false, "a..example": false, ".example": false, "-a.example": false, "a-.example": false, "a.example:80": false,
		"bücher.example": false, "*.example": false, "a/b": false, "a_b.example": false, "fe80::1%eth0": false, "[::1]": false, "a b": false,
	} {
		if got := validDomain(domain); got != want {
			t.Errorf("%q: %t, want %t", domain, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "x.localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"10.0.0.1": false, "localhost.example": false, "notlocalhost": false, "": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("%q: %t, want %t", host, got, want)
		}
	}
}
