package runbook

import (
	"embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

//go:embed directions
var written embed.FS

// place is a block of a document: its number among those below a heading that are no output.
type place struct {
	heading string
	block   int
}

// Directions are what happens before a block, and is not the operator's to do: in the order in which it happens.
type Directions map[place][]string

var direction = regexp.MustCompile(`^([1-9][0-9]*): (\S.*)$`)

// readDirections reads the directions of a document.
func readDirections(name string) (Directions, error) {
	path := "directions/" + strings.TrimSuffix(name, ".md") + ".txt"
	text, err := written.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read, err := ParseDirections(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return read, nil
}

// ParseDirections reads a heading as the document has it, and then lines of a block's number and a direction.
func ParseDirections(text string) (Directions, error) {
	read := Directions{}
	at := place{}
	for i, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "#") {
			at = place{heading: line}
			if read.knows(line) {
				return nil, fmt.Errorf("%d: the heading %q had its directions before", i+1, line)
			}
			continue
		}
		found := direction.FindStringSubmatch(line)
		if found == nil || at.heading == "" {
			return nil, fmt.Errorf("%d: %q is neither a heading nor, below one, the number of a block and a direction", i+1, line)
		}
		block, err := strconv.Atoi(found[1])
		if err != nil || block < at.block {
			return nil, fmt.Errorf("%d: block %s comes after block %d", i+1, found[1], at.block)
		}
		at.block = block
		read[at] = append(read[at], found[2])
	}
	return read, nil
}

// knows tells whether there are directions below this heading.
func (d Directions) knows(heading string) bool {
	for at := range d {
		if at.heading == heading {
			return true
		}
	}
	return false
}

func (d Directions) count() int {
	count := 0
	for _, directions := range d {
		count += len(directions)
	}
	return count
}
