// Package web is what a person, a workflow and a monitoring system see of the locking layer in a running Atlantis: endpoints and a link on
// Atlantis's own page, added to its router.
//
// Who needs it: whoever links a server in another way than `make atlantis` does, or has a router of their own for these pages.
//
//	GET    /api/locks/compatibility/status       the status, as JSON; to everybody six fields of it
//	GET    /api/locks/health                     the health, as JSON; 503 if no lock can be granted; to everybody without reasons
//	GET    /api/locks/queue?repo=                who waits, in a repository or in each
//	GET    /api/locks/explain?id=                why a lock is as it is; with ?repo=&pull= all of a pull request
//	GET    /api/locks/stats                      counters of waiting and holding
//	GET    /api/locks/check?id=&pull=&token=     200 if a pull request holds a lock, 409 if not; to everybody without a body
//	GET    /api/locks/freezes                    locks that nobody takes for now
//	GET    /api/locks/deadlocks                  pull requests that wait for each other
//	GET    /api/locks/stale                      locks that nobody will release, as far as there is evidence
//	POST   /api/locks/queue/leave                takes a pull request out of a queue
//	POST   /api/locks/freezes                    freezes locks
//	DELETE /api/locks/freezes?id=                ends a freeze
//	GET    /metrics                              metrics for Prometheus, together with Atlantis's own
//	GET    /locking                              the page; ?filter=, ?sort=, ?page=
//	GET    /locking/lock?id=                     the page of a lock
//	GET    /locking/events                       server-sent events: that something changed
//	POST   /locking/release                      shows what would be released, or releases what was shown
//	POST   /locking/freeze, /locking/thaw        freezes locks, ends a freeze
//	POST   /locking/applies/unlock               ends Atlantis's global apply lock
//
// What the page changes in Atlantis's locks it changes by Atlantis's own handlers, which [Actions] leads to: this package knows how to release
// nothing. The three endpoints that change something grant and release no lock, and want Atlantis's API secret; without one they are off. So
// who may change something is decided by Atlantis alone. Its basic auth guards everything but what is below /api/, so also the page's forms.
// Below /api/ everybody hears the fields of status and health that the original specification has, and whether a pull request holds a lock;
// the rest is for who sends the API secret, or the user and password of the basic auth. Without basic auth the page is open, as Atlantis's
// own: then it tells no addresses, versions and reasons. A form that a page of another site sends is refused
// ([net/http.CrossOriginProtection]).
//
// What these cost does not grow with the number of those who ask (admission.go): few answers are made at once, the rest are told to come again
// by 503 and Retry-After; page and metrics are made once a second for all who want the same; who reads slowly holds nothing but a connection, for
// ten seconds. Pages are told of changes by at most twenty streams, for which one goroutine looks (stream.go, watcher.go).
//
// No secret leaves the process: of a lock, which holds clone URLs with tokens and the pull's text, only the fields of a row of the
// page's table are ever read.
package web
