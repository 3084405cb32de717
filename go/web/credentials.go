package web

import (
	"net/url"
	"regexp"
	"slices"

	"github.com/atlock/atlock/go/atlock"
)

// inURL finds the user and password of URLs in a text.
var inURL = regexp.MustCompile(`(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#"'<>]*@`)

// withoutCredentials leaves users and passwords of URLs out of a text, by the rule of the library (src/redact.rs). The library's own
// texts have none; but the errors of Atlantis's stores, which strict mode calls directly, never enter it.
func withoutCredentials(text string) string {
	return inURL.ReplaceAllString(text, "${1}")
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
