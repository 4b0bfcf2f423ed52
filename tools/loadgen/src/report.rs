//! The report of a run, as JSON for programs. A figure that was not measured is null; none is invented.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use meridian_client_net::ProbeTerms;
use serde::{Deserialize, Serialize};

use crate::audit::Takeover;
use crate::histogram::Summary;

/// The terms of an action's latency, in the order in which they pass.
pub const TERMS: [&str; 7] = ProbeTerms::NAMES;

/// Everything one run measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The bots.
    pub bots: Bots,
    /// Length of the measuring window, in seconds.
    pub seconds: f64,
    /// Ticks per second of the world.
    pub tick_rate_hz: u64,
    /// From writing a stamped input until the same bot sees it applied, in milliseconds.
    pub action_latency_ms: Summary,
    /// From writing a stamped input until another bot sees it applied, in milliseconds.
    pub observer_latency_ms: Summary,
    /// The action latency in ticks.
    pub action_latency_ticks: Summary,
    /// The observer latency in ticks.
    pub observer_latency_ticks: Summary,
    /// Where the time of actions went, in milliseconds, by term.
    pub terms_ms: BTreeMap<String, Summary>,
    /// What became of the inputs after each bot's first second.
    pub inputs: Inputs,
    /// What went over the bots' sockets.
    pub wire: Wire,
    /// Changes of zone in the measuring window.
    #[serde(default)]
    pub handoffs: Handoffs,
    /// The live audit of entities over the whole run; absent where none ran.
    #[serde(default)]
    pub audit: Option<Audit>,
    /// Zones that another instance took over while the audit ran, each with the last time.
    #[serde(default)]
    pub takeovers: Vec<Takeover>,
    /// The server's cost.
    pub server: Server,
    /// The load generator's own cost.
    pub loadgen: Loadgen,
    /// Corrections of predicted players; absent where none were predicted.
    #[serde(default)]
    pub corrections: Option<Corrections>,
    /// How often a bot's own player was taken away and another came in its place, within a connection or from one to the next. Who falls off
    /// the world keeps its player.
    #[serde(default)]
    pub respawns: Option<u64>,
    /// The action latency of bots in other zones than the one that was stalled, while it was, in ticks.
    #[serde(default)]
    pub action_latency_elsewhere_ticks: Summary,
    /// Times in the measuring window in which a bot could not act; absent where no action was probed.
    #[serde(default)]
    pub outages: Option<Outages>,
    /// Bots of the stalled zone that could act again; absent where no zone was stalled.
    #[serde(default)]
    pub back_after_stall: Option<BackAfterStall>,
}

/// How many bots there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bots {
    /// How many were asked for.
    pub requested: u64,
    /// How many got into the world.
    pub connected: u64,
    /// How often one lost its connection.
    pub disconnected: u64,
}

/// Times in which bots could not act: from the last action that was seen applied to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outages {
    /// Their lengths, in milliseconds; as fine as the time between two probes.
    pub lengths_ms: Summary,
    /// Bots that could not act when the window ended.
    pub still_out: u64,
}

/// What became of the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Inputs that bots wrote in the window, one a tick.
    pub sent: u64,
    /// Inputs that were applied in their tick.
    pub applied: Option<u64>,
    /// Inputs that came after their tick.
    pub late: Option<u64>,
    /// Inputs that never came.
    pub lost: Option<u64>,
}

impl Inputs {
    /// The share of inputs that were late or lost, in percent.
    pub fn late_percent(&self) -> Option<f64> {
        let (applied, missed) = (self.applied?, self.late? + self.lost?);
        (applied + missed > 0).then(|| missed as f64 / (applied + missed) as f64 * 100.0)
    }
}

/// What went over the bots' sockets: datagram payloads, without UDP and IP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Bytes from bots to the server.
    pub bytes_up: u64,
    /// Bytes from the server to bots.
    pub bytes_down: u64,
    /// Datagrams from bots to the server.
    pub packets_up: u64,
    /// Datagrams from the server to bots.
    pub packets_down: u64,
    /// How often a bot was told something new of an entity.
    pub entity_updates: u64,
    /// Bytes down over entity updates: everything that is sent is counted in.
    pub bytes_per_entity_update: Option<f64>,
}

