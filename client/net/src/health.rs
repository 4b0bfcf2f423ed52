//! How well the connection does, in figures for people: a probe four times a second, and what the link counts.
//!
//! Off unless [`NetworkHealthPlugin`] is added: a bot's samples are for its swarm. It takes the samples of [`Probes`] and the
//! corrections of [`CorrectionStats`], so nobody else in the app may.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bevy::app::{App, FixedPreUpdate, Plugin, PostUpdate, PreUpdate, Update};
use bevy::ecs::change_detection::DetectChangesMut;
use bevy::ecs::observer::On;
use bevy::ecs::query::{With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy::time::{Real, Time};
use lightyear::prelude::LocalTimeline;
use lightyear::transport::plugin::{PacketAcked, PacketLost};
use meridian_game::{Identity, Move};
use meridian_ids::Tick;
use meridian_link::{Arrival, LinkEndpoint, LinkTotals};

use crate::connection::{Connector, IsLink, playing};
use crate::frozen_copies::FrozenCopy;
use crate::input::{self, LocalInput};
use crate::interpolation::InterpolationDelay;
use crate::metric_definitions::{CLIENT_ACTION_SECONDS, CLIENT_CORRECTIONS, CLIENT_TERM_SECONDS};
use crate::plugin::{ClientSystems, Clock, world_tick};
use crate::prediction::CorrectionStats;
use crate::probe::{Measured, ProbeSample, ProbeTerms, Probes};

/// Time between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Probes that the figures are of at most.
const PROBES_KEPT: usize = 16;
/// How old they may be.
const PROBE_AGE_MAX: Duration = Duration::from_secs(5);
/// Seconds that the share of lost packets is of.
const LOSS_SECONDS: usize = 10;

/// Measures the connection of a client that is played by a person. Needs `ClientNetPlugin`, predicting and interpolating.
pub struct NetworkHealthPlugin;

impl Plugin for NetworkHealthPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<NetworkHealth>();
        app.init_resource::<Measuring>();
        app.add_observer(|_: On<PacketAcked>, mut measuring: ResMut<Measuring>| measuring.count_packet(false));
        app.add_observer(|_: On<PacketLost>, mut measuring: ResMut<Measuring>| measuring.count_packet(true));
        app.add_systems(PreUpdate, stamp.after(ClientSystems::TakeIn).run_if(playing));
        app.add_systems(FixedPreUpdate, end_input_wait.after(input::write_input).run_if(playing));
        app.add_systems(Update, note_input_change);
        app.add_systems(PostUpdate, measure);
    }
}

/// The figures; those that are not known yet, or no longer, are `None`.
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub struct NetworkHealth {
    /// The world's tick that this client simulates.
    pub tick: Option<Tick>,
    /// Median time to the gateway's socket and back, without any waiting for ticks.
    pub round_trip: Option<Duration>,
    /// Median difference of one round trip to the next.
    pub jitter: Option<Duration>,
    /// Share of packets that were lost, of those of the last ten seconds whose fate is known; 0 to 1.
    pub lost: Option<f64>,
    /// Median time from the tick of an action until its effect, as the zone has it, is in this client's world.
    pub action: Option<Duration>,
    /// The longest of these in the last seconds.
    pub action_max: Option<Duration>,
    /// Where the time of an action goes: the median of each term.
    pub terms: Option<ProbeTerms>,
    /// Time from a change of the input to the tick that took it, the last one.
    pub input_wait: Option<Duration>,
    /// How early the inputs come that come latest, as the zone told, in milliseconds.
    pub slack_ms: Option<f32>,
    /// Corrections of the own player in the last second.
    pub corrections_per_s: u32,
    /// The longest of these, in metres.
    pub correction_m: f32,
    /// How far in the past the others are shown.
    pub interpolation_delay: Option<Duration>,
    /// What went through the link in the last second.
    pub per_second: LinkTotals,
    /// How long nothing has been heard of the gateway.
    pub silent_for: Option<Duration>,
    /// Entities of the world that this client is told of, the own player included.
    pub entities: usize,
}

/// What the figures are made of.
#[derive(Resource, Default)]
struct Measuring {
    next_probe: Option<Instant>,
    samples: VecDeque<ProbeSample>,
    input: Move,
    input_changed: Option<Instant>,
    input_wait: Option<Duration>,
    /// Packets acknowledged and lost, by second, the newest last.
    packets: VecDeque<(u32, u32)>,
    second_began: Option<Instant>,
    totals: LinkTotals,
    corrections: u32,
    correction_m: f32,
}

