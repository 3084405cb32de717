// Package e2e holds the end-to-end tests: a real Atlantis server, real webhooks, real clones, a browser. They run as a person's
// pull requests would, in every mode, with a stock server as the reference, and need the tag e2e: `make test-e2e` builds the
// servers and runs them.
package e2e
