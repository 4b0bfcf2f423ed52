//! The window itself: title, icon, closing with a goodbye, and rest while nobody can see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::common_conditions::on_timer;
use bevy::window::{PresentMode, PrimaryWindow, WindowCloseRequested, WindowOccluded, WindowResolution};
use bevy::winit::{UpdateMode, WINIT_WINDOWS, WinitSettings};
use meridian_client_net::{ConnectionState, Connector, GOODBYE};
use meridian_game::WorldDefinition;

use crate::camera::OrbitCamera;
use crate::cli::Cli;
use crate::network::SimulatedLink;
use crate::screen::Screen;
use crate::settings::Settings;

const TITLE: &str = "Meridian";
const ICON: &[u8] = include_bytes!("../../../assets/icons/meridian.png");
/// The network goes on at this rate while nothing is drawn.
const UNSEEN_FRAME: Duration = Duration::from_millis(16);
/// Time between two looks at whether the window is minimised: on some systems that is a question to another process.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn plugin(app: &mut App) {
    app.add_message::<Leave>();
    app.init_resource::<Leaving>();
    app.init_resource::<Unseen>();
    // In the background too: a player whose window has no focus still walks into things.
    app.insert_resource(WinitSettings::continuous());
    app.add_systems(Startup, stop_by_signal);
    app.add_systems(
        Update,
        (
            set_icon,
            set_title.run_if(state_changed::<Screen>.or_eager(resource_exists_and_changed::<WorldDefinition>)),
            set_present_mode.run_if(resource_changed::<Settings>),
            (note_occlusion, look_minimised.run_if(on_timer(LOOK_EVERY)), rest_unseen).chain(),
        ),
    );
    app.add_systems(Update, note_requests);
    app.add_systems(Last, leave.in_set(WindowSystems));
}

/// In `Last`: the program ends.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSystems;

/// The window as it opens.
pub fn describe((width, height): (u32, u32), settings: &Settings) -> Window {
    Window {
        title: TITLE.to_owned(),
        name: Some("meridian".to_owned()),
        resolution: WindowResolution::new(width, height),
        present_mode: present_mode(settings),
        // A key is seen sooner when fewer frames wait for the screen.
        desired_maximum_frame_latency: std::num::NonZeroU32::new(1),
        ..default()
    }
}

/// Why there is no place for a window, if there is none.
pub fn nowhere_to_open(cli: &Cli) -> Option<&'static str> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let needs_display = cfg!(all(unix, not(target_os = "macos"))) && !cli.headless;
    (needs_display && !set("DISPLAY") && !set("WAYLAND_DISPLAY")).then_some(
        "there is no display to open a window on (DISPLAY and WAYLAND_DISPLAY are not set); --headless does without",
    )
}

/// Asks for an orderly end.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Of the whole program.
    Game,
}

/// The end of the program.
#[derive(Resource, Default)]
pub struct Leaving {
    since: Option<Duration>,
    failed: bool,
}

impl Leaving {
    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// What the program was started for was not done: it ends with an error.
    pub fn fail(&mut self) {
        self.failed = true;
    }
}

/// Whether the program goes on.
pub fn goes_on(leaving: Res<Leaving>) -> bool {
    !leaving.has_begun()
}

/// Set by SIGTERM and Ctrl-C.
#[derive(Resource)]
struct StopSignal(Arc<AtomicBool>);

fn stop_by_signal(mut commands: Commands) {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The second one does not wait for a goodbye.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 1, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()));
        if let Err(error) = registered {
            tracing::warn!(signal, %error, "a signal will end the program without a goodbye");
        }
    }
    commands.insert_resource(StopSignal(flag));
}

fn present_mode(settings: &Settings) -> PresentMode {
    if settings.vsync {
        PresentMode::AutoVsync
    } else {
        PresentMode::AutoNoVsync
    }
}

fn set_present_mode(settings: Res<Settings>, mut windows: Query<&mut Window, With<PrimaryWindow>>) {
    let mode = present_mode(&settings);
    if let Ok(mut window) = windows.single_mut()
        && window.present_mode != mode
    {
        window.present_mode = mode;
    }
}

fn set_title(
    screen: Res<State<Screen>>,
    connector: Res<Connector>,
    world: Option<Res<WorldDefinition>>,
    mut windows: Query<&mut Window, With<PrimaryWindow>>,
) {
    let title = match (screen.get(), world) {
        (Screen::World, Some(world)) => format!("{} in {} - {TITLE}", connector.name(), world.name),
        _ => TITLE.to_owned(),
    };
    if let Ok(mut window) = windows.single_mut()
        && window.title != title
    {
        window.title = title;
    }
}

