//! The built binary `cli` against a server of its own: gRPC over TCP and a world in which players walk, and an auth that speaks HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

mod auth;
mod commands;
mod ending;
mod failures;
mod program;
mod prompting;
mod sessions;
mod terminal;
mod tracing;
mod walking;
mod watching;
mod world;
