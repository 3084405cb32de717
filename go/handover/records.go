package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// recordSuffix makes the name of a record from that of the folder that Atlantis has for a pull request's clones, beside which it lies. It lives
// as long as the folder, and no pull request can write it. In the folder it would be in the way: releases before v0.46 take all that
// they find there for clones.
const recordSuffix = ".atlock.json"

const recordVersion = 1

// record is what is kept of a pull request.
type record struct {
	Version int                            `json:"version"`
	Pull    *recordedPull                  `json:"pull,omitempty"`
	Applied map[string]bool                `json:"applied,omitempty"` // keys under which something was applied that is not merged
	Tokens  map[string]atlock.FencingToken `json:"tokens,omitempty"`  // by key: of the grant under which its last plan was made
}

// recordedPull names the pull request of a record, without credentials.
type recordedPull struct {
	Host string             `json:"host"`
	Type models.VCSHostType `json:"host_type"`
	Repo string             `json:"repo"`
	Num  int                `json:"num"`
}

func recorded(pull models.PullRequest) *recordedPull {
	host := pull.BaseRepo.VCSHost
	return &recordedPull{host.Hostname, host.Type, pull.BaseRepo.FullName, pull.Num}
}

// pull is the pull request, as far as it is known.
func (r recordedPull) pull() models.PullRequest {
	owner, name := models.SplitRepoFullName(r.Repo)
	repo := models.Repo{FullName: r.Repo, Owner: owner, Name: name, VCSHost: models.VCSHost{Hostname: r.Host, Type: r.Type}}
	return models.PullRequest{Num: r.Num, BaseRepo: repo}
}

// records keeps them. A change is on the disk when it returns.
//
// Atlantis removes the folder of a closed pull request, and releases no lock if that fails. Its record goes with it; one that was left behind, by
// a server that was killed in between, goes when somebody asks for it.
type records struct {
	clones   string // the folder of all folders, as repository/number
	mutex    sync.Mutex
	removing map[pullKey]int
}

// whileRemoving runs what removes the folder of a pull request. Meanwhile there is nothing to keep of it.
func (r *records) whileRemoving(pull pullKey, remove func() error) error {
	r.mutex.Lock()
	if r.removing == nil {
		r.removing = map[pullKey]int{}
	}
	r.removing[pull]++
	r.mutex.Unlock()
	defer func() {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if r.removing[pull]--; r.removing[pull] == 0 {
			delete(r.removing, pull)
		}
	}()
	if err := remove(); err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, _ = r.pathOf(pull.repo, pull.num) // which drops the record; otherwise whoever asks next does
	return nil
}

// read is the record of a pull request; an empty one if there is none.
func (r *records) read(pull models.PullRequest) (record, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	path, err := r.path(pull)
	if errors.Is(err, fs.ErrNotExist) {
		return newRecord(), nil
	}
	if err != nil {
		return newRecord(), err
	}
	return readRecord(path)
}

// change changes the record of a pull request, and returns what it is then, also where that could not be kept. One that cannot be read is
// begun anew, which is an error, too.
func (r *records) change(pull models.PullRequest, change func(*record)) (record, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	path, err := r.path(pull)
	if isRemoved := r.removing[keyOf(pull.BaseRepo, pull.Num)] > 0; err != nil || isRemoved {
		changed := newRecord()
		change(&changed)
		if isRemoved || errors.Is(err, fs.ErrNotExist) && changed.isEmpty() {
			return changed, nil
		}
		return changed, err
	}
	before, unreadable := readRecord(path)
	changed := record{recordVersion, recorded(pull), maps.Clone(before.Applied), maps.Clone(before.Tokens)}
	change(&changed)
	if unreadable == nil && maps.Equal(before.Applied, changed.Applied) && maps.Equal(before.Tokens, changed.Tokens) {
		return changed, nil
	}
	return changed, errors.Join(unreadable, writeRecord(path, changed))
}

func (r *records) path(pull models.PullRequest) (string, error) {
	return r.pathOf(pull.BaseRepo.FullName, pull.Num)
}

// pathOf is that of a record. Without the folder of the pull request it is fs.ErrNotExist, and there is no record, either.
func (r *records) pathOf(repo string, num int) (string, error) {
	folder := filepath.Join(r.clones, repo, strconv.Itoa(num))
	_, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		if removed := os.Remove(folder + recordSuffix); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			return "", removed
		}
	}
	return folder + recordSuffix, err
}

func newRecord() record {
	return record{recordVersion, nil, map[string]bool{}, map[string]atlock.FencingToken{}}
}

func (r record) isEmpty() bool { return len(r.Applied) == 0 && len(r.Tokens) == 0 }

// readRecord reads a file. With an error the record is empty.
func readRecord(path string) (record, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newRecord(), nil
	}
	if err != nil {
		return newRecord(), err
	}
	read := newRecord()
	if err := json.Unmarshal(text, &read); err != nil {
		return newRecord(), fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if read.Version != recordVersion {
		return newRecord(), fmt.Errorf("%s has version %d, and this atlock reads version %d", path, read.Version, recordVersion)
	}
	return read, nil
}

// writeRecord replaces a file: after a crash it is the old one or the new one, whole.
func writeRecord(path string, kept record) error {
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	made, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = made.Write(text)
	if err = errors.Join(err, made.Sync(), made.Close()); err == nil {
		err = os.Rename(made.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(made.Name()))
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
