package githost

import (
	"fmt"
	"net/http"
	"time"
)

// Fault is how the API fails when it is asked for a pull request of a repository. Everything else works.
type Fault struct {
	// Code is answered instead; 0 for none.
	Code int
	// Delay is how long the answer takes.
	Delay time.Duration
	// Silent: there is no answer as long as the fault lasts.
	Silent bool
	// Broken: the connection ends without an answer.
	Broken bool
}

// SetFault makes the API fail for a repository; the zero fault ends that.
func (h *Host) SetFault(fullName string, fault Fault) error {
	r, err := h.find(fullName)
	if err != nil {
		return err
	}
	h.change(func() { r.fault = fault })
	return nil
}

// DeleteFork makes the pull request one of a fork that is gone.
func (h *Host) DeleteFork(fullName string, number int) error {
	_, err := h.update(fullName, number, func(p *Pull) { p.ForkGone = true })
	return err
}

// failing answers as the repository's fault says.
func (h *Host) failing(handler func(*http.Request) (int, any, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		fault := h.waitOut(r)
		switch {
		case fault.Broken:
			panic(http.ErrAbortHandler)
		case fault.Code != 0:
			return fault.Code, map[string]string{"message": fmt.Sprintf("the stand-in fails with %d", fault.Code)}, nil
		}
		return handler(r)
	}
}

// waitOut returns the repository's fault once that lets an answer through.
func (h *Host) waitOut(r *http.Request) Fault {
	for {
		h.mu.Lock()
		changed, fault := h.changed, Fault{}
		if found, ok := h.repos[repoOf(r)]; ok {
			fault = found.fault
		}
		h.mu.Unlock()
		if !fault.Silent {
			time.Sleep(fault.Delay)
			return fault
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return fault
		}
	}
}
