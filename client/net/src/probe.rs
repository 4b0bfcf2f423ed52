//! Measures actions end to end: stamps inputs, sees their echoes, and splits the time into terms.

use std::time::{Duration, Instant};

use bevy::app::{App, PreUpdate};
use bevy::ecs::change_detection::DetectChanges;
use bevy::ecs::query::{Changed, Has, With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy::ecs::world::Ref;
use bevy::time::{Real, Time};
use meridian_game::{DisplayName, Identity, ProbeEcho, ProbeReport};
use meridian_ids::{WorldEntityId, probe_sequence};
use meridian_link::Arrival;
use meridian_telemetry::ProbeTrace;

use crate::connection::{Connector, IsLink};
use crate::frozen_copies::FrozenCopy;
use crate::plugin::{ClientSystems, OwnPlayer};
use crate::traces::{self, Onlooker};

/// Stamps whose echo may be awaited at once; older ones are lost.
const PENDING_MAX: usize = 16;
/// Samples kept for whoever reads them; more are dropped, oldest first.
const KEPT_MAX: usize = 4_096;
/// Of stamps that follow each other faster only some are told of: gateways grant a player eight in a second.
const TRACED_EVERY: Duration = Duration::from_millis(125);

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Probes>();
    app.add_systems(PreUpdate, see_echoes.in_set(ClientSystems::TakeIn));
}

/// Where the time of an action went, in order. Uplink and downlink rest on an estimated clock offset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProbeTerms {
    /// From the input's tick to the gateway's socket.
    pub uplink: Duration,
    /// Through the gateway to the zone.
    pub forward: Duration,
    /// Waiting for its tick.
    pub tick_wait: Duration,
    /// Being simulated, with the rest of the tick.
    pub simulate: Duration,
    /// From the zone's snapshot to the gateway's packet.
    pub gateway: Duration,
    /// From there to the client's socket.
    pub downlink: Duration,
    /// From there into the client's world.
    pub apply: Duration,
}

impl ProbeTerms {
    /// Their names, in order.
    pub const NAMES: [&str; 7] = [
        "uplink",
        "forward",
        "tick_wait",
        "simulate",
        "gateway",
        "downlink",
        "apply",
    ];

    /// Each with its name, in order.
    pub fn named(&self) -> [(&'static str, Duration); 7] {
        let Self {
            uplink,
            forward,
            tick_wait,
            simulate,
            gateway,
            downlink,
            apply,
        } = *self;
        let durations = [uplink, forward, tick_wait, simulate, gateway, downlink, apply];
        std::array::from_fn(|index| (Self::NAMES[index], durations[index]))
    }
}

/// A stamped action whose echo was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeSample {
    /// The stamp.
    pub sequence: u32,
    /// When the input's tick ran.
    pub stamped: Instant,
    /// When the echo was in the client's world.
    pub echoed: Instant,
    /// Where the time went, if the gateway's report came along.
    pub terms: Option<ProbeTerms>,
}

/// What was measured since it was last taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The stamps that inputs were given, and when.
    pub stamps: Vec<(u32, Instant)>,
    /// The own actions.
    pub samples: Vec<ProbeSample>,
    /// Others' actions.
    pub sightings: Vec<Sighting>,
}

/// Another player's stamp, seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// Whose.
    pub entity: WorldEntityId,
    /// The stamp.
    pub sequence: u32,
    /// When it was in the client's world.
    pub seen: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sequence: u32,
    stamped: Instant,
    /// The own player's entity.
    entity: WorldEntityId,
    echo: Option<Echo>,
}

/// An echo that came: when its packet did, when it was in the client's world, and who saw it.
#[derive(Clone, Copy, Debug)]
struct Echo {
    arrived: Instant,
    seen: Instant,
    by: Onlooker,
}

impl Pending {
    fn probe(&self) -> ProbeTrace {
        ProbeTrace {
            entity: self.entity,
            sequence: self.sequence,
        }
    }

