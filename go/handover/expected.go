package handover

import (
	"runtime"
	"sync"
	"weak"

	"github.com/runatlantis/atlantis/server/events/command"
)

// expected are the commands whose hooks run before their bracket. A close meanwhile is one in the middle of the command, too.
//
// Whether a command comes is not certain: a hook that fails ends it. So it is forgotten when nobody has it any more.
type expected struct {
	mutex    sync.Mutex
	commands map[weak.Pointer[command.Context]]*expectation
}

type expectation struct {
	pull   pullKey
	closed bool
}

// expect is told of a command before its hooks.
func (e *expected) expect(ctx *command.Context) {
	pointer := weak.Make(ctx)
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.commands == nil {
		e.commands = map[weak.Pointer[command.Context]]*expectation{}
	}
	if e.commands[pointer] == nil {
		e.commands[pointer] = &expectation{pull: keyOf(ctx.Pull.BaseRepo, ctx.Pull.Num)}
		runtime.AddCleanup(ctx, e.forget, pointer)
	}
}

func (e *expected) forget(pointer weak.Pointer[command.Context]) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	delete(e.commands, pointer)
}

// close is told that a pull request is closed.
func (e *expected) close(pull pullKey) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for _, expectation := range e.commands {
		expectation.closed = expectation.closed || expectation.pull == pull
	}
}

// isClosed tells whether the command's pull request was closed since the command is expected.
func (e *expected) isClosed(ctx *command.Context) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	expectation := e.commands[weak.Make(ctx)]
	return expectation != nil && expectation.closed
}
