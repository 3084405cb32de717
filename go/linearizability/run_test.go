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
	r := &run{T: t, servers: servers, clients: clients, random: rand.New(rand.NewPCG(seed, 0)), seed: seed, errors: map[string]int{}}
	r.redis = redistest.Start(t, redis)
	r.begin = now()
	r.end = r.begin + int64(length)*int64(time.Second)
	return r
}

// execute lets the servers work in the unrest, and checks what they were told.
func (r *run) execute() {
	r.Helper()
	unrest := r.redis.Disturb(r, rand.New(rand.NewPCG(r.seed, 1)))
	errs := make([]error, len(r.servers))
	var running sync.WaitGroup
	for i, settings := range r.servers {
		settings.Locking.Enhanced.Redis = atlock.Redis{Address: r.redis.Addr}
		random := rand.New(rand.NewPCG(r.seed, uint64(2+i)))
		running.Go(func() { errs[i] = r.server(settings, random) })
	}
	time.Sleep(time.Duration(r.end - now()))
	kills := unrest.Stop()
	running.Wait()
	r.calm()
	if err := errors.Join(errs...); err != nil {
		r.Fatal(err)
	}
	r.lookAtAll()
	r.Logf("%d operations; Redis was killed %d times, servers %d times; %d answers while the local store stood in, %d of them unarmed; by outcome: %v",
		len(r.history), kills, r.processes-len(r.servers), r.fallback, r.unarmed, r.outcomes())
	if kills == 0 || r.processes == len(r.servers) {
		r.Error("nobody was killed: this has tested nothing")
	}
	if err := check(r.history); err != nil {
		r.Error(err)
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
		case o.request.Kind == take && !o.answer.Granted:
			name = "refused"
		case o.request.Kind != take && o.answer.Pull == 0:
			name += " nothing"
		}
		counts[name]++
	}
	return counts
}

// server runs one server until the end, in one process after another.
func (r *run) server(settings settings, random *rand.Rand) error {
	for {
		life := shortestLife + time.Duration(random.Int64N(int64(longestLife-shortestLife)))
		if killed, err := r.process(settings, life); err != nil || !killed {
			return err
		}
	}
}

// process runs one server process, and kills it after some time, unless the end is near.
func (r *run) process(settings settings, life time.Duration) (killed bool, err error) {
	r.mu.Lock()
	r.processes++
	role := role{Settings: settings, Process: r.processes, Clients: r.clients, Seed: r.seed, Begin: r.begin, End: r.end}
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

// lookAtAll adds, of each key, what Redis has in the end.
func (r *run) lookAtAll() {
	r.Helper()
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{
		Enabled: true, CompatibilityMode: "native", Redis: atlock.Redis{Address: r.redis.Addr},
	}}})
	if err != nil {
		r.Fatal(err)
	}
	defer database.Close()
	looked := map[string]bool{}
	for _, o := range r.history {
		request := request{Kind: look, Key: o.request.Key}
		if looked[request.Key] {
			continue
		}
		looked[request.Key] = true
		begin := now()
		answer, err := perform(database, request)
		if err != nil {
			r.Fatal(err)
		}
		r.history = append(r.history, operation{request: request, answer: answer, begin: begin, end: now()})
	}
}
