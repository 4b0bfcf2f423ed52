//! Lets a zone stand still in the middle of the measuring window, and measures what the bots in other zones feel of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bevy::math::{Vec3, Vec3Swizzles};
use meridian_game::WorldDefinition;
use meridian_ids::{ZoneId, ZoneMap};

use super::SwarmOptions;
use crate::histogram::DurationHistogram;
use crate::probe::ProbeId;
use crate::report::{BackAfterStall, Report};
use crate::timing::Timing;

/// How long the server may take to answer, beyond the stall itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an error's text that are read.
const ANSWER_BYTES_MAX: u64 = 4_096;
/// Who stands nearer than this to a border of the stalled zone may belong to either side of it, in metres: the hysteresis, and
/// what one walks in a round trip.
const UNCLEAR_M: f32 = 1.5;

/// A zone that is to stand still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Its name or index.
    pub zone: String,
    /// For how long.
    pub duration: Duration,
}

/// Where a bot stands with regard to the stalled zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Well inside of it.
    Inside,
    /// Well outside of it.
    Elsewhere,
    /// So near to its border that either zone may have the bot.
    Unclear,
}

/// The stall of a run: what is to be done, whether it has begun, and what it did.
pub(super) struct StalledZone {
    zone: ZoneId,
    zones: Arc<ZoneMap>,
    urls: Vec<String>,
    at: Instant,
    duration: Duration,
    begun: OnceLock<Instant>,
    board: Mutex<StallBoard>,
}

impl StalledZone {
    /// The stall that `options` ask for, if any.
    ///
    /// # Errors
    ///
    /// There is no such zone, or the run is not one in which a zone can be stalled.
    pub(super) fn new(
        options: &SwarmOptions,
        world: &WorldDefinition,
        zones: &Arc<ZoneMap>,
        timing: &Timing,
    ) -> anyhow::Result<Option<Self>> {
        let Some(stall) = &options.faults.stall else {
            return Ok(None);
        };
        ensure!(
            options.scenario.needs_zones(),
            "--stall-zone needs a scenario about zones: border, crossing, oscillate or camp"
        );
        ensure!(!options.admin.is_empty(), "--stall-zone needs --admin");
        let zone = find_zone(world, zones, &stall.zone)?;
        let at = timing.measure_from + options.measure / 2;
        ensure!(
            at + stall.duration < timing.until,
            "a stall of {} s must end before the measuring window does; take more --seconds than twice that",
            stall.duration.as_secs_f64()
        );
        let ms = stall.duration.as_millis();
        let url = |admin: &String| {
            let base = admin.trim_end_matches('/');
            format!("{base}/v1/fault/zones/{}/stall?ms={ms}", zone.0)
        };
        Ok(Some(Self {
            zone,
            zones: zones.clone(),
            urls: options.admin.iter().map(url).collect(),
            at,
            duration: stall.duration,
            begun: OnceLock::new(),
            board: Mutex::default(),
        }))
    }

    /// Waits for the middle of the window and asks the server for the stall.
    ///
    /// # Errors
    ///
    /// The server does not stall the zone.
    pub(super) fn run(&self, timing: &Timing) -> anyhow::Result<()> {
        timing.sleep_until(self.at);
        let begun = *self.begun.get_or_init(Instant::now);
        self.board().window = Some((begun, begun + self.duration));
        // One of the processes has the zone; the others say that they have not.
        let mut refused = None;
        for url in &self.urls {
            match ask(url, self.duration) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Whether the stall has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Where somebody stands with regard to the zone.
    pub(super) fn place(&self, position: Vec3) -> Place {
        let point = position.xz().to_array();
        let outside_m = self.zones.area(self.zone).map_or(0.0, |area| area.distance(point));
        if outside_m > UNCLEAR_M {
            Place::Elsewhere
        } else if outside_m == 0.0 && self.zones.near(self.zone, point, UNCLEAR_M).next().is_none() {
            Place::Inside
        } else {
            Place::Unclear
        }
    }

    /// What happens to bots, told by their drivers.
    pub(super) fn board(&self) -> MutexGuard<'_, StallBoard> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the stall did into the report; at the end of the run, `now`.
    pub(super) fn fill(&self, report: &mut Report, now: Instant, tick: Duration) {
        let mut board = self.board();
        board.give_up(now);
        report.action_latency_elsewhere_ticks = board.elsewhere.summary_ms().ms_to_ticks(tick);
        report.back_after_stall = Some(BackAfterStall {
            back: board.back.len() as u64,
            of: board.stalled.len() as u64,
        });
    }
}

fn find_zone(world: &WorldDefinition, zones: &ZoneMap, wanted: &str) -> anyhow::Result<ZoneId> {
    let by_name = zones.ids().find(|zone| world.zone_name(*zone) == wanted);
    let by_index = || zones.ids().find(|zone| wanted == zone.0.to_string());
    by_name.or_else(by_index).with_context(|| {
        let names: Vec<&str> = zones.ids().map(|zone| world.zone_name(zone)).collect();
        format!("the world has no zone {wanted:?}; its zones are {}", names.join(", "))
    })
}

fn ask(url: &str, stall: Duration) -> anyhow::Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_TIMEOUT + stall))
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent
        .post(url)
        .send_empty()
        .with_context(|| format!("cannot reach {url}"))?;
    match answer.status().as_u16() {
        200 => Ok(()),
        status @ (403 | 404) => {
            bail!(
                "{url} answered {status}: the server stalls no zone; start it with --fault-injection, and with that zone"
            )
        }
        status => {
            let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
            bail!("{url} answered {status}: {}", text.unwrap_or_default().trim())
        }
    }
}

/// What a stall did to bots. Pure: times and places are arguments.
#[derive(Default)]
pub(super) struct StallBoard {
    /// From the call until the stall's end.
    window: Option<(Instant, Instant)>,
    /// Actions of bots elsewhere, stamped during the stall, that were not seen applied yet.
    waiting: HashMap<ProbeId, Instant>,
    elsewhere: DurationHistogram,
    /// Bots that were in the zone when the stall began, by their numbers.
    stalled: HashSet<usize>,
    /// Those of them that acted again.
    back: HashSet<usize>,
}

impl StallBoard {
    /// The stall began while a bot was somewhere.
    pub(super) fn found(&mut self, bot: usize, place: Place) {
        if place == Place::Inside {
            self.stalled.insert(bot);
        }
    }

    /// A bot stamped an action.
    pub(super) fn stamped(&mut self, id: ProbeId, at: Instant, place: Place) {
        let is_during = self.window.is_some_and(|(begun, ends)| (begun..ends).contains(&at));
        if is_during && place == Place::Elsewhere {
            self.waiting.insert(id, at);
        }
    }

    /// A bot saw an action of its own applied that it had stamped at `stamped`.
    pub(super) fn echoed(&mut self, bot: usize, id: ProbeId, stamped: Instant, seen: Instant) {
        if let Some(stamped) = self.waiting.remove(&id) {
            self.elsewhere.record(seen.saturating_duration_since(stamped));
        }
        if self.window.is_some_and(|(_, ends)| stamped >= ends) && self.stalled.contains(&bot) {
            self.back.insert(bot);
        }
    }

    /// The run is over: what was not seen applied took at least so long.
    fn give_up(&mut self, now: Instant) {
        for stamped in std::mem::take(&mut self.waiting).into_values() {
            self.elsewhere.record(now.saturating_duration_since(stamped));
        }
    }
}

#[cfg(test)]
mod tests;
