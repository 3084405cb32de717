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
	// Path is where settings are written, by the file's first line; empty if they are only an example.
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

// fileName is the first line of a settings file that says where it stands.
var fileName = regexp.MustCompile(`^# (/\S+)\n`)

// Read reads a document of the repository, with its stage directions.
func Read(root, name string) (Document, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		return Document{}, err
	}
	directions, err := readDirections(name)
	if err != nil {
		return Document{}, err
	}
	return Parse(name, string(text), directions)
}

// Parse finds the steps of a document, and puts each direction before its block.
func Parse(name, text string, directions Directions) (Document, error) {
	document := Document{Name: name, Text: text}
	lines := strings.Split(text, "\n")
	at, seen, found := place{}, map[string]bool{}, 0
	last := -1 // the step that a text block belongs to
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.TrimSpace(line) == "" {
			continue
		}
		info, isFence := strings.CutPrefix(line, "```")
		if !isFence {
			last = -1
			if strings.HasPrefix(line, "#") {
				at = place{heading: line}
				if seen[line] && directions.knows(line) {
					return document, fmt.Errorf("%s:%d: the heading %q has directions, and stands there twice", name, i+1, line)
				}
				seen[line] = true
			}
			if strings.HasPrefix(line, "<!--") {
				return document, fmt.Errorf("%s:%d: a comment stands where people read: directions belong into the folder directions", name, i+1)
			}
			continue
		}
		end := i + 1
		for end < len(lines) && lines[end] != "```" {
			end++
		}
		if end == len(lines) {
			return document, fmt.Errorf("%s:%d: the block is not closed", name, i+1)
		}
		step := Step{Line: i + 1, Text: strings.Join(lines[i+1:end], "\n") + "\n"}
		i = end
		if info == "text" {
			if err := document.shows(last, step); err != nil {
				return document, err
			}
			last = -1
			continue
		}
		if err := step.is(info); err != nil {
			return document, fmt.Errorf("%s:%d: %w", name, step.Line, err)
		}
		at.block++
		for _, direction := range directions[at] {
			document.Steps = append(document.Steps, Step{Kind: Direction, Line: step.Line, Text: direction})
			found++
		}
		document.Steps = append(document.Steps, step)
		last = -1
		if step.Kind == Command {
			last = len(document.Steps) - 1
		}
	}
	if found != directions.count() {
		return document, fmt.Errorf("%s: %d directions are for blocks that are not there: %v", name, directions.count()-found, directions)
	}
	return document, nil
}

// is makes the step what the block's language says.
func (s *Step) is(info string) error {
	switch info {
	case "sh":
		s.Kind = Command
	case "yaml":
		s.Kind = Settings
		if found := fileName.FindStringSubmatch(s.Text); found != nil {
			s.Path = found[1]
		}
	case "console":
		s.Kind = NotRun
	default:
		return fmt.Errorf("a block of %q: it must be sh, text, yaml or console", info)
	}
	return nil
}

// shows takes a block of text as what the command before it prints.
func (d *Document) shows(command int, text Step) error {
	if command < 0 {
		return fmt.Errorf("%s:%d: the text is not behind a command that prints it", d.Name, text.Line)
	}
	if saysNothing(text.Text) {
		return fmt.Errorf("%s:%d: the text lets a command print anything: show what is always the same", d.Name, text.Line)
	}
	d.Steps[command].Output, d.Steps[command].HasOutput = text.Text, true
	return nil
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
