package bolthost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// lock is what the library reads of a lock. What a valid lock is, is said in src/model/lock.rs; this is the same definition again,
// because it is needed inside BoltDB's transactions. Both go through tests/locks.jsonl.
type lock struct {
	fields
	pullNum int64
}

// fields name a lock.
type fields struct {
	Repo      string `json:"repo"`
	Path      string `json:"path"`
	Workspace string `json:"workspace"`
	Project   string `json:"project"`
}

// key is models.GenerateLockKey's of this release of Atlantis.
func (f fields) key() string {
	if hasOldKeys {
		return f.oldKey()
	}
	return f.newKey()
}

// newKey is the key from Atlantis v0.40 on.
func (f fields) newKey() string { return f.oldKey() + "/" + f.Project }

// ofKey are those of the fields that name the lock in this release.
func (f fields) ofKey() fields {
	if hasOldKeys {
		f.Project = ""
	}
	return f
}

// oldKey is the key before Atlantis v0.40.
func (f fields) oldKey() string { return f.Repo + "/" + f.Path + "/" + f.Workspace }

// member is one of those that models.ProjectLock has.
type member struct {
	name  string
	shape shape
	into  func(l *lock) *string // a name's place
	of    []member              // an object's
}

// shape is what Go's type of a member takes.
type shape int

const (
	aText    shape = iota
	aName          // a text that names the lock: never null
	aPullNum       // never null
	aWhole
	aFlag
	texts
	aMoment
	anObject
)

var members = []member{
	{name: "Project", shape: anObject, of: []member{
		{name: "ProjectName", shape: aName, into: func(l *lock) *string { return &l.Project }},
		{name: "RepoFullName", shape: aName, into: func(l *lock) *string { return &l.Repo }},
		{name: "Path", shape: aName, into: func(l *lock) *string { return &l.Path }},
	}},
	{name: "Pull", shape: anObject, of: []member{
		{name: "Num", shape: aPullNum},
		{name: "HeadCommit"}, {name: "URL"}, {name: "HeadBranch"}, {name: "BaseBranch"},
		{name: "HardenedNonPRRefCheckout", shape: aFlag},
		{name: "Author"}, {name: "Body"},
		{name: "State", shape: aWhole},
		{name: "BaseRepo", shape: anObject, of: []member{
			{name: "FullName"}, {name: "Owner"}, {name: "Name"}, {name: "CloneURL"}, {name: "SanitizedCloneURL"},
			{name: "VCSHost", shape: anObject, of: []member{{name: "Hostname"}, {name: "Type", shape: aWhole}}},
		}},
	}},
	{name: "User", shape: anObject, of: []member{{name: "Username"}, {name: "Teams", shape: texts}}},
	{name: "Workspace", shape: aName, into: func(l *lock) *string { return &l.Workspace }},
	{name: "Time", shape: aMoment},
}

// maxDepth is how deep objects and arrays may lie in each other.
const maxDepth = 128

// lockReader reads one lock's JSON from its first byte to its last.
type lockReader struct {
	*jsontext.Decoder
	lock lock
	seen map[string]bool // paths
}

// readLock reads a lock's JSON. Its errors repeat nothing of the value: there can be a token in it.
func readLock(value []byte) (lock, error) {
	r := lockReader{
		Decoder: jsontext.NewDecoder(bytes.NewBuffer(value), jsontext.AllowDuplicateNames(true)),
		seen:    map[string]bool{},
	}
	if r.PeekKind() != '{' {
		return lock{}, errors.New("not a lock in Atlantis's JSON: there is no object")
	}
	err := r.object("", members)
	if err == nil && r.readsOn() {
		err = errors.New("something stands behind the value")
	}
	for _, needed := range []string{"Project.RepoFullName", "Project.Path", "Workspace", "Pull.Num"} {
		if err == nil && !r.seen[needed] {
			err = errors.New(needed + " is missing")
		}
	}
	if err == nil && r.lock.Repo == "" {
		err = errors.New("Project.RepoFullName is empty")
	}
	if err != nil {
		return lock{}, fmt.Errorf("not a lock in Atlantis's JSON: %w", err)
	}
	return r.lock, nil
}

