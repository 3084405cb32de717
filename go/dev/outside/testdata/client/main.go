// Command client takes a lock through package client, which knows nothing of Atlantis.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/atlock/atlock/go/client"
)

func main() {
	locks, err := client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: os.Args[1]}})
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()
	grant, err := locks.TryLock([]byte(`{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7},"Workspace":"default"}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acquired", grant.Acquired)
}
