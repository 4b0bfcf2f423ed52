//! What the player chose: kept in a file, changed in the settings screen.
//!
//! A file that cannot be read is put aside, never overwritten; a file that cannot be written is told once.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bindings::Bindings;
use crate::notices::Notices;
use crate::quality::Quality;

/// Unreadable settings that are put aside; no more are kept apart.
const ASIDE_MAX: u32 = 9;
/// The server that a new player is offered.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7600";

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Last, save.run_if(resource_changed::<Settings>));
}

/// What is kept.
#[derive(Resource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The server that was joined last.
    pub server: String,
    /// What others call the player.
    pub name: String,
    /// How much is drawn.
    pub quality: Quality,
    /// Vertical field of view, in degrees.
    pub field_of_view_degrees: f32,
    /// How far the camera turns for a movement of the mouse; 1 is usual.
    pub mouse_sensitivity: f32,
    /// Whether moving the mouse up looks down.
    pub invert_y: bool,
    /// Whether frames wait for the screen.
    pub vsync: bool,
    /// Whether the borders of zones are drawn.
    pub borders: bool,
    /// Whether the others' names are drawn.
    pub name_tags: bool,
    /// Size of everything that is written; 1 is usual.
    pub ui_scale: f32,
    /// Which key does what.
    pub keys: Bindings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: DEFAULT_SERVER.to_owned(),
            name: String::new(),
            quality: Quality::default(),
            field_of_view_degrees: 55.0,
            mouse_sensitivity: 1.0,
            invert_y: false,
            vsync: true,
            borders: true,
            name_tags: true,
            ui_scale: 1.0,
            keys: Bindings::default(),
        }
    }
}

impl Settings {
    /// What lies outside of what makes sense is brought back into it.
    fn bounded(mut self) -> Self {
        let bound = |value: f32, usual: f32, from: f32, to: f32| {
            if value.is_finite() {
                value.clamp(from, to)
            } else {
                usual
            }
        };
        self.field_of_view_degrees = bound(self.field_of_view_degrees, 55.0, 30.0, 100.0);
        self.mouse_sensitivity = bound(self.mouse_sensitivity, 1.0, 0.1, 5.0);
        self.ui_scale = bound(self.ui_scale, 1.0, 0.5, 3.0);
        self
    }
}

/// Where settings are kept, and what stands there.
#[derive(Resource, Clone, Debug)]
pub struct SettingsFile {
    path: Option<PathBuf>,
    kept: Settings,
    /// The quality that the command line asks for, and the one that is kept unless another is chosen.
    quality_of_run: Option<(Quality, Quality)>,
    failed: bool,
}

impl SettingsFile {
    /// Reads the settings, the defaults where there are none. The text says what people should know, if anything.
    pub fn read(path: Option<PathBuf>) -> (Self, Settings, Option<String>) {
        let mut path = path.or_else(default_path);
        let (settings, told) = match path.as_deref().map(read) {
            None => (
                Settings::default(),
                Some(
                    "There is no folder for settings (neither XDG_CONFIG_HOME nor HOME is set): they will be lost."
                        .to_owned(),
                ),
            ),
            Some((settings, told)) => {
                if settings.is_none() {
                    path = None;
                }
                (settings.unwrap_or_default(), told)
            }
        };
        let file = Self {
            path,
            kept: settings.clone(),
            quality_of_run: None,
            failed: false,
        };
        (file, settings, told)
    }

    /// Draws this run in another quality than the one that is kept.
    pub fn draw_this_run(&mut self, quality: Quality, settings: &mut Settings) {
        let kept = std::mem::replace(&mut settings.quality, quality);
        self.quality_of_run = Some((quality, kept));
    }

    /// What of the settings is to be kept.
    fn to_keep(&self, settings: &Settings) -> Settings {
        let mut keep = settings.clone();
        if let Some((of_run, kept)) = self.quality_of_run
            && keep.quality == of_run
        {
            keep.quality = kept;
        }
        keep
    }
}

fn default_path() -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = if cfg!(windows) {
        variable("APPDATA")
    } else {
        variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")))
    };
    folder.map(|folder| folder.join("meridian").join("client.toml"))
}

