//! The window itself: title, icon, closing with a goodbye, and rest while nobody can see it.

use std::time::Duration;

use bevy::prelude::*;
use bevy::window::{PresentMode, PrimaryWindow, WindowCloseRequested, WindowOccluded, WindowResolution};
use bevy::winit::{UpdateMode, WINIT_WINDOWS, WinitSettings};
use meridian_client_net::{ConnectionState, Connector};
use meridian_game::WorldDefinition;

use crate::camera::OrbitCamera;
use crate::screen::Screen;
use crate::settings::Settings;

const TITLE: &str = "Meridian";
const ICON: &[u8] = include_bytes!("../../../assets/icons/meridian.png");
/// The network goes on at this rate while nothing is drawn.
const UNSEEN_FRAME: Duration = Duration::from_millis(16);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

pub(super) fn plugin(app: &mut App) {
    app.add_message::<Leave>();
    app.init_resource::<Leaving>();
    // In the background too: a player whose window has no focus still walks into things.
    app.insert_resource(WinitSettings::continuous());
    app.add_systems(Startup, stop_by_signal);
    app.add_systems(
        Update,
        (
            set_icon,
            set_title.run_if(state_changed::<Screen>.or_eager(resource_exists_and_changed::<WorldDefinition>)),
            set_present_mode.run_if(resource_changed::<Settings>),
            rest_unseen,
        ),
    );
    app.add_systems(Last, (ask_to_leave, leave).chain().in_set(WindowSystems));
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

/// Asks for an orderly end.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Of the whole program.
    Game,
}

/// Since when the program is ending.
#[derive(Resource, Default)]
pub struct Leaving(Option<Duration>);

impl Leaving {
    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.0.is_some()
    }
}

/// Set by SIGTERM and Ctrl-C.
#[derive(Resource)]
struct StopSignal(std::sync::Arc<std::sync::atomic::AtomicBool>);

fn stop_by_signal(mut commands: Commands) {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, flag.clone()) {
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
    settings: Res<Settings>,
    world: Option<Res<WorldDefinition>>,
    mut windows: Query<&mut Window, With<PrimaryWindow>>,
) {
    let title = match (screen.get(), world) {
        (Screen::World, Some(world)) => format!("{} in {} - {TITLE}", settings.name, world.name),
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

/// A window that is hidden or minimised draws nothing; the network goes on.
fn rest_unseen(
    mut occluded: MessageReader<WindowOccluded>,
    mut cameras: Query<&mut Camera, With<OrbitCamera>>,
    mut winit: ResMut<WinitSettings>,
) {
    let Some(unseen) = occluded.read().last().map(|occluded| occluded.occluded) else {
        return;
    };
    for mut camera in &mut cameras {
        camera.is_active = !unseen;
    }
    let mode = if unseen {
        UpdateMode::reactive_low_power(UNSEEN_FRAME)
    } else {
        UpdateMode::Continuous
    };
    (winit.focused_mode, winit.unfocused_mode) = (mode, mode);
    tracing::debug!(unseen, "window");
}

fn ask_to_leave(
    mut closed: MessageReader<WindowCloseRequested>,
    mut asked: MessageReader<Leave>,
    signal: Option<Res<StopSignal>>,
    time: Res<Time<Real>>,
    mut connector: ResMut<Connector>,
    mut leaving: ResMut<Leaving>,
) {
    let signalled = signal.is_some_and(|signal| signal.0.load(std::sync::atomic::Ordering::Relaxed));
    let wanted = closed.read().count() + asked.read().count() > 0 || signalled;
    if wanted && leaving.0.is_none() {
        leaving.0 = Some(time.elapsed());
        connector.leave();
    }
}

/// Ends when the goodbye had time to be sent.
fn leave(
    leaving: Res<Leaving>,
    time: Res<Time<Real>>,
    connector: Res<Connector>,
    mut frames: Local<u32>,
    mut exit: MessageWriter<AppExit>,
) {
    let Some(since) = leaving.0 else { return };
    *frames += 1;
    let said = connector.state == ConnectionState::Idle && time.elapsed() > since + GOODBYE && *frames > 2;
    if said {
        exit.write(AppExit::Success);
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
