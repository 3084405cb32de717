//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedisComesAndGoes kills, stops and restarts Redis under a hybrid server while webhooks keep coming. Every command is
// answered as a stock server on a store that always works would: the lock is granted to exactly one, the others are refused and
// told the true holder, and nothing else fails. At the end Redis knows the same locks.
func TestRedisComesAndGoes(t *testing.T) {
	for _, mode := range []mode{hybridBolt, hybridSled} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			const workers = 3
			var rounds [workers]atomic.Int64
			over := make(chan struct{})
			end := sync.OnceFunc(func() { close(over) })
			var group sync.WaitGroup
			defer group.Wait()
			defer end()
			for i := range workers {
				group.Go(func() {
					t.Run(fmt.Sprint("repository ", i), func(t *testing.T) {
						defer end() // one that fails ends all
						contend(t, w.repository(t, fmt.Sprintf("acme/infra-%d", i)), &rounds[i], over)
					})
				})
			}
			comeAndGo(t, w, over, func() int64 {
				least := rounds[0].Load()
				for i := range rounds {
					least = min(least, rounds[i].Load())
				}
				return least
			})
			end()
			group.Wait()
			wantRedisToKnow(t, w)
			t.Logf("rounds of the repositories: %d %d %d", rounds[0].Load(), rounds[1].Load(), rounds[2].Load())
		})
	}
}

// contend lets two pull requests want one lock at the same time, again and again. Exactly one gets it, and gives it up later.
func contend(t *testing.T, r *repository, rounds *atomic.Int64, over <-chan struct{}) {
	t.Helper()
	pulls := [2]int{r.openQuietly(t), r.openQuietly(t)}
	keeper, comment := r.open(t, "app") // holds its lock all the time
	wantText(t, comment, planned)
	for {
		select {
		case <-over:
			return
		default:
		}
		var questions [2]sent
		for i, number := range pulls {
			questions[i] = r.send(t, number, "atlantis plan -d network")
		}
		var answers [2]string
		for i, question := range questions {
			answers[i] = r.answer(t, question)
		}
		winner := 0
		if !strings.Contains(answers[0], planned) {
			winner = 1
		}
		wantText(t, answers[winner], planned)
		wantText(t, answers[1-winner], refusedBy(pulls[winner]))
		r.wantHolders(t, map[string]int{"app": keeper, "network": pulls[winner]})
		wantText(t, r.command(t, pulls[1-winner], "atlantis plan -d app"), refusedBy(keeper))
		wantText(t, r.command(t, pulls[winner], "atlantis apply -d network"), applied)
		wantUnlocked(t, r.command(t, pulls[winner], "atlantis unlock"))
		r.wantHolders(t, map[string]int{"app": keeper})
		rounds.Add(1)
	}
}

// comeAndGo makes Redis fail, each time for at least one whole round of every worker, and lets it work as long afterwards.
func comeAndGo(t *testing.T, w *world, over <-chan struct{}, rounds func() int64) {
	t.Helper()
	further := func() {
		// One round may have begun before, so it is the second one that is whole.
		for target := rounds() + 2; rounds() < target; time.Sleep(10 * time.Millisecond) {
			select {
			case <-over:
				t.Fatal("a repository's test failed")
			default:
			}
		}
	}
	further()
	for _, failure := range []struct{ fail, mend func() }{
		{w.redis.Kill, func() { w.redis.Restart(t) }},
		{func() { w.redis.Pause(t) }, func() { w.redis.Resume(t) }},
		{w.redis.Shutdown, func() { w.redis.Restart(t) }},
	} {
		failure.fail()
		further()
		failure.mend()
		further()
		wantRedisToKnow(t, w)
	}
}

// wantRedisToKnow waits until what Redis holds is what the server lists: then Redis has been told of everything. The locks that
// the test takes and releases meanwhile differ for a moment now and then, but not for long.
func wantRedisToKnow(t *testing.T, w *world) {
	t.Helper()
	client := w.redis.Client(t)
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(20 * time.Millisecond) {
		inRedis, err := locksInRedis(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		listed := map[string]int{}
		for _, lock := range w.locks(t) {
			listed[strings.TrimSuffix(lock.Name, "/")] = lock.PullID
		}
		if maps.Equal(inRedis, listed) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v Redis has the locks %v, and the server lists %v", answerLimit, inRedis, listed)
		}
	}
}

// locksInRedis maps each lock in Redis to its holder's number.
func locksInRedis(ctx context.Context, client *redis.Client) (map[string]int, error) {
	keys, err := client.Keys(ctx, "pr/*").Result()
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	held := map[string]int{}
	for _, key := range keys {
		value, err := client.Get(ctx, key).Result()
		if err == redis.Nil {
			continue // released meanwhile
		}
		if err != nil {
			return nil, err
		}
		var lock struct{ Pull struct{ Num int } }
		if err := json.Unmarshal([]byte(value), &lock); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		held[strings.TrimSuffix(strings.TrimPrefix(key, "pr/"), "/")] = lock.Pull.Num
	}
	return held, nil
}
