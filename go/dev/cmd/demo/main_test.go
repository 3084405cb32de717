package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The error says which option is wrong, and what to choose.
func TestWrongOptions(t *testing.T) {
	for _, wrong := range []struct {
		options options
		rest    []string
		texts   []string
	}{
		{options{mode: "native", port: usualPort}, nil, []string{`mode "native"`, "make run MODE=hybrid"}},
		{options{mode: modeHybrid, port: 0}, nil, []string{"port 0", "make run PORT="}},
		{options{mode: modeHybrid, port: 65536}, nil, []string{"port 65536", "make run PORT="}},
		{options{mode: modeHybrid, port: usualPort}, []string{"hybrid"}, []string{`"hybrid" is no option`}},
	} {
		err := wrong.options.check(wrong.rest)
		if err == nil {
			t.Errorf("%+v and %q are taken", wrong.options, wrong.rest)
			continue
		}
		for _, text := range wrong.texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error of %+v does not say %q: %v", wrong.options, text, err)
			}
		}
	}
	for _, port := range []int{1, 65535} {
		if err := (options{mode: modeEmbedded, port: port}).check(nil); err != nil {
			t.Error(err)
		}
	}
}

// What no demonstration has made stays, however often one is started there. What one has made is emptied by the next.
func TestClaim(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	file := filepath.Join(folder, "file")
	write := func() {
		t.Helper()
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	for range 2 {
		if _, _, err := claim(folder); err == nil || !strings.Contains(err.Error(), folder+" has files that no demonstration has made") {
			t.Fatalf("a folder with somebody's file: %v", err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that is not there, then one that a demonstration has left
		_, release, err := claim(folder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Fatalf("the file of the demonstration before: %v", err)
		}
		if _, _, err := claim(folder); err == nil || !strings.Contains(err.Error(), "another demonstration runs in "+folder) {
			t.Fatalf("a folder that is in use: %v", err)
		}
		release()
		write()
	}
}

// The port that an error suggests is one that any user may listen on, and leaves room for the Git host's.
func TestOtherPort(t *testing.T) {
	for port, want := range map[int]int{80: usualPort, 4141: 4241, 65434: 65534, 65435: usualPort, 65535: usualPort} {
		if got := otherPort(port); got != want {
			t.Errorf("instead of %d it suggests %d, not %d", port, got, want)
		}
	}
}

// Whoever changes the mode sees who decides now.
func TestStatusString(t *testing.T) {
	for want, seen := range map[string]status{
		"Redis decides (breaker closed)":                             {Mode: "hybrid", CircuitState: "closed"},
		"Redis is not asked (breaker open): the local store decides": {Mode: "hybrid", CircuitState: "open", FallbackActive: true},
		"Redis alone decides (native mode)":                          {Mode: "native", CircuitState: "disabled"},
		"The embedded store alone decides (strict mode)":             {Mode: "strict", CircuitState: "disabled"},
	} {
		if got := seen.String(); got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
}
