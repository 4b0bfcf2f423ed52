//! The command line: options, commands, and what `--help` says of them. The prompt reads its lines by the same rules.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_rpc::MOVE_TICKS_MAX;

use crate::error::CliError;

pub use values::{TIMEOUT_MAX, parse_duration};

use values::{parse_area, parse_entity, parse_metres, parse_name, parse_part, parse_timeout, parse_url};

/// Turns `--json` on, but for what means no.
const JSON_VARIABLE: &str = "MERIDIAN_CLI_JSON";
const AFTER_HELP: &str = "\
Who acts: `join` asks auth for a session and keeps it in a file that only its user can read, one for each auth and name, in \
$XDG_STATE_HOME/meridian (~/.local/state/meridian if that is not set). Later commands act as the player that joined last, or as \
--name. A session that is about to expire is renewed; one that auth does not know any more ends, and `join` begins another.

Every answer comes with its latency, in milliseconds and in ticks of the world, and with the id of its trace. Of a move the server \
says where the time went: route (to the zone), tick wait (for the next tick), simulate; the rest is network. A watch tells latency and \
trace once, of its first answer (the live map when it ends); a position has the trace of the move that it shows, if there is one. An error comes with \
the trace of its action and the time until the answer, or until it failed without one.

Spans go to where OTEL_EXPORTER_OTLP_ENDPOINT says, if it is set. With OTEL_METRICS_EXPORTER=otlp how long calls took goes there too, as a histogram, \
every minute and at the end.

With --json standard output has one JSON object per line: results have `command`, remarks and help have `notice`, errors, also of the \
command line, have `error` (a word that stays the same), `code`, `message` and `exit_code`, and `latency_ms` and `trace_id` of what they ended.

SIGINT (Ctrl-C), SIGTERM and SIGHUP end what goes on; at once if it does not end within a second, or with a second signal. At the prompt of a \
terminal Ctrl-C ends the command and the prompt goes on.

Exit codes:
  0  done; also if who reads the output goes away, and if a signal ends a watch in order
  1  an error that has no code of its own
  2  the command line is wrong
  3  the server or auth cannot be reached, or went away
  4  not permitted: no session, or the token is not accepted
  5  refused: an argument, or the player has not joined, or too much at once
  6  no answer in time, or nobody can do it now
  129, 130, 143  SIGHUP, SIGINT or SIGTERM ended it before it was done

Examples:
  cli join --name Ada                     come into the world as Ada
  cli move north 5                        walk five metres north, and wait until they are walked
  cli move --dx 0.5 --ticks 30 --jump     half speed east for 30 ticks, with a jump
  cli watch                               a live map; q ends it
  cli --json watch --area -10,-10,10,10 --count 100
                                          a hundred positions as lines of JSON
  printf 'north 1\\nwait 500ms\\neast 1\\n' | cli play
                                          moves over one stream
  cli                                     a prompt";

/// Join, move and watch over the gRPC API of a Meridian server, by hand or in scripts.
#[derive(Clone, Debug, Parser)]
#[command(name = "cli", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where and how.
    #[command(flatten)]
    pub options: Options,

    /// What to do [default: a prompt that takes these commands line by line]
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where to play, as whom, and how to tell it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Options {
    /// gRPC API of a server that runs zones; any of them answers for the whole world
    #[arg(long, value_name = "URL", env = "MERIDIAN_CLI_SERVER", default_value = "http://127.0.0.1:7650", value_parser = parse_url, global = true)]
    pub server: String,

    /// HTTP listener of a server with the role auth, which gives sessions
    #[arg(long, value_name = "URL", env = "MERIDIAN_CLI_AUTH", default_value = "http://127.0.0.1:7600", value_parser = parse_url, global = true)]
    pub auth: String,

    /// The player to act as, 1 to 24 characters [default: who joined last; a new one is called as the user is]
    #[arg(long, value_name = "NAME", env = "MERIDIAN_CLI_NAME", value_parser = parse_name, global = true)]
    pub name: Option<String>,

    /// File that keeps the session of one player, instead of one in the state folder; what holds something else is left as it is
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CLI_SESSION", global = true)]
    pub session: Option<PathBuf>,

    /// Print one JSON object per line
    #[arg(long, env = JSON_VARIABLE, value_parser = FalseyValueParser::new(), global = true)]
    pub json: bool,

    /// How long an answer may take, such as 500ms or 2s, at most 10s, when servers give a call up; a watch has to begin within it
    #[arg(long, value_name = "DURATION", env = "MERIDIAN_CLI_TIMEOUT", default_value = "10s", value_parser = parse_timeout, global = true)]
    pub timeout: Duration,
}

