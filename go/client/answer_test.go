package client

import (
	"slices"
	"testing"
)

func TestWhatStandsBesideLocksIsRead(t *testing.T) {
	for _, rest := range []string{
		`{"locks":[],"unreadable":[{"key":"k","reason":"r"}],"incomplete":"timed out"}`,
		`],"unreadable":[{"key":"k","reason":"r"}],"incomplete":"timed out"}`,
	} {
		unreadable, incomplete := besides([]byte(rest))
		if incomplete != "timed out" || !slices.Equal(unreadable, []Unreadable{{"k", "r"}}) {
			t.Errorf("%s: %+v, %q", rest, unreadable, incomplete)
		}
	}
	for _, rest := range []string{`{"locks":[],"unreadable":[]}`, `],"unreadable":[]}`} {
		if unreadable, incomplete := besides([]byte(rest)); incomplete != "" || len(unreadable) != 0 {
			t.Errorf("%s: %+v, %q", rest, unreadable, incomplete)
		}
	}
	if unreadable, _ := besides([]byte(`secret`)); len(unreadable) != 1 || unreadable[0].Reason != "6 bytes behind the locks are not JSON" {
		t.Errorf("%+v", unreadable)
	}
}

func TestGrantsAreRead(t *testing.T) {
	for answer, want := range map[string]Grant{
		`{"acquired":true,"token":1732400000000000}`:                      {Acquired: true, Token: 1732400000000000},
		`{"acquired":true,"token":18446744073709551615}`:                  {Acquired: true, Token: 1<<64 - 1},
		`{"acquired":true,"token":5,"later":{"acquired":false}}`:          {Acquired: true, Token: 5},
		`{"acquired":false,"lock":{"Pull":{"Num":7},"acquired":true}}`:    {Holder: []byte(`{"Pull":{"Num":7},"acquired":true}`)},
		`{"acquired":false,"lock": {"with":"a space", "and":"a brace}"}}`: {Holder: []byte(` {"with":"a space", "and":"a brace}"}`)},
	} {
		got, err := decodeGrant([]byte(answer))
		if err != nil || got.Acquired != want.Acquired || got.Token != want.Token || string(got.Holder) != string(want.Holder) {
			t.Errorf("%s: %+v, %v", answer, got, err)
		}
	}
	for _, answer := range []string{``, `null`, `{}`, `{"acquired":false}`, `{"acquired":false,"lock":`, `{"acquired":true,"token":"5"}`} {
		if got, err := decodeGrant([]byte(answer)); err == nil {
			t.Errorf("%q: %+v", answer, got)
		}
	}
}
