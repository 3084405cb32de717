package bolthost

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
	ofrelease "github.com/atlock/atlock/go/internal/release"
)

// judged is one line of the corpus: a text, and whether it is a lock.
type judged struct {
	Name   string `json:"name"`
	Lock   bool   `json:"lock"`
	Holder string `json:"holder"` // `key#pull`, as Atlantis's decoding takes it; empty where that refuses it
	JSON   string `json:"json"`
	Hex    string `json:"hex"`
}

// corpus reads the texts that the library's reader goes through, too.
func corpus(t *testing.T) map[string]judged {
	t.Helper()
	file, err := os.Open("../../../tests/locks.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cases := map[string]judged{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var one judged
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		raw, err := hex.DecodeString(one.Hex)
		if err != nil {
			t.Fatal(err)
		}
		one.JSON += string(raw)
		cases[one.Name] = one
	}
	if len(cases) < 200 {
		t.Fatalf("the corpus has %d cases", len(cases))
	}
	return cases
}

func TestCorpusIsJudgedAsWritten(t *testing.T) {
	for name, one := range corpus(t) {
		read, err := readLock([]byte(one.JSON))
		if (err == nil) != one.Lock {
			t.Errorf("%s: %v", name, err)
		}
		if holder := fmt.Sprintf("%s#%d", read.newKey(), read.pullNum); err == nil && holder != one.Holder {
			t.Errorf("%s: it is read as %q, and is %q", name, holder, one.Holder)
		}
		if err != nil && strings.Contains(err.Error(), "acme") {
			t.Errorf("%s: the error repeats the value: %v", name, err)
		}
	}
}

