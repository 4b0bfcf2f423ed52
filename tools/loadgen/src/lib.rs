//! Load for a Meridian server: a swarm of bots that measures, streams of moves, a stock server to compare with, and reports.
//!
//! The library is what the binary `loadgen` and the tests of the whole server share. It never starts a Meridian server.

pub mod audit;
pub mod baseline;
pub mod bounds;
pub mod cli;
pub mod histogram;
pub mod metric_definitions;
pub mod probe;
pub mod progress;
pub mod report;
pub mod scrape;
pub mod streams;
pub mod swarm;
pub mod table;
pub mod timing;
pub mod traces;
