package main

import (
	"slices"
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
		session: &session{subject: subject{name: strictSled, references: []subjectName{stockBoltDB}}},
		rounds:  [][]float64{{4}, {400}, {8}},
	}
	results := summarize(operation{name: getLock, unit: nanoseconds}, budgetSize, []*series{reference, own})
	want := comparison{Reference: stockBoltDB, Ratio: estimate{0.4, 0.4, 0.4}, Budget: 0.5, Verdict: met}
	if got := results[1].Comparisons; len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if results[0].Comparisons != nil {
		t.Errorf("stock is compared: %v", results[0].Comparisons)
	}
}

// Every pair has a budget in every operation, but for those named here, and there is no budget of any other.
func TestBudgetsAreComplete(t *testing.T) {
	without := map[pair][]operationName{
		{hybridSync, stockBoltDB}:  {getLock},
		{hybridAsync, stockBoltDB}: {getLock},
		{hybridAsync, native}:      {getLock, list, unlockByPull, pairs},
	}
	for _, pair := range compared() {
		for _, operation := range operations {
			if has := budgets[pair][operation.name] > 0; has == slices.Contains(without[pair], operation.name) {
				t.Errorf("%v on %v: budget %v", operation.name, pair, budgets[pair][operation.name])
			}
		}
	}
	for pair := range budgets {
		if !slices.Contains(compared(), pair) {
			t.Errorf("a budget for %v, which are not compared", pair)
		}
	}
}

// References are measured before what is compared with them.
func TestReferencesComeFirst(t *testing.T) {
	var seen []subjectName
	for _, subject := range subjects {
		for _, reference := range append(subject.references, memoryReference(subject.name)) {
			if reference != "" && !slices.Contains(seen, reference) {
				t.Errorf("%s comes before %s", subject.name, reference)
			}
		}
		seen = append(seen, subject.name)
	}
}

// In hybrid mode with Redis, memory is compared with native; otherwise with stock.
func TestMemoryBudgets(t *testing.T) {
	rss, its := estimate{30, 29, 31}, estimate{25, 25, 25}
	for _, c := range []struct {
		subject subjectName
		locks   int
		want    float64
	}{
		{hybridSync, memoryBudgetLocks, memoryBudgetFilled}, {hybridAsync, 0, 0}, {native, memoryBudgetLocks, memoryBudgetFilled},
		{hybridAlone, 0, memoryBudgetIdle}, {stockRedis, 0, 0}, {strictSled, 10, 0},
	} {
		r := memoryResult{Subject: c.subject, Locks: c.locks, RSS: rss}
		r.compare(memoryReference(c.subject), its)
		if r.Budget != c.want || (r.Verdict != "") != (c.want != 0) || *r.Above != (estimate{5, 4, 6}) {
			t.Errorf("%s with %d locks: %+v", c.subject, c.locks, r)
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
