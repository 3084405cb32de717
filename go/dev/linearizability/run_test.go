package linearizability

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

const (
	secondsVariable = "ATLOCK_LINEARIZABILITY_SECONDS"
	seedVariable    = "ATLOCK_LINEARIZABILITY_SEED"
	defaultSeconds  = 15

	// A server is killed after a time between these.
	shortestLife = time.Second
	longestLife  = 3 * time.Second
)

func TestMain(m *testing.M) {
	if text := os.Getenv(roleVariable); text != "" {
		if err := serve(text, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is what one test does.
type run struct {
	*testing.T
	// servers are their settings; the run adds the Redis.
	servers []settings
	clients int
	// specification is what the answers are checked by.
	specification specification
	// waits: the clients wait in order.
	waits bool
	// steady: Redis works all the time, and only servers die.
	steady bool
	// shortest and longest are the bounds of a server's life.
	shortest, longest time.Duration

	random *rand.Rand
	seed   uint64
	redis  *redistest.Server
	begin  int64
	end    int64

	// mu guards what follows.
	mu        sync.Mutex
	history   []operation
	errors    map[string]int
	fallback  int
	unarmed   int
	processes int
}

func newRun(t *testing.T, redis redistest.Options, clients int, servers ...settings) *run {
	r := newRunWithoutRedis(t, clients, servers...)
	r.redis = redistest.Start(t, redis)
	r.begin, r.end = now(), r.end-r.begin+now()
	return r
}

func newRunWithoutRedis(t *testing.T, clients int, servers ...settings) *run {
	length, seed := uint64(defaultSeconds), uint64(time.Now().UnixNano())
	for variable, number := range map[string]*uint64{secondsVariable: &length, seedVariable: &seed} {
		if text := os.Getenv(variable); text != "" {
			var err error
			if *number, err = strconv.ParseUint(text, 10, 63); err != nil {
				t.Fatalf("%s=%q: want a number", variable, text)
			}
		}
	}
	t.Logf("%s=%d %s=%d", secondsVariable, length, seedVariable, seed)
	r := &run{
		T: t, servers: servers, clients: clients, specification: lock, shortest: shortestLife, longest: longestLife,
		random: rand.New(rand.NewPCG(seed, 0)), seed: seed, errors: map[string]int{},
	}
	r.begin = now()
	r.end = r.begin + int64(length)*int64(time.Second)
	return r
}

// execute lets the servers work in the unrest, and checks what they were told.
func (r *run) execute() {
	r.Helper()
	stop := func() int { return 0 }
	var unrest *redistest.Unrest
	if r.redis != nil && !r.steady {
		unrest = r.redis.Disturb(r, rand.New(rand.NewPCG(r.seed, 1)))
		stop = unrest.Stop
	}
	errs := make([]error, len(r.servers))
	var running sync.WaitGroup
	for i := range r.servers {
		if r.redis != nil {
			r.servers[i].Locking.Enhanced.Redis = atlock.Redis{Address: r.redis.Addr}
		}
		random := rand.New(rand.NewPCG(r.seed, uint64(2+i)))
		running.Go(func() { errs[i] = r.server(i, random) })
	}
	time.Sleep(time.Duration(r.end - now()))
	kills := stop()
	running.Wait()
	r.calm()
	if err := errors.Join(errs...); err != nil {
		r.Fatal(err)
	}
	if unrest != nil {
		r.trouble(unrest.Away())
	}
	r.lookAtAll()
	r.Logf("%d operations; Redis was killed %d times, servers %d times; %d answers while the local store stood in, %d of them unarmed; by outcome: %v",
		len(r.history), kills, r.processes-len(r.servers), r.fallback, r.unarmed, r.outcomes())
	if (kills == 0 && unrest != nil) || r.processes == len(r.servers) {
		r.Error("nobody was killed: this has tested nothing")
	}
	if err := r.specification.check(r.history); err != nil {
		r.Error(err)
	}
}

// trouble marks the operations in whose time Redis was away. It may seem so for a while after it is back, and to one that takes
// long.
func (r *run) trouble(away []redistest.Away) {
	const afterwards, long = int64(time.Second), int64(300 * time.Millisecond)
	for i := range r.history {
		o := &r.history[i]
		o.troubled = o.end-o.begin > long
		for _, away := range away {
			from, until := now()-int64(time.Since(away.From)), now()-int64(time.Since(away.Until))
			o.troubled = o.troubled || (o.begin < until+afterwards && o.end > from)
		}
	}
}

// outcomes counts.
func (r *run) outcomes() map[string]int {
	counts := r.errors
	for _, o := range r.history {
		name := string(o.request.Kind)
		switch {
		case o.answer.Unknown:
			name = "unknown"
		case o.request.Kind == take && o.answer.Granted:
		case o.answer.Kept:
			name += " kept"
		case o.request.Kind == take:
			name = "refused"
		case o.answer.Granted, o.answer.Placed, o.answer.Place != 0, o.answer.Left:
			name += fmt.Sprintf(" (granted %v, placed %v)", o.answer.Granted, o.answer.Placed)
		case o.answer.Pull == 0:
			name += " nothing"
		}
		counts[name]++
	}
	return counts
}

// server runs one server until the end, in one process after another.
func (r *run) server(server int, random *rand.Rand) error {
	for {
		life := r.shortest + time.Duration(random.Int64N(int64(r.longest-r.shortest)))
		if killed, err := r.process(server, life); err != nil || !killed {
			return err
		}
	}
}

// process runs one server process, and kills it after some time, unless the end is near.
func (r *run) process(server int, life time.Duration) (killed bool, err error) {
	r.mu.Lock()
	r.processes++
	role := role{
		Settings: r.servers[server], Server: server, Process: r.processes, Queue: r.waits, Clients: r.clients, Seed: r.seed,
		Begin: r.begin, End: r.end,
	}
	r.mu.Unlock()
	text, err := json.Marshal(role)
	if err != nil {
		return false, err
	}
	binary, err := os.Executable()
	if err != nil {
		return false, err
	}
	command := exec.Command(binary)
	command.Env = append(os.Environ(), roleVariable+"="+string(text))
	command.Stderr = os.Stderr
	input, err := command.StdinPipe() // it ends with this process, and the other one with it
	if err != nil {
		return false, err
	}
	defer input.Close()
	output, err := command.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := command.Start(); err != nil {
		return false, err
	}
	if killed = now()+int64(life) < r.end; killed {
		defer time.AfterFunc(life, func() { _ = command.Process.Kill() }).Stop() // if it has ended, that is noticed below
	}
	told := r.read(role, output)
	ended := command.Wait()
	if killed && !command.ProcessState.Exited() {
		ended = nil
	}
	return killed, errors.Join(told, ended)
}

// read takes a process's notes into the history. What it began and told no end of may have been made, or be made later.
func (r *run) read(role role, output io.Reader) error {
	type name struct{ client, number int }
	open := map[name]operation{}
	var history []operation
	failed := map[string]int{}
	fallback, unarmed := 0, 0
	notes := json.NewDecoder(output)
	for {
		var n note
		if err := notes.Decode(&n); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read a server's notes: %w", err)
		}
		name := name{n.Client, n.Number}
		switch {
		case n.Request != nil:
			open[name] = operation{client: role.Process*100 + n.Client, request: *n.Request, answer: never, begin: n.At, end: stillOpen}
			continue
		case n.Answer == nil:
			failed[n.Error]++
		case n.Unarmed && open[name].request.Kind == look: // it shows what was
		default:
			history = append(history, r.ended(open[name], n))
		}
		if n.Fallback {
			fallback++
		}
		if n.Unarmed {
			unarmed++
		}
		delete(open, name)
	}
	for _, o := range open {
		if r.waits {
			o.end = r.latest(now())
		}
		history = append(history, o)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, history...)
	r.fallback += fallback
	r.unarmed += unarmed
	for name, count := range failed {
		r.errors[name] += count
	}
	return nil
}

// ended is an operation that was answered.
func (r *run) ended(o operation, n note) operation {
	o.answer = *n.Answer
	isRelease := o.request.Kind == release || o.request.Kind == releaseOwned
	switch {
	case o.answer.Unknown && r.waits:
		o.end = r.latest(n.At)
	case o.answer.Unknown:
	case n.Unarmed && isRelease && o.answer.Pull != 0:
		// It is released in Redis when that is back, if it is still there then.
		o.request = request{Kind: releaseOwned, Key: o.request.Key, Pull: o.answer.Pull}
		o.answer, o.end = never, untilCalm
	default:
		o.end = n.At
	}
	return o
}

// latest is when an operation of unknown outcome has its last effect after it failed, or its process died: what Redis has not done by
// the deadline of a question it never does.
func (r *run) latest(failed int64) int64 {
	if r.redis == nil {
		return failed
	}
	const deadline, slack = time.Second, 500 * time.Millisecond
	return failed + int64(deadline+slack)
}

// untilCalm is the end of an operation that is made before the servers end in good order.
const untilCalm = stillOpen - 1

// calm is called when they have ended.
func (r *run) calm() {
	ended := now()
	for i := range r.history {
		if r.history[i].end == untilCalm {
			r.history[i].end = ended
		}
	}
}

// lookAtAll adds, of each key, what is there in the end.
func (r *run) lookAtAll() {
	r.Helper()
	store := r.servers[0]
	if r.redis != nil {
		store = settings{Config: nativeOn(r.redis.Addr)}
	}
	database, err := store.open()
	if err != nil {
		r.Fatal(err)
	}
	defer database.Close()
	last := client{role: role{Queue: r.waits}, database: database}
	looked := map[string]bool{}
	for _, o := range r.history {
		request := request{Kind: look, Key: o.request.Key}
		if looked[request.Key] {
			continue
		}
		looked[request.Key] = true
		begin := now()
		answer, err := last.perform(request)
		if err != nil {
			r.Fatal(err)
		}
		r.history = append(r.history, operation{request: request, answer: answer, begin: begin, end: now()})
	}
}

func nativeOn(address string) atlock.Config {
	return atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{
		Enabled: true, CompatibilityMode: "native", Redis: atlock.Redis{Address: address},
	}}}
}
