package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Two processes race like this. The test starts its own binary again, with the
// race's description in the environment; Main notices that, opens the store and
// says that it is ready. For each round the test sends the moment at which it
// begins, both processes wait for that moment, and the child sends back what
// its takers were told. The child ends when its input ends.

const (
	// childVariable holds, in the second process, its childRole.
	childVariable = "ATLOCK_CONFORMANCE_CHILD"
	// headStart is the time between the announcement of a round and its begin;
	// it has to be longer than a line takes through a pipe.
	headStart = 2 * time.Millisecond
)

// races are those that a second process can join, by the name it is told.
var races = map[string]race{"lock": lockRace, "command": commandRace}

// childRole is what a second process needs to know.
type childRole struct {
	Spec Spec
	// Race is a key of races.
	Race       string
	FirstTaker int
	Takers     int
}

// roundStart announces a round.
type roundStart struct {
	// Begin is the moment in nanoseconds of the Unix epoch.
	Begin int64
}

// childReply says that the child is ready (no outcomes), or how a round went.
type childReply struct{ Outcomes []outcome }

func processBehaviours() []behaviour {
	return []behaviour{
		{name: "Processes/OneTakerWins", guards: TryLockRace, needs: ManyProcesses, check: func(s *scene) error { return s.raceTwoProcesses("lock") }},
		{name: "Processes/OneCommandTakerWins", guards: CommandLockRace, needs: ManyProcesses, check: func(s *scene) error { return s.raceTwoProcesses("command") }},
	}
}

// Main runs a package's tests, or, if this process is the second one of a race,
// its part of that race. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(conformance.Main(m, openers)) }
//
// The openers are those that Specs name.
func Main(m *testing.M, openers map[string]Opener) int {
	text := os.Getenv(childVariable)
	if text == "" {
		return m.Run()
	}
	if err := joinRace(text, openers, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "second process of a race:", err)
		return 1
	}
	return 0
}

// joinRace is the second process.
func joinRace(text string, openers map[string]Opener, in io.Reader, out io.Writer) (err error) {
	var role childRole
	if err := json.Unmarshal([]byte(text), &role); err != nil {
		return fmt.Errorf("read role: %w", err)
	}
	race, known := races[role.Race]
	if !known {
		return fmt.Errorf("unknown race %q", role.Race)
	}
	open, known := openers[role.Spec.Opener]
	if !known {
		return fmt.Errorf("TestMain gives no opener %q to conformance.Main", role.Spec.Opener)
	}
	database, err := open(role.Spec.Address)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, database.Close()) }()

	send, receive := json.NewEncoder(out), json.NewDecoder(in)
	if err := send.Encode(childReply{}); err != nil {
		return err
	}
	for {
		var start roundStart
		if err := receive.Decode(&start); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read round: %w", err)
		}
		waitUntil(start.Begin)
		reply := childReply{Outcomes: race.takeAll(database, role.FirstTaker, role.Takers)}
		if err := send.Encode(reply); err != nil {
			return err
		}
	}
}

// waitUntil returns at a moment of the clock that all processes share. It
// does not sleep, since waking up takes longer than a round.
func waitUntil(unixNano int64) {
	for time.Now().UnixNano() < unixNano {
		runtime.Gosched()
	}
}

func (s *scene) raceTwoProcesses(name string) error {
	const takers = takersPerRound / 2
	race := races[name]
	child, err := startChild(childRole{Spec: s.store.Spec, Race: name, FirstTaker: 1 + takers, Takers: takers})
	if err != nil {
		return err
	}
	outcome := s.roundsWith(child, race, takers)
	if err := child.end(); err != nil {
		return err
	}
	return outcome
}

func (s *scene) roundsWith(child *child, race race, takers int) error {
	for round := range s.rounds {
		winner, err := s.roundWith(child, race, takers)
		if err == nil {
			err = race.release(s.db, winner)
		}
		if err != nil {
			return fmt.Errorf("round %d of %d: %w", round+1, s.rounds, err)
		}
	}
	return nil
}

// roundWith lets this process's takers and the child's race once.
func (s *scene) roundWith(child *child, race race, takers int) (winner int, err error) {
	begin := time.Now().Add(headStart).UnixNano()
	if err := child.send.Encode(roundStart{Begin: begin}); err != nil {
		return 0, fmt.Errorf("announce the round: %w", err)
	}
	waitUntil(begin)
	outcomes := race.takeAll(s.db, 1, takers)
	reply, err := child.reply()
	if err != nil {
		return 0, err
	}
	return judge(append(outcomes, reply.Outcomes...))
}

// child is the second process, seen from the first.
type child struct {
	command *exec.Cmd
	input   io.Closer
	send    *json.Encoder
	receive *json.Decoder
}

func startChild(role childRole) (*child, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(role)
	if err != nil {
		return nil, err
	}
	command := exec.Command(binary)
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start the second process: %w", err)
	}
	c := &child{command: command, input: input, send: json.NewEncoder(input), receive: json.NewDecoder(output)}
	if _, err := c.reply(); err != nil {
		return nil, errors.Join(fmt.Errorf("the second process does not start: %w", err), c.end())
	}
	return c, nil
}

func (c *child) reply() (childReply, error) {
	var reply childReply
	if err := c.receive.Decode(&reply); err != nil {
		return reply, fmt.Errorf("read from the second process: %w", err)
	}
	return reply, nil
}

// end closes the child's input, which ends it, and waits for that. A child that
// does not end in time is killed.
func (c *child) end() error {
	const limit = 20 * time.Second
	kill := time.AfterFunc(limit, func() { _ = c.command.Process.Signal(syscall.SIGKILL) })
	defer kill.Stop()
	_ = c.input.Close() // fails only when the child has ended
	if err := c.command.Wait(); err != nil {
		return fmt.Errorf("second process: %w", err)
	}
	return nil
}
