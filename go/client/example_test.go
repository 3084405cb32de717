package client_test

import (
	"fmt"
	"log"
	"os"

	"github.com/atlock/atlock/go/client"
)

func Example() {
	folder, err := os.MkdirTemp("", "atlock-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)

	locks, err := client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: folder}})
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	const lock = `{"Project":{"RepoFullName":"acme/infra","Path":"network"},"Pull":{"Num":%d},"Workspace":"default"}`
	for pull := 1; pull <= 2; pull++ {
		grant, err := locks.TryLock(fmt.Appendf(nil, lock, pull))
		if err != nil {
			log.Fatal(err)
		}
		if grant.Acquired {
			fmt.Printf("pull %d has it, with a token: %t\n", pull, grant.Token != client.NoToken)
		} else {
			fmt.Printf("pull %d has to wait for %s\n", pull, grant.Holder)
		}
	}
	// Output:
	// pull 1 has it, with a token: true
	// pull 2 has to wait for {"Project":{"RepoFullName":"acme/infra","Path":"network"},"Pull":{"Num":1},"Workspace":"default"}
}
