package privateredis

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A server finds its files also in a folder that is named from here, keeps its address, and has its log where its error says.
func TestServerInARelativeFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	server, err := Start(t.Context(), filepath.Join("some", "redis"), "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	client := redis.NewClient(&redis.Options{Addr: server.Address})
	defer func() { _ = client.Close() }()
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("it answers after it was killed")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if value, err := client.Get(t.Context(), "key").Result(); err != nil || value != "value" {
		t.Errorf("after its restart: %q, %v", value, err)
	}
	if _, err := os.Stat(server.log()); err != nil {
		t.Error(err)
	}
}
