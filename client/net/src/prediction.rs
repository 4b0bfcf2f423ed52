//! Predicts the own player with the zone's own movement step, and reconciles with what the zone says of a past tick.
//!
//! The zone tells the step's whole state and the tick it belongs to. If the ring's state of that tick differs, the step
//! is replayed from there; nothing else in the app is rolled back.

use std::collections::VecDeque;

use bevy::app::{App, FixedUpdate, PreUpdate};
use bevy::ecs::change_detection::DetectChanges;
use bevy::ecs::query::{With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::ecs::world::Ref;
use bevy::math::Vec3;
use bevy::time::{Fixed, Time};
use lightyear::core::timeline::LocalTimelineShift;
use lightyear::prelude::LocalTimeline;
use lightyear::prelude::input::native::ActionState;
use meridian_game::movement::{MovementState, step};
use meridian_game::scenery::Surroundings;
use meridian_game::{Body, BodyKind, Move, Orientation, OwnerState, Pose, Scenery, SurroundingCrate};
use meridian_ids::Tick;

use crate::connection::{Connector, playing};
use crate::plugin::{ClientSystems, OwnPlayer, world_tick};
use crate::shown::CorrectionFade;

/// Ticks that can be replayed: a second at 60 Hz, and as far as inputs may be ahead.
const RING_TICKS: usize = 64;

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<PredictionRing>();
    app.init_resource::<CorrectionStats>();
    app.add_observer(|_: bevy::ecs::observer::On<LocalTimelineShift>, mut ring: ResMut<PredictionRing>| ring.clear());
    app.add_systems(PreUpdate, reconcile.in_set(ClientSystems::TakeIn).run_if(playing));
    app.add_systems(FixedUpdate, predict.in_set(ClientSystems::Predict).run_if(playing));
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Predicted {
    tick: Tick,
    input: Move,
    state: MovementState,
}

/// What was predicted for the last ticks, oldest first and without gaps.
#[derive(Resource, Clone, Debug, Default)]
pub struct PredictionRing {
    ticks: VecDeque<Predicted>,
}

/// How often and how far the own player was corrected.
#[derive(Resource, Clone, Debug, Default)]
pub struct CorrectionStats {
    /// States of the zone that were compared.
    pub compared: u64,
    /// Of these, those that differed.
    pub corrections: u64,
    /// How far the player moved by each correction, in metres; the last ones.
    pub distances_m: VecDeque<f32>,
    /// Corrections that nobody has taken yet.
    undrained: Vec<Correction>,
}

/// One correction of the own player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// How far the player moved by it, in metres.
    pub distance_m: f32,
    /// Where the zone had the player in the tick that was predicted otherwise.
    pub position: Vec3,
}

/// Corrections whose distance is kept.
const DISTANCES_KEPT: usize = 4_096;

impl CorrectionStats {
    /// Takes the corrections since the last call; if it comes rarely, only the first ones.
    pub fn drain(&mut self) -> Vec<Correction> {
        std::mem::take(&mut self.undrained)
    }

    fn note(&mut self, correction: Correction) {
        let distance_m = correction.distance_m;
        self.corrections += 1;
        if self.undrained.len() < DISTANCES_KEPT {
            self.undrained.push(correction);
        }
        if self.distances_m.len() >= DISTANCES_KEPT {
            self.distances_m.pop_front();
        }
        self.distances_m.push_back(distance_m);
    }
}

impl PredictionRing {
    fn push(&mut self, predicted: Predicted) {
        // A jump of the tick count starts a new history.
        if self.ticks.back().is_some_and(|last| last.tick.next() != predicted.tick) {
            self.ticks.clear();
        }
        if self.ticks.len() >= RING_TICKS {
            self.ticks.pop_front();
        }
        self.ticks.push_back(predicted);
    }

    fn clear(&mut self) {
        self.ticks.clear();
    }