fn read(path: &Path) -> (Option<Settings>, Option<String>) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Some(Settings::default()), None),
        Err(error) => return put_aside(path, &error.to_string()),
    };
    match toml::from_str::<Settings>(&text) {
        Ok(settings) => (Some(settings.bounded()), None),
        Err(error) => put_aside(path, error.message().lines().next().unwrap_or_default()),
    }
}

/// What cannot be read is not overwritten: it gets another name, or the settings of this run are not kept.
fn put_aside(path: &Path, reason: &str) -> (Option<Settings>, Option<String>) {
    let named = |number: u32| path.with_extension(format!("toml.broken{number}"));
    let aside = (1..=ASIDE_MAX).map(named).find(|aside| !aside.exists());
    match aside.as_ref().map(|aside| fs::rename(path, aside)) {
        Some(Ok(())) => {
            let aside = aside.unwrap_or_default();
            let told = format!(
                "The settings could not be read ({reason}); they are now in {}.",
                aside.display()
            );
            (Some(Settings::default()), Some(told))
        }
        _ => {
            let told = format!(
                "The settings in {} cannot be read ({reason}); those of this run will not be kept.",
                path.display()
            );
            (None, Some(told))
        }
    }
}

fn write(path: &Path, settings: &Settings) -> io::Result<()> {
    let text = toml::to_string_pretty(settings).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Another window may write too: whoever reads sees one whole file or the other.
    let new = path.with_extension(format!("toml.{}", std::process::id()));
    let written = fs::File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn save(settings: Res<Settings>, mut file: ResMut<SettingsFile>, mut notices: ResMut<Notices>) {
    let keep = file.to_keep(&settings);
    // Once another quality was chosen, choosing that of the run is a choice too.
    file.quality_of_run = file.quality_of_run.filter(|(of_run, _)| settings.quality == *of_run);
    if keep == file.kept {
        return;
    }
    let Some(path) = file.path.clone() else { return };
    let written = write(&path, &keep);
    file.kept = keep;
    match written {
        Ok(()) => file.failed = false,
        Err(_) if file.failed => {}
        Err(error) => {
            file.failed = true;
            notices.tell(format!("Cannot keep the settings in {}: {error}.", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("client.toml");
        let settings = Settings {
            name: "Ada \"the first\"".to_owned(),
            quality: Quality::High,
            ..Settings::default()
        };
        write(&path, &settings).unwrap();
        let (_, read, told) = SettingsFile::read(Some(path.clone()));
        assert_eq!((read, told), (settings, None));
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_broken_file_is_put_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        let latin = b"name = \"Zo\xeb\"\n";
        for (number, broken) in [(1, b"quality = 7\n".as_slice()), (2, latin)] {
            fs::write(&path, broken).unwrap();
            let (_, read, told) = SettingsFile::read(Some(path.clone()));
            assert_eq!(read, Settings::default());
            let aside = format!("client.toml.broken{number}");
            assert!(told.unwrap().contains(&aside));
            assert_eq!(fs::read(folder.path().join(aside)).unwrap(), broken);
        }
    }

    #[test]
    fn the_quality_of_one_run_is_not_kept_and_one_that_is_chosen_is() {
        let (mut file, mut settings, _) = SettingsFile::read(Some(PathBuf::from("/nowhere/client.toml")));
        assert_eq!(settings.quality, Quality::Medium);
        file.draw_this_run(Quality::Low, &mut settings);
        assert_eq!(settings.quality, Quality::Low);
        settings.name = "Ada".to_owned();
        let keep = file.to_keep(&settings);
        assert_eq!((keep.quality, keep.name.as_str()), (Quality::Medium, "Ada"));
        settings.quality = Quality::High;
        assert_eq!(file.to_keep(&settings).quality, Quality::High);
    }

    #[test]
    fn absurd_values_are_bounded_and_unknown_ones_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        fs::write(&path, "field_of_view_degrees = nan\nui_scale = 1e9\nfuture = true\n").unwrap();
        let (_, read, told) = SettingsFile::read(Some(path));
        assert_eq!((read.field_of_view_degrees, read.ui_scale, told), (55.0, 3.0, None));
    }
}
