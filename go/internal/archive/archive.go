// Package archive holds libatlock.a, for each platform in a folder with Rust's name of it, so that a program of any module links the
// library without a variable, from a vendor folder, too. `make lib` puts this machine's archive there (scripts/go-archive), and git
// ignores it; the commit of a release, which only the tag go/vX.Y.Z reaches, has all of them (scripts/release-go).
//
// All that needs cgo imports this package, and a package is compiled after what it imports. So what is missing is said here, before a C
// compiler or a linker says it in a hundred lines: by the name of something that is not defined.
package archive
