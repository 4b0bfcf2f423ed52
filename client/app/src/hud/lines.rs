//! The figures in words. Pure.

use std::time::Duration;

use bevy::math::Vec3;
use meridian_client_net::{NetworkHealth, ProbeTerms};

use super::timing::Summary;

/// What the figures are of.
pub(super) struct Facts<'a> {
    pub(super) health: &'a NetworkHealth,
    /// The zone that simulates the own player.
    pub(super) zone: Option<String>,
    pub(super) zone_changes: u64,
    pub(super) position: Option<Vec3>,
    pub(super) frame: Summary,
    pub(super) tick: Summary,
    /// The network simulator's profile.
    pub(super) network: &'static str,
}

/// What is not known yet.
const UNKNOWN: &str = "-";

fn ms(duration: Option<Duration>) -> String {
    duration.map_or_else(
        || UNKNOWN.to_owned(),
        |duration| format!("{:.1} ms", duration.as_secs_f64() * 1e3),
    )
}

fn kilobits(bytes: u64) -> String {
    format!("{:.1} kbit/s", bytes as f64 * 8.0 / 1e3)
}

impl Facts<'_> {
    /// One line per figure: its name, then its value from a fixed column on.
    pub(super) fn lines(&self) -> Vec<String> {
        let health = self.health;
        let line = |name: &str, value: String| format!("{name:<16}{value}");
        let mut lines = vec![
            line(
                "tick",
                health
                    .tick
                    .map_or_else(|| UNKNOWN.to_owned(), |tick| tick.0.to_string()),
            ),
            line(
                "zone",
                match &self.zone {
                    Some(zone) => format!("{zone} ({} changes)", self.zone_changes),
                    None => UNKNOWN.to_owned(),
                },
            ),
            line(
                "place",
                self.position.map_or_else(
                    || UNKNOWN.to_owned(),
                    |at| format!("{:.1} {:.1} {:.1} m", at.x, at.y, at.z),
                ),
            ),
            line("round trip", ms(health.round_trip)),
            line("jitter", ms(health.jitter)),
            line(
                "loss",
                health
                    .lost
                    .map_or_else(|| UNKNOWN.to_owned(), |lost| format!("{:.1} %", lost * 100.0)),
            ),
            line("network", self.network.to_owned()),
            line(
                "action",
                format!("{}, at most {}", ms(health.action), ms(health.action_max)),
            ),
        ];
        lines.extend(terms(health.terms.as_ref(), health.input_wait));
        lines.extend([
            line(
                "corrections",
                format!(
                    "{} /s, at most {:.1} cm",
                    health.corrections_per_s,
                    health.correction_m * 100.0
                ),
            ),
            line("others shown", format!("{} ago", ms(health.interpolation_delay))),
            line(
                "in",
                format!(
                    "{}, {} packets",
                    kilobits(health.per_second.bytes_in),
                    health.per_second.packets_in
                ),
            ),
            line(
                "out",
                format!(
                    "{}, {} packets",
                    kilobits(health.per_second.bytes_out),
                    health.per_second.packets_out
                ),
            ),
            line("entities", health.entities.to_string()),
            line("frame", self.frame.to_string()),
            line("tick time", self.tick.to_string()),
        ]);
        lines
    }
}

/// Where the time of an action goes, in its order.
fn terms(terms: Option<&ProbeTerms>, input_wait: Option<Duration>) -> Vec<String> {
    let of = |term: fn(&ProbeTerms) -> Duration| terms.map(term);
    [
        ("input wait", input_wait),
        ("uplink", of(|terms| terms.uplink)),
        ("forward", of(|terms| terms.forward)),
        ("tick wait", of(|terms| terms.tick_wait)),
        ("simulate", of(|terms| terms.simulate)),
        ("gateway", of(|terms| terms.gateway)),
        ("downlink", of(|terms| terms.downlink)),
        ("apply", of(|terms| terms.apply)),
    ]
    .into_iter()
    .map(|(name, term)| format!("  {name:<14}{}", ms(term)))
    .collect()
}

#[cfg(test)]
mod tests {
    use meridian_ids::Tick;

    use super::*;

    fn facts(health: &NetworkHealth) -> Vec<String> {
        Facts {
            health,
            zone: None,
            zone_changes: 0,
            position: None,
            frame: Summary::default(),
            tick: Summary::default(),
            network: "Perfect",
        }
        .lines()
    }

    #[test]
    fn what_is_not_known_is_told_as_such() {
        let lines = facts(&NetworkHealth::default());
        assert!(lines.contains(&"round trip      -".to_owned()), "{lines:#?}");
        assert!(
            lines.iter().all(|line| line.is_ascii()),
            "the font with columns has ASCII only"
        );
    }

    #[test]
    fn figures_have_their_units() {
        let health = NetworkHealth {
            tick: Some(Tick(123)),
            round_trip: Some(Duration::from_micros(12_340)),
            lost: Some(0.021),
            terms: Some(ProbeTerms {
                tick_wait: Duration::from_micros(4_560),
                ..ProbeTerms::default()
            }),
            ..NetworkHealth::default()
        };
        let lines = facts(&health);
        for expected in [
            "tick            123",
            "round trip      12.3 ms",
            "loss            2.1 %",
            "  tick wait     4.6 ms",
        ] {
            assert!(
                lines.contains(&expected.to_owned()),
                "{expected:?} is not in {lines:#?}"
            );
        }
    }
}
