package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/atlock/atlock/go/atlock"
)

// errUneditable is of a settings file in which the mode cannot be put in its place.
var errUneditable = errors.New("the mode cannot be put into it")

// withMode is a settings file with another mode: everything else stays as it is, byte for byte, comments too. For strict mode it is
// `enabled: false`, the rollback, so that the mode of before stays written.
func withMode(text []byte, mode atlock.Mode) ([]byte, error) {
	wanted := [][2]string{{"enabled", "true"}, {"compatibility_mode", string(mode)}}
	if mode == atlock.ModeStrict {
		wanted = [][2]string{{"enabled", "false"}}
	}
	for _, setting := range wanted {
		changed, err := withSetting(text, setting[0], setting[1])
		if err != nil {
			return nil, err
		}
		text = changed
	}
	return text, nil
}

// withSetting is a settings file with another value of locking.enhanced.KEY.
func withSetting(text []byte, key, value string) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%w: %w", errUneditable, err)
	}
	if len(document.Content) != 1 {
		return nil, fmt.Errorf("%w: it is empty", errUneditable)
	}
	locking, err := blockOf(document.Content[0], "locking")
	if err != nil {
		return nil, err
	}
	enhanced := valueOf(locking, "enhanced")
	if enhanced == nil {
		return withFirst(text, locking, fmt.Sprintf("enhanced: {%s: %s}", key, value))
	}
	enhanced, err = blockOf(locking, "enhanced")
	if err != nil {
		return nil, err
	}
	if before := valueOf(enhanced, key); before != nil {
		return replaced(text, before, value)
	}
	return withFirst(text, enhanced, key+": "+value)
}

// blockOf is a block of settings with at least one in it.
func blockOf(in *yaml.Node, key string) (*yaml.Node, error) {
	if in.Kind == yaml.MappingNode {
		if block := valueOf(in, key); block != nil && block.Kind == yaml.MappingNode && len(block.Content) > 0 {
			return block, nil
		}
	}
	return nil, fmt.Errorf("%w: it has no block %q with settings in it", errUneditable, key)
}

// valueOf is the value at a key of a block; nil without one.
func valueOf(block *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(block.Content); i += 2 {
		if block.Content[i].Value == key {
			return block.Content[i+1]
		}
	}
	return nil
}

// replaced puts a value in the place of a scalar.
func replaced(text []byte, before *yaml.Node, value string) ([]byte, error) {
	written := before.Value
	switch before.Style &^ yaml.TaggedStyle {
	case 0:
	case yaml.DoubleQuotedStyle:
		written = `"` + written + `"`
	case yaml.SingleQuotedStyle:
		written = "'" + written + "'"
	default:
		return nil, fmt.Errorf("%w: line %d has no plain value", errUneditable, before.Line)
	}
	at := offset(text, before.Line, before.Column)
	if before.Kind != yaml.ScalarNode || before.Anchor != "" || !bytes.HasPrefix(text[at:], []byte(written)) {
		return nil, fmt.Errorf("%w: line %d has no plain value", errUneditable, before.Line)
	}
	return bytes.Join([][]byte{text[:at], []byte(value), text[at+len(written):]}, nil), nil
}

// withFirst puts a setting before the first one of a block.
func withFirst(text []byte, block *yaml.Node, setting string) ([]byte, error) {
	first := block.Content[0]
	at := offset(text, first.Line, first.Column)
	after := "\n" + strings.Repeat(" ", first.Column-1)
	if block.Style&yaml.FlowStyle != 0 {
		after = ", "
	}
	return bytes.Join([][]byte{text[:at], []byte(setting + after), text[at:]}, nil), nil
}

// offset is where a line's column is; both begin with 1, and columns are letters.
func offset(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		at += bytes.IndexByte(text[at:], '\n') + 1
	}
	for range column - 1 {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return at
}