    /// Compares `truth` with what was predicted for `tick`. Where it differs, `step` replays the later ticks; the
    /// result is the present state, or `None` where nothing has to change.
    pub fn reconcile(
        &mut self,
        tick: Tick,
        truth: MovementState,
        mut step: impl FnMut(MovementState, Move) -> MovementState,
    ) -> Option<MovementState> {
        let index = self.ticks.iter().position(|predicted| predicted.tick == tick)?;
        if self.ticks[index].state == truth {
            self.ticks.drain(..index);
            return None;
        }
        self.ticks.drain(..index);
        let mut state = truth;
        for (index, predicted) in self.ticks.iter_mut().enumerate() {
            if index > 0 {
                state = step(state, predicted.input);
            }
            predicted.state = state;
        }
        Some(state)
    }

    /// The last predicted tick.
    pub fn last_tick(&self) -> Option<Tick> {
        self.ticks.back().map(|predicted| predicted.tick)
    }
}

fn truth_of(state: &OwnerState) -> MovementState {
    MovementState {
        position: state.position,
        velocity: state.velocity,
        yaw: state.yaw,
        grounded: state.grounded,
    }
}

/// The tick that has these low bits and is nearest to `near`.
fn whole_tick(low: u16, near: Tick) -> Tick {
    let difference = low.wrapping_sub(near.0 as u16) as i16;
    Tick(near.0.wrapping_add_signed(i64::from(difference)))
}

/// What the own player can run into, as last known.
pub(crate) fn obstacles(
    players: &Query<(&Pose, &Body, Option<&Orientation>), Without<OwnPlayer>>,
    near: Vec3,
) -> (Vec<Vec3>, Vec<SurroundingCrate>) {
    /// Farther than what a replay of the whole ring can reach.
    const NEAR_M: f32 = 10.0;
    let (mut others, mut crates) = (Vec::new(), Vec::new());
    for (pose, body, orientation) in players {
        if pose.position.distance_squared(near) > NEAR_M * NEAR_M {
            continue;
        }
        match body.kind {
            BodyKind::Player => others.push(pose.position),
            BodyKind::Crate { half_extents } => crates.push(SurroundingCrate {
                position: pose.position,
                rotation: orientation.map_or_else(Default::default, |orientation| orientation.0),
                half_extents,
            }),
        }
    }
    (others, crates)
}

fn predict(
    connector: Res<Connector>,
    timeline: Res<LocalTimeline>,
    time: Res<Time<Fixed>>,
    scenery: Res<Scenery>,
    others: Query<(&Pose, &Body, Option<&Orientation>), Without<OwnPlayer>>,
    mut own: Query<(&mut MovementState, &ActionState<Move>, &mut Pose), With<OwnPlayer>>,
    mut ring: ResMut<PredictionRing>,
) {
    let Some(tick) = world_tick(&connector, &timeline) else {
        return;
    };
    let Ok((mut movement, action, mut pose)) = own.single_mut() else {
        return;
    };
    let (players, crates) = obstacles(&others, movement.position);
    let surroundings = Surroundings {
        scenery: &scenery,
        players: &players,
        crates: &crates,
    };
    *movement = step(*movement, action.0, &surroundings, time.timestep().as_secs_f32());
    *pose = movement.pose();
    ring.push(Predicted {
        tick,
        input: action.0,
        state: *movement,
    });
}

fn reconcile(
    connector: Res<Connector>,
    timeline: Res<LocalTimeline>,
    time: Res<Time<Fixed>>,
    scenery: Res<Scenery>,
    others: Query<(&Pose, &Body, Option<&Orientation>), Without<OwnPlayer>>,
    mut own: Query<
        (
            bevy::ecs::entity::Entity,
            Ref<OwnerState>,
            Option<&mut MovementState>,
            Option<&mut Pose>,
            Option<&mut CorrectionFade>,
        ),
        With<OwnPlayer>,
    >,
    mut ring: ResMut<PredictionRing>,
    mut stats: ResMut<CorrectionStats>,
    mut commands: Commands,
) {
    let Some(now) = world_tick(&connector, &timeline) else {
        return;
    };
    let Ok((entity, state, movement, pose, fade)) = own.single_mut() else {
        return;
    };
    if !state.is_changed() {
        return;
    }
    let truth = truth_of(&state);
    let (Some(mut movement), Some(mut pose)) = (movement, pose) else {
        commands.entity(entity).insert((truth, truth.pose()));
        return;
    };
    stats.compared += 1;
    let (players, crates) = obstacles(&others, movement.position);
    let surroundings = Surroundings {
        scenery: &scenery,
        players: &players,
        crates: &crates,
    };
    let delta_seconds = time.timestep().as_secs_f32();
    let tick = whole_tick(state.tick, now);
    if ring.last_tick().is_none_or(|last| last < tick) {
        // Nothing was predicted for that tick: before the first, or after a jump of the clock.
        if let Some(mut fade) = fade {
            fade.moved(movement.position, truth.position);
        }
        *movement = truth;
        *pose = truth.pose();
        return;
    }
    let corrected = ring.reconcile(tick, truth, |state, input| {
        step(state, input, &surroundings, delta_seconds)
    });
    if let Some(corrected) = corrected {
        stats.note(Correction {
            distance_m: corrected.position.distance(movement.position),
            position: truth.position,
        });
        if let Some(mut fade) = fade {
            fade.moved(movement.position, corrected.position);
        }
        *movement = corrected;
        *pose = corrected.pose();
    }
}

