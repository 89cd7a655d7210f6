# tenantd: the commands that matter are `make demo` and `make test`.
# Both need a Debian machine and root; each installs what it needs, says so, and leaves nothing behind.

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr/local
# The binary that is installed.
BINARY ?= $(or $(CARGO_TARGET_DIR),target)/dist/tenantd

.PHONY: help demo test soak check bench build install install-files uninstall schema audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Show the main job on a private engine (KEEP=1 leaves it running, ENGINE=unix://… names another)
	@tests/engine/install-packages curl
	@tests/demo

test: ## Check and test everything: format, lints, docs, unit, simulated and real engines
	@tests/engine/install-packages postgresql chromium
	@tests/run

soak: ## Inject faults into the daemon, the engine and the ingress for an hour, and print tables
	@tests/engine/install-packages
	@tests/run soak

check: ## Only format, lints and docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

bench: ## Measure, beside a bare client and docker-compose
	@tests/engine/install-packages docker-compose haproxy nginx squid tinyproxy
	$(CARGO) bench --locked

build: ## Build the binary to install, target/dist/tenantd
	@tests/engine/install-packages
	$(CARGO) build --profile dist --locked

# Where each kind of file goes.
bin := $(DESTDIR)$(PREFIX)/bin
unit := $(DESTDIR)$(PREFIX)/lib/systemd/system
share := $(DESTDIR)$(PREFIX)/share
doc := $(share)/doc/tenantd

install: build install-files ## Install the binary, its unit, manual and completions under PREFIX (/usr/local)

install-files: # All but the build; the manual and the completions come from the binary
	install -D -m 755 $(BINARY) $(bin)/tenantd
	install -d $(unit) $(share)/bash-completion/completions $(share)/zsh/site-functions $(share)/fish/vendor_completions.d
	for unit in tenantd.service tenantd-gateway.service tenantd-ingress.service tenantd-ingress.socket; do \
	  sed 's|/usr/local/bin/|$(PREFIX)/bin/|' systemd/$$unit >$(unit)/$$unit || exit 1; \
	done
	install -D -m 644 systemd/tenantd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tenantd.conf
	$(bin)/tenantd man $(share)/man/man1
	$(bin)/tenantd completions bash >$(share)/bash-completion/completions/tenantd
	$(bin)/tenantd completions zsh >$(share)/zsh/site-functions/_tenantd
	$(bin)/tenantd completions fish >$(share)/fish/vendor_completions.d/tenantd.fish
	install -D -m 644 -t $(doc) README.md LICENSE docs/*.md systemd/host.yaml
	install -D -m 644 -t $(doc)/schema schema/*.json
	install -D -m 644 -t $(doc)/schema/draft-07 schema/draft-07/*.json

uninstall: ## Remove what install has put there; settings and data stay
	rm -f $(bin)/tenantd $(unit)/tenantd.service $(unit)/tenantd-gateway.service $(unit)/tenantd-ingress.service $(unit)/tenantd-ingress.socket \
	  $(share)/man/man1/tenantd.1 $(share)/man/man1/tenantd-*.1 \
	  $(DESTDIR)$(PREFIX)/lib/sysusers.d/tenantd.conf \
	  $(share)/bash-completion/completions/tenantd $(share)/zsh/site-functions/_tenantd \
	  $(share)/fish/vendor_completions.d/tenantd.fish
	rm -rf $(doc)

schema: ## Make schema/ and the tables of docs/config.md anew from the Rust types
	$(CARGO) run --quiet --locked -- schema --write schema --reference docs/config.md

audit: ## Check advisories, licences, sources and duplicates of all dependencies
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check advisories bans licenses sources

clean: ## Remove what was built
	$(CARGO) clean
