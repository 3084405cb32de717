package runbook

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Documents are the names of the documents whose commands are run, in the folder docs.
var Documents = []string{
	"01-overview.md", "02-compatibility.md", "03-configuration.md", "04-migration.md", "05-troubleshooting.md", "06-monitoring.md",
}

// Kind is what a step of a document is.
type Kind int

// The kinds of steps.
const (
	Direction Kind = iota // a stage direction
	Command               // shell commands that are run
	Settings              // a settings file
	NotRun                // commands that are not run
)

// Step is a piece of a document that means something to the test.
type Step struct {
	Kind Kind
	Line int
	Text string
	// Path is where settings are written; empty if they are only an example.
	Path string
	// Output is what a command prints; HasOutput tells whether the document shows it.
	Output    string
	HasOutput bool
}

// Document is one page of docs.
type Document struct {
	Name  string
	Text  string
	Steps []Step
}

var comment = regexp.MustCompile(`^<!-- (test|file): (.*) -->$`)

// Read reads a document of the repository.
func Read(root, name string) (Document, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		return Document{}, err
	}
	return Parse(name, string(text))
}

// Parse finds the steps of a document.
func Parse(name, text string) (Document, error) {
	document := Document{Name: name, Text: text}
	lines := strings.Split(text, "\n")
	path, last := "", -1 // last is the step that a text block belongs to
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.TrimSpace(line) == "" {
			continue
		}
		if found := comment.FindStringSubmatch(line); found != nil {
			last = -1
			if found[1] == "file" {
				path = found[2]
				continue
			}
			document.Steps = append(document.Steps, Step{Kind: Direction, Line: i + 1, Text: found[2]})
			continue
		}
		info, isFence := strings.CutPrefix(line, "```")
		if !isFence {
			last = -1
			continue
		}
		end := i + 1
		for end < len(lines) && lines[end] != "```" {
			end++
		}
		if end == len(lines) {
			return document, fmt.Errorf("%s:%d: the block is not closed", name, i+1)
		}
		content := strings.Join(lines[i+1:end], "\n") + "\n"
		step := Step{Line: i + 1, Text: content}
		switch info {
		case "sh":
			step.Kind = Command
		case "yaml":
			step.Kind, step.Path, path = Settings, path, ""
		case "console":
			step.Kind = NotRun
		case "text":
			if last < 0 {
				return document, fmt.Errorf("%s:%d: the text is not behind a command that prints it", name, i+1)
			}
			if saysNothing(content) {
				return document, fmt.Errorf("%s:%d: the text lets a command print anything: show what is always the same", name, i+1)
			}
			document.Steps[last].Output, document.Steps[last].HasOutput = content, true
			i, last = end, -1
			continue
		default:
			return document, fmt.Errorf("%s:%d: a block of %q: it must be sh, text, yaml or console", name, i+1, info)
		}
		document.Steps = append(document.Steps, step)
		i, last = end, -1
		if step.Kind == Command {
			last = len(document.Steps) - 1
		}
	}
	if path != "" {
		return document, fmt.Errorf("%s: no yaml block follows the comment file: %s", name, path)
	}
	return document, nil
}

// saysNothing tells whether a text stands for anything at all: then a command that fails would pass, too.
func saysNothing(text string) bool {
	return text != "\n" && strings.Trim(text, "… \n") == ""
}

// Matches tells whether a command printed what the document shows.
func Matches(shown, printed string) bool {
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for line := range strings.Lines(shown) {
		line = strings.TrimSuffix(line, "\n")
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`)
	}
	pattern.WriteString(`\z`)
	if printed != "" && !strings.HasSuffix(printed, "\n") {
		printed += "\n"
	}
	return regexp.MustCompile(pattern.String()).MatchString(printed)
}
