//! What zones tell about themselves while they run, to whoever listens.
//!
//! [`AuditLine`] is a zone's own account of what it simulates: whoever joins the lines of all zones knows whether an entity was
//! ever simulated twice, or by nobody. Nothing here decides anything.

mod audit;

pub use audit::{AuditLine, Began, Ended};
