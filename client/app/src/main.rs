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

use std::process::ExitCode;

use bevy::app::AppExit;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// What is logged unless RUST_LOG says otherwise: nothing of what a window on a usual machine, or the lack of one, makes libraries say.
const DEFAULT_LOG: &str = "warn,client=info,wgpu_hal=error,winit=error,bevy_render::extract_resource=off,bevy_render::texture=error,bevy_gizmos_render=error,lightyear_replication=off";

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG)))
        .init();
    if let Some(told) = window::nowhere_to_open(&cli) {
        tracing::error!("{told}");
        return ExitCode::FAILURE;
    }
    match app::build(&cli).run() {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(code) => ExitCode::from(code.get()),
    }
}
