package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/handover"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

// Atlantis's /readyz is what a ping of its database says: a server that grants no lock is not ready, and one that grants is, also while the
// local store decides. The health endpoint says the same.
func TestReadyAgreesWithTheHealth(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	hybrid := func(address string, unseen bool) atlock.Locking {
		return atlock.Locking{Backend: atlock.BackendSled, DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
			Enabled: true, CompatibilityMode: atlock.ModeHybrid, AllowUnseenRedis: unseen, Redis: atlock.Redis{Address: address},
		}}
	}
	for state, locking := range map[string]atlock.Locking{
		"healthy":   hybrid(redis.Addr, false),
		"degraded":  hybrid("127.0.0.1:1", true),
		"unhealthy": hybrid("127.0.0.1:1", false),
	} {
		database, err := atlock.Open(atlock.Config{Locking: locking})
		if err != nil {
			t.Fatal(err)
		}
		store := handover.NewStore(database)
		router := mux.NewRouter()
		web.Register(t.Context(), router, database, web.Options{})
		health := func() int {
			answer := httptest.NewRecorder()
			router.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, web.HealthPath, nil))
			return answer.Code
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			told, err := database.Health()
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("never %s: %+v, %v", state, told, err)
			}
			if string(told.State) == state {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		err = closedLater{store}.Ping()
		if code := health(); (err == nil) != (code == http.StatusOK) || (err == nil) != (state != "unhealthy") {
			t.Errorf("%s: ready says %v, and the health %d", state, err, code)
		}
		if err := database.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
