//! Links between processes: real sockets on loopback, real certificates, the real tasks.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test fails by panicking, and a measurement is printed"
)]

mod echo;
mod handshakes;
mod hostile;
mod instances;
mod links;
mod lossy;
mod messages;
mod refusals;
mod support;
