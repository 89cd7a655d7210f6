# tenantd: the commands that matter are `make demo` and `make test`.
# Both need a Debian machine and root; each installs what it needs, says so, and leaves nothing behind.

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: help demo test check bench build install schema audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Show the main job on a private engine (KEEP=1 leaves it running, ENGINE=unix://… names another)
	@tests/engine/install-packages
	@tests/demo

test: ## Check and test everything: format, lints, docs, unit, simulated and real engines
	@tests/engine/install-packages
	@tests/run

check: ## Only format, lints and docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

bench: ## Measure, beside a bare client and docker-compose
	@tests/engine/install-packages docker-compose
	$(CARGO) build --release --locked
	$(CARGO) bench --locked

build: ## Build the release binary, target/release/tenantd
	@tests/engine/install-packages
	$(CARGO) build --release --locked

install: build ## Install the binary under PREFIX (/usr/local)
	install -D -m 755 target/release/tenantd $(DESTDIR)$(PREFIX)/bin/tenantd

schema: ## Make schema/ and the tables of docs/config.md anew from the Rust types
	$(CARGO) run --quiet --locked -- schema --write schema --reference docs/config.md

audit: ## Check licences, sources and duplicates of all dependencies
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check bans licenses sources

clean: ## Remove what was built
	$(CARGO) clean
