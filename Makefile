# `make help` tells what there is. Everything that is missing on the machine is installed by first-time-install.sh.
.DEFAULT_GOAL := help
SHELL := /bin/bash

CLUSTER := cargo run --quiet --package testkit --bin rmom-cluster --
# Tests start processes and databases: more at once than this only makes them wait for each other.
export RUST_TEST_THREADS ?= 3

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: deps venv ## A whole system with the example application, on this machine
	@echo "Building the MoM, the manager and the demo; the first time takes a few minutes."
	@cargo build --package rmom --package rmom-manager --package testkit
	@RMOM_BIN_DIR=target/debug exec target/debug/rmom-demo

test: deps-browser deps-clocks venv ## All checks and tests
	$(MAKE) lint
	$(MAKE) chaos-binaries
	cargo test --workspace --locked --no-run
	@# Both mostly wait for processes, so they do that together.
	$(MAKE) --jobs=2 --output-sync=line test-rust test-python
	@# Always the same schedule, so that a failure is about the change. `make chaos` draws a new one.
	$(RMOM_CHAOS) run --secs 30 --seed 1001
	@echo "All tests passed."

test-rust:
	cargo test --workspace --locked

test-python:
	$(CLUSTER) --moms 2 --managers 2 --exec $(MAKE) -C momclient-py test
	$(CLUSTER) --exec $(MAKE) -C momclient-py surface

lint: deps venv ## Formats, lints, docs, licences, and whether generated files are up to date
	cargo fmt --all --check
	migrations/prepare.sh --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed, so licences and sources are not checked (cargo install --locked cargo-deny)"; fi
	$(MAKE) -C momclient-py lint

bench: deps ## Speed on this machine: pushes, fan-out, catch-up, failover, overload, slow subscribers
	cargo build --release --package rmom --package rmom-manager --package rmom-bench
	@for run in lone push subscribe catch-up kill "failover --rounds 3" "failover --rounds 3 --fault freeze" \
	  "overload --secs 10" slow; do \
	  echo; echo "== rmom-bench $$run"; target/release/rmom-bench $$run || exit 1; done

compare: deps-peers ## Speed beside Redis Streams, NATS JetStream, RabbitMQ, pgmq and bare PostgreSQL; an hour and a half
	cargo build --release --package rmom --package rmom-manager
	cargo build --release --package rmom-bench --features peers
	target/release/rmom-bench compare --svg docs/compare.svg --markdown docs/compare.md

# How long faults are caused, and what they and the load are made of: random, and printed, if left out.
CHAOS_SECS ?= 120
CHAOS_SEED ?=
RMOM_CHAOS = RMOM_BIN_DIR=target/chaos target/debug/rmom-chaos

chaos: deps-clocks chaos-binaries ## Breaks a whole system for CHAOS_SECS and checks that nothing was lost
	@$(RMOM_CHAOS) run --secs $(CHAOS_SECS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

chaos-mutants: deps chaos-binaries ## Shows that the check finds each known defect
	@$(RMOM_CHAOS) mutants

# Copied, so that the next plain build does not take their place, nor they that of plain ones for long.
chaos-binaries:
	cargo build --quiet --package rmom-chaos
	cargo build --quiet --package rmom --package rmom-manager --features rmom/chaos,rmom-manager/chaos
	@mkdir -p target/chaos && cp target/debug/rmom target/debug/rmom-manager target/chaos/

pictures: deps-browser venv ## Those of the console and the example application in docs/, made again
	cargo build --package rmom --package rmom-manager --package testkit
	RMOM_SCREENSHOTS=$(CURDIR)/docs $(CLUSTER) --moms 4 --managers 2 --exec \
	  $(MAKE) -C momclient-py test ARGS="-k screenshots"

fmt: venv ## Formats everything
	cargo fmt --all
	$(MAKE) -C momclient-py format

queries: deps ## Refreshes .sqlx after a change of SQL
	migrations/prepare.sh

clean: ## Deletes what was built, and the demo's data
	cargo clean
	rm -rf .demo momclient-py/.venv

deps:
	@./first-time-install.sh

deps-browser:
	@./first-time-install.sh --with-browser

deps-peers:
	@./first-time-install.sh --with-peers

deps-clocks:
	@./first-time-install.sh --with-clocks

venv:
	@$(MAKE) --no-print-directory -C momclient-py set-py-venv-with-deps

.PHONY: help demo test test-rust test-python pictures lint bench compare chaos chaos-mutants chaos-binaries fmt queries clean deps deps-browser deps-clocks deps-peers venv
