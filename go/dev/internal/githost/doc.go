// Package githost is a small local stand-in for a Gitea server: enough of its API, its webhooks and git over HTTP for a real
// Atlantis to review pull requests against it, on one machine and without an account.
//
// What it keeps is in memory, but for the repositories: those are real bare ones in a folder, served by git http-backend.
// Tests and the demonstration act through methods of Host (OpenPull, Push, Comment, Merge, …), people through its page, which
// calls the same methods. Each of them sends the webhook that Gitea would send, and tells if Atlantis did not take it.
//
// It differs from Gitea on purpose: everyone may do everything, a webhook is sent before the method returns and once only, and
// comments made over the API (Atlantis's own) send none.
package githost
