//! The files of `deploy/`, each read by the program that it is for, as far as that runs without containers: Prometheus, promtool,
//! amtool, InfluxDB, compose. Grafana, the reference Collector and Jaeger do not; what can be said of their files without them is said.
//!
//! Each test starts what it needs on free ports and ends it by its id. The servers are those of this build (`./just build`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends with the first thing that goes wrong"
)]

mod alerting;
mod collector;
mod compose;
mod compose_roles;
mod dashboards;
mod expressions;
#[path = "../../../common/free_port.rs"]
mod free_port;
mod influx;
mod influx_lines;
mod meridian;
mod player;
mod positions;
mod pushed;
mod rotel;
mod rules;
mod schema;
mod streams;
mod support;
mod traces;
mod yaml;
