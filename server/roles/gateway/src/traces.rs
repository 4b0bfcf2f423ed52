//! Tells of traced actions: their way in, to their zone, and their echo's way out, to every client.
//!
//! Nothing is told while the process exports no spans.

use std::collections::VecDeque;
use std::time::Instant;

use bevy::app::{App, PostUpdate};
use bevy::ecs::change_detection::DetectChanges;
use bevy::ecs::component::Component;
use bevy::ecs::query::Changed;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Query, Res};
use bevy::ecs::world::Ref;
use lightyear::prelude::LinkSystems;
use meridian_fabric::InputBatch;
use meridian_game::{Identity, Move, ProbeEcho};
use meridian_ids::{WorldEntityId, probe_sequence};
use meridian_telemetry::{ProbeSpan, ProbeTrace, is_tracing};

use crate::gateway::Zones;
use crate::mirror::OwnedBy;

/// Traced actions of one player in a second, in the long run: well-made clients stamp one or two. What is more is done, and not told of.
const TRACED_PER_SECOND_MAX: f64 = 8.0;

pub(crate) fn plugin(app: &mut App) {
    app.register_required_components::<OwnedBy, Traced>();
    app.insert_resource(TickBegan(Instant::now()));
    app.add_systems(PostUpdate, tell_sent.after(LinkSystems::Send));
}

/// When the gateway began the tick that it replicates.
#[derive(Resource)]
pub(crate) struct TickBegan(pub(crate) Instant);

/// Granted numbers that are remembered: inputs are repeated for less than a second.
const GRANTED_MAX: usize = 16;

/// The last number of a player's actions, and how many may be told of.
#[derive(Component, Default)]
pub(crate) struct Traced {
    last: Option<u32>,
    /// The newest numbers that keep their mark, in all inputs that have them.
    granted: VecDeque<u32>,
    budget: f64,
    filled: Option<Instant>,
}

impl Traced {
    fn take(&mut self, now: Instant) -> bool {
        let passed = self
            .filled
            .map_or(1.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        self.filled = Some(now);
        self.budget = (self.budget + passed * TRACED_PER_SECOND_MAX).min(TRACED_PER_SECOND_MAX);
        let granted = self.budget >= 1.0;
        if granted {
            self.budget -= 1.0;
        }
        granted
    }

    /// Inputs of the player came. Of a new traced action it is told how long the gateway took with it; of too many the mark is taken away, so that
    /// nobody tells of them.
    pub(crate) fn forwarded(&mut self, batch: &mut InputBatch, gateway: u64) {
        for timed in &mut batch.inputs {
            let input = Move::unpack(timed.packed);
            let sequence = input.sequence;
            // Inputs are repeated: what was seen already is not new, nor is what is behind it. Of what a player came with nobody knows how it began.
            let is_new = self.last.map_or_else(
                // The first number that a client gives.
                || sequence == probe_sequence::next(0, true),
                |last| (1..u32::MAX / 2).contains(&sequence.wrapping_sub(last)),
            );
            // What a player came with was told of by who saw it begin, and by its zone.
            let is_brought_along = self.last.is_none();
            if is_brought_along || is_new {
                self.last = Some(sequence);
            }
            if !probe_sequence::is_traced(sequence) {
                continue;
            }
            if is_new && self.take(batch.forwarded) {
                tell_received((batch.entity, sequence), (batch.received, batch.forwarded), gateway);
                self.grant(sequence);
            } else if is_brought_along && !is_new {
                self.grant(sequence);
            }
            if !self.granted.contains(&sequence) {
                timed.packed = input.with_sequence(probe_sequence::untraced(sequence)).pack();
            }
        }
    }

    fn grant(&mut self, sequence: u32) {
        self.granted.truncate(GRANTED_MAX - 1);
        self.granted.push_front(sequence);
    }
}

fn tell_received((entity, sequence): (WorldEntityId, u32), when: (Instant, Instant), gateway: u64) {
    if !is_tracing() {
        return;
    }
    let probe = ProbeTrace { entity, sequence };
    meridian_telemetry::record(probe.leg(ProbeSpan::GatewayReceive, when).with_gateway(gateway));
}

/// The echoes of this tick are on their way to every client that sees who acted.
fn tell_sent(zones: Res<Zones>, began: Res<TickBegan>, echoes: Query<(Ref<ProbeEcho>, &Identity), Changed<ProbeEcho>>) {
    if !is_tracing() {
        return;
    }
    let ended = zones.now();
    for (echo, identity) in &echoes {
        // What an entity was seen with when it was mirrored first was another gateway's to tell.
        if echo.is_added() || !probe_sequence::is_traced(echo.sequence) {
            continue;
        }
        let probe = ProbeTrace {
            entity: identity.entity,
            sequence: echo.sequence,
        };
        let gateway = zones.gateway;
        let leg = probe.leg(ProbeSpan::GatewaySend { gateway }, (began.0, ended));
        meridian_telemetry::record(leg.with_gateway(gateway));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meridian_fabric::TimedInput;
    use meridian_ids::Tick;

    use super::*;

    fn batch(now: Instant, sequences: &[u32]) -> InputBatch {
        let inputs = sequences.iter().zip(1..).map(|(sequence, tick)| TimedInput {
            tick: Tick(tick),
            packed: Move::default().with_sequence(*sequence).pack(),
        });
        InputBatch {
            entity: WorldEntityId(1),
            inputs: inputs.collect(),
            received: now,
            forwarded: now,
        }
    }

    fn sequences(batch: &InputBatch) -> Vec<u32> {
        let unpacked = batch.inputs.iter().map(|input| Move::unpack(input.packed).sequence);
        unpacked.collect()
    }

    #[test]
    fn marks_of_who_stamps_each_input_are_taken_away_and_those_of_others_stay() {
        let (mut traced, began) = (Traced::default(), Instant::now());
        let mut kept = 0;
        for index in 0..600u32 {
            let now = began + Duration::from_millis(u64::from(index) * 1_000 / 60);
            let mut batch = batch(now, &[2 * index + 1, 2 * index + 3]);
            traced.forwarded(&mut batch, 7);
            kept += sequences(&batch).last().copied().map_or(0, |last| last & 1);
        }
        assert!((79..=90).contains(&kept), "{kept} of 600 in ten seconds");

        // However inputs are repeated, what was not granted is never told of.
        let mut repeated = batch(began + Duration::from_secs(10), &[1_195, 1_197, 1_195, 1_197]);
        let granted: Vec<u32> = traced.granted.iter().copied().collect();
        traced.forwarded(&mut repeated, 7);
        let marked = sequences(&repeated).into_iter().filter(|sequence| sequence & 1 == 1);
        assert!(marked.into_iter().all(|sequence| granted.contains(&sequence)));

        let mut well_made = Traced::default();
        for second in 0..20u32 {
            let now = began + Duration::from_millis(500) * second;
            let mut batch = batch(now, &[2 * second + 1, 2 * second + 3, 2 * second + 3]);
            well_made.forwarded(&mut batch, 7);
            assert_eq!(sequences(&batch), [2 * second + 1, 2 * second + 3, 2 * second + 3]);
        }
    }
}
