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
	// Above is the difference to stock BoltDB, and absent for stock BoltDB itself. Its ends are the largest differences that
	// the two intervals allow.
	Above   *estimate `json:"above_stock_mb,omitempty"`
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
	stock := make(map[int]estimate) // by number of locks; stock BoltDB is the first subject
	for i, f := range figures {
		results[i] = memoryResult{Subject: f.subject.name, Locks: f.locks, RSS: estimateMedian(f.rss)}
		if f.subject.name == stockBoltDB {
			stock[f.locks] = results[i].RSS
		} else {
			results[i].compare(stock[f.locks])
		}
	}
	return results, nil
}

// compare sets the difference to stock and, for subjects that are not stock themselves, judges it.
func (r *memoryResult) compare(stock estimate) {
	above := estimate{
		Median: r.RSS.Median - stock.Median,
		Low:    r.RSS.Low - stock.High,
		High:   r.RSS.High - stock.Low,
	}
	r.Above = &above
	if r.Subject == stockRedis {
		return
	}
	switch r.Locks {
	case 0:
		r.Budget = memoryBudgetIdle
	case memoryBudgetLocks:
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
