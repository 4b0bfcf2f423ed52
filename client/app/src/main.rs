//! The window into a Meridian world (`client`): a composition of `client/net`, which knows the network, and of what is drawn.
//!
//! Nothing here reads or writes a packet, and nothing is predicted or interpolated here: that is `client/net`'s, which the bots and the
//! tests share.

mod app;
mod autopilot;
mod bindings;
mod camera;
mod cli;
mod controls;
mod ghosts;
mod hud;
mod name_tags;
mod network;
mod network_simulator;
mod notices;
mod picture;
mod pipelines;
mod quality;
mod report;
mod response;
mod scene;
mod screen;
mod settings;
mod ui;
mod window;

use std::{io::Write, process::ExitCode};

use bevy::app::AppExit;
use clap::Parser;
use meridian_client_net::metric_definitions;
use meridian_telemetry::{LogFormat, TelemetryOptions};

/// What is logged unless RUST_LOG says otherwise: nothing of what a window on a usual machine, or the lack of one, makes libraries say.
const DEFAULT_LOG: &str = "warn,client=info,wgpu_hal=error,winit=error,bevy_render::extract_resource=off,bevy_render::texture=error,bevy_gizmos_render=error,lightyear_replication=off";

/// What is pushed of the connection.
fn describe() {
    metric_definitions::describe();
    // An increase from nothing at all is none to who watches.
    metrics::counter!(metric_definitions::CLIENT_CORRECTIONS).increment(0);
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let options = TelemetryOptions {
        service: "meridian-client",
        instance: format!("client-{}", std::process::id()),
        log_format: LogFormat::Pretty,
        log_filter: std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT_LOG.to_owned()),
        push_metrics: true,
    };
    // Held until the window is closed: then what is queued is sent.
    let _telemetry = match meridian_telemetry::install_pushing(options, describe) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(told) = window::nowhere_to_open(&cli) {
        tracing::error!("{told}");
        return ExitCode::FAILURE;
    }
    match app::build(&cli).run() {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(code) => ExitCode::from(code.get()),
    }
}