impl Measuring {
    /// Keeps the newest of the own actions; the rest is of no use here.
    fn take_in(&mut self, measured: Measured) {
        for sample in measured.samples {
            if self.samples.len() >= PROBES_KEPT {
                self.samples.pop_front();
            }
            self.samples.push_back(sample);
        }
    }

    fn count_packet(&mut self, lost: bool) {
        if self.packets.is_empty() {
            self.packets.push_back((0, 0));
        }
        if let Some((acknowledged, lost_ones)) = self.packets.back_mut() {
            *(if lost { lost_ones } else { acknowledged }) += 1;
        }
    }

    fn lost_share(&self) -> Option<f64> {
        let (acknowledged, lost) = self.packets.iter().fold((0u32, 0u32), |(a, b), (c, d)| {
            (a.saturating_add(*c), b.saturating_add(*d))
        });
        // Before the first acknowledgement the round trip is a guess, and so is what counts as lost.
        let known = acknowledged.saturating_add(lost);
        (acknowledged > 0).then(|| f64::from(lost) / f64::from(known))
    }

    /// Begins another second.
    fn roll(&mut self, totals: LinkTotals) -> LinkTotals {
        let per_second = totals.since(&self.totals);
        self.totals = totals;
        if self.packets.len() >= LOSS_SECONDS {
            self.packets.pop_front();
        }
        self.packets.push_back((0, 0));
        per_second
    }
}

