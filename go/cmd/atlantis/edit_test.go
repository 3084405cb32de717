package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/atlock"
)

func TestTheModeIsPutInItsPlace(t *testing.T) {
	const block = "# ours\nlocking:\n  backend: boltdb # stock's\n  enhanced:\n    # é, and why\n    enabled: true   # on\n    compatibility_mode: \"hybrid\"\n    redis: {address: 'r:1'}\n"
	for _, c := range []struct{ text, mode, want string }{
		{block, "native", strings.Replace(block, `"hybrid"`, "native", 1)},
		{block, "strict", strings.Replace(block, "enabled: true ", "enabled: false ", 1)},
		{"locking: {enhanced: {é: 1, enabled: false, compatibility_mode: 'native'}}", "hybrid", "locking: {enhanced: {é: 1, enabled: true, compatibility_mode: hybrid}}"},
		{"locking:\n  enhanced:\n    redis: {db: 1}\n", "native", "locking:\n  enhanced:\n    compatibility_mode: native\n    enabled: true\n    redis: {db: 1}\n"},
		{"locking:\r\n  data_dir: /x\r\n", "hybrid", "locking:\r\n  enhanced: {compatibility_mode: hybrid, enabled: true}\n  data_dir: /x\r\n"},
		{"locking: {data_dir: /x}\n", "strict", "locking: {enhanced: {enabled: false}, data_dir: /x}\n"},
	} {
		got, err := withMode([]byte(c.text), atlock.Mode(c.mode))
		if err != nil || string(got) != c.want {
			t.Errorf("%s of\n%s\nis\n%s\n%v", c.mode, c.text, got, err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "locking:\n", "locking: {}\n", "other: 1\n", "locking: {enhanced: 1}", "locking: {enhanced: {enabled: &a true}}", "locking: [", "- 1\n"} {
		if got, err := withMode([]byte(text), "hybrid"); !errors.Is(err, errUneditable) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
