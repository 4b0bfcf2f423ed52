//! Shows the others a little in the past, between the two updates around that time.
//!
//! The delay counts from the earliest that the link can deliver a tick: the worst lateness of late and one tick more, never
//! less than a tick and a half. A late update makes it grow at once; it shrinks by a tick per second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bevy::app::{App, PreUpdate, Update};
use bevy::ecs::change_detection::{DetectChanges, DetectChangesMut};
use bevy::ecs::component::Component;
use bevy::ecs::query::Without;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::ecs::world::Ref;
use bevy::math::{Quat, Vec3};
use bevy::time::{Real, Time};
use lightyear_replication::checkpoint::ReplicationCheckpointMap;
use meridian_game::{Orientation, Pose};
use meridian_ids::TickRate;

use crate::connection::Connector;
use crate::plugin::{ClientSystems, OwnPlayer, RemoteTick};
use crate::shown::{ShownPose, ShownSystems};

/// Updates kept per entity.
const HISTORY_MAX: usize = 16;
/// The least delay, in ticks.
const DELAY_TICKS_MIN: f64 = 1.5;
/// The most that a lateness counts, in ticks: what is later than this is shown where it was last known.
const DELAY_TICKS_MAX: f64 = 30.0;
/// How fast a measured lateness is forgotten, in ticks per second.
const FORGET_TICKS_PER_S: f64 = 1.0;

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<InterpolationDelay>();
    app.add_systems(PreUpdate, record.in_set(ClientSystems::TakeIn));
    app.add_systems(Update, show.in_set(ShownSystems::Interpolate));
}

/// Poses of an entity by lightyear's tick, oldest first.
#[derive(Component, Clone, Debug, Default)]
pub struct PoseHistory {
    poses: VecDeque<(u32, ShownPose)>,
}

/// How far in the past the others are shown.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct InterpolationDelay {
    /// The lateness of updates against the earliest, in ticks, the worst of late.
    lateness_ticks: f64,
    /// The earliest arrival of a tick: lightyear's tick, when it came.
    earliest: Option<(u32, Instant)>,
}

impl InterpolationDelay {
    /// The delay against the newest tick that could have come, in ticks.
    pub fn ticks(&self) -> f64 {
        (self.lateness_ticks + 1.0).clamp(DELAY_TICKS_MIN, DELAY_TICKS_MAX)
    }

    /// The tick that is shown at `now`, with its fraction.
    pub fn shown_at(&self, now: Instant, rate: TickRate) -> Option<f64> {
        let (tick, came) = self.earliest?;
        let since = now.saturating_duration_since(came).as_secs_f64() * f64::from(rate.hz());
        Some(f64::from(tick) + since - self.ticks())
    }

    fn note(&mut self, tick: u32, now: Instant, rate: TickRate) {
        let hz = f64::from(rate.hz());
        let Some((first, came)) = self.earliest else {
            self.earliest = Some((tick, now));
            return;
        };
        let expected = f64::from(tick) - f64::from(first);
        let passed = now.saturating_duration_since(came).as_secs_f64() * hz;
        let lateness = passed - expected;
        if lateness < 0.0 {
            // Earlier than any before: this is what the link can do.
            self.earliest = Some((tick, now));
        }
        self.lateness_ticks = self.lateness_ticks.max(lateness.min(DELAY_TICKS_MAX));
    }

    fn forget(&mut self, elapsed: Duration) {
        self.lateness_ticks = (self.lateness_ticks - FORGET_TICKS_PER_S * elapsed.as_secs_f64()).max(0.0);
    }
}

impl PoseHistory {
    fn push(&mut self, tick: u32, pose: ShownPose) {
        if self.poses.back().is_some_and(|(last, _)| *last >= tick) {
            return;
        }
        if self.poses.len() >= HISTORY_MAX {
            self.poses.pop_front();
        }
        self.poses.push_back((tick, pose));
    }

    /// The pose at a tick and its fraction; before the first and after the last known one, that one.
    pub fn at(&self, tick: f64) -> Option<ShownPose> {
        let after = self.poses.iter().position(|(known, _)| f64::from(*known) > tick);
        match after {
            None => self.poses.back().map(|(_, pose)| *pose),
            Some(0) => self.poses.front().map(|(_, pose)| *pose),
            Some(index) => {
                let ((from, a), (to, b)) = (self.poses[index - 1], self.poses[index]);
                let share = ((tick - f64::from(from)) / f64::from(to - from)) as f32;
                Some(between(a, b, share))
            }
        }
    }
}

