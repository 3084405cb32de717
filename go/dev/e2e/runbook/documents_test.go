package runbook

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func documents(t *testing.T) []Document {
	t.Helper()
	var read []Document
	for _, name := range Documents {
		document, err := Read(repositoryRoot(t), name)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, document)
	}
	return read
}

// Every numbered document is one whose commands are run.
func TestTheDocumentsAreAll(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(repositoryRoot(t), "docs", "[0-9]*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	if !slices.Equal(names, Documents) {
		t.Errorf("docs has %v, and those that are run are %v", names, Documents)
	}
}

// notRun are the commands that need what a test does not have: an image registry, a cluster, or Prometheus's programs (package web
// runs promtool).
var notRun = []string{
	"podman build -f deploy/Containerfile -t registry.example.com/atlantis-atlock:v0.47.1 .",
	"helm upgrade --install atlantis runatlantis/atlantis -f deploy/helm/values.yaml",
	`scrape_configs:
  - job_name: atlantis
    scheme: https
    static_configs: [{targets: ["atlantis.example.com"]}]
    basic_auth: {username: prometheus, password_file: /etc/prometheus/atlantis-password}`,
	"promtool check rules deploy/monitoring/alerts.yaml",
}

func TestTheCommandsThatAreNotRunAreThese(t *testing.T) {
	var found []string
	for _, document := range documents(t) {
		for _, step := range document.Steps {
			if step.Kind == NotRun {
				found = append(found, strings.TrimSpace(step.Text))
			}
		}
	}
	if !slices.Equal(found, notRun) {
		t.Errorf("the documents have %q, want %q", found, notRun)
	}
}

// A command in the middle of a sentence is one that a block runs, or the beginning of one.
func TestCommandsInTheTextAreRun(t *testing.T) {
	var run strings.Builder
	read := documents(t)
	for _, document := range read {
		for _, step := range document.Steps {
			if step.Kind == Command || step.Kind == Direction {
				run.WriteString(step.Text)
			}
		}
	}
	// The command line's options stand between the program and what it is to do.
	commands := strings.ReplaceAll(run.String(), "atlock --config /etc/atlantis/locking.yaml ", "atlock ")
	span := regexp.MustCompile("`((?:curl|redis-cli|sudo|systemctl|journalctl|atlock|atlantis|jq) [a-z][^`]*)`")
	found := 0
	for _, document := range read {
		for _, inline := range span.FindAllStringSubmatch(document.Text, -1) {
			found++
			if !strings.Contains(commands, inline[1]) {
				t.Errorf("%s: `%s` is run nowhere", document.Name, inline[1])
			}
		}
	}
	if found == 0 {
		t.Error("no command was found in the text")
	}
}

// No document names a place of the machine that it was written on.
func TestNoDocumentKnowsThisMachine(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	for _, document := range documents(t) {
		for _, place := range []string{home + "/", repositoryRoot(t)} {
			if strings.Contains(document.Text, place) {
				t.Errorf("%s names %s", document.Name, place)
			}
		}
	}
}

func TestParse(t *testing.T) {
	directions, err := ParseDirections("# A\n1: start\n1: kill\n\n## B\n2: until\n")
	if err != nil {
		t.Fatal(err)
	}
	document, err := Parse("x.md", strings.Join([]string{
		"# A", "text", "```sh", "a", "# b", "```", "```text", "c", "```", "more", "```yaml", "# /f", "k: v", "```",
		"## B", "```console", "d", "```", "```sh", "e", "```", "",
	}, "\n"), directions)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Kind: Direction, Line: 3, Text: "start"},
		{Kind: Direction, Line: 3, Text: "kill"},
		{Kind: Command, Line: 3, Text: "a\n# b\n", Output: "c\n", HasOutput: true},
		{Kind: Settings, Line: 11, Text: "# /f\nk: v\n", Path: "/f"},
		{Kind: NotRun, Line: 16, Text: "d\n"},
		{Kind: Direction, Line: 19, Text: "until"},
		{Kind: Command, Line: 19, Text: "e\n"},
	}
	if !slices.Equal(document.Steps, want) {
		t.Errorf("got %+v", document.Steps)
	}
	for text, why := range map[string]string{
		"```sh\na\n":                         "not closed",
		"```\na\n```\n":                      "must be",
		"```text\na\n```\n":                  "not behind a command",
		"```sh\na\n```\nb\n```text\na\n```":  "not behind a command",
		"<!-- test: start -->\n":             "where people read",
		"```sh\na\n```\n```text\n…\n```":     "print anything",
		"```sh\na\n```\n```text\n…\n……\n```": "print anything",
	} {
		if _, err := Parse("x.md", text, nil); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %s", text, err, why)
		}
	}
}

// A direction that would be followed nowhere, or at another place than was meant, is an error.
func TestDirectionsHaveTheirBlocks(t *testing.T) {
	for text, why := range map[string]string{
		"# A\nb\n":                    "neither a heading",
		"1: start\n":                  "below one",
		"# A\n2: start\n1: kill\n":    "comes after",
		"# A\n1: start\n# A\n1: kill": "before",
	} {
		if _, err := ParseDirections(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %s", text, err, why)
		}
	}
	block := "```sh\na\n```\n"
	for _, c := range []struct{ text, directions, why string }{
		{"# A\n" + block, "# A\n2: start", "not there"},
		{"# A\n" + block, "# B\n1: start", "not there"},
		{"# A\n" + block + "# A\n" + block, "# A\n1: start", "stands there twice"},
	} {
		directions, err := ParseDirections(c.directions)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("x.md", c.text, directions); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q with %q: got %v, want %s", c.text, c.directions, err, c.why)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		shown, printed string
		want           bool
	}{
		{"a\n", "a\n", true},
		{"a\n", "a", true},
		{"a\n", "a\nb\n", false},
		{"a\n", "", false},
		{"", "", true},
		{"", "a\n", false},
		{"a…c\n", "abbc\n", true},
		{"a…c\n", "ab\nc\n", false},
		{"a\n…\nd\n", "a\nb\nc\nd\n", true},
		{"a\n…\nd\n", "a\nd\n", true},
		{"a\n…\nd\n", "a\nb\n", false},
		{"a.c\n", "abc\n", false},
		{"{\"a\": …\n", "{\"a\": 1,\n", true},
	} {
		if Matches(c.shown, c.printed) != c.want {
			t.Errorf("%q, %q: want %t", c.shown, c.printed, c.want)
		}
	}
}
