package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/internal/capi"
)

// What the library answers is read without a panic, and never taken for more than it says. `go test` goes through the seeds, and `make fuzz`
// on from there.

// answers are the shapes in which answers are read.
var answers = []any{
	Status{}, Health{}, []LockInfo{}, map[string][]QueuedPull{}, Checked{}, Stats{}, InRun{}, RunEnded{}, Next{}, Waited{}, WaitedSet{},
	[]Explained{}, []Deadlock{}, []PullID{}, (*Yielded)(nil), Freeze{}, []Freeze{}, Change{}, Config{}, ShadowStatus{},
}

// What was read and is written again says the same: nothing of an answer changes its meaning on the way to a page or an endpoint.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`null`, `{}`, `[]`, `[null]`, `{"a":null}`, `"\ud800"`, "\xff", `18446744073709551616`,
		`{"mode":"hybrid","enhanced_enabled":true,"circuit_state":"open","since":18446744073709551615,"conflicts":[{"key":"a\u0000"}],"warnings":["x"],` +
			`"last_recovery":{"duration_ms":1},"fallbacks":[{"since":1,"until":2,"cause":"c","recovery":null}],"last_change":{"by":{"socket":{"pid":1}}}}`,
		`{"overall":true,"state":"healthy","headline":"h","enhanced":{"healthy":false,"error":"e","response_time_ms":1e300}}`,
		`[{"token":7,"store":"both"},{}]`,
		`{"acme/infra":[{"pull":{"num":7,"host":"github.com"},"priority":3,"keys":[{"key":"k"}]}]}`,
		`{"acquired":true,"token":7,"lock":{"Pull":{"Num":7}},"queue":{"position":1,"ahead":[{"num":8}]}}`,
		`{"released":["a"],"waiting":{"b":{"position":2}}}`,
		`{"turns":[{"repo":"r","pull":{"num":1},"keys":["k"],"until":1}],"left":[{"repo":"r"}]}`,
		`[{"key":"k","state":"held","holder":{"pull":{"num":7},"token":5},"queue":[{"reserved_until":9}],"blocked_by":[{"kind":"lock"}],"freezes":null}]`,
		`{"id":"d","repo":"r","pull":{"num":7},"released":{"k":18446744073709551615}}`,
		`{"locking":{"backend":"sled","enhanced":{"enabled":true,"redis":{"password":"p","timeouts":{"operation":"1s 500ms"}}}}}`,
		`{"locking":{"enhanced":{"redis":{"timeouts":{"operation":"-9223372036854775808ns"}}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, shape := range answers {
			read := func(text []byte) (any, error) {
				into := reflect.New(reflect.TypeOf(shape))
				err := json.Unmarshal(text, into.Interface())
				return into.Interface(), err
			}
			answer, err := read(text)
			if err != nil {
				continue
			}
			written, err := json.Marshal(answer)
			if err != nil {
				t.Fatalf("%T of %q is not written: %v", shape, text, err)
			}
			again, err := read(written)
			if err != nil {
				t.Fatalf("%T of %q is written as %s, which is not read: %v", shape, text, written, err)
			}
			if rewritten, err := json.Marshal(again); err != nil || !bytes.Equal(rewritten, written) {
				t.Fatalf("%T of %q is written as %s, and then as %s, %v", shape, text, written, rewritten, err)
			}
		}
	})
}

// No answer makes a lock acquired but one that says so, and who is refused hears of a holder.
func FuzzGrant(f *testing.F) {
	for _, seed := range []string{
		`{"acquired":true,"token":1732400000000000}`, `{"acquired":false,"lock":{"Pull":{"Num":7},"acquired":true}}`, `{"acquired":false,"lock":}`,
		`{"acquired":false,"lock":null}`, `{"acquired":false}`, `{"acquired":true,"token":-1}`, `{"acquired":true,"token":"5"}`,
		`{"acquired":false,"acquired":true}`, `{"token":5}`, ``, `null`, `{"acquired":false,"lock":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		grant, err := decodeGrant(text)
		if err != nil {
			if grant.Acquired || grant.Token != NoToken || grant.Holder != nil {
				t.Fatalf("%q: %+v beside %v", text, grant, err)
			}
			return
		}
		if !grant.Acquired {
			if grant.Token != NoToken || len(grant.Holder) == 0 || !bytes.Contains(text, grant.Holder) {
				t.Fatalf("%q: refused, and %+v", text, grant)
			}
			return
		}
		var said struct {
			Acquired bool
			Token    uint64
		}
		if err := json.Unmarshal(text, &said); err != nil || !said.Acquired || uint64(grant.Token) != said.Token || grant.Holder != nil {
			t.Fatalf("%q: %+v, and it says %+v, %v", text, grant, said, err)
		}
	})
}

// Whatever stands behind the locks of a list is told, or it is told that it cannot be read: a list never seems whole that is not.
func FuzzBesides(f *testing.F) {
	for _, seed := range []string{
		`],"unreadable":[]}`, `{"locks":[],"unreadable":[]}`, `],"unreadable":[{"key":"k","reason":"r"}],"incomplete":"timed out"}`,
		`],"incomplete":"timed out","unreadable":[]}`, `],"incomplete":"x","later":[],"unreadable":[]}`, `],"unreadable":null}`, `]}`, ``, `],`,
		`],"unreadable":[{"key":1}]}`, `{"incomplete":7}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, rest []byte) {
		unreadable, incomplete := besides(rest)
		var all struct {
			Unreadable []Unreadable
			Incomplete string
		}
		text := rest
		if behind, ok := bytes.CutPrefix(rest, []byte("],")); ok {
			text = append([]byte("{"), behind...)
		}
		if json.Unmarshal(text, &all) != nil {
			if len(unreadable) == 0 {
				t.Fatalf("%q cannot be read, and nobody hears of it", rest)
			}
			return
		}
		if incomplete != all.Incomplete || len(unreadable) != len(all.Unreadable) {
			t.Fatalf("%q: %+v, %q", rest, unreadable, incomplete)
		}
	})
}

// A duration that was read is written as one that reads the same.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"500ms", "1s 500ms", "", "0", "-1h", "9223372036854775807ns", "1e9s", "1s\x00", "٣s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var read, again Duration
		if read.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := read.MarshalText()
		if err := errors.Join(err, again.UnmarshalText(written)); err != nil || again != read {
			t.Fatalf("%q is %v, written as %s, and read as %v, %v", text, read, written, again, err)
		}
	})
}

// An error about a place in the settings names a setting, whatever it says: no place is left in it that its reader could not find.
func FuzzMistake(f *testing.F) {
	for _, seed := range []string{
		`the configuration:3:5: unknown field at line 3, column 5`, `the configuration:0:0: `, `the configuration:99999999999999999999:1: x`, `x`,
		`the configuration:1:1: the configuration:2:2: `,
	} {
		f.Add(seed)
	}
	settings, err := settingsOf(Config{Locking: Locking{Backend: BackendSled, DataDir: "a \": b", Enhanced: Enhanced{Redis: Redis{Address: "x"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message string) {
		var told *Error
		if err := byKey(&Error{Code: capi.InvalidConfig, Message: message}, settings); !errors.As(err, &told) || told.Code != capi.InvalidConfig {
			t.Fatalf("%q: %v", message, err)
		}
		if place.MatchString(told.Message) || !place.MatchString(message) && told.Message != message || strings.Contains(told.Message, "a \": b") {
			t.Fatalf("%q: %q", message, told.Message)
		}
	})
}
