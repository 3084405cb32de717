package conformance

import (
	"os"
	"slices"
	"testing"
)

// Run tries every behaviour that applies to the subject, each as a subtest.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	if os.Getenv(childVariable) != "" {
		t.Fatal("this process was started as the second process of a race: TestMain must call conformance.Main")
	}
	runAll(t, subject, behaviours())
}

// runAll tries those of the given behaviours that apply.
func runAll(t *testing.T, subject Subject, all []behaviour) {
	t.Helper()
	t.Run(subject.Name, func(t *testing.T) {
		settings := readSettings(t)
		for _, b := range subject.applicable(t, all) {
			t.Run(b.name, func(t *testing.T) { b.run(t, subject, settings) })
		}
	})
}

// run tries the behaviour once and fails the test if the outcome is not the
// expected one.
func (b behaviour) run(t *testing.T, subject Subject, settings settings) {
	t.Helper()
	asExpected, why := b.verdict(subject, b.try(t, subject, settings))
	switch {
	case !asExpected:
		t.Error(why)
	case why != "":
		t.Log(why)
	}
}

// applicable returns the behaviours that the subject's capabilities allow. A
// listed defect that none of them guards against would be a statement that
// nothing tests, so it fails the test.
func (s Subject) applicable(t *testing.T, all []behaviour) []behaviour {
	t.Helper()
	var applicable []behaviour
	unguarded := slices.Clone(s.Defects)
	for _, b := range all {
		if !s.Capabilities.has(b.needs) {
			t.Logf("left out: %s needs %s", b.name, b.needs)
			continue
		}
		applicable = append(applicable, b)
		unguarded = slices.DeleteFunc(unguarded, func(d Defect) bool { return d == b.guards })
	}
	if len(unguarded) > 0 {
		t.Errorf("no applicable behaviour guards against the listed defects %v", unguarded)
	}
	return applicable
}
