package atlock

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

// decode accepts, refuses and reads what encoding/json does: on a lock's JSON with pieces of it cut, doubled and replaced.
func TestDecodeFollowsEncodingJSON(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ATLOCK_DECODE_SEED"); text != "" {
		parsed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = parsed
	}
	t.Logf("ATLOCK_DECODE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	usual := models.ProjectLock{
		Project:   models.NewProject("acme/infra", "a/b", "web"),
		Workspace: "default",
		Time:      time.Now(),
		User:      models.User{Username: "ada <&>", Teams: []string{"a", "b"}},
		Pull: models.PullRequest{Num: 17, Body: "line\n\"quoted\"\tC:\\new", HardenedNonPRRefCheckout: true, BaseRepo: models.Repo{
			FullName: "acme/infra", VCSHost: models.VCSHost{Hostname: "example.com", Type: models.Gitea},
		}},
	}
	odd := usual
	odd.User = models.User{Username: "ünï \u2028 <&>"}
	odd.Pull.Body = "\x00\xff\b\f"
	var originals [][]byte
	for _, lock := range []models.ProjectLock{usual, odd, {}} {
		original, err := json.Marshal(lock)
		if err != nil {
			t.Fatal(err)
		}
		originals = append(originals, original)
	}
	// If Atlantis changes the struct, the short way is to follow it.
	if !scanLock(string(originals[0]), &models.ProjectLock{}) {
		t.Errorf("the short way does not read what json.Marshal writes: %s", originals[0])
	}
	pieces := []string{
		`null`, `true`, `7`, `-0`, `1e3`, `1.5`, `"x"`, `{}`, `[]`, `,`, `:`, `{`, `}`, `"`, `\u0000`, `\ud800`, "\xff", " ", "\n",
		`"project":{"PATH":"q"},`, `"Num":null,`, `"Num":"1",`, `"Unknown":[1,{"a":null}],`, `"Time":"2026-11-24T08:17:00.5+02:00",`, `"Teams":null,`,
	}
	accepted := 0
	for range 40_000 {
		text := mutate(random, originals[random.IntN(len(originals))], pieces)
		var want, got models.ProjectLock
		wantErr := json.Unmarshal(text, &want)
		for name, decodeAs := range map[string]func([]byte) error{
			"decode":     func(text []byte) error { got = models.ProjectLock{}; return decode(text, &got) },
			"decodeLock": func(text []byte) error { got = models.ProjectLock{}; return decodeLock(string(text), &got) },
		} {
			gotErr := decodeAs(text)
			if (wantErr == nil) != (gotErr == nil) {
				t.Fatalf("%q\nencoding/json: %v\n%s: %v", text, wantErr, name, gotErr)
			}
			if wantErr == nil && !reflect.DeepEqual(want, got) {
				t.Fatalf("%q\nencoding/json: %#v\n%s: %#v", text, want, name, got)
			}
		}
		if wantErr == nil {
			accepted++
		}
	}
	if accepted < 1_000 {
		t.Errorf("only %d of the texts were valid: the mutations test too little", accepted)
	}
}

// Errors go to logs and comments, and a lock holds a token.
func TestDecodeErrorsRepeatNothing(t *testing.T) {
	for _, text := range []string{
		`{"Time":"secret yesterday"}`, `{"User":"secret"}`, `{"Pull":{"State":"secret"}}`, `{"Pull":{"Num":"secret"}}`, `secret`, `{"secret"`, `{"User":{}}secret`,
	} {
		err := decode([]byte(text), &models.ProjectLock{})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func mutate(random *rand.Rand, original []byte, pieces []string) []byte {
	text := append([]byte{}, original...)
	for range random.IntN(3) {
		at := random.IntN(len(text) + 1)
		end := min(at+random.IntN(8), len(text))
		piece := pieces[random.IntN(len(pieces))]
		switch random.IntN(4) {
		case 0: // insert before a field, where it is likely to be valid
			for at < len(text) && text[at] != '"' {
				at++
			}
			text = append(text[:at:at], append([]byte(piece), text[at:]...)...)
		case 1: // cut
			text = append(text[:at:at], text[end:]...)
		case 2: // replace
			text = append(text[:at:at], append([]byte(piece), text[end:]...)...)
		default: // double
			text = append(text[:end:end], text[at:]...)
		}
	}
	return text
}
