package bolthost

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// lock is what the library reads of a lock (src/model.rs), by the same rules: what it refuses is refused here, too.
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

// key is models.GenerateLockKey's.
func (f fields) key() string { return f.oldKey() + "/" + f.Project }

// oldKey is the key before Atlantis v0.40.
func (f fields) oldKey() string { return f.Repo + "/" + f.Path + "/" + f.Workspace }

// readLock reads a lock's JSON. A field of another type, null, or missing is an error, except for a project's name, which
// Atlantis before v0.28 did not write. Names are told apart by case.
func readLock(value []byte) (lock, error) {
	var raw struct {
		Project struct {
			ProjectName, RepoFullName, Path jsontext.Value
		}
		Pull struct {
			Num jsontext.Value
		}
		Workspace jsontext.Value
	}
	if err := json.Unmarshal(value, &raw); err != nil {
		// Not its text, which may quote the value: there can be a token in it.
		return lock{}, errors.New("not a lock in Atlantis's JSON")
	}
	if raw.Project.ProjectName == nil {
		raw.Project.ProjectName = jsontext.Value(`""`)
	}
	var read lock
	texts := []struct {
		name string
		raw  jsontext.Value
		into *string
	}{
		{"Project.RepoFullName", raw.Project.RepoFullName, &read.Repo},
		{"Project.Path", raw.Project.Path, &read.Path},
		{"Project.ProjectName", raw.Project.ProjectName, &read.Project},
		{"Workspace", raw.Workspace, &read.Workspace},
	}
	for _, text := range texts {
		if text.raw.Kind() != '"' {
			return lock{}, fmt.Errorf("not a lock in Atlantis's JSON: %s is no text", text.name)
		}
		if err := json.Unmarshal(text.raw, text.into); err != nil {
			return lock{}, fmt.Errorf("not a lock in Atlantis's JSON: %s is no text", text.name)
		}
	}
	if read.Repo == "" {
		return lock{}, errors.New("not a lock in Atlantis's JSON: Project.RepoFullName is empty")
	}
	num, err := strconv.ParseInt(string(raw.Pull.Num), 10, 64)
	if err != nil {
		return lock{}, errors.New("not a lock in Atlantis's JSON: Pull.Num is no whole number")
	}
	read.pullNum = num
	return read, nil
}
