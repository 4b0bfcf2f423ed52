//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use meridian_autopilot::ScenarioKind;

use crate::network_simulator::NetworkProfile;
use crate::quality::Quality;

/// Opens a window into a Meridian world: walk, jump, push crates, and see how the network does.
///
/// Without a server it begins with a screen that asks for one. F1 shows the keys.
#[derive(Clone, Debug, Parser)]
#[command(name = "client", version, args_override_self = true)]
pub struct Cli {
    /// Joins this server at once, for example http://127.0.0.1:7600.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// What others call you; the last one, unless given.
    #[arg(long)]
    pub name: Option<String>,
    /// How much is drawn, for this run; `low` is for machines without a graphics card.
    #[arg(long, value_enum)]
    pub quality: Option<Quality>,
    /// The window's size.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = window_size, default_value = "1280x720")]
    pub size: (u32, u32),
    /// Simulates a bad network from the start; F4 changes it.
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub network: Option<NetworkProfile>,
    /// What is shown from the start, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PANEL")]
    pub show: Vec<Panel>,
    /// Walks by itself as the bots of `loadgen run --scenario` do.
    #[arg(long, value_enum, value_name = "SCENARIO")]
    pub autopilot: Option<ScenarioKind>,
    /// Which of the autopilot's walks, for several windows at once.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Saves a picture of the window there and quits.
    #[arg(long, value_name = "FILE", conflicts_with = "headless")]
    pub screenshot: Option<PathBuf>,
    /// When to save the picture, counted from when the world is seen, or the connect screen without a server.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s", requires = "screenshot")]
    pub after: Duration,
    /// Where F12 saves pictures; the current folder, unless given.
    #[arg(long, value_name = "FOLDER")]
    pub screenshots: Option<PathBuf>,
    /// Quits by itself after so long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub quit_after: Option<Duration>,
    /// Does all that the window does, without a window and without drawing; needs a server.
    #[arg(long, requires = "server")]
    pub headless: bool,
    /// Frames per second without a window.
    #[arg(long, value_name = "HZ", default_value_t = 60.0, value_parser = frame_rate, requires = "headless")]
    pub frame_rate: f64,
    /// Tells programs what is seen, as JSON, twice a second and at the end.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where settings are kept; `meridian/client.toml` in the user's configuration folder, unless given.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

/// What can be shown over the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Panel {
    /// Figures and graphs of the network (F3).
    Hud,
    /// The network simulator (F4).
    Simulator,
    /// Where the server has everybody (F5).
    Ghosts,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("{unit:?} is no unit of time: 500ms, 5s and 2m are times")),
    };
    let number: f64 = number.parse().map_err(|_| "500ms, 5s and 2m are times".to_owned())?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

fn window_size(text: &str) -> Result<(u32, u32), String> {
    let parse = || {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    };
    match parse() {
        Some((width, height)) if (320..=16_384).contains(&width) && (200..=16_384).contains(&height) => {
            Ok((width, height))
        }
        _ => Err("a size is for example 1280x720, at least 320x200".to_owned()),
    }
}

fn frame_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hz) if (1.0..=1_000.0).contains(&hz) => Ok(hz),
        _ => Err("frames per second are from 1 to 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units_and_nonsense_is_refused() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for nonsense in ["", "s", "5 parsecs", "-1s", "1e400s", "NaN"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(window_size("640x360"), Ok((640, 360)));
        for nonsense in ["640", "0x0", "640x", "99999x2", "axb"] {
            assert!(window_size(nonsense).is_err(), "{nonsense}");
        }
    }
}