/// Once the window is there. Wayland takes icons from desktop files; there it does nothing.
fn set_icon(windows: Query<Entity, With<PrimaryWindow>>, mut done: Local<bool>) {
    if *done {
        return;
    }
    let Ok(window) = windows.single() else { return };
    WINIT_WINDOWS.with_borrow(|winit_windows| {
        if let Some(window) = winit_windows.get_window(window) {
            *done = true;
            window.set_window_icon(icon());
        }
    });
}

fn icon() -> Option<winit::window::Icon> {
    let image = Image::from_buffer(
        ICON,
        bevy::image::ImageType::Extension("png"),
        bevy::image::CompressedImageFormats::NONE,
        true,
        bevy::image::ImageSampler::Default,
        bevy::asset::RenderAssetUsages::MAIN_WORLD,
    );
    let image = image.ok()?;
    let (width, height) = (image.width(), image.height());
    winit::window::Icon::from_rgba(image.data?, width, height).ok()
}

/// Why nobody can see the window. Wayland tells windows neither.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unseen {
    occluded: bool,
    minimised: bool,
}

fn note_occlusion(mut occlusions: MessageReader<WindowOccluded>, mut unseen: ResMut<Unseen>) {
    if let Some(last) = occlusions.read().last() {
        let occluded = last.occluded;
        unseen.set_if_neq(Unseen { occluded, ..*unseen });
    }
}

/// Not every system tells that a minimised window is occluded.
fn look_minimised(windows: Query<Entity, With<PrimaryWindow>>, mut unseen: ResMut<Unseen>) {
    let minimised = windows.single().is_ok_and(|window| {
        WINIT_WINDOWS.with_borrow(|winit_windows| {
            let window = winit_windows.get_window(window);
            window.is_some_and(|window| window.is_minimized() == Some(true))
        })
    });
    unseen.set_if_neq(Unseen { minimised, ..*unseen });
}

/// A window that nobody can see draws nothing; the network goes on.
fn rest_unseen(
    unseen: Res<Unseen>,
    mut resting: Local<bool>,
    mut cameras: Query<&mut Camera, With<OrbitCamera>>,
    mut winit: ResMut<WinitSettings>,
) {
    let rests = unseen.occluded || unseen.minimised;
    if std::mem::replace(&mut *resting, rests) == rests {
        return;
    }
    for mut camera in &mut cameras {
        camera.is_active = !rests;
    }
    let mode = if rests {
        UpdateMode::reactive_low_power(UNSEEN_FRAME)
    } else {
        UpdateMode::Continuous
    };
    (winit.focused_mode, winit.unfocused_mode) = (mode, mode);
    tracing::debug!(unseen = ?*unseen, "window");
}

/// Closing the window and signals ask for the same as a button does.
fn note_requests(
    mut closed: MessageReader<WindowCloseRequested>,
    signal: Option<Res<StopSignal>>,
    leaving: Res<Leaving>,
    mut leave: MessageWriter<Leave>,
) {
    let signalled = signal.is_some_and(|signal| signal.0.load(Ordering::Relaxed));
    if closed.read().count() > 0 || (signalled && !leaving.has_begun()) {
        leave.write(Leave::Game);
    }
}

/// Says goodbye, and ends when that had time to be sent. Whatever else happens meanwhile, it ends.
fn leave(
    mut asked: MessageReader<Leave>,
    time: Res<Time<Real>>,
    link: Res<SimulatedLink>,
    mut leaving: ResMut<Leaving>,
    mut connector: ResMut<Connector>,
    mut frames: Local<u32>,
    mut exit: MessageWriter<AppExit>,
) {
    if asked.read().count() > 0 && leaving.since.is_none() {
        leaving.since = Some(time.elapsed());
    }
    let Some(since) = leaving.since else { return };
    if connector.state != ConnectionState::Idle {
        connector.leave();
    }
    *frames += 1;
    // A simulated network holds the goodbye back.
    let conditions = link.0.get();
    let needed = GOODBYE + conditions.delay + conditions.jitter;
    if time.elapsed() > since + needed && *frames > 2 {
        exit.write(match leaving.failed {
            true => AppExit::error(),
            false => AppExit::Success,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icon_can_be_read() {
        assert!(icon().is_some());
    }
}