#[cfg(test)]
mod tests {
    use bevy::math::Vec2;
    use proptest::prelude::*;

    use super::*;

    fn walk(state: MovementState, input: Move) -> MovementState {
        let direction = input.direction();
        MovementState {
            position: state.position + Vec3::new(direction.x, 0.0, direction.y),
            ..state
        }
    }

    fn ring(ticks: u64) -> (PredictionRing, MovementState) {
        let (mut ring, mut state) = (PredictionRing::default(), MovementState::default());
        for tick in 0..ticks {
            let input = Move::new(Vec2::X, 0.0, false).0;
            state = walk(state, input);
            ring.push(Predicted {
                tick: Tick(tick),
                input,
                state,
            });
        }
        (ring, state)
    }

    #[test]
    fn a_right_prediction_changes_nothing() {
        let (mut ring, _) = ring(10);
        let truth = MovementState {
            position: Vec3::X * 4.0,
            ..MovementState::default()
        };
        assert_eq!(ring.reconcile(Tick(3), truth, walk), None);
        assert_eq!(ring.last_tick(), Some(Tick(9)));
    }

    #[test]
    fn a_wrong_one_is_replayed_with_the_inputs_since() {
        let (mut ring, _) = ring(10);
        let truth = MovementState {
            position: Vec3::Z,
            ..MovementState::default()
        };
        let present = ring.reconcile(Tick(3), truth, walk).unwrap();
        assert_eq!(present.position, Vec3::new(6.0, 0.0, 1.0));
        // Said once, it is known: the next state that follows from it needs no correction.
        let next = walk(truth, Move::new(Vec2::X, 0.0, false).0);
        assert_eq!(ring.reconcile(Tick(4), next, walk), None);
    }

    #[test]
    fn corrections_are_taken_once_and_kept_for_who_looks_at_the_last() {
        let mut stats = CorrectionStats::default();
        let correction = Correction {
            distance_m: 0.25,
            position: Vec3::X,
        };
        (0..DISTANCES_KEPT + 5).for_each(|_| stats.note(correction));
        assert_eq!(stats.drain().len(), DISTANCES_KEPT);
        assert!(stats.drain().is_empty());
        stats.note(correction);
        assert_eq!(stats.drain(), [correction]);
        assert_eq!(
            (stats.corrections, stats.distances_m.len()),
            (DISTANCES_KEPT as u64 + 6, DISTANCES_KEPT)
        );
    }

    #[test]
    fn a_tick_that_was_never_predicted_is_left_alone() {
        let (mut ring, _) = ring(RING_TICKS as u64 + 5);
        assert_eq!(ring.reconcile(Tick(2), MovementState::default(), walk), None);
        assert_eq!(ring.reconcile(Tick(500), MovementState::default(), walk), None);
    }

    proptest! {
        #[test]
        fn low_bits_find_their_tick(near in 40_000u64..u64::MAX / 2, difference in -30_000i64..30_000) {
            let tick = Tick(near.wrapping_add_signed(difference));
            prop_assert_eq!(whole_tick(tick.0 as u16, Tick(near)), tick);
        }
    }
}
