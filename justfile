# `./just` runs these, and installs `just` if the machine has none. Every build shares one target folder, one profile and one set
# of packages: `cargo build -p` with another set would build all of Bevy again.

set shell := ["bash", "-euo", "pipefail", "-c"]

cache := env("XDG_CACHE_HOME", env("HOME") / ".cache") / "meridian"
export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", cache / "target")
export PATH := cache / "tools/bin:" + env("PATH")

# List the recipes.
default:
    @just --justfile "{{ justfile() }}" --list --unsorted

# Install what building and checking need and this machine lacks.
setup:
    scripts/setup

# Build every binary.
build:
    cargo build --locked

# Run 40 bots for 20 seconds over the borders of a fresh server with four zones, and print latencies, handoffs and the audit.
demo *arguments: build
    scripts/demo {{ arguments }}

# Measure every bar of the README: 5 runs each, beside a stock lightyear server. `--only borders` or `--only latency` for a part.
bars *arguments: build
    scripts/bars {{ arguments }}

# Run everything that CI runs.
test: setup fmt-check typos check-deps deny lint unit-tests doc-tests

# Format the code.
fmt:
    cargo fmt --all

# Clippy, warnings are errors.
lint:
    cargo clippy --locked --all-targets -- -D warnings

# Licences, sources and bans of every dependency.
deny:
    cargo deny --locked --offline check --hide-inclusion-graph bans licenses sources

# The dependency rules of ARCHITECTURE.md.
check-deps:
    scripts/check-deps

[private]
fmt-check:
    cargo fmt --all --check

[private]
typos:
    typos

[private]
unit-tests:
    cargo nextest run --locked

[private]
doc-tests:
    cargo test --locked --doc --quiet
