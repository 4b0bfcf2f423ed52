//! The binary `server` as people and process managers use it: flags, files, ports, signals and exit codes.
//!
//! Every test starts its own processes on ports that the system picks. The group `real-process` of nextest runs them one by one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

mod admin;
mod bad_input;
mod bot;
mod cluster;
mod command_line;
#[path = "../common/free_port.rs"]
mod free_port;
mod lifetime;
mod noise;
mod session;
mod support;
mod swarm;
mod zones;
