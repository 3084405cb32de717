package conformance

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// BoltRaw reaches the buckets of Atlantis's BoltDB file in a folder while nobody has it open.
func BoltRaw(folder string) Raw {
	return boltRaw{filepath.Join(folder, "atlantis.db")}
}

type boltRaw struct{ path string }

var boltBuckets = map[Table]string{Locks: "runLocks", Commands: "globalLocks", Pulls: "pulls"}

func (r boltRaw) Get(table Table, key string) (value []byte, found bool, err error) {
	err = r.withBucket(table, key, func(bucket *bolt.Bucket, key []byte) error {
		stored := bucket.Get(key)
		value, found = append([]byte(nil), stored...), stored != nil
		return nil
	})
	return value, found, err
}

func (r boltRaw) Put(table Table, key string, value []byte) error {
	return r.withBucket(table, key, func(bucket *bolt.Bucket, key []byte) error { return bucket.Put(key, value) })
}

func (r boltRaw) withBucket(table Table, key string, act func(bucket *bolt.Bucket, key []byte) error) (err error) {
	name, known := boltBuckets[table]
	if !known {
		return fmt.Errorf("no bucket for table %d", table)
	}
	file, err := bolt.Open(r.path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if table == Commands {
		key += "/lock"
	}
	return file.Update(func(tx *bolt.Tx) error { return act(tx.Bucket([]byte(name)), []byte(key)) })
}
