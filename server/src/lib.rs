//! The composition root of the binary `server`: it reads the configuration, binds every port, starts the roles and waits.
//!
//! [`cli`] and [`config`] say what to run; [`node`] creates the roles (every port is bound before anything runs), starts them and
//! stops them in order; [`roles`] has one file per role. There is no logic of the game here, and no role knows another: what
//! one needs of another it is given here.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod faults;
pub mod listen;
mod metric_definitions;
pub mod node;
pub mod ready_file;
pub mod role;
pub mod roles;
pub mod secret_url;
pub mod signals;
pub mod world;
