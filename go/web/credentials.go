package web

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/atlock/atlock/go/atlock"
)

// withoutCredentials leaves users and passwords of URLs out of a text, by the rule of the library (src/redact.rs). The library's own
// texts have none; but the errors of Atlantis's stores, which strict mode calls directly, never enter it.
func withoutCredentials(text string) string {
	var shown strings.Builder
	for {
		before, address, found := strings.Cut(text, "://")
		shown.WriteString(before)
		if !found {
			return shown.String()
		}
		shown.WriteString("://")
		text = address[credentials(before, address):]
	}
}

// credentials tells how many bytes of what follows a "://" are a user and a password, their @ included. A password that was not encoded
// may have what ends a host, or a space.
func credentials(before, address string) int {
	scheme := strings.ToLower(before)
	if strings.HasSuffix(scheme, "redis") || strings.HasSuffix(scheme, "rediss") {
		line := address[:end(address, func(c rune) bool { return c == '\n' || c == '\r' })]
		line, _, _ = strings.Cut(line, "://")
		return strings.LastIndexByte(line, '@') + 1
	}
	host := address[:end(address, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(`/?#"'<>`, c) })]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return at + 1
	}
	if !strings.Contains(host, ":") {
		return 0
	}
	return strings.LastIndexByte(address[:end(address, unicode.IsSpace)], '@') + 1
}

// end is where a text first has such a character, or its length.
func end(text string, is func(rune) bool) int {
	if at := strings.IndexFunc(text, is); at >= 0 {
		return at
	}
	return len(text)
}

// webAddress is a pull's address on its host, as a link; empty if it is none. Credentials are left out.
func webAddress(text string) string {
	address, err := url.Parse(text)
	if err != nil || address.Scheme != "https" && address.Scheme != "http" {
		return ""
	}
	address.User = nil
	return address.String()
}

// cleanHealth leaves credentials out of a health.
func cleanHealth(health atlock.Health) atlock.Health {
	for _, store := range []**atlock.StoreHealth{&health.Enhanced, &health.Legacy} {
		if *store != nil {
			copied := **store
			copied.Error = withoutCredentials(copied.Error)
			*store = &copied
		}
	}
	return health
}

// cleanStatus is the same for a status.
func cleanStatus(status atlock.Status) atlock.Status {
	status.Cause = withoutCredentials(status.Cause)
	status.UnarmedBecause = withoutCredentials(status.UnarmedBecause)
	if status.Shadow != nil {
		shadow := *status.Shadow
		shadow.Because = withoutCredentials(shadow.Because)
		status.Shadow = &shadow
	}
	status.Warnings = slices.Clone(status.Warnings)
	for i := range status.Warnings {
		status.Warnings[i] = withoutCredentials(status.Warnings[i])
	}
	status.Fallbacks = slices.Clone(status.Fallbacks)
	for i := range status.Fallbacks {
		status.Fallbacks[i].Cause = withoutCredentials(status.Fallbacks[i].Cause)
	}
	return status
}