    /// No echo is waited for any more.
    fn give_up(&self, now: Instant) {
        traces::acted(self.probe(), (self.stamped, now), false);
    }
}

/// Stamps on their way, and what has been measured.
#[derive(Resource, Default)]
pub struct Probes {
    sequence: u32,
    pending: Vec<Pending>,
    samples: Vec<ProbeSample>,
    stamps: Vec<(u32, Instant)>,
    sightings: Vec<Sighting>,
    offset: OffsetEstimate,
    epoch: Option<Instant>,
    /// The newest stamp that every process is to tell of.
    traced: Option<Instant>,
}

impl Probes {
    /// The sequence number that inputs carry now.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Stamps the own player's next input.
    pub(crate) fn stamp(&mut self, now: Option<Instant>, entity: WorldEntityId) {
        let stamped = now.unwrap_or_else(Instant::now);
        self.epoch.get_or_insert(stamped);
        let is_told = self
            .traced
            .is_none_or(|traced| stamped.saturating_duration_since(traced) >= TRACED_EVERY);
        let is_traced = is_told && meridian_telemetry::is_tracing();
        if is_traced {
            self.traced = Some(stamped);
        }
        self.sequence = probe_sequence::next(self.sequence, is_traced);
        if self.pending.len() >= PENDING_MAX {
            self.pending.remove(0).give_up(stamped);
        }
        self.pending.push(Pending {
            sequence: self.sequence,
            stamped,
            entity,
            echo: None,
        });
        if self.stamps.len() < KEPT_MAX {
            self.stamps.push((self.sequence, stamped));
        }
    }

    /// A new connection: its gateway may have another clock, and answers nothing of what was asked before.
    pub(crate) fn reset(&mut self) {
        self.give_up();
        self.offset = OffsetEstimate::default();
    }

    fn give_up(&mut self) {
        let now = Instant::now();
        self.pending.drain(..).for_each(|pending| pending.give_up(now));
    }

    /// Takes all of it.
    pub fn drain(&mut self) -> Measured {
        Measured {
            stamps: std::mem::take(&mut self.stamps),
            samples: self.drain_samples(),
            sightings: self.drain_sightings(),
        }
    }

    /// Takes what was measured of the own actions.
    pub fn drain_samples(&mut self) -> Vec<ProbeSample> {
        std::mem::take(&mut self.samples)
    }

    /// Takes what was seen of others' actions.
    pub fn drain_sightings(&mut self) -> Vec<Sighting> {
        std::mem::take(&mut self.sightings)
    }

    /// An echo answers the stamps before it too: a zone that was held up shows only the last that it applied.
    fn echo(&mut self, sequence: u32, echo: Echo) {
        let answered = |pending: &&mut Pending| sequence.wrapping_sub(pending.sequence) < 1 << 31;
        for pending in self.pending.iter_mut().filter(answered) {
            pending.echo.get_or_insert(echo);
        }
    }

