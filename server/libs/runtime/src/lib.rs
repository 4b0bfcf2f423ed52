//! What every role of a server process runs on: named tasks and threads, shutdown in order, health, secrets.
//!
//! - [`TaskLedger`] holds every long-lived task and thread by name; the first that ends stops the rest, in order.
//! - [`Shutdown`] is the stop signal, for async tasks and plain OS threads alike.
//! - [`Health`] is what each role says of itself, and what `/ready` reads.
//! - [`SecretKey`] keeps a key out of logs and dumps.
//!
//! It never starts a runtime or a thread that nobody can name, and it knows no role.

mod health;
mod ledger;
mod secret;
mod shutdown;

pub use health::{Health, HealthHandle, HealthState, RoleHealth};
pub use ledger::{ShutdownReport, SpawnError, StopCause, TaskEnd, TaskLedger, TaskOutcome, TaskResult, panic_text};
pub use secret::{ParseSecretKeyError, SECRET_KEY_BYTES, SecretKey};
pub use shutdown::Shutdown;
