package releases

import (
	"slices"
	"testing"

	"golang.org/x/mod/semver"
)

func TestTheTableIsSorted(t *testing.T) {
	sorted := slices.Clone(Supported)
	semver.Sort(sorted)
	slices.Reverse(sorted)
	if !slices.Equal(sorted, Supported) || slices.ContainsFunc(Supported, func(v string) bool { return !semver.IsValid(v) }) {
		t.Errorf("got %v, newest first it is %v", Supported, sorted)
	}
}

func TestTags(t *testing.T) {
	for version, want := range map[string][]string{
		"v0.47.1": nil,
		"v0.46.0": nil,
		"v0.45.9": {"atlantis_before_v0_46"},
		"v0.42.0": {"atlantis_before_v0_46"},
		"v0.40.0": {"atlantis_before_v0_46", "atlantis_before_v0_42"},
		"v0.28.5": {"atlantis_before_v0_46", "atlantis_before_v0_42", "atlantis_before_v0_40"},
		"v0.27.0": {"atlantis_before_v0_46", "atlantis_before_v0_42", "atlantis_before_v0_40", "atlantis_before_v0_28"},
	} {
		if got := Tags(version); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", version, got, want)
		}
	}
}

func TestOthersAreUntested(t *testing.T) {
	if IsSupported("v0.39.0") || !IsSupported(Supported[0]) {
		t.Error("what is tested is what the table has")
	}
}
