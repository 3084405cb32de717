package client

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// settingsOf writes settings for the library, each in a line of its own, so that several mistakes can be told at once.
func settingsOf(config Config) ([]byte, error) {
	return json.MarshalIndent(config, "", " ")
}

var (
	// How the library tells where a mistake is in a text: by line and column, before what is wrong and, often, behind that.
	place  = regexp.MustCompile(`the configuration:(\d+):\d+: `)
	behind = regexp.MustCompile(` at line \d+, column \d+`)
)

// byKey names settings by their keys in an error of the library, in place of lines of a text that the program's author never saw.
func byKey(err error, settings []byte) error {
	var failure *Error
	if !errors.As(err, &failure) || !place.MatchString(failure.Message) {
		return err
	}
	lines := strings.Split(string(settings), "\n")
	message := place.ReplaceAllStringFunc(failure.Message, func(found string) string {
		number, _ := strconv.Atoi(place.FindStringSubmatch(found)[1])
		return keyOf(lines, number) + ": "
	})
	return &Error{Code: failure.Code, Message: behind.ReplaceAllString(message, "")}
}

// keyOf is the path of the setting in a line, counted from 1: `locking.enhanced.backend`.
func keyOf(lines []string, number int) string {
	if number < 1 || number > len(lines) {
		return "the configuration"
	}
	var keys []string
	inner := len(lines[number-1]) + 1
	for _, line := range slices.Backward(lines[:number]) {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		name, _, isSetting := strings.Cut(strings.TrimSpace(line), `": `)
		if indent < inner && indent > 0 {
			inner = indent
			if isSetting {
				keys = append([]string{strings.TrimPrefix(name, `"`)}, keys...)
			}
		}
	}
	if keys == nil {
		return "the configuration"
	}
	return strings.Join(keys, ".")
}