fn between(a: ShownPose, b: ShownPose, share: f32) -> ShownPose {
    /// Farther than anything moves between two updates: a respawn is not slid along.
    const TELEPORT_M: f32 = 8.0;
    if a.position.distance_squared(b.position) > TELEPORT_M * TELEPORT_M {
        return if share < 0.5 { a } else { b };
    }
    ShownPose {
        position: Vec3::lerp(a.position, b.position, share),
        // The shorter way round.
        rotation: Quat::slerp(a.rotation, b.rotation, share),
    }
}

fn record(
    connector: Res<Connector>,
    remote: Res<RemoteTick>,
    checkpoints: Res<ReplicationCheckpointMap>,
    real_time: Res<Time<Real>>,
    mut delay: ResMut<InterpolationDelay>,
    mut others: Query<
        (
            bevy::ecs::entity::Entity,
            Ref<Pose>,
            Option<Ref<Orientation>>,
            Option<&mut PoseHistory>,
        ),
        Without<OwnPlayer>,
    >,
    mut commands: Commands,
) {
    let Some(rate) = connector.welcome.map(|welcome| welcome.tick_rate) else {
        return;
    };
    let now = real_time.last_update().unwrap_or_else(Instant::now);
    if remote.is_changed()
        && let Some(tick) = remote.0
    {
        delay.note(tick.0, now, rate);
    }
    delay.forget(real_time.delta());
    let Some(tick) = checkpoints.last_confirmed_tick().or(remote.0) else {
        return;
    };
    for (entity, pose, orientation, history) in &mut others {
        let turned = orientation.as_ref().is_some_and(|orientation| orientation.is_changed());
        if history.is_some() && !pose.is_changed() && !turned {
            continue;
        }
        let known = ShownPose::of(&pose, orientation.as_deref());
        match history {
            Some(mut history) => history.push(tick.0, known),
            None => {
                let mut history = PoseHistory::default();
                history.push(tick.0, known);
                commands.entity(entity).insert((history, known));
            }
        }
    }
}

fn show(
    connector: Res<Connector>,
    delay: Res<InterpolationDelay>,
    real_time: Res<Time<Real>>,
    mut others: Query<(&PoseHistory, &mut ShownPose), Without<OwnPlayer>>,
) {
    let Some(rate) = connector.welcome.map(|welcome| welcome.tick_rate) else {
        return;
    };
    let now = real_time.last_update().unwrap_or_else(Instant::now);
    let Some(shown) = delay.shown_at(now, rate) else { return };
    for (history, mut shown_pose) in &mut others {
        if let Some(pose) = history.at(shown) {
            shown_pose.set_if_neq(pose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose(x: f32) -> ShownPose {
        ShownPose {
            position: Vec3::X * x,
            rotation: Quat::IDENTITY,
        }
    }

    #[test]
    fn a_pose_lies_between_the_updates_around_it_and_a_turn_takes_the_short_way() {
        let mut history = PoseHistory::default();
        history.push(10, pose(0.0));
        history.push(12, pose(1.0));
        assert_eq!(history.at(11.0), Some(pose(0.5)));
        assert_eq!(history.at(5.0), Some(pose(0.0)));
        assert_eq!(history.at(99.0), Some(pose(1.0)));
        let turned = |yaw: f32| ShownPose {
            rotation: Quat::from_rotation_y(yaw),
            ..pose(0.0)
        };
        let half = between(turned(0.1), turned(std::f32::consts::TAU - 0.1), 0.5);
        assert!(half.rotation.angle_between(Quat::IDENTITY) < 1e-3);
    }

    #[test]
    fn a_respawn_is_not_slid_along() {
        assert_eq!(between(pose(0.0), pose(50.0), 0.4), pose(0.0));
    }

    #[test]
    fn the_delay_grows_at_once_with_jitter_and_shrinks_slowly() {
        let (rate, start) = (TickRate::default(), Instant::now());
        let mut delay = InterpolationDelay::default();
        for tick in 0..60u32 {
            delay.note(tick, start + rate.tick_duration() * tick, rate);
        }
        assert_eq!(delay.ticks(), DELAY_TICKS_MIN);
        delay.note(60, start + rate.tick_duration() * 65, rate);
        assert!(delay.ticks() > 5.5);
        delay.forget(Duration::from_secs(1));
        assert!(delay.ticks() > 4.5);
        delay.forget(Duration::from_secs(10));
        assert_eq!(delay.ticks(), DELAY_TICKS_MIN);
    }
}