fn median(values: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn stamp(real_time: Res<Time<Real>>, mut local: ResMut<LocalInput>, mut measuring: ResMut<Measuring>) {
    let Some(now) = real_time.last_update() else { return };
    if measuring.next_probe.is_none_or(|due| now >= due) {
        measuring.next_probe = Some(now + PROBE_EVERY);
        local.stamp = true;
    }
}

fn note_input_change(local: Res<LocalInput>, real_time: Res<Time<Real>>, mut measuring: ResMut<Measuring>) {
    if local.input != measuring.input {
        measuring.input = local.input;
        measuring.input_changed = measuring.input_changed.or(real_time.last_update());
    }
}

fn end_input_wait(local: Res<LocalInput>, real_time: Res<Time<Real>>, mut measuring: ResMut<Measuring>) {
    let now = real_time.last_update();
    // A change of this very frame was not noted yet: it did not wait.
    let changed = if local.input == measuring.input {
        measuring.input_changed.take()
    } else {
        measuring.input = local.input;
        measuring.input_changed.take().or(now)
    };
    if let (Some(changed), Some(now)) = (changed, now) {
        measuring.input_wait = Some(now.saturating_duration_since(changed));
    }
}

fn measure(
    connector: Res<Connector>,
    timeline: Res<LocalTimeline>,
    real_time: Res<Time<Real>>,
    clock: Res<Clock>,
    delay: Res<InterpolationDelay>,
    endpoint: Option<Res<LinkEndpoint>>,
    entities: Query<(), (With<Identity>, Without<FrozenCopy>)>,
    arrivals: Query<&Arrival, IsLink>,
    mut probes: ResMut<Probes>,
    mut stats: ResMut<CorrectionStats>,
    mut measuring: ResMut<Measuring>,
    mut health: ResMut<NetworkHealth>,
) {
    for correction in stats.drain() {
        metrics::counter!(CLIENT_CORRECTIONS).increment(1);
        measuring.corrections += 1;
        measuring.correction_m = measuring.correction_m.max(correction.distance_m);
    }
    let measured = probes.drain();
    measured.samples.iter().for_each(record);
    measuring.take_in(measured);
    if connector.welcome.is_none() {
        // The link's counters go on counting.
        let totals = measuring.totals;
        *measuring = Measuring {
            totals,
            ..Measuring::default()
        };
        health.set_if_neq(NetworkHealth::default());
        return;
    }
    health.tick = world_tick(&connector, &timeline);
    let Some(now) = real_time.last_update() else { return };
    let began = *measuring.second_began.get_or_insert(now);
    if now.saturating_duration_since(began) < Duration::from_secs(1) && health.interpolation_delay.is_some() {
        return;
    }
    measuring.second_began = Some(now);
    let totals = endpoint.map_or_else(LinkTotals::default, |endpoint| endpoint.counters().totals());
    health.per_second = measuring.roll(totals);
    health.corrections_per_s = std::mem::take(&mut measuring.corrections);
    health.correction_m = std::mem::take(&mut measuring.correction_m);
    health.lost = measuring.lost_share();
    health.input_wait = measuring.input_wait;
    health.slack_ms = clock.least_slack_ms();
    health.entities = entities.iter().count();
    let heard = arrivals.iter().map(|arrival| arrival.0).max();
    health.silent_for = heard.map(|heard| now.saturating_duration_since(heard));
    while (measuring.samples.front()).is_some_and(|sample| now.saturating_duration_since(sample.echoed) > PROBE_AGE_MAX)
    {
        measuring.samples.pop_front();
    }
    health.interpolation_delay = Some(clock.rate().tick_duration().mul_f64(delay.ticks()));
    tell_probes(&measuring.samples, &mut health);
}

/// What is measured for whoever has it pushed.
fn record(sample: &ProbeSample) {
    let action = sample.echoed.saturating_duration_since(sample.stamped);
    metrics::histogram!(CLIENT_ACTION_SECONDS).record(action.as_secs_f64());
    for (term, duration) in sample.terms.iter().flat_map(ProbeTerms::named) {
        metrics::histogram!(CLIENT_TERM_SECONDS, "term" => term).record(duration.as_secs_f64());
    }
}

fn tell_probes(samples: &VecDeque<ProbeSample>, health: &mut NetworkHealth) {
    let latencies = || samples.iter().map(|sample| sample.echoed - sample.stamped);
    health.action = median(latencies());
    health.action_max = latencies().max();
    let round_trips: Vec<Duration> = samples
        .iter()
        .filter_map(|sample| sample.terms)
        .map(|terms| terms.uplink + terms.downlink)
        .collect();
    health.round_trip = median(round_trips.iter().copied());
    health.jitter = median(round_trips.windows(2).map(|pair| pair[0].abs_diff(pair[1])));
    let term = |of: fn(&ProbeTerms) -> Duration| {
        median(samples.iter().filter_map(|sample| sample.terms).map(|terms| of(&terms))).unwrap_or_default()
    };
    health.terms = (!round_trips.is_empty()).then(|| ProbeTerms {
        uplink: term(|terms| terms.uplink),
        forward: term(|terms| terms.forward),
        tick_wait: term(|terms| terms.tick_wait),
        simulate: term(|terms| terms.simulate),
        gateway: term(|terms| terms.gateway),
        downlink: term(|terms| terms.downlink),
        apply: term(|terms| terms.apply),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_forgotten_after_ten_seconds() {
        let mut measuring = Measuring::default();
        assert_eq!(measuring.lost_share(), None);
        (0..60).for_each(|_| measuring.count_packet(true));
        assert_eq!(measuring.lost_share(), None, "nothing was acknowledged yet");
        let mut measuring = Measuring::default();
        (0..60).for_each(|packet| measuring.count_packet(packet % 20 == 0));
        assert_eq!(measuring.lost_share(), Some(0.05));
        for _ in 0..LOSS_SECONDS {
            measuring.roll(LinkTotals::default());
            (0..60).for_each(|_| measuring.count_packet(false));
        }
        assert_eq!(measuring.lost_share(), Some(0.0));
    }

    #[test]
    fn the_newest_actions_are_kept() {
        let (mut measuring, now) = (Measuring::default(), Instant::now());
        let sample = |sequence| ProbeSample {
            sequence,
            stamped: now,
            echoed: now,
            terms: None,
        };
        for sequence in 0..=PROBES_KEPT as u32 {
            measuring.take_in(Measured {
                samples: vec![sample(sequence)],
                ..Measured::default()
            });
        }
        let kept: Vec<u32> = measuring.samples.iter().map(|sample| sample.sequence).collect();
        assert_eq!(kept, (1..=PROBES_KEPT as u32).collect::<Vec<_>>());
    }

    #[test]
    fn the_round_trip_is_of_the_way_alone_and_medians_ignore_one_outlier() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let samples: VecDeque<ProbeSample> = [40, 44, 900, 42, 40]
            .into_iter()
            .map(|uplink| ProbeSample {
                sequence: 1,
                stamped: start,
                echoed: start + ms(uplink + 60),
                terms: Some(ProbeTerms {
                    uplink: ms(uplink),
                    downlink: ms(10),
                    tick_wait: ms(50),
                    ..ProbeTerms::default()
                }),
            })
            .collect();
        let mut health = NetworkHealth::default();
        tell_probes(&samples, &mut health);
        assert_eq!(health.round_trip, Some(ms(52)));
        assert_eq!((health.action, health.action_max), (Some(ms(102)), Some(ms(960))));
        assert_eq!(health.terms.map(|terms| terms.tick_wait), Some(ms(50)));
    }
}
