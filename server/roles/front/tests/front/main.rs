//! The front as its callers see it: real servers and clients on loopback, real desks, answered by a small zone that is written down here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

mod calls;
mod hostile;
mod lifecycle;
mod routing;
mod streams;
mod support;
mod watching;
mod zone;
