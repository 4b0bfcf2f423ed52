//! Flags for what goes wrong in a run on purpose: a bad link, a zone that stands still.

use std::time::Duration;

use clap::Args;
use meridian_link::LinkConditions;

use crate::swarm::{Faults, Stall};

/// Longest delay that a link may be given, in milliseconds: a client gives up a silent gateway after five seconds.
const DELAY_MS_MAX: f64 = 4_000.0;

/// What goes wrong in a run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Faults")]
pub struct FaultArgs {
    /// Round trip that the bots' links have in addition, in milliseconds; half of it each way
    #[arg(long, default_value = "0", value_name = "MS", value_parser = milliseconds)]
    pub link_delay: Duration,
    /// How much earlier or later than that each packet may come, each way, in milliseconds; packets may overtake each other
    #[arg(long, default_value = "0", value_name = "MS", value_parser = milliseconds)]
    pub link_jitter: Duration,
    /// Share of packets that the bots' links lose, each way, in percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percent)]
    pub link_loss: f64,
    /// Let this zone (name or index) stand still in the middle of the measuring window; needs a scenario about zones, and a
    /// server started with --fault-injection
    #[arg(long, value_name = "ZONE")]
    pub stall_zone: Option<String>,
    /// How long it stands still, in seconds; the stall must end before the measuring window does
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = super::interval)]
    pub stall_seconds: Duration,
}

impl FaultArgs {
    /// The faults as a swarm takes them.
    pub fn faults(&self) -> Faults {
        Faults {
            link: LinkConditions {
                delay: self.link_delay / 2,
                jitter: self.link_jitter,
                loss: self.link_loss / 100.0,
            },
            stall: self.stall_zone.clone().map(|zone| Stall {
                zone,
                duration: self.stall_seconds,
            }),
        }
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(figure) if (0.0..=DELAY_MS_MAX).contains(&figure) => Ok(Duration::from_secs_f64(figure / 1e3)),
        _ => Err(format!(
            "{text:?} is not a number of milliseconds from 0 to {DELAY_MS_MAX}"
        )),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(figure) if (0.0..=100.0).contains(&figure) => Ok(figure),
        _ => Err(format!("{text:?} is not a percentage from 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn faults(flags: &[&str]) -> Result<Faults, String> {
        let line = ["loadgen", "run"].iter().chain(flags);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(run.faults.faults()),
            _ => Err("not a run".to_owned()),
        }
    }

    #[test]
    fn nothing_goes_wrong_unless_it_is_asked_for() {
        let faults = faults(&[]).unwrap();
        assert!(faults.link.is_perfect() && faults.stall.is_none());
    }

    #[test]
    fn a_link_is_told_by_its_round_trip_and_a_stall_by_its_zone() {
        let line = "--link-delay 100 --link-jitter 5.5 --link-loss 2 --stall-zone north-east --stall-seconds 1.5";
        let faults = faults(&line.split(' ').collect::<Vec<_>>()).unwrap();
        let expected = LinkConditions {
            delay: Duration::from_millis(50),
            jitter: Duration::from_micros(5_500),
            loss: 0.02,
        };
        assert_eq!(faults.link, expected);
        let stall = faults.stall.unwrap();
        assert_eq!(
            (stall.zone.as_str(), stall.duration),
            ("north-east", Duration::from_millis(1_500))
        );
    }

    #[test]
    fn faults_that_cannot_be_are_refused() {
        for wrong in [
            ["--link-delay", "-1"],
            ["--link-delay", "5000"],
            ["--link-jitter", "nan"],
            ["--link-loss", "101"],
            ["--stall-seconds", "0"],
        ] {
            assert!(faults(&wrong).is_err(), "{wrong:?}");
        }
    }
}
