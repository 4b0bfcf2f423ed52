//! What `server` does beside running roles: one file per command, each ends by itself.

pub mod certs;
pub mod sim;
pub mod status;
