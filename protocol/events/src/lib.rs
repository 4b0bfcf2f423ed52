//! What zones tell about themselves while they run, to whoever listens.
//!
//! [`AuditLine`] is a zone's own account of what it simulates: whoever joins the lines of all zones knows whether an entity was
//! ever simulated twice, or by nobody. [`Event`] and [`Positions`] are what services live on: who came, left, died or
//! changed zones, and where everybody is. [`envelope`] is what stands around them in a store. Nothing here decides anything.

mod audit;
pub mod envelope;
mod world;

pub use audit::{AuditLine, Began, Ended};
pub use world::{EntityPosition, Event, Happening, Positions, TRACED_MAX};
