package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/redis"

	"github.com/atlock/atlock/go/atlock"
)

// subjectName is how the report calls a subject.
type subjectName string

const (
	stockBoltDB  subjectName = "stock BoltDB"
	stockRedis   subjectName = "stock Redis"
	strictBoltDB subjectName = "strict(boltdb)"
	strictSled   subjectName = "strict(sled)"
	native       subjectName = "native"
	nativeShared subjectName = "native, shared"
	hybridSync   subjectName = "hybrid, sync"
	hybridAsync  subjectName = "hybrid, async"
	hybridAlone  subjectName = "hybrid in fallback"
)

// subject is one kind of database that is measured.
type subject struct {
	name subjectName
	// references are the subjects to compare with, its stock store first if that is one; a stock store has none.
	references []subjectName
	// usesRedis asks for a private redis-server.
	usesRedis bool
	open      func(place) (db.Database, error)
}

// place is where one subject keeps its data: nobody else uses the folder or the server.
type place struct {
	Folder string
	Redis  string // host:port, empty for a subject without Redis
}

// subjects are measured side by side. References come before those that are compared with them.
var subjects = []subject{
	{name: stockBoltDB, open: openStockBoltDB},
	{name: stockRedis, usesRedis: true, open: openStockRedis},
	{name: strictBoltDB, references: []subjectName{stockBoltDB}, open: openStrictBoltDB},
	{name: strictSled, references: []subjectName{stockBoltDB}, open: openStrictSled},
	{name: native, references: []subjectName{stockRedis}, usesRedis: true, open: openNative(false)},
	{name: nativeShared, references: []subjectName{stockRedis}, usesRedis: true, open: openNative(true)},
	{name: hybridSync, references: []subjectName{stockBoltDB}, usesRedis: true, open: openHybrid("sync")},
	{name: hybridAsync, references: []subjectName{stockBoltDB, native}, usesRedis: true, open: openHybrid("async")},
	{name: hybridAlone, references: []subjectName{strictSled}, open: openHybridAlone},
}

// pair is a subject and one that it is compared with.
type pair struct{ subject, reference subjectName }

// compared are all pairs.
func compared() []pair {
	var pairs []pair
	for _, subject := range subjects {
		for _, reference := range subject.references {
			pairs = append(pairs, pair{subject.name, reference})
		}
	}
	return pairs
}

// comparedWithStock are those whose reference is a stock store.
func comparedWithStock() []pair {
	return slices.DeleteFunc(compared(), func(p pair) bool { return p.reference != stockBoltDB && p.reference != stockRedis })
}

func findSubject(name subjectName) (subject, error) {
	for _, subject := range subjects {
		if subject.name == name {
			return subject, nil
		}
	}
	return subject{}, fmt.Errorf("no subject %q", name)
}

func openStockBoltDB(at place) (db.Database, error) {
	return boltdb.New(at.Folder)
}

func openStockRedis(at place) (db.Database, error) {
	host, port, err := net.SplitHostPort(at.Redis)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return redis.NewWithConfig(redis.Config{Hostname: host, Port: number})
}

func openStrictBoltDB(at place) (db.Database, error) {
	legacy, err := boltdb.New(at.Folder)
	if err != nil {
		return nil, err
	}
	return atlock.Open(atlock.Config{}, atlock.WithLegacy(legacy))
}

func openStrictSled(at place) (db.Database, error) {
	return atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: at.Folder}})
}

func openNative(sharedWithStock bool) func(place) (db.Database, error) {
	return func(at place) (db.Database, error) {
		return atlock.Open(atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{
			Enabled:           true,
			CompatibilityMode: "native",
			Redis:             atlock.Redis{Address: at.Redis, SharedWithStock: &sharedWithStock},
		}}})
	}
}

// openHybrid opens hybrid mode over sled, alone on its Redis as native is.
func openHybrid(durability atlock.Durability) func(place) (db.Database, error) {
	return func(at place) (db.Database, error) {
		alone := false
		return atlock.Open(atlock.Config{Locking: atlock.Locking{
			Backend: "sled",
			DataDir: at.Folder,
			Enhanced: atlock.Enhanced{
				Enabled:           true,
				CompatibilityMode: "hybrid",
				Durability:        durability,
				AllowUnseenRedis:  true,
				Redis:             atlock.Redis{Address: at.Redis, SharedWithStock: &alone},
			},
		}})
	}
}

// openHybridAlone opens hybrid mode with a Redis that is not there.
func openHybridAlone(at place) (db.Database, error) {
	at.Redis = "127.0.0.1:1"
	return openHybrid("sync")(at)
}
