# `./just` runs these, and installs `just` if the machine has none. Every build shares one target folder and one profile, and there are
# two sets of packages: everything without a window, and the window. `cargo build -p` with another set would build all of Bevy again.

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

# Build every binary but the window.
build:
    cargo build --locked

# Open a window into the world, for example: ./just client --server http://127.0.0.1:7600 --name Ada
[positional-arguments]
client *arguments: build-client
    "$CARGO_TARGET_DIR/debug/client" "$@"

# Build the window: the renderer takes a while, once.
build-client:
    scripts/setup build
    cargo build --locked -p meridian-client

# Run 40 bots for 20 seconds over the borders of a fresh server with four zones, and print latencies, handoffs and the audit.
demo *arguments: build
    scripts/demo {{ arguments }}

# Start a whole cluster on this machine: Valkey, a process per zone, two gateways and auth. Ctrl-C ends it; `-- COMMAND` runs one against it.
[positional-arguments]
cluster *arguments: build
    scripts/setup cluster
    scripts/cluster "$@"

# Start a whole cluster in containers, with Prometheus, Grafana, InfluxDB and Jaeger around it, and print where to look. `--bots` sends a swarm.
[positional-arguments]
up *arguments:
    scripts/up "$@"

# End it. What it has written stays; `./just down --volumes` removes that too.
[positional-arguments]
down *arguments:
    scripts/down "$@"

# Let faults befall a cluster, each under a swarm with the audit on, and print what came of it. Names pick some: `./just faults zone-killed`.
[positional-arguments]
faults *arguments: build
    scripts/setup cluster
    scripts/faults "$@"

# Simulate histories in which everything goes wrong, and check what must hold, for example: ./just sim --seeds 100000
[positional-arguments]
sim *arguments: build
    "$CARGO_TARGET_DIR/debug/server" sim "$@"

# Measure every bar of the README: 5 runs each, beside a stock lightyear server. `--only latency`, `borders`, `window`, `cluster` or `telemetry` for a part.
bars *arguments: build build-client
    scripts/setup cluster
    scripts/bars {{ arguments }}

# Play on a cluster with traces on, beside a Prometheus, and draw what they say: the pictures of docs/results.md.
results *arguments: build
    scripts/setup observability
    scripts/results {{ arguments }}

# Run everything that CI runs.
test: setup fmt-check typos check-deps deny check-generated lint unit-tests doc-tests lint-client client-tests

# Format the code.
fmt:
    cargo fmt --all

# Write the code of protocol/rpc anew, from its .proto files.
generate:
    cargo run --locked --quiet -p meridian-rpc-generate

[private]
check-generated:
    cargo run --locked --quiet -p meridian-rpc-generate -- --check

# Clippy, warnings are errors.
lint:
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked -p meridian-rpc-generate --all-targets -- -D warnings

# The same for the window.
lint-client:
    cargo clippy --locked -p meridian-client --all-targets -- -D warnings

# The window's tests: on an X server in memory, drawn by software. They play against the binaries of `./just build`.
client-tests: build
    cargo nextest run --locked -p meridian-client

# Licences and sources of every dependency, and what may not be depended upon; the window may draw.
deny:
    cargo deny --locked --offline check --hide-inclusion-graph licenses sources
    cargo deny --locked --offline --exclude meridian-client check --hide-inclusion-graph bans

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
