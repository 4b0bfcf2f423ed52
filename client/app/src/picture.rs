//! Pictures of the window: by F12, or one from the command line before the program ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured};

use crate::bindings::Action;
use crate::cli::Cli;
use crate::controls::Pressed;
use crate::notices::Notices;
use crate::pipelines::Pipelines;
use crate::screen::{Refusal, Screen, free_keys};
use crate::ui::nobody_binds;
use crate::window::{Leave, Leaving};

/// Takes pictures.
pub(super) struct PicturePlugin {
    pub(super) cli: Cli,
}

impl Plugin for PicturePlugin {
    fn build(&self, app: &mut App) {
        if self.cli.headless {
            return;
        }
        app.insert_resource(Album(self.cli.screenshots.clone().unwrap_or_default()));
        app.add_systems(Update, take_by_key.run_if(free_keys).run_if(nobody_binds));
        if let Some(file) = &self.cli.screenshot {
            app.insert_resource(LastPicture {
                file: file.clone(),
                after: self.cli.after,
                from: if self.cli.server.is_some() {
                    Screen::World
                } else {
                    Screen::Connect
                },
                began: None,
                taken: false,
                saved: false,
            });
            app.add_systems(Update, (take_last, fail_without, give_up));
        }
    }
}

/// The folder of pictures taken by key.
#[derive(Resource)]
struct Album(PathBuf);

/// The picture that the program ends with.
#[derive(Resource)]
struct LastPicture {
    file: PathBuf,
    after: Duration,
    /// The screen from which on the time counts.
    from: Screen,
    began: Option<Duration>,
    taken: bool,
    saved: bool,
}

fn take_by_key(pressed: Pressed, album: Res<Album>, mut commands: Commands) {
    if !pressed.just(Action::Screenshot) {
        return;
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let file = album.0.join(format!("meridian-{}.png", seconds.as_millis()));
    commands.spawn(Screenshot::primary_window()).observe(
        move |captured: On<ScreenshotCaptured>, mut notices: ResMut<Notices>| match save(&captured.image, &file) {
            Ok(()) => notices.tell(format!("Saved {}", file.display())),
            Err(error) => notices.tell(error),
        },
    );
}

fn take_last(
    screen: Res<State<Screen>>,
    time: Res<Time<Real>>,
    pipelines: Res<Pipelines>,
    mut last: ResMut<LastPicture>,
    mut commands: Commands,
) {
    let now = time.elapsed();
    if last.began.is_none() && *screen.get() == last.from {
        last.began = Some(now);
    }
    let due = last.began.is_some_and(|began| now >= began + last.after);
    if !due || last.taken || pipelines.waiting() > 0 {
        return;
    }
    last.taken = true;
    let file = last.file.clone();
    commands.spawn(Screenshot::primary_window()).observe(
        move |captured: On<ScreenshotCaptured>, mut last: ResMut<LastPicture>, mut leave: MessageWriter<Leave>| {
            match save(&captured.image, &file) {
                Ok(()) => last.saved = true,
                Err(error) => tracing::error!("{error}"),
            }
            leave.write(Leave::Game);
        },
    );
}

/// A program that was started for a picture and ends without it has failed.
fn fail_without(last: Res<LastPicture>, mut asked: MessageReader<Leave>, mut leaving: ResMut<Leaving>) {
    if asked.read().count() > 0 && !last.saved {
        leaving.fail();
    }
}

/// One that is refused will never have it.
fn give_up(refusal: Res<Refusal>, leaving: Res<Leaving>, mut leave: MessageWriter<Leave>) {
    if let Some(reason) = refusal.0.as_ref().filter(|_| !leaving.has_begun()) {
        tracing::error!("no picture: {reason}");
        leave.write(Leave::Game);
    }
}

/// Writes a PNG, whole or not at all.
fn save(image: &Image, file: &Path) -> Result<(), String> {
    let told = |error: String| format!("Cannot save a picture in {}: {error}", file.display());
    let picture = image
        .clone()
        .try_into_dynamic()
        .map_err(|error| told(error.to_string()))?;
    let new = file.with_extension("png.new");
    picture
        .to_rgb8()
        .save_with_format(&new, image::ImageFormat::Png)
        .map_err(|error| told(error.to_string()))?;
    std::fs::rename(&new, file).map_err(|error| told(error.to_string()))
}
