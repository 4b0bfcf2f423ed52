//! What holds for worlds in a real Valkey beyond the suite of all carriers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

#[path = "../common/server.rs"]
mod server;

mod comparison;
mod connecting;
mod directory;
mod events;
mod interruptions;
mod looking;
mod measure;
mod one_slot;
mod relay;
mod restart;
mod strangers;
mod upgrade;
mod zone;
