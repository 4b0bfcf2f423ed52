//! What is seen, as JSON for programs: tests, demos and bars read it. Also ends the program after the time that was asked for.

use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::common_conditions::on_timer;
use meridian_client_net::{Connector, CorrectionStats, NetworkHealth, OwnPlayer, ShownPose};
use serde::Serialize;

use crate::cli::Cli;
use crate::hud::{FrameTimes, HudLines, Warnings};
use crate::network_simulator::NetworkProfile;
use crate::notices::Notices;
use crate::pipelines::Pipelines;
use crate::response::KeyResponse;
use crate::scene::Drawn;
use crate::screen::{Overlay, Refusal, Screen};
use crate::window::{Leave, WindowSystems, goes_on};

/// Time between two reports.
const EVERY: Duration = Duration::from_millis(500);

/// Writes reports, and ends the program in time.
pub(super) struct ReportPlugin {
    pub(super) cli: Cli,
}

impl Plugin for ReportPlugin {
    fn build(&self, app: &mut App) {
        if let Some(file) = &self.cli.report {
            app.insert_resource(ReportFile {
                file: file.clone(),
                failed: false,
                processor: processor_time(),
                frames: 0,
            });
            // Who is leaving has nothing more to tell; what was seen last was told when it was asked to.
            app.add_systems(
                Last,
                write
                    .before(WindowSystems)
                    .run_if(on_timer(EVERY).or_eager(on_message::<Leave>))
                    .run_if(goes_on),
            );
        }
        if let Some(after) = self.cli.quit_after {
            app.add_systems(
                Update,
                move |time: Res<Time<Real>>, mut told: Local<bool>, mut leave: MessageWriter<Leave>| {
                    if time.elapsed() >= after && !std::mem::replace(&mut *told, true) {
                        leave.write(Leave::Game);
                    }
                },
            );
        }
    }
}

#[derive(Resource)]
struct ReportFile {
    file: PathBuf,
    failed: bool,
    /// Processor time of the whole process when the last report was written, and when that was.
    processor: Option<Duration>,
    frames: u64,
}

/// The report. Times in milliseconds, places in metres.
#[derive(Serialize)]
struct Report<'a> {
    screen: String,
    overlay: String,
    connection: String,
    refusal: Option<&'a str>,
    notices: Vec<&'a str>,
    warnings: &'a [String],
    network: &'a str,
    /// Shaders that are still being made: with any, not everything is seen.
    pipelines_waiting: usize,
    players_drawn: usize,
    crates_drawn: usize,
    own: Option<[f32; 3]>,
    owner_zone: Option<u16>,
    owner_changes: u64,
    disconnects: u64,
    respawns: u64,
    corrections: u64,
    round_trip_ms: Option<f64>,
    action_ms: Option<f64>,
    /// Frames from a key to what it does, the most of all walks that were begun; none before the first.
    key_response_frames: Option<u32>,
    /// How many walks that is of.
    keys_measured: u32,
    hud: &'a [String],
    frames: u64,
    frame_ms: Times,
    tick_ms: Times,
    logic_ms: Times,
    /// Processor time of all threads per frame, since the report before.
    cpu_ms_per_frame: Option<f64>,
}

#[derive(Serialize)]
struct Times {
    median: f64,
    longest: f64,
}

fn times(of: &crate::hud::Times) -> Times {
    let summary = of.summary();
    Times {
        median: summary.median.as_secs_f64() * 1e3,
        longest: summary.longest.as_secs_f64() * 1e3,
    }
}

/// User and system time of this process, where the system tells it.
fn processor_time() -> Option<Duration> {
    let time = cpu_time::ProcessTime::try_now().ok()?;
    Some(time.as_duration())
}

fn write(
    screens: (Res<State<Screen>>, Res<State<Overlay>>, Res<Refusal>),
    told: (Res<Notices>, Res<Warnings>, Res<HudLines>),
    network: (
        Res<Connector>,
        Res<NetworkHealth>,
        Res<CorrectionStats>,
        Res<NetworkProfile>,
    ),
    frames: Res<FrameTimes>,
    drawn: Query<&Drawn>,
    own: Query<&ShownPose, With<OwnPlayer>>,
    (response, pipelines): (Res<KeyResponse>, Res<Pipelines>),
    mut file: ResMut<ReportFile>,
) {
    let (screen, overlay, refusal) = screens;
    let (notices, warnings, hud) = told;
    let (connector, health, corrections, profile) = network;
    let count = |kind: Drawn| drawn.iter().filter(|drawn| **drawn == kind).count();
    let processor = processor_time();
    let spent = processor
        .zip(file.processor)
        .map(|(now, before)| now.saturating_sub(before));
    let frames_since = frames.frames.saturating_sub(file.frames);
    let ms = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64() * 1e3);
    let report = Report {
        screen: format!("{:?}", screen.get()).to_lowercase(),
        overlay: format!("{:?}", overlay.get()).to_lowercase(),
        connection: format!("{:?}", connector.state),
        refusal: refusal.0.as_deref(),
        notices: notices.lines().collect(),
        warnings: &warnings.0,
        network: profile.name(),
        pipelines_waiting: pipelines.waiting(),
        players_drawn: count(Drawn::Player),
        crates_drawn: count(Drawn::Crate),
        own: own.single().ok().map(|pose| pose.position.to_array()),
        owner_zone: connector.owner_zone.map(|owner| owner.zone.0),
        owner_changes: connector.owner_changes,
        disconnects: connector.disconnects,
        respawns: connector.respawns,
        corrections: corrections.corrections,
        round_trip_ms: ms(health.round_trip),
        action_ms: ms(health.action),
        keys_measured: response.measured,
        key_response_frames: Some(response.frames_max).filter(|_| response.measured > 0),
        hud: &hud.0,
        frames: frames.frames,
        frame_ms: times(&frames.frame),
        tick_ms: times(&frames.tick),
        logic_ms: times(&frames.logic),
        cpu_ms_per_frame: spent
            .filter(|_| frames_since > 0)
            .map(|spent| spent.as_secs_f64() * 1e3 / frames_since as f64),
    };
    let new = file.file.with_extension("new");
    let written = serde_json::to_vec_pretty(&report)
        .map_err(std::io::Error::other)
        .and_then(|text| std::fs::write(&new, text))
        .and_then(|()| std::fs::rename(&new, &file.file));
    (file.processor, file.frames) = (processor, frames.frames);
    match written {
        Ok(()) => file.failed = false,
        Err(error) if !file.failed => {
            file.failed = true;
            tracing::error!(file = %file.file.display(), %error, "the report cannot be written");
        }
        Err(_) => {}
    }
}
