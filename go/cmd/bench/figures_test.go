package main

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	samples := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 0.2: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := percentile(samples, p); got != want {
			t.Errorf("percentile %v: %v, expected %v", p, got, want)
		}
	}
}

func TestEstimateMedian(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	cases := []struct {
		samples []float64
		want    estimate
	}{
		{[]float64{7}, estimate{7, 7, 7}},
		{[]float64{2, 1}, estimate{1.5, 1, 2}},
		{[]float64{3, 1, 2}, estimate{2, 1, 3}},
		{hundred, estimate{50.5, 41, 60}},
	}
	for _, c := range cases {
		if got := estimateMedian(c.samples); got != c.want {
			t.Errorf("%v samples: %v, expected %v", len(c.samples), got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	cases := []struct {
		estimate estimate
		unit     unit
		want     verdict
	}{
		{estimate{0.4, 0.3, 0.45}, nanoseconds, met},
		{estimate{0.4, 0.3, 0.55}, nanoseconds, metNarrowly},
		{estimate{0.6, 0.45, 0.7}, nanoseconds, notMetNarrowly},
		{estimate{0.6, 0.55, 0.7}, nanoseconds, notMet},
		{estimate{0.6, 0.55, 0.7}, pairsPerSecond, met},
		{estimate{0.4, 0.3, 0.45}, pairsPerSecond, notMet},
	}
	for _, c := range cases {
		if got := judge(c.estimate, 0.5, c.unit); got != c.want {
			t.Errorf("%v %s: %q, expected %q", c.estimate, c.unit, got, c.want)
		}
	}
}

// Ratios are made round by round: a machine that slows down for a while does not change them.
func TestSummarizePairsRounds(t *testing.T) {
	reference := &series{session: &session{subject: subject{name: stockBoltDB}}, rounds: [][]float64{{10}, {1000}, {20}}}
	own := &series{
		session: &session{subject: subject{name: strictSled, reference: stockBoltDB}},
		rounds:  [][]float64{{4}, {400}, {8}},
	}
	results := summarize(operation{name: getLock, unit: nanoseconds}, budgetSize, []*series{reference, own})
	if ratio := results[1].Ratio; *ratio != (estimate{0.4, 0.4, 0.4}) {
		t.Errorf("ratio %v", *ratio)
	}
	if results[1].Budget != 0.5 || results[1].Verdict != met {
		t.Errorf("budget %v, verdict %q", results[1].Budget, results[1].Verdict)
	}
}

// Every subject that is compared has a budget in every operation.
func TestBudgetsAreComplete(t *testing.T) {
	for _, operation := range operations {
		for _, subject := range compared() {
			if budgets[operation.name][subject.name] <= 0 {
				t.Errorf("no budget for %s on %s", operation.name, subject.name)
			}
		}
	}
}

// The largest size, which the budgets are about, gets half of the time.
func TestTimePerOperation(t *testing.T) {
	count := time.Duration(len(operations))
	s := settings{sizes: []int{10, 1_000, budgetSize}, time: 4 * time.Hour}
	if got, want := s.timePerOperation(budgetSize), 2*time.Hour/count; got != want {
		t.Errorf("largest: %v, expected %v", got, want)
	}
	if got, want := s.timePerOperation(10), time.Hour/count; got != want {
		t.Errorf("smaller: %v, expected %v", got, want)
	}
	s.sizes = []int{10}
	if got, want := s.timePerOperation(10), 4*time.Hour/count; got != want {
		t.Errorf("only one: %v, expected %v", got, want)
	}
}

func TestTexts(t *testing.T) {
	for number, want := range map[int]string{0: "0", 999: "999", 1_000: "1,000", 1_234_567: "1,234,567"} {
		if got := thousands(number); got != want {
			t.Errorf("thousands(%d): %q, expected %q", number, got, want)
		}
	}
	for number, want := range map[float64]string{
		950: "0.95 µs", 14_321: "14.3 µs", 366_000: "366 µs", 2_180_000: "2.18 ms", 620_000_000: "620 ms", 1_230_000_000: "1.23 s",
	} {
		if got := duration(number); got != want {
			t.Errorf("duration(%v): %q, expected %q", number, got, want)
		}
	}
	for ratio, want := range map[float64]string{0.0123: "0.012", 0.5: "0.50", 1.02: "1.02", 12.34: "12.3", 252.1: "252"} {
		if got := short(ratio); got != want {
			t.Errorf("short(%v): %q, expected %q", ratio, got, want)
		}
	}
}

// Two locks never have the same value, and fresh ones never meet a stored key.
func TestLocksDiffer(t *testing.T) {
	s := &session{size: 100, version: 100}
	keys, commits := make(map[string]bool), make(map[string]bool)
	for i := range s.size {
		keys[keyOf(storedLock(i))] = true
		commits[storedLock(i).Pull.HeadCommit] = true
	}
	if len(keys) != s.size {
		t.Errorf("%d keys of %d stored locks", len(keys), s.size)
	}
	fresh := append(s.freshPull(), s.fresh(), s.fresh())
	for _, lock := range append(fresh, s.requestsOf(3, 20)...) {
		if keys[keyOf(lock)] {
			t.Errorf("%s is a stored key", keyOf(lock))
		}
		if commits[lock.Pull.HeadCommit] {
			t.Errorf("value %s again", lock.Pull.HeadCommit)
		}
		commits[lock.Pull.HeadCommit] = true
	}
}