    /// Completes the samples whose echo is there, with their report if it is the one given.
    pub(crate) fn complete(&mut self, reports: impl Iterator<Item = ProbeReport>) {
        let Some(epoch) = self.epoch else { return };
        if !self.pending.iter().any(|pending| pending.echo.is_some()) {
            // Reports of echoes that were lost are dropped with this.
            reports.for_each(drop);
            return;
        }
        let reports: Vec<ProbeReport> = reports.collect();
        let Self {
            pending,
            samples,
            offset,
            ..
        } = self;
        pending.retain(|pending| {
            let Some(Echo { arrived, seen, by }) = pending.echo else {
                return true;
            };
            traces::acted(pending.probe(), (pending.stamped, seen), true);
            traces::saw_own(pending.probe(), by, (arrived, seen));
            let report = reports.iter().find(|report| report.sequence == pending.sequence);
            let terms = report.map(|report| offset.terms(report, epoch, pending.stamped, arrived, seen));
            if samples.len() < KEPT_MAX {
                samples.push(ProbeSample {
                    sequence: pending.sequence,
                    stamped: pending.stamped,
                    echoed: seen,
                    terms,
                });
            }
            false
        });
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// The offset between the gateway's clock and the client's: half the difference of the fastest ways up and down.
#[derive(Clone, Copy, Debug, Default)]
struct OffsetEstimate {
    fastest_up_us: Option<i64>,
    fastest_down_us: Option<i64>,
}

impl OffsetEstimate {
    fn terms(
        &mut self,
        report: &ProbeReport,
        epoch: Instant,
        stamped: Instant,
        arrived: Instant,
        echoed: Instant,
    ) -> ProbeTerms {
        let own_us = |instant: Instant| instant.saturating_duration_since(epoch).as_micros() as i64;
        let up_us = report.received_us as i64 - own_us(stamped);
        let down_us = own_us(arrived) - report.sent_us as i64;
        let fastest_up = self.fastest_up_us.map_or(up_us, |known| known.min(up_us));
        let fastest_down = self.fastest_down_us.map_or(down_us, |known| known.min(down_us));
        (self.fastest_up_us, self.fastest_down_us) = (Some(fastest_up), Some(fastest_down));
        let offset_us = (fastest_up - fastest_down) / 2;
        let micros = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
        ProbeTerms {
            uplink: micros(up_us - offset_us),
            forward: Duration::from_micros(u64::from(report.forward_us)),
            tick_wait: Duration::from_micros(u64::from(report.tick_wait_us)),
            simulate: Duration::from_micros(u64::from(report.simulate_us)),
            gateway: Duration::from_micros(u64::from(report.gateway_us)),
            downlink: micros(down_us + offset_us),
            apply: echoed.saturating_duration_since(arrived),
        }
    }
}

pub(crate) fn see_echoes(
    echoes: Query<(Ref<ProbeEcho>, &Identity, Has<OwnPlayer>), Changed<ProbeEcho>>,
    players: Query<(), (With<DisplayName>, Without<FrozenCopy>)>,
    arrivals: Query<&Arrival, IsLink>,
    manual: Option<Res<bevy::time::TimeUpdateStrategy>>,
    real_time: Res<Time<Real>>,
    connector: Res<Connector>,
    mut probes: ResMut<Probes>,
) {
    if echoes.is_empty() {
        return;
    }
    let now = now(manual.as_deref(), &real_time);
    let arrived = arrivals.iter().next().map_or(now, |arrival| arrival.0);
    let Some(by) = connector.welcome.map(|welcome| Onlooker {
        entity: welcome.entity,
        gateway: welcome.gateway,
    }) else {
        return;
    };
    for (echo, identity, own) in &echoes {
        let (seen, sequence) = (now, echo.sequence);
        if own {
            probes.echo(sequence, Echo { arrived, seen, by });
            continue;
        }
        // What a player comes into sight with was there for others to see.
        if echo.is_added() {
            continue;
        }
        let entity = identity.entity;
        let in_sight = || players.iter().len();
        traces::saw(ProbeTrace { entity, sequence }, by, (arrived, seen), in_sight);
        if probes.sightings.len() < KEPT_MAX {
            probes.sightings.push(Sighting {
                entity: identity.entity,
                sequence: echo.sequence,
                seen: now,
            });
        }
    }
}

/// The time at which the world shows something: now, or the time of the pass where time is virtual.
fn now(strategy: Option<&bevy::time::TimeUpdateStrategy>, real_time: &Time<Real>) -> Instant {
    match strategy {
        Some(bevy::time::TimeUpdateStrategy::ManualInstant(instant)) => *instant,
        Some(bevy::time::TimeUpdateStrategy::ManualDuration(_)) => real_time.last_update().unwrap_or_else(Instant::now),
        _ => Instant::now(),
    }
}