/// What `cli` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Come into the world, or find the player there; begins or renews the session
    Join,
    /// Leave the world; the session stays, and `join` comes back as the same player
    Leave,
    /// Walk some metres in a direction, or exactly as told
    Move(MoveArgs),
    /// Tell where entities are, again and again: a live map in a terminal, else a line for each position
    Watch(WatchArgs),
    /// Print the world's zones and who has them
    Zones,
    /// Read moves from standard input and send them over one stream as they come
    #[command(after_help = PLAY_HELP)]
    Play,
    /// Ask whether the server takes calls
    Status,
}

const PLAY_HELP: &str = "\
Each line is a move as `cli move` takes it (`north 2`, `ne --ticks 10`, `--dx 1 --dz 0 --ticks 30 --jump`), of at most 60 ticks, \
or `wait DURATION`. Empty lines and those that begin with # are passed over. A move is sent when its line is read and replaces \
what the one before had left: `wait` lets that walk. A line that is refused is told and ends nothing; the exit code is that of \
the first.";

/// Arguments of `cli move`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct MoveArgs {
    /// Where to walk; north is towards lower z, east towards higher x
    #[arg(value_enum, ignore_case = true, hide_possible_values = true, required_unless_present_any = ["dx", "dz"], conflicts_with_all = ["dx", "dz"],
        help = "Where to walk: north, south, east, west, north-east, ... or n, s, e, w, ne, ...; north is towards lower z, east towards higher x")]
    pub direction: Option<Direction>,

    /// How far, in metres on free ground; sent as several moves of at most 60 ticks if need be
    #[arg(value_parser = parse_metres, required_unless_present = "ticks", conflicts_with = "ticks")]
    pub metres: Option<f32>,

    /// East as a part of full speed, -1 to 1; the vector of --dx and --dz is at most 1 long
    #[arg(long, value_name = "PART", value_parser = parse_part, allow_hyphen_values = true, requires = "ticks")]
    pub dx: Option<f32>,

    /// South as a part of full speed, -1 to 1
    #[arg(long, value_name = "PART", value_parser = parse_part, allow_hyphen_values = true, requires = "ticks")]
    pub dz: Option<f32>,

    /// For how many ticks, 1 to 60, as one move
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOVE_TICKS_MAX)))]
    pub ticks: Option<u32>,

    /// Jump in the first of them
    #[arg(long)]
    pub jump: bool,

    /// Do not wait until the last tick of the move: what is told next replaces the rest of it
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `cli watch`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct WatchArgs {
    /// Only what stands in this rectangle, in metres; its edges belong to it
    #[arg(long, value_name = "X0,Z0,X1,Z1", value_parser = parse_area, allow_hyphen_values = true, conflicts_with = "entity")]
    pub area: Option<WatchedArea>,

    /// Only these entities, as the results name them (e1000100000001) or as numbers
    #[arg(long, value_name = "ID", value_parser = parse_entity, num_args = 1..)]
    pub entity: Vec<u64>,

    /// End after so many seconds, or another duration such as 500ms or 1m
    #[arg(long, value_name = "N", value_parser = parse_duration, conflicts_with = "count")]
    pub seconds: Option<Duration>,

    /// End after so many positions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Print a line for each position, even in a terminal
    #[arg(long)]
    pub plain: bool,
}

/// A rectangle to watch, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchedArea {
    /// Western edge.
    pub min_x: f32,
    /// Northern edge.
    pub min_z: f32,
    /// Eastern edge.
    pub max_x: f32,
    /// Southern edge.
    pub max_z: f32,
}

/// One of the eight directions of a compass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Towards lower z.
    #[value(alias = "n")]
    North,
    /// Towards higher z.
    #[value(alias = "s")]
    South,
    /// Towards higher x.
    #[value(alias = "e")]
    East,
    /// Towards lower x.
    #[value(alias = "w")]
    West,
    /// Between north and east.
    #[value(alias = "ne")]
    NorthEast,
    /// Between north and west.
    #[value(alias = "nw")]
    NorthWest,
    /// Between south and east.
    #[value(alias = "se")]
    SouthEast,
    /// Between south and west.
    #[value(alias = "sw")]
    SouthWest,
}

