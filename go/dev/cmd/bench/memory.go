package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// memoryResult is the resident memory of a process that has one subject open and nothing to do, in MB (10^6 bytes).
type memoryResult struct {
	Subject subjectName `json:"subject"`
	Locks   int         `json:"locks"`
	RSS     estimate    `json:"rss_mb"`
	// Reference is what it is compared with: native for hybrid mode with Redis, otherwise stock BoltDB, which has none.
	Reference subjectName `json:"reference,omitempty"`
	// Above is the difference to the reference. Its ends are the largest differences that the two intervals allow.
	Above   *estimate `json:"above_mb,omitempty"`
	Budget  float64   `json:"budget_mb,omitempty"`
	Verdict verdict   `json:"verdict,omitempty"`
}

// memoryLimit is how long a child process may take.
const memoryLimit = time.Minute

// measureMemory measures each subject in processes of its own, in shuffled rounds.
func measureMemory(ctx context.Context, s settings, work string, random *rand.Rand) ([]memoryResult, error) {
	type figure struct {
		subject subject
		locks   int
		rss     []float64
	}
	var figures []*figure
	for _, locks := range []int{0, s.memoryLocks} {
		for _, subject := range subjects {
			figures = append(figures, &figure{subject: subject, locks: locks})
		}
	}
	order := append([]*figure(nil), figures...)
	for range s.memoryRepeats {
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			rss, err := measureChild(ctx, work, f.subject, memoryJob{Locks: f.locks, Settle: s.settle})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.subject.name, err)
			}
			f.rss = append(f.rss, rss)
		}
	}
	fmt.Fprintf(os.Stderr, "memory: each figure %d times\n", s.memoryRepeats)
	results := make([]memoryResult, len(figures))
	type reference struct {
		subject subjectName
		locks   int
	}
	measured := make(map[reference]estimate)
	for i, f := range figures {
		results[i] = memoryResult{Subject: f.subject.name, Locks: f.locks, RSS: estimateMedian(f.rss)}
		measured[reference{f.subject.name, f.locks}] = results[i].RSS
		if of := memoryReference(f.subject.name); of != "" {
			results[i].compare(of, measured[reference{of, f.locks}]) // references come first
		}
	}
	return results, nil
}

func memoryReference(of subjectName) subjectName {
	switch of {
	case stockBoltDB:
		return ""
	case hybridSync, hybridAsync:
		return native
	default:
		return stockBoltDB
	}
}

// compare sets the difference to a reference and, for subjects that are not stock themselves, judges it.
func (r *memoryResult) compare(with subjectName, its estimate) {
	above := estimate{
		Median: r.RSS.Median - its.Median,
		Low:    r.RSS.Low - its.High,
		High:   r.RSS.High - its.Low,
	}
	r.Reference, r.Above = with, &above
	switch {
	case r.Subject == stockRedis:
		return
	case r.Locks == 0 && with == stockBoltDB:
		r.Budget = memoryBudgetIdle
	case r.Locks == memoryBudgetLocks:
		r.Budget = memoryBudgetFilled
	default:
		return
	}
	r.Verdict = judge(above, r.Budget, megabytes)
}

// measureChild runs one child process on a fresh place and returns its resident memory in MB.
func measureChild(ctx context.Context, work string, subject subject, job memoryJob) (rss float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, memoryLimit)
	defer cancel()
	s := &session{subject: subject}
	job.Subject = subject.name
	if job.Place, err = s.newPlace(ctx, work); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	text, err := json.Marshal(job)
	if err != nil {
		return 0, err
	}
	executable, err := os.Executable()
	if err != nil {
		return 0, err
	}
	child := exec.CommandContext(ctx, executable)
	child.Env = append(os.Environ(), jobVariable+"="+string(text))
	child.Stderr = os.Stderr
	output, err := child.Output()
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.Atoi(strings.TrimSpace(string(output)))
	return float64(kilobytes) * 1024 / 1e6, err
}
