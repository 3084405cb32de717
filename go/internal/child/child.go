// Package child runs child processes that never outlive this one: a Redis, a Git host, a server under test.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a running child. It is killed by the kernel when this process ends, however that ends.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs cmd and waits for its end in the background. It adds to cmd.SysProcAttr, in which a user may be named.
//
// The kernel sends the parent-death signal when the *thread* that started the child ends, so that thread is kept for as
// long as the child lives. The child is in a process group of its own, so that Ctrl-C at a terminal reaches this process
// alone, which then stops the child in good order.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true

	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in ExitCode
		}
	}()
	return p, <-started
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exited tells whether the child has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ExitCode is the child's exit code, -1 if a signal ended it. It may be called only after its end.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Signal sends a signal to the child. It fails when the child has ended.
func (p *Process) Signal(signal syscall.Signal) error { return p.cmd.Process.Signal(signal) }

// Stop signals the child and waits for its end. A paused child is resumed, since it would not act on SIGTERM.
func (p *Process) Stop(signal syscall.Signal) {
	_ = p.Signal(signal) // fails only when it has already ended
	_ = p.Signal(syscall.SIGCONT)
	<-p.done
}