impl Wire {
    /// The counts of `self` since the earlier ones.
    pub fn since(&self, earlier: &Self) -> Self {
        let wire = Self {
            bytes_up: self.bytes_up.saturating_sub(earlier.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(earlier.bytes_down),
            packets_up: self.packets_up.saturating_sub(earlier.packets_up),
            packets_down: self.packets_down.saturating_sub(earlier.packets_down),
            entity_updates: self.entity_updates.saturating_sub(earlier.entity_updates),
            bytes_per_entity_update: None,
        };
        wire.with_ratio()
    }

    /// The sum of two counts.
    pub fn plus(&self, other: &Self) -> Self {
        let wire = Self {
            bytes_up: self.bytes_up + other.bytes_up,
            bytes_down: self.bytes_down + other.bytes_down,
            packets_up: self.packets_up + other.packets_up,
            packets_down: self.packets_down + other.packets_down,
            entity_updates: self.entity_updates + other.entity_updates,
            bytes_per_entity_update: None,
        };
        wire.with_ratio()
    }

    fn with_ratio(self) -> Self {
        let ratio = (self.entity_updates > 0).then(|| self.bytes_down as f64 / self.entity_updates as f64);
        Self {
            bytes_per_entity_update: ratio,
            ..self
        }
    }
}

/// Changes of zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handoffs {
    /// How many there were; absent where no audit ran, as are the next three.
    pub count: Option<u64>,
    /// How many there were in a second.
    pub per_second: Option<f64>,
    /// The most that one entity made within any second of ticks.
    pub per_entity_per_second_max: Option<u64>,
    /// The most ticks that nobody simulated between two owners.
    pub missing_ticks_max: Option<u64>,
    /// From the beginning of the last tick that the sender of an entity simulated it in until it is the receiver's, in milliseconds.
    pub duration_ms: Summary,
    /// Of each time that somebody was seen to walk over a border of zones, the longest wait between two updates, in ticks.
    pub observer_gap_ticks: Summary,
}

/// The live audit of entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Entities that were audited.
    pub entities: u64,
    /// Entities that two zones simulated in one tick.
    pub duplicated: u64,
    /// Entities that no zone had for two seconds.
    pub lost: u64,
    /// How often an entity's epoch went down.
    pub epoch_went_back: u64,
    /// Lines of instances whose zone another had taken over.
    pub stale_lines: u64,
    /// Entities that nobody was known to simulate at the end, and that were not lost yet.
    #[serde(default)]
    pub undecided: u64,
    /// Entities of which nothing was known at the end: their zone could not be reached, or its lines were missed when they left it.
    #[serde(default)]
    pub unknown: u64,
    /// How often a zone told everything anew: lines of it were missed, another listener came, or its store was restarted.
    #[serde(default)]
    pub interruptions: u64,
}

/// The server's cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// How long a zone's tick took, in milliseconds.
    pub zone_tick_ms: Summary,
    /// How long a gateway's tick took, in milliseconds.
    pub gateway_tick_ms: Summary,
    /// Ticks that took longer than a tick.
    pub tick_overruns: Option<u64>,
    /// CPU time of the server per client and tick, in microseconds.
    pub cpu_us_per_client_tick: Option<f64>,
}

/// The load generator's own cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loadgen {
    /// CPU time of a bot's tick, in microseconds.
    pub cpu_us_per_bot_tick: Option<f64>,
}

/// Corrections of predicted players, in the measuring window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Corrections {
    /// States of zones that were compared with what had been predicted.
    pub compared: u64,
    /// Of these, those that differed.
    pub count: u64,
    /// Median of how far a player moved by a correction, in centimetres; absent without corrections, as are the next two.
    pub p50_cm: Option<f64>,
    /// 99th percentile.
    pub p99_cm: Option<f64>,
    /// Largest.
    pub max_cm: Option<f64>,
    /// 99th percentile of the corrections within two metres of a border of zones; 0 where bots walked there and none was
    /// corrected, absent where none walked there.
    pub near_border_p99_cm: Option<f64>,
}

/// What became of the bots in a zone that was stalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackAfterStall {
    /// Bots that saw an action applied that they had done after the stall.
    pub back: u64,
    /// Bots that were in the zone when the stall began.
    pub of: u64,
}

impl Report {
    /// Fills in the latencies, in both units.
    pub fn set_latencies(&mut self, action_ms: Summary, observer_ms: Summary, tick: Duration) {
        self.action_latency_ms = action_ms;
        self.action_latency_ticks = action_ms.ms_to_ticks(tick);
        self.observer_latency_ms = observer_ms;
        self.observer_latency_ticks = observer_ms.ms_to_ticks(tick);
    }

    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot encode the report")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write the report to {}", path.display()))
    }

    /// Reads a report that [`Self::write`] wrote.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report of loadgen", path.display()))
    }
}