// What is a lock here is one for Atlantis, with the same names and pull request; Atlantis also writes it again, as its API does. Of what is
// none, the corpus tells what Atlantis takes it for.
func TestAtlantisJudgesTheCorpusAsWritten(t *testing.T) {
	for name, one := range corpus(t) {
		var lock models.ProjectLock
		err := json.Unmarshal([]byte(one.JSON), &lock)
		if one.Lock && one.Holder == "" {
			t.Errorf("%s: a lock has a holder", name)
		}
		holder := fmt.Sprintf("%s/%s/%s/%s#%d",
			lock.Project.RepoFullName, lock.Project.Path, lock.Workspace, ofrelease.ProjectName(lock.Project), lock.Pull.Num)
		if err != nil {
			holder = ""
		}
		if holder != one.Holder {
			t.Errorf("%s: Atlantis takes it for %q, %v; the corpus says %q", name, holder, err, one.Holder)
		}
		if !one.Lock {
			continue
		}
		if _, err := json.Marshal(lock); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ATLOCK_LOCK_SEED"); text != "" {
		parsed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = parsed
	}
	t.Logf("ATLOCK_LOCK_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomText(r *rand.Rand) string {
	letters := []string{"a", "Z", "/", ".", " ", "\"", "\\", "<&>", "\x00", "\n", "\x7f", "\xff", "\xed\xa0\x80", "ü", "\u2028", "\ufeff", "😀", "\ufffd"}
	var text strings.Builder
	for range r.IntN(8) {
		text.WriteString(letters[r.IntN(len(letters))])
	}
	return text.String()
}

func randomNumber(r *rand.Rand) int {
	return []int{0, 1, -1, 7, math.MaxInt64, math.MinInt64, 1 << 53, r.Int()}[r.IntN(8)]
}

func randomTime(r *rand.Rand) time.Time {
	zone := time.FixedZone("", 60*(r.IntN(2*24*60-1)-24*60+1))
	moment := time.Unix(r.Int64N(1<<36)-1<<35, r.Int64N(1e9)).In(zone)
	return []time.Time{{}, moment, moment.Truncate(time.Second), moment.UTC(), time.Now()}[r.IntN(5)]
}

func randomLock(r *rand.Rand) models.ProjectLock {
	text := func() string { return randomText(r) }
	var teams []string
	for range r.IntN(3) {
		teams = append(teams, text())
	}
	return models.ProjectLock{
		Project: models.Project{ProjectName: text(), RepoFullName: "a" + text(), Path: text()},
		Pull: models.PullRequest{
			Num: randomNumber(r) % (1 << 53), HeadCommit: text(), URL: text(), HeadBranch: text(), BaseBranch: text(),
			HardenedNonPRRefCheckout: r.IntN(2) == 0, Author: text(), Body: text(), State: models.PullRequestState(randomNumber(r)),
			BaseRepo: models.Repo{
				FullName: text(), Owner: text(), Name: text(), CloneURL: text(), SanitizedCloneURL: text(),
				VCSHost: models.VCSHost{Hostname: text(), Type: models.VCSHostType(randomNumber(r))},
			},
		},
		User:      models.User{Username: text(), Teams: teams},
		Workspace: text(),
		Time:      randomTime(r),
	}
}

// library judges texts by the library's reader: it takes a lock only if the text is one.
func library(t *testing.T) func(text []byte) error {
	t.Helper()
	handle, err := capi.OpenWithHost([]byte(`{"locking":{"backend":"boltdb"}}`), grantsAll{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := handle.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(text []byte) error {
		answer, err := handle.TryLock(text)
		answer.Free()
		return err
	}
}

type grantsAll struct{}

func (grantsAll) Call(uint32, []byte) ([]byte, error) {
	return []byte(`{"granted":true,"token":1}`), nil
}
func (grantsAll) Close() error { return nil }

func TestWhatAtlantisWritesIsALock(t *testing.T) {
	r, judge := random(t), library(t)
	for range 5_000 {
		value, err := json.Marshal(randomLock(r))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readLock(value); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		if err := judge(value); err != nil {
			t.Fatalf("%s: the library: %v", value, err)
		}
	}
}

// The two readers agree on texts that nobody wrote, and Atlantis reads what they take.
func TestReadersAgree(t *testing.T) {
	r, judge := random(t), library(t)
	var originals []string
	for _, one := range corpus(t) {
		originals = append(originals, one.JSON)
	}
	pieces := []string{
		"null", "true", "7", "-0", "1.0", "1e3", `"x"`, "{}", "[]", ",", ":", "{", "}", `"`, `\u0000`, `\ud800`, `\udc00`, "\xff", " ", "\n", "0", "9",
		`"project":{},`, `"Num":null,`, `"Later":[1,{"a":null}],`, `"Time":"2026-11-24T08:17:00.5+02:00",`, `"Teams":null,`, "T", "Z", "+", "-", ".",
	}
	locks := 0
	for range 40_000 {
		text := []byte(originals[r.IntN(len(originals))])
		for range r.IntN(3) {
			at := r.IntN(len(text) + 1)
			end := min(at+r.IntN(4), len(text))
			text = append(text[:at:at], append([]byte(pieces[r.IntN(len(pieces))]), text[end:]...)...)
		}
		_, here := readLock(text)
		there := judge(text)
		if there != nil && !errors.Is(there, capi.InvalidJSON) {
			t.Fatalf("%q: %v", text, there)
		}
		if (here == nil) != (there == nil) {
			t.Fatalf("%q\nhere: %v\nthe library: %v", text, here, there)
		}
		if here != nil {
			continue
		}
		locks++
		if err := json.Unmarshal(text, &models.ProjectLock{}); err != nil {
			t.Fatalf("%q: Atlantis: %v", text, err)
		}
	}
	if locks < 1_000 {
		t.Errorf("only %d of the texts were locks: the edits test too little", locks)
	}
}

// The library's rules (src/model.rs): what they refuse stays.
func TestReadLock(t *testing.T) {
	for text, want := range map[string]lock{
		plain: {fields{"acme/infra", ".", "default", ""}, 5},
		` {"Workspace":"","Later":[null],"Project":{"RepoFullName":"r","Path":"\u00e9"},"Pull":{"Num":-1,"Num2":{}}} `: {fields{"r", "é", "", ""}, -1},
	} {
		if got, err := readLock([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	change := func(from, to string) string { return strings.Replace(plain, from, to, 1) }
	for _, text := range []string{
		"", "null", "[1]", `"x"`, plain + "x", plain[:len(plain)-1],
		change(`"Project":{`, `"project":{`),
		change(`"acme/infra"`, `""`),
		change(`"acme/infra"`, `null`),
		change(`"acme/infra"`, "\"\xff\""),
		change(`"acme/infra"`, `"\ud800"`),
		change(`"ProjectName":""`, `"ProjectName":null`),
		change(`,"Path":"."`, ``),
		change(`,"Workspace":"default"`, ``),
		change(`{"Num":5}`, `{"Num":"5"}`),
		change(`{"Num":5}`, `{"Num":5.0}`),
		change(`{"Num":5}`, `{"Num":9223372036854775808}`),
		change(`{"Num":5}`, `{}`),
		change(`{"Num":5}`, `null`),
		change(`{"Num":5}`, `{"Num":5,"Num":6}`),
	} {
		if got, err := readLock([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, got)
		}
	}
	secret := change(`"Pull":{"Num":5}`, `"Pull":"https://user:hunter2@example.com"`)
	if _, err := readLock([]byte(secret)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