var errSyntax = errors.New("it is not JSON")

func (r *lockReader) readsOn() bool {
	_, err := r.ReadToken()
	return !errors.Is(err, io.EOF)
}

// token reads one, and looks at how deep it is.
func (r *lockReader) token() (jsontext.Token, error) {
	token, err := r.ReadToken()
	switch {
	case err != nil:
		return token, errSyntax // its text may quote the value
	case r.StackDepth() > maxDepth:
		return token, fmt.Errorf("objects and arrays lie in each other more than %d levels deep", maxDepth)
	}
	return token, nil
}

// skip reads any value.
func (r *lockReader) skip() error {
	for depth := r.StackDepth(); ; {
		if _, err := r.token(); err != nil {
			return err
		}
		if r.StackDepth() == depth {
			return nil
		}
	}
}

// object reads one with these members; path is its own, with a dot behind.
func (r *lockReader) object(path string, known []member) error {
	if _, err := r.token(); err != nil {
		return err
	}
	for r.PeekKind() != '}' {
		token, err := r.token()
		if err != nil {
			return err
		}
		if err := r.member(path, token.String(), known); err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

func (r *lockReader) member(path, name string, known []member) error {
	for i := range known {
		if known[i].name != name {
			continue
		}
		path += name
		if r.seen[path] {
			return errors.New(path + " is there twice")
		}
		r.seen[path] = true
		return r.known(path, &known[i])
	}
	for i := range known {
		if strings.EqualFold(known[i].name, name) {
			return errors.New(path + known[i].name + " is written in another case")
		}
	}
	return r.skip()
}

// known reads the value of a member that a lock has.
func (r *lockReader) known(path string, m *member) error {
	kind := r.PeekKind()
	if kind == 'n' && m.shape != aName && m.shape != aPullNum {
		return r.skip()
	}
	switch {
	case m.shape == anObject && kind == '{':
		return r.object(path+".", m.of)
	case m.shape == aText && kind == '"', m.shape == aFlag && (kind == 't' || kind == 'f'):
		return r.skip()
	case m.shape == aName && kind == '"':
		token, err := r.token()
		*m.into(&r.lock) = token.String()
		return err
	case m.shape == texts && kind == '[':
		return r.texts(path)
	case m.shape == aPullNum && kind == '0':
		return r.whole(path, &r.lock.pullNum, 1<<53-1)
	case m.shape == aWhole && kind == '0':
		return r.whole(path, new(int64), math.MaxInt64)
	case m.shape == aMoment && kind == '"':
		return r.moment(path)
	}
	return errors.New(path + " is of another type")
}

func (r *lockReader) texts(path string) error {
	if _, err := r.token(); err != nil {
		return err
	}
	for r.PeekKind() != ']' {
		if kind := r.PeekKind(); kind != '"' && kind != 'n' {
			return errors.New(path + " is not a list of texts")
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

func (r *lockReader) whole(path string, into *int64, most int64) error {
	raw, err := r.ReadValue()
	if err != nil {
		return errSyntax
	}
	number, err := strconv.ParseInt(string(raw), 10, 64)
	tooLarge := most < math.MaxInt64 && (number > most || number < -most)
	if err != nil || tooLarge || string(raw) == "-0" {
		return errors.New(path + " is not a whole number, or too large")
	}
	*into = number
	return nil
}

// moment reads a time. time.Time takes some texts more than RFC 3339 has, and cannot write all of those again.
func (r *lockReader) moment(path string) error {
	raw, err := r.ReadValue()
	if err != nil {
		return errSyntax
	}
	text := string(raw[1 : len(raw)-1])
	moment, err := time.Parse(time.RFC3339, text)
	if err == nil {
		_, err = moment.MarshalJSON() // zones of a day and more
	}
	const toSecond = len("2006-01-02T15:04:05")
	if err != nil || len(text) <= toSecond || text[len("2006-01-02T15")] != ':' || text[toSecond] == ',' || overfull(text) {
		return errors.New(path + " is not a time as RFC 3339 writes it")
	}
	return nil
}

// overfull tells that a time's zone has 60 minutes.
func overfull(text string) bool { return text[len(text)-1] != 'Z' && text[len(text)-2:] > "59" }
