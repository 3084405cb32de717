package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test binary a memory child, too, when it is asked to be one.
func TestMain(m *testing.M) {
	if job, ok := childJob(); ok {
		exit(job.run())
	}
	os.Exit(m.Run())
}

// TestRun runs the whole benchmark in its smallest setting: everything is measured and reported, and nothing is left behind.
func TestRun(t *testing.T) {
	// The race detector makes each memory child wait for a second when it ends.
	t.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	s := settings{
		out:           t.TempDir(),
		dir:           t.TempDir(),
		seed:          1,
		sizes:         []int{10},
		time:          0,
		minRounds:     2,
		memoryRepeats: 1,
		memoryLocks:   10,
		settle:        time.Millisecond,
	}
	if err := run(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	report := readReport(t, s.out)
	for _, operation := range operations {
		for _, subject := range subjects {
			checkResult(t, report.find(10, operation.name, subject.name), subject)
		}
	}
	for _, subject := range subjects {
		for _, locks := range []int{0, 10} {
			found := slices.ContainsFunc(report.Memory, func(m memoryResult) bool {
				return m.Subject == subject.name && m.Locks == locks && m.RSS.Median > 0
			})
			if !found {
				t.Errorf("no memory of %s with %d locks", subject.name, locks)
			}
		}
	}
	checkText(t, filepath.Join(s.out, "report.md"), compared())
	checkXML(t, checkText(t, filepath.Join(s.out, "report.svg"), comparedWithStock()))
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func readReport(t *testing.T, folder string) *report {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report report
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	return &report
}

func checkResult(t *testing.T, result result, subject subject) {
	t.Helper()
	if result.Rounds != 2 || result.Samples < 2 || result.P50 <= 0 {
		t.Errorf("%s on %s: %+v", result.Operation, result.Subject, result)
	}
	if len(result.Comparisons) != len(subject.references) {
		t.Errorf("%s on %s: compared %v, references %q", result.Operation, result.Subject, result.Comparisons, subject.references)
	}
	for i, comparison := range result.Comparisons {
		if comparison.Reference != subject.references[i] || comparison.Ratio.Median <= 0 {
			t.Errorf("%s on %s: compared %v, references %q", result.Operation, result.Subject, result.Comparisons, subject.references)
		}
		if comparison.Verdict != "" {
			t.Errorf("%s on %s: judged by the budget for %d locks", result.Operation, result.Subject, budgetSize)
		}
	}
}

// checkText reads a file that has to name every pair's subject, and returns it.
func checkText(t *testing.T, path string, pairs []pair) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, pair := range pairs {
		if !strings.Contains(text, string(pair.subject)) {
			t.Errorf("%s does not name %s", path, pair.subject)
		}
	}
	if strings.Contains(text, "%!") {
		t.Errorf("%s holds a wrong format", path)
	}
	return text
}

func checkXML(t *testing.T, text string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("report.svg: %v", err)
		}
	}
}

// A cancelled run ends with an error, and leaves neither data nor a report.
func TestCancelledRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := settings{out: t.TempDir(), dir: t.TempDir(), sizes: []int{10}, time: time.Hour}
	if err := run(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for _, folder := range []string{s.out, s.dir} {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	}
}