impl Direction {
    /// The vector to walk along, `(dx, dz)`, of length 1.
    pub fn vector(self) -> (f32, f32) {
        // Its square is a little below a half: a diagonal is never longer than 1.
        const DIAGONAL: f32 = std::f32::consts::FRAC_1_SQRT_2;
        match self {
            Self::North => (0.0, -1.0),
            Self::South => (0.0, 1.0),
            Self::East => (1.0, 0.0),
            Self::West => (-1.0, 0.0),
            Self::NorthEast => (DIAGONAL, -DIAGONAL),
            Self::NorthWest => (-DIAGONAL, -DIAGONAL),
            Self::SouthEast => (DIAGONAL, DIAGONAL),
            Self::SouthWest => (-DIAGONAL, DIAGONAL),
        }
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::North => "north",
            Self::South => "south",
            Self::East => "east",
            Self::West => "west",
            Self::NorthEast => "north-east",
            Self::NorthWest => "north-west",
            Self::SouthEast => "south-east",
            Self::SouthWest => "south-west",
        }
    }
}

/// A line of `cli play`, read as arguments.
#[derive(Clone, Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_help_flag = true)]
pub struct PlayLine {
    /// The move.
    #[command(flatten)]
    pub movement: MoveArgs,
}

/// A line of the prompt, read as arguments.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "",
    no_binary_name = true,
    disable_version_flag = true,
    about = "Commands of the prompt; `exit` or Ctrl-D leaves it",
    override_usage = "COMMAND [ARGUMENTS]"
)]
pub struct PromptLine {
    /// The player to act as; `join` keeps to it
    #[arg(long, value_name = "NAME", value_parser = parse_name, global = true)]
    pub name: Option<String>,

    /// What to do.
    #[command(subcommand)]
    pub command: PromptCommand,
}

/// What a line of the prompt does.
#[derive(Clone, Debug, Subcommand)]
pub enum PromptCommand {
    /// What the command line does too.
    #[command(flatten)]
    Command(Command),
    /// Leave the prompt; Ctrl-D does too
    #[command(alias = "quit")]
    Exit,
}

/// What a command line or a line came to that is no command.
pub enum Misread {
    /// It asked for help, or for the version.
    Help(String),
    /// It makes no sense.
    Error(CliError),
}

/// What clap says, without what begins and ends it.
pub fn misread_as(error: &clap::Error) -> Misread {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Misread::Help(text.trim_end().to_owned()),
        _ => Misread::Error(CliError::Usage(
            text.trim_end().trim_start_matches("error: ").to_owned(),
        )),
    }
}

/// Whether a command line asks for `--json` that cannot be read as a whole.
pub fn wants_json() -> bool {
    let mut options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    let variable = std::env::var_os(JSON_VARIABLE);
    let is_on = |value: &std::ffi::OsStr| {
        let read = FalseyValueParser::new().parse_ref(&clap::Command::new(""), None, value);
        read.unwrap_or(false)
    };
    options.any(|option| option == "--json") || variable.as_deref().is_some_and(is_on)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;

    fn parse_move(line: &str) -> Result<MoveArgs, String> {
        let parsed = PlayLine::try_parse_from(line.split_whitespace());
        parsed.map(|line| line.movement).map_err(|error| error.to_string())
    }

    #[test]
    fn the_commands_are_sound() {
        Cli::command().debug_assert();
        PlayLine::command().debug_assert();
        PromptLine::command().debug_assert();
    }

    #[test]
    fn a_move_is_metres_or_ticks_or_a_vector_with_ticks() {
        let north = parse_move("north 5").unwrap();
        assert_eq!((north.direction, north.metres), (Some(Direction::North), Some(5.0)));
        let east = parse_move("NE --ticks 10 --jump").unwrap();
        assert_eq!(
            (east.direction, east.ticks, east.jump),
            (Some(Direction::NorthEast), Some(10), true)
        );
        let raw = parse_move("--dx -0.5 --dz 0.5 --ticks 60").unwrap();
        assert_eq!((raw.dx, raw.dz, raw.ticks), (Some(-0.5), Some(0.5), Some(60)));
        for wrong in [
            "",
            "north",
            "5",
            "up 5",
            "north 0",
            "north nan",
            "north -3",
            "north inf",
            "north 10001",
            "north 5 --ticks 5",
            "north 5 --dx 1",
            "--dx 1",
            "--dx 2 --ticks 3",
            "--dx nan --ticks 3",
            "--ticks 3",
            "--dx 1 --ticks 0",
            "--dx 1 --ticks 61",
        ] {
            assert!(parse_move(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_direction_is_longer_than_the_contract_allows() {
        for direction in Direction::value_variants() {
            let (dx, dz) = direction.vector();
            let length = dx.hypot(dz);
            assert!(length <= 1.0 && length > 0.999_999, "{direction:?} {length}");
            assert_eq!(Direction::from_str(direction.name(), true), Ok(*direction));
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reading_of_a_move(text in ".{0,40}") {
            let _ = parse_move(&text);
        }
    }
}
