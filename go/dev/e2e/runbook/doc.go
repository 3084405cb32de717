// Package runbook runs the commands of docs/01-overview.md to docs/06-monitoring.md as an operator would, against a real
// server, Redis and Git host, and compares what they print with what the documents show. It needs the tag e2e: `make test-e2e`.
//
// In a document, a block of ```sh is run, by bash, in the order of the document. A block of ```text behind it is what it prints;
// "…" stands for anything in a line, or, alone in a line, for any lines; a block of nothing else is refused, as any output would
// pass. A block of ```yaml is a settings file, which must be valid; if its first line is a comment with a path, it is written
// there. ```console is not run; the test lists those.
//
// What the operator does not do is in the folder directions, a file for each document, where no reader of the document meets it.
// Below a heading of the document stand lines of a number and a stage direction (see type stage), which is followed before
// the block of this number below that heading; blocks of ```text do not count:
//
//	## Rollback
//	1: new server hybrid
//	1: start
//	3: until
package runbook
