package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// Between two reports: on a terminal, where each overwrites the one before, and elsewhere, where each is a line of a log.
const (
	onTerminal = time.Second
	inLog      = 10 * time.Second
)

// compiled is a line with which `go build -v` tells of a package.
var compiled = regexp.MustCompile(`^[A-Za-z0-9_.~+/-]+$`)

// runVisibly runs a `go build -v`, and tells once in a while how far it is. What else the command says is passed on.
func runVisibly(build *exec.Cmd, to *os.File) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	build.Stdout, build.Stderr = to, write
	if err := build.Start(); err != nil {
		_ = write.Close()
		return err
	}
	_ = write.Close()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	info, err := to.Stat()
	isTerminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	every := inLog
	if isTerminal {
		every = onTerminal
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	report(to, lines, ticker.C, isTerminal)
	return build.Wait()
}

// report passes on what is no progress, and at each tick tells what is, until there are no more lines.
func report(to io.Writer, lines <-chan string, ticks <-chan time.Time, isTerminal bool) {
	begin, end := "", "\n"
	if isTerminal {
		begin, end = "\r\x1b[K", ""
	}
	begun, packages, modules := time.Now(), 0, 0
	for {
		select {
		case line, more := <-lines:
			switch {
			case !more:
				if isTerminal {
					_, _ = fmt.Fprint(to, begin)
				}
				return
			case compiled.MatchString(line):
				packages++
			case strings.HasPrefix(line, "go: downloading "):
				modules++
			default:
				_, _ = fmt.Fprintf(to, "%s%s\n", begin, line)
			}
		case <-ticks:
			_, _ = fmt.Fprintf(to, "%slink: Atlantis is being built: %d modules fetched, %d packages compiled, %d s%s",
				begin, modules, packages, int(time.Since(begun).Seconds()), end)
		}
	}
}
