//! Several gateways in one world, and clients that survive theirs, in virtual time.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod failover;
mod sharing;
mod stillness;
mod support;
