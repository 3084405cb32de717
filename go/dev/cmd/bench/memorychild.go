package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// jobVariable is the environment variable that makes this program a child process, and says what to do.
const jobVariable = "ATLOCK_BENCH_JOB"

// memoryJob is what a child process does: open a subject, store locks and read them once, settle, and print its VmRSS in kB.
type memoryJob struct {
	Subject subjectName
	Place   place
	Locks   int
	Settle  time.Duration
}

// childJob tells whether this process is a child, and what it has to do. Without a readable job the work fails at once.
func childJob() (memoryJob, bool) {
	text, isChild := os.LookupEnv(jobVariable)
	var job memoryJob
	if isChild {
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", jobVariable, err)
		}
	}
	return job, isChild
}

func (j memoryJob) run() (err error) {
	subject, err := findSubject(j.Subject)
	if err != nil {
		return err
	}
	database, err := subject.open(j.Place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	if err := fill(context.Background(), database, j.Locks); err != nil {
		return err
	}
	locks, err := database.List()
	if err := errors.Join(err, sameSet(locks, j.Locks, storedLock)); err != nil {
		return err
	}
	settle(j.Settle)
	kilobytes, err := residentKilobytes()
	if err != nil {
		return err
	}
	fmt.Println(kilobytes)
	return nil
}

// settle waits for background work to end and returns what Go's heap does not use, so that the moment of the last garbage
// collection does not matter. The library's own memory stays as it is.
func settle(wait time.Duration) {
	time.Sleep(wait)
	runtime.GC()
	debug.FreeOSMemory()
}

func residentKilobytes() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		}
	}
	return 0, errors.New("no VmRSS in /proc/self/status")
}
