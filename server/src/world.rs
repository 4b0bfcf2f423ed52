//! The world file as every role gets it: its text for the zone, a JSON document and its hash for clients.
//!
//! What the file means is the game's business; here it only has to be TOML.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use meridian_ids::TickRate;
use meridian_session::document_hash;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The key of the world file that the configuration may override.
const TICK_RATE_KEY: &str = "tick_rate_hz";

/// [`TICK_RATE_KEY`], read apart from the rest: only typed values are told with their line.
#[derive(Deserialize)]
struct OwnTickRate {
    tick_rate_hz: Option<TickRate>,
}

/// What every process needs to know of the file, whatever the game makes of the rest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    name: String,
    zones: Vec<ZoneName>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ZoneName {
    name: String,
}

/// A world file that was read.
#[derive(Clone, Debug)]
pub struct World {
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// Its name: processes of one cluster that name the same world share it.
    pub name: Arc<str>,
    /// The names of its zones, by their ids.
    pub zones: Vec<String>,
    /// The rate that counts: the configuration's, or the file's, or the default.
    pub tick_rate: TickRate,
    /// The file as JSON with the rate that counts.
    pub json: Arc<str>,
    /// [`document_hash`] of `json`, which sessions carry.
    pub hash: Arc<str>,
}

impl World {
    /// Reads a world file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has an impossible tick rate; for these the message names the line.
    pub fn load(path: &Path, tick_rate: Option<TickRate>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the world file {}: name another with --world FILE, or start in the folder that holds assets/",
                path.display()
            )
        })?;
        Self::parse(path, text, tick_rate)
    }

    fn parse(path: &Path, text: String, tick_rate: Option<TickRate>) -> anyhow::Result<Self> {
        let located = |error: &toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            format!("{}:{line}", path.display())
        };
        let mut document: Map<String, Value> =
            toml::from_str(&text).map_err(|error| anyhow!("{}: {}", located(&error), error.message()))?;
        let tick_rate = match tick_rate {
            Some(tick_rate) => tick_rate,
            None => toml::from_str::<OwnTickRate>(&text)
                .map_err(|error| anyhow!("{}: {TICK_RATE_KEY}: {}", located(&error), error.message()))?
                .tick_rate_hz
                .unwrap_or_default(),
        };
        // What is of another shape is for the game to refuse, which says more.
        let names: Names = toml::from_str(&text).unwrap_or_default();
        document.insert(TICK_RATE_KEY.to_owned(), Value::from(tick_rate.hz()));
        let json = serde_json::to_string(&document).context("cannot write the world as JSON")?;
        let hash = document_hash(&json);
        Ok(Self {
            path: path.to_owned(),
            text: text.into(),
            name: names.name.into(),
            zones: names.zones.into_iter().map(|zone| zone.name).collect(),
            tick_rate,
            json: json.into(),
            hash: hash.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_that_counts_is_in_the_document_and_the_hash() {
        let parse = |text: &str, hz: Option<u32>| {
            World::parse(
                Path::new("w.toml"),
                text.to_owned(),
                hz.map(|hz| TickRate::new(hz).unwrap()),
            )
            .unwrap()
        };
        let (own, given, default) = (
            parse("tick_rate_hz = 30", None),
            parse("tick_rate_hz = 30", Some(64)),
            parse("", None),
        );
        assert_eq!(
            [own.tick_rate.hz(), given.tick_rate.hz(), default.tick_rate.hz()],
            [30, 64, 60]
        );
        assert_eq!(&*given.json, r#"{"tick_rate_hz":64}"#);
        assert_ne!(own.hash, given.hash);
        assert_eq!(own.hash, parse("# the same\ntick_rate_hz = 30\n", None).hash);
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let error = |text: &str| {
            format!(
                "{:#}",
                World::parse(Path::new("w.toml"), text.to_owned(), None).unwrap_err()
            )
        };
        assert!(error("name = \"x\"\nsize = = 3\n").starts_with("w.toml:2: "));
        let rate = error("# tick_rate_hz\nname = \"x\"\ntick_rate_hz = 500");
        assert!(
            rate.starts_with("w.toml:3: tick_rate_hz: tick rate 500 Hz is outside"),
            "{rate}"
        );
        let absent = format!("{:#}", World::load(Path::new("no/such.toml"), None).unwrap_err());
        assert!(
            absent.contains("no/such.toml") && absent.contains("--world FILE"),
            "{absent}"
        );
    }
}
