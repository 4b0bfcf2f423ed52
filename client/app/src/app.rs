//! The app put together: the network, what is drawn, what is asked.

use std::time::Duration;

use bevy::app::{FixedMain, PluginGroupBuilder, ScheduleRunnerPlugin};
use bevy::ecs::schedule::SingleThreadedExecutor;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::pipelined_rendering::PipelinedRenderingPlugin;
use bevy::render::settings::{RenderCreation, WgpuSettings};
use bevy::winit::WinitPlugin;

use crate::cli::Cli;
use crate::notices::Notices;
use crate::settings::{Settings, SettingsFile};
use crate::{
    autopilot, camera, controls, ghosts, hud, name_tags, network, network_simulator, notices, picture, pipelines,
    quality, report, response, scene, screen, settings, ui, window,
};

/// The order of the app's own work in a frame.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppSystems {
    /// In `PreUpdate`: what the player wants, before any tick of the frame.
    Controls,
    /// In `Update`, after `ShownSystems`: things stand where they are shown.
    Place,
    /// In `Update`, then: the camera.
    Camera,
    /// In `Update`, then: what is drawn over the picture.
    Overlay,
}

/// The app of a command line.
pub fn build(cli: &Cli) -> App {
    let (mut file, mut settings, told) = SettingsFile::read(cli.settings.clone());
    if let Some(quality) = cli.quality {
        file.draw_this_run(quality, &mut settings);
    }
    let mut app = App::new();
    app.add_plugins(bevy_plugins(cli, &settings));
    app.insert_resource(file);
    app.insert_resource(settings);
    app.configure_sets(
        Update,
        (
            meridian_client_net::ShownSystems::Copies,
            AppSystems::Place,
            AppSystems::Camera,
            AppSystems::Overlay,
        )
            .chain(),
    );
    app.add_plugins((
        network::NetworkPlugin { cli: cli.clone() },
        autopilot::AutopilotPlugin {
            scenario: cli.autopilot,
            seed: cli.seed,
        },
        report::ReportPlugin { cli: cli.clone() },
        picture::PicturePlugin { cli: cli.clone() },
    ));
    app.add_plugins((
        screen::plugin,
        settings::plugin,
        notices::plugin,
        controls::plugin,
        quality::plugin,
        window::plugin,
        ui::plugin,
    ));
    app.add_plugins((
        scene::plugin,
        camera::plugin,
        name_tags::plugin,
        ghosts::plugin,
        hud::plugin,
        network_simulator::plugin,
        response::plugin,
        pipelines::plugin,
    ));
    network_simulator::start(&mut app, cli.network);
    screen::start(&mut app, &cli.show);
    run_on_one_thread(&mut app);
    if let Some(told) = told {
        app.world_mut().resource_mut::<Notices>().tell(told);
    }
    app
}

/// A frame's systems are many and small: to hand them to other threads costs more than it saves. Drawing keeps the threads.
fn run_on_one_thread(app: &mut App) {
    let one = |schedule: &mut Schedule| {
        schedule.set_executor(SingleThreadedExecutor::new());
    };
    app.edit_schedule(Main, one)
        .edit_schedule(FixedMain, one)
        .edit_schedule(StateTransition, one)
        .edit_schedule(SpawnScene, one)
        .edit_schedule(First, one)
        .edit_schedule(PreUpdate, one)
        .edit_schedule(RunFixedMainLoop, one)
        .edit_schedule(FixedFirst, one)
        .edit_schedule(FixedPreUpdate, one)
        .edit_schedule(FixedUpdate, one)
        .edit_schedule(FixedPostUpdate, one)
        .edit_schedule(FixedLast, one)
        .edit_schedule(Update, one)
        .edit_schedule(PostUpdate, one)
        .edit_schedule(Last, one);
}

/// Bevy's plugins: with a window and a renderer, or without either.
fn bevy_plugins(cli: &Cli, settings: &Settings) -> PluginGroupBuilder {
    let plugins = DefaultPlugins
        .build()
        // A frame is drawn as soon as it is simulated: a pipeline would show each key a frame later.
        .disable::<PipelinedRenderingPlugin>()
        .disable::<LogPlugin>();
    if cli.headless {
        let no_renderer = WgpuSettings {
            backends: None,
            ..default()
        };
        return plugins
            .disable::<WinitPlugin>()
            // Nothing here is worth a thread of its own.
            .set(TaskPoolPlugin {
                task_pool_options: TaskPoolOptions::with_num_threads(1),
            })
            .set(WindowPlugin {
                primary_window: None,
                exit_condition: bevy::window::ExitCondition::DontExit,
                ..default()
            })
            .set(RenderPlugin {
                render_creation: RenderCreation::Automatic(Box::new(no_renderer)),
                ..default()
            })
            .add(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(
                1.0 / cli.frame_rate,
            )));
    }
    plugins.set(WindowPlugin {
        primary_window: Some(window::describe(cli.size, settings)),
        // Closing says goodbye to the server first.
        close_when_requested: false,
        ..default()
    })
}