/// CPU time per unit of work, in microseconds; absent where there was no work.
pub fn cpu_us_per(cpu: Duration, units: u64) -> Option<f64> {
    (units > 0).then(|| cpu.as_secs_f64() * 1e6 / units as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_others_read() {
        let json = serde_json::to_value(Report::default()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let mut top: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        top.sort();
        assert_eq!(
            top.join(" "),
            "action_latency_elsewhere_ticks action_latency_ms action_latency_ticks audit back_after_stall bots corrections \
             handoffs inputs loadgen observer_latency_ms observer_latency_ticks outages respawns seconds server takeovers terms_ms \
             tick_rate_hz wire"
        );
        let sorted = |section: &str| {
            let mut keys: Vec<_> = keys(&json[section]).split(' ').map(str::to_owned).collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(sorted("bots"), "connected disconnected requested");
        assert_eq!(sorted("action_latency_ms"), "max p50 p90 p99 p999 samples");
        assert_eq!(sorted("inputs"), "applied late lost sent");
        assert_eq!(
            sorted("wire"),
            "bytes_down bytes_per_entity_update bytes_up entity_updates packets_down packets_up"
        );
        assert_eq!(
            sorted("server"),
            "cpu_us_per_client_tick gateway_tick_ms tick_overruns zone_tick_ms"
        );
        assert_eq!(
            sorted("handoffs"),
            "count duration_ms missing_ticks_max observer_gap_ticks per_entity_per_second_max per_second"
        );
        for distribution in ["duration_ms", "observer_gap_ticks"] {
            assert_eq!(
                json["handoffs"][distribution], json["action_latency_ms"],
                "{distribution} is a distribution without samples"
            );
        }
        assert_eq!(sorted("loadgen"), "cpu_us_per_bot_tick");
    }

    #[test]
    fn a_report_of_a_run_without_an_audit_has_none() {
        let report = Report {
            audit: Some(Audit::default()),
            ..Report::default()
        };
        let mut json = serde_json::to_value(report).unwrap();
        let mut keys: Vec<_> = json["audit"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(
            keys.join(" "),
            "duplicated entities epoch_went_back interruptions lost stale_lines undecided unknown"
        );
        for section in ["audit", "handoffs"] {
            json.as_object_mut().unwrap().remove(section);
        }
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), Report::default());
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let json = serde_json::to_value(Report::default()).unwrap();
        assert!(json["handoffs"]["count"].is_null() && json["inputs"]["late"].is_null());
        assert!(json["action_latency_ms"]["p50"].is_null());
        assert!(json["wire"]["bytes_per_entity_update"].is_null());
    }

    #[test]
    fn a_report_of_before_borders_were_measured_can_be_read() {
        let mut json = serde_json::to_value(Report::default()).unwrap();
        let fields = json.as_object_mut().unwrap();
        for new in ["handoffs", "takeovers", "corrections", "respawns", "back_after_stall"] {
            assert!(fields.remove(new).is_some());
        }
        fields.remove("action_latency_elsewhere_ticks");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), Report::default());
    }

    #[test]
    fn a_report_survives_its_file() {
        let mut report = Report {
            tick_rate_hz: 60,
            ..Report::default()
        };
        let measured = Summary {
            samples: 4,
            p50: Some(16.7),
            ..Summary::default()
        };
        report.set_latencies(measured, measured, Duration::from_millis(10));
        report.terms_ms.insert("uplink".to_owned(), measured);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        report.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), report);
        assert!((report.action_latency_ticks.p50.unwrap() - 1.67).abs() < 1e-9);
        std::fs::write(&path, "{}").unwrap();
        assert!(format!("{:#}", Report::read(&path).unwrap_err()).contains("not a report of loadgen"));
    }

    #[test]
    fn late_and_lost_inputs_are_a_share_of_all_that_were_due() {
        let inputs = Inputs {
            sent: 1_000,
            applied: Some(990),
            late: Some(8),
            lost: Some(2),
        };
        assert!((inputs.late_percent().unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(Inputs::default().late_percent(), None);
    }

    #[test]
    fn bytes_per_update_follow_the_window() {
        let begin = Wire {
            bytes_down: 100,
            entity_updates: 10,
            ..Wire::default()
        };
        let end = Wire {
            bytes_down: 1_700,
            entity_updates: 110,
            ..Wire::default()
        };
        assert_eq!(end.since(&begin).bytes_per_entity_update, Some(16.0));
        assert_eq!(begin.since(&begin).bytes_per_entity_update, None);
    }
}
