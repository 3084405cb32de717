// Package web is what a person and a monitoring system see of the locking layer in a running Atlantis: four endpoints and a link on
// Atlantis's own page, added to its router.
//
//	GET /api/locks/compatibility/status   the status, as JSON
//	GET /api/locks/health                 the health, as JSON; 503 if no lock can be granted
//	GET /metrics                          metrics for Prometheus, together with Atlantis's own
//	GET /locking                          the page
//
// Nothing here changes anything: the page links to Atlantis's own page of each lock, where it is discarded as ever. So who may
// change something is decided by Atlantis alone. Its basic auth guards everything but what is below /api/, whose two answers name
// locks only where two pulls hold the same one.
//
// No secret leaves the process: of a lock, which holds clone URLs with tokens and the pull's text, only the fields of a row of the
// page's table are ever read.
package web
