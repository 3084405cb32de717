package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// report is the content of report.json; the other two files are drawn from it.
type report struct {
	Date     time.Time      `json:"date"`
	Commit   string         `json:"commit"`
	Machine  machine        `json:"machine"`
	Settings reportSettings `json:"settings"`
	Results  []result       `json:"results"`
	Memory   []memoryResult `json:"memory"`
}

// reportSettings are what somebody needs to run the same again, and to judge it.
type reportSettings struct {
	Seed         uint64 `json:"seed"`
	Sizes        []int  `json:"sizes"`
	ValueBytes   int    `json:"value_bytes"` // a lock's JSON
	Repositories int    `json:"repositories"`
	LocksPerPull int    `json:"locks_per_pull"`
}

// result is one subject's figures in one operation at one size.
type result struct {
	Size      int           `json:"size"`
	Operation operationName `json:"operation"`
	Subject   subjectName   `json:"subject"`
	Unit      unit          `json:"unit"`
	Rounds    int           `json:"rounds"`
	Samples   int           `json:"samples"`
	P50       float64       `json:"p50"`
	P99       float64       `json:"p99,omitempty"` // of times; absent for pairs per second
	// Comparisons are absent for a stock store.
	Comparisons []comparison `json:"comparisons,omitempty"`
}

// comparison is a result beside that of a reference.
type comparison struct {
	Reference subjectName `json:"reference"`
	// Ratio is over the rounds: p50 of the subject's batch divided by p50 of the reference's batch of the same round.
	Ratio estimate `json:"ratio"`
	// Budget and Verdict are absent where there is no budget.
	Budget  float64 `json:"budget,omitempty"`
	Verdict verdict `json:"verdict,omitempty"`
}

func newReport(ctx context.Context, s settings, work string) (*report, error) {
	machine, err := describeMachine(ctx, work)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(storedLock(0))
	if err != nil {
		return nil, err
	}
	return &report{
		Date:    time.Now().UTC().Truncate(time.Second),
		Commit:  commit(ctx),
		Machine: machine,
		Settings: reportSettings{
			Seed:         s.seed,
			Sizes:        s.sizes,
			ValueBytes:   len(value),
			Repositories: repositories,
			LocksPerPull: locksPerPull,
		},
	}, nil
}

// summarize makes the results of one operation at one size.
func summarize(o operation, size int, all []*series) []result {
	p50s := make(map[subjectName][]float64, len(all)) // one for each round
	results := make([]result, len(all))
	for i, series := range all {
		subject := series.session.subject
		var samples []float64
		for _, round := range series.rounds {
			samples = append(samples, round...)
			p50s[subject.name] = append(p50s[subject.name], percentile(round, 0.5))
		}
		results[i] = result{
			Size:      size,
			Operation: o.name,
			Subject:   subject.name,
			Unit:      o.unit,
			Rounds:    len(series.rounds),
			Samples:   len(samples),
			P50:       percentile(samples, 0.5),
		}
		if o.unit == nanoseconds {
			results[i].P99 = percentile(samples, 0.99)
		}
		for _, reference := range subject.references {
			results[i].compare(reference, p50s[subject.name], p50s[reference])
		}
	}
	return results
}

// compare adds the ratio to the reference, given both p50s of each round, and judges it.
func (r *result) compare(reference subjectName, own, its []float64) {
	ratios := make([]float64, len(own))
	for round := range own {
		ratios[round] = own[round] / its[round]
	}
	c := comparison{Reference: reference, Ratio: estimateMedian(ratios)}
	if budget, found := budgets[pair{r.Subject, reference}][r.Operation]; found && r.Size == budgetSize {
		c.Budget, c.Verdict = budget, judge(c.Ratio, budget, r.Unit)
	}
	r.Comparisons = append(r.Comparisons, c)
}

// find returns the result of an operation and a subject at a size.
func (r *report) find(size int, operation operationName, subject subjectName) result {
	for _, result := range r.Results {
		if result.Size == size && result.Operation == operation && result.Subject == subject {
			return result
		}
	}
	panic("no result of " + string(operation) + " on " + string(subject)) // measureSize makes one for each
}

// findPair returns the comparison of a pair in an operation at a size.
func (r *report) findPair(size int, operation operationName, p pair) comparison {
	for _, comparison := range r.find(size, operation, p.subject).Comparisons {
		if comparison.Reference == p.reference {
			return comparison
		}
	}
	panic("no comparison of " + string(p.subject) + " with " + string(p.reference)) // summarize makes one for each
}

// write writes report.json, report.md and report.svg.
func (r *report) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"report.json": append(data, '\n'),
		"report.md":   r.markdown(),
		"report.svg":  r.plot(),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
