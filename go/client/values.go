package client

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and writes texts such as "500ms" or "1s 500ms".
type Duration time.Duration

// MarshalText writes whole nanoseconds, which every reader understands.
func (d Duration) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%dns", time.Duration(d).Nanoseconds()), nil
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(strings.ReplaceAll(string(text), " ", ""))
	*d = Duration(parsed)
	return err
}

// String is time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// Secret is a text that is not shown when its struct is printed. It is written as it is in JSON.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "<redacted>"
}

// GoString hides the secret.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }
