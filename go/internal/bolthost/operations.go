package bolthost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	bolt "go.etcd.io/bbolt"
)

const (
	null = "null"
	// unreadable stands for a value that is no JSON: the library sees that it is no lock and no pull status, and says so.
	unreadable = `"(unreadable)"`
	space      = " \t\r\n"
)

// asJSON is a stored value as it crosses to the library; null if there is none.
func asJSON(value []byte) []byte {
	if value == nil {
		return []byte(null)
	}
	trimmed := bytes.Trim(value, space)
	// encoding/json lets invalid UTF-8 pass. A stored null would read as "nothing is stored".
	if !json.Valid(trimmed) || !utf8.Valid(trimmed) || string(trimmed) == null {
		return []byte(unreadable)
	}
	return clone(trimmed)
}

type nothing struct{}

type grantIn struct {
	Key   key             `json:"key"`
	Value json.RawMessage `json:"value"`
}

func (s *Store) grant(tx *bolt.Tx, in grantIn) ([]byte, error) {
	lock, err := in.Key.in(tx)
	if err != nil {
		return nil, err
	}
	if held := lock.get(); held != nil {
		return fmt.Appendf(nil, `{"granted":false,"value":%s}`, asJSON(held)), nil
	}
	if err := lock.put(in.Value); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"granted":true,"token":%d}`, s.nextToken()), nil
}

type release struct {
	Key     key     `json:"key"`
	Fields  *fields `json:"fields"`
	PullNum *int64  `json:"pull_num"`
}

// admits tells whether a lock with this value is the one to release: Release::admits of src/store/mod.rs.
func (r release) admits(value []byte) (bool, error) {
	if r.Key.Command != nil {
		if !json.Valid(value) || !utf8.Valid(value) {
			return false, fmt.Errorf("the entry at %s stays as it is: not JSON", r.Key)
		}
		return true, nil
	}
	lock, err := readLock(value)
	if err != nil {
		return false, fmt.Errorf("the entry at %s stays as it is: %w", r.Key, err)
	}
	fieldsMatch := r.Fields == nil || r.Fields.ofKey() == lock.ofKey()
	pullMatches := r.PullNum == nil || *r.PullNum == lock.pullNum
	return fieldsMatch && pullMatches, nil
}

func releaseLock(tx *bolt.Tx, in release) ([]byte, error) {
	lock, err := in.Key.in(tx)
	if err != nil {
		return nil, err
	}
	value := lock.get()
	if value == nil {
		return []byte(null), nil
	}
	admitted, err := in.admits(value)
	if err != nil {
		return nil, err
	}
	if !admitted {
		return []byte(null), nil
	}
	return removed(lock)
}

type keyIn struct {
	Key key `json:"key"`
}

func discard(tx *bolt.Tx, in keyIn) ([]byte, error) {
	lock, err := in.Key.in(tx)
	if err != nil {
		return nil, err
	}
	return removed(lock)
}

// removed deletes an entry and returns its value.
func removed(lock entry) ([]byte, error) {
	value := asJSON(lock.get())
	return value, lock.delete()
}

func get(tx *bolt.Tx, in keyIn) ([]byte, error) {
	lock, err := in.Key.in(tx)
	if err != nil {
		return nil, err
	}
	return asJSON(lock.get()), nil
}

func list(tx *bolt.Tx, _ nothing) ([]byte, error) {
	var answer array
	err := eachValue(tx, locksBucket, func(_, value []byte) error {
		answer.add(asJSON(value))
		return nil
	})
	return answer.json(), err
}

type pullIn struct {
	Repo string `json:"repo"`
	Num  int64  `json:"num"`
}

// releaseByPull goes by what the values say: keys of one repository may begin like those of another.
func releaseByPull(tx *bolt.Tx, in pullIn) ([]byte, error) {
	var answer array
	var keys [][]byte
	err := eachValue(tx, locksBucket, func(key, value []byte) error {
		lock, err := readLock(value)
		if err == nil && lock.Repo == in.Repo && lock.pullNum == in.Num {
			answer.add(asJSON(value))
			keys = append(keys, clone(key))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := tx.Bucket([]byte(locksBucket)).Delete(key); err != nil {
			return nil, err
		}
	}
	return answer.json(), nil
}

type statusIn struct {
	Key string `json:"key"`
}

func pullStatus(tx *bolt.Tx, in statusIn) ([]byte, error) {
	status, err := key{Status: &in.Key}.in(tx)
	if err != nil {
		return nil, err
	}
	return asJSON(status.get()), nil
}

type swapIn struct {
	Key      string `json:"key"`
	Expected struct {
		Any   bool            `json:"any"`
		Value json.RawMessage `json:"value"`
	} `json:"expected"`
	New json.RawMessage `json:"new"`
}

// swapPullStatus compares with the value as the library saw it. A new value replaces an unreadable one.
func swapPullStatus(tx *bolt.Tx, in swapIn) ([]byte, error) {
	status, err := key{Status: &in.Key}.in(tx)
	if err != nil {
		return nil, err
	}
	current := asJSON(status.get())
	if !in.Expected.Any && !bytes.Equal(in.Expected.Value, current) {
		return fmt.Appendf(nil, `{"swapped":false,"value":%s}`, current), nil
	}
	if string(in.New) == null {
		err = status.delete()
	} else {
		err = status.put(in.New)
	}
	return []byte(`{"swapped":true}`), err
}

func ping(*bolt.Tx, nothing) ([]byte, error) {
	return []byte("{}"), nil
}

type dumped struct {
	Key        key     `json:"key"`
	Value      *string `json:"value,omitempty"`
	Unreadable bool    `json:"unreadable,omitempty"`
}

// dumpedMark tells of the mark that the last apply left.
type dumpedMark struct {
	Mark         string `json:"mark"`
	WrittenSince bool   `json:"written_since"`
}

// storedMark is a mark in the file, with the transaction that stored it. Every transaction that writes, stock's too, has the number
// after the one before, so the file's newest one tells whether it was the last.
type storedMark struct {
	Mark string `json:"mark"`
	TxID int    `json:"txid"`
}

func dump(tx *bolt.Tx, _ nothing) ([]byte, error) {
	found := []any{}
	for _, bucket := range []struct {
		name string
		key  func(stored string) key
	}{
		{locksBucket, func(stored string) key { return key{Project: &stored} }},
		{commandsBucket, commandKey},
		{pullsBucket, func(stored string) key { return key{Status: &stored} }},
	} {
		err := eachValue(tx, bucket.name, func(stored, value []byte) error {
			one := dumped{Key: bucket.key(string(stored))}
			// A key that is not UTF-8 cannot be told exactly either, so its entry is not given as one of another key.
			if one.Unreadable = !utf8.Valid(value) || !utf8.Valid(stored); !one.Unreadable {
				text := string(value)
				one.Value = &text
			}
			if one.Key != (key{}) {
				found = append(found, one)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if bucket := tx.Bucket([]byte(markBucket)); bucket != nil {
		var stored storedMark
		// One that cannot be read is none.
		if err := json.Unmarshal(bucket.Get([]byte(markKey)), &stored); err == nil {
			found = append(found, dumpedMark{stored.Mark, stored.TxID != tx.ID()})
		}
	}
	return json.Marshal(found)
}

// commandKey is empty for what is not a command's lock.
func commandKey(stored string) key {
	name, isLock := strings.CutSuffix(stored, commandSuffix)
	if !isLock {
		return key{}
	}
	return key{Command: &name}
}

type applyIn struct {
	Writes []struct {
		Key   key     `json:"key"`
		Value *string `json:"value"`
	} `json:"writes"`
	Mark *string `json:"mark"`
}

func apply(tx *bolt.Tx, in applyIn) ([]byte, error) {
	for _, write := range in.Writes {
		entry, err := write.Key.in(tx)
		if err != nil {
			return nil, err
		}
		if write.Value == nil {
			err = entry.delete()
		} else {
			err = entry.put([]byte(*write.Value))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", write.Key, err)
		}
	}
	if in.Mark == nil {
		return []byte("{}"), nil
	}
	return []byte("{}"), putMark(tx, *in.Mark)
}

func putMark(tx *bolt.Tx, mark string) error {
	stored, err := json.Marshal(storedMark{mark, tx.ID()})
	if err != nil {
		return err
	}
	bucket, err := tx.CreateBucketIfNotExists([]byte(markBucket))
	if err != nil {
		return fmt.Errorf("the mark: %w", err)
	}
	return bucket.Put([]byte(markKey), stored)
}

// eachValue visits the values of a bucket in the order of their keys.
func eachValue(tx *bolt.Tx, name string, visit func(key, value []byte) error) error {
	bucket := tx.Bucket([]byte(name))
	if bucket == nil { // a file that is only looked at, and that nobody has prepared
		return nil
	}
	return bucket.ForEach(func(key, value []byte) error {
		if value == nil { // a bucket in the bucket, which Atlantis does not make
			return nil
		}
		return visit(key, value)
	})
}

// array is a JSON array of values that are JSON.
type array struct{ elements [][]byte }

func (a *array) add(element []byte) { a.elements = append(a.elements, element) }

func (a *array) json() []byte {
	return fmt.Appendf(nil, "[%s]", bytes.Join(a.elements, []byte(",")))
}
