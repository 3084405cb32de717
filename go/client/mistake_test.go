package client_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/client"
)

// Who sets a field hears of the setting, and of no place in a text that they never wrote; of several mistakes at once.
func TestMistakesInFieldsAreToldByKey(t *testing.T) {
	wrong := client.Config{Locking: client.Locking{
		Backend: "sledd",
		Enhanced: client.Enhanced{
			Enabled: true, CompatibilityMode: "hybird",
			PriorityQueue: client.PriorityQueue{Rules: []client.PriorityRule{{Priority: "urgent"}}},
		},
	}}
	const wanted = "3 mistakes: " +
		"(1) locking.backend: unknown variant `sledd`, expected one of boltdb, sled; " +
		"(2) locking.enhanced.compatibility_mode: unknown variant `hybird`, expected one of strict, hybrid, native; " +
		"(3) locking.enhanced.priority_queue.rules.priority: unknown variant `urgent`, expected one of low, normal, high, critical"
	_, err := client.Open(wrong)
	if !errors.Is(err, client.ErrInvalidConfig) || err.Error() != wanted {
		t.Errorf("Open: %v", err)
	}
	if _, err := client.Follow(wrong, false); !errors.Is(err, client.ErrInvalidConfig) || err.Error() != wanted {
		t.Errorf("Follow: %v", err)
	}
	_, err = client.Open(client.Config{Locking: client.Locking{Enhanced: client.Enhanced{Timeouts: client.LockTimeouts{Default: -1}}}})
	if err == nil || err.Error() != `locking.enhanced.timeouts.default: invalid value: string "-1ns", expected a duration` {
		t.Errorf("%v", err)
	}
	// What is wrong with all of them together names its settings by itself.
	_, err = client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled}})
	const missing = "the configuration: locking.data_dir is missing: set it, or ATLANTIS_LOCKING_DATA_DIR, to the folder of the embedded store, " +
		"by which a running server is found, too; a linked Atlantis has the folder atlock in its --data-dir"
	if err == nil || err.Error() != missing {
		t.Errorf("%v", err)
	}
}

// Who opens a folder twice is not sent to look for another process.
func TestAFolderThatThisProcessHasOpen(t *testing.T) {
	config := client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: t.TempDir()}}
	first, err := client.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := client.Open(config); !errors.Is(err, client.ErrStoreBusy) || !strings.Contains(err.Error(), "is open in this process (") {
		t.Errorf("%v", err)
	}
	if _, err := client.Open(client.Config{}); !errors.Is(err, client.ErrInvalidConfig) || !strings.Contains(err.Error(), "in package client WithHost") {
		t.Errorf("%v", err)
	}
}
