// Package runbook runs the commands of docs/01-overview.md to docs/06-monitoring.md as an operator would, against a real
// server, Redis and Git host, and compares what they print with what the documents show. It needs the tag e2e: `make test-e2e`.
//
// In a document, a block of ```sh is run, by bash, in the order of the document. A block of ```text behind it is what it prints;
// "…" stands for anything in a line, or, alone in a line, for any lines; a block of nothing else is refused, as any output would
// pass. A block of ```yaml is a settings file, which must be valid. ```console is not run; the test lists those. What the operator
// does not do is in comments, which a reader does not see:
//
//	<!-- file: /etc/atlantis/locking.yaml -->  the yaml block that follows is written there
//	<!-- test: … -->                           a stage direction; see type stage
package runbook
