//! Measures how gapless the others are seen while they cross a border of zones: of each crossing, the longest wait between
//! two updates, in ticks of the gateway. Absent unless it is asked for; it changes nothing of what the client does.

use std::collections::HashMap;

use bevy::app::{App, PreUpdate};
use bevy::ecs::query::{Changed, With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy::math::{Vec2, Vec3, Vec3Swizzles};
use bevy_replicon::client::confirm_history::ConfirmHistory;
use lightyear_replication::checkpoint::ReplicationCheckpointMap;
use meridian_game::movement::WALK_SPEED_M_PER_S;
use meridian_game::{Identity, Pose};
use meridian_ids::{TickRate, WorldEntityId, ZoneId, ZoneMap};

use crate::plugin::{ClientSystems, OwnPlayer};

/// Who stands nearer to another zone than this is at the border, in metres. A handoff happens half a metre beyond it.
const STRIP_M: f32 = 1.5;
/// Who is farther from the own player than this is left out, in metres: beyond 40 m the gateway sends less often on purpose.
const SIGHT_M: f32 = 35.0;
/// Waits in which somebody moved less than this share of what a walk would have been are left out: who stands has no updates.
const WALKED_SHARE_MIN: f32 = 0.6;
/// More than this share of a walk, and half a metre, is a respawn: no crossing.
const WALKED_SHARE_MAX: f32 = 2.0;
const SLACK_M: f32 = 0.5;
/// Ticks after which a last sight of somebody is worth nothing: ten seconds at 60 Hz.
const FORGET_TICKS: u32 = 600;
/// Others that are followed at once.
const WALKERS_MAX: usize = 1_024;
/// Crossings kept until somebody takes them; more are dropped.
const CROSSINGS_KEPT_MAX: usize = 4_096;
/// Updates that replication remembers of an entity.
const REMEMBERED_TICKS: u32 = 64;

/// Watches the borders of `zones` in a client's app.
pub(crate) fn add(app: &mut App, zones: ZoneMap, tick_rate: TickRate) {
    app.insert_resource(BorderWatch::new(zones, tick_rate));
    app.add_systems(PreUpdate, watch.in_set(ClientSystems::TakeIn));
}

/// Somebody was seen to walk from one zone into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BorderCrossing {
    /// Who.
    pub entity: WorldEntityId,
    /// The longest wait between two updates meanwhile, in ticks of the gateway; 1 is without a gap.
    pub gap_ticks: u32,
}

/// Who walks where, and the crossings seen.
#[derive(Resource)]
pub struct BorderWatch {
    zones: ZoneMap,
    tick_seconds: f32,
    // By the world's id: an entity that a border takes away and brings anew is still the same walker.
    walkers: HashMap<WorldEntityId, Walker>,
    crossings: Vec<BorderCrossing>,
}

/// Where somebody was at the last update.
#[derive(Clone, Copy)]
struct Walker {
    tick: u32,
    position: Vec2,
    zone: ZoneId,
    in_strip: bool,
    passing: Option<Passing>,
}

/// A walk through a border's strip that was seen from its beginning.
#[derive(Clone, Copy)]
struct Passing {
    from: ZoneId,
    gap_ticks: u32,
}

/// The updates of an entity since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Updates {
    newest: u32,
    /// The longest wait between two of them, that for the first one included.
    gap_ticks: u32,
}

impl BorderWatch {
    /// Watches the borders of `zones`.
    pub fn new(zones: ZoneMap, tick_rate: TickRate) -> Self {
        Self {
            zones,
            tick_seconds: tick_rate.tick_duration().as_secs_f32(),
            walkers: HashMap::new(),
            crossings: Vec::new(),
        }
    }

    /// Takes the crossings seen since the last call.
    pub fn drain(&mut self) -> Vec<BorderCrossing> {
        std::mem::take(&mut self.crossings)
    }

    fn last_tick(&self, entity: WorldEntityId) -> Option<u32> {
        self.walkers.get(&entity).map(|walker| walker.tick)
    }

    fn forget(&mut self, entity: WorldEntityId) {
        self.walkers.remove(&entity);
    }

    /// Takes in where `entity` is after `updates`.
    fn note(&mut self, entity: WorldEntityId, position: Vec2, updates: Updates) {
        let point = position.to_array();
        let zone = self.zones.zone_at(point);
        let mut walker = Walker {
            tick: updates.newest,
            position,
            zone,
            in_strip: self.zones.near(zone, point, STRIP_M).next().is_some(),
            passing: None,
        };
        let before = self.walkers.get(&entity).copied();
        if let Some(before) = before.filter(|before| self.follows(before, &walker)) {
            let began = Passing {
                from: before.zone,
                gap_ticks: 0,
            };
            let passing = if before.in_strip { before.passing } else { Some(began) };
            let gap_ticks = self.counted_gap(&before, &walker, updates.gap_ticks);
            walker.passing = passing.map(|passing| Passing {
                gap_ticks: passing.gap_ticks.max(gap_ticks),
                ..passing
            });
        }
        if !walker.in_strip
            && let Some(passed) = walker.passing.take()
        {
            self.passed(entity, passed, zone);
        }
        self.keep(entity, walker);
    }

    /// Whether somebody can have walked from the one place to the other.
    fn follows(&self, before: &Walker, after: &Walker) -> bool {
        let ticks = after.tick.saturating_sub(before.tick);
        let reach = self.walk_m(ticks) * WALKED_SHARE_MAX + SLACK_M;
        (1..=FORGET_TICKS).contains(&ticks) && before.position.distance(after.position) <= reach
    }

    /// The gap, if it is one of somebody that walked all the time.
    fn counted_gap(&self, before: &Walker, after: &Walker, gap_ticks: u32) -> u32 {
        let walk = self.walk_m(after.tick.saturating_sub(before.tick));
        if before.position.distance(after.position) >= walk * WALKED_SHARE_MIN {
            gap_ticks
        } else {
            0
        }
    }

    fn walk_m(&self, ticks: u32) -> f32 {
        WALK_SPEED_M_PER_S * self.tick_seconds * ticks as f32
    }

    /// Out of the strip again: on the other side it is a crossing.
    fn passed(&mut self, entity: WorldEntityId, passed: Passing, zone: ZoneId) {
        let is_crossing = passed.from != zone && passed.gap_ticks > 0;
        if is_crossing && self.crossings.len() < CROSSINGS_KEPT_MAX {
            self.crossings.push(BorderCrossing {
                entity,
                gap_ticks: passed.gap_ticks,
            });
        }
    }

    fn keep(&mut self, entity: WorldEntityId, walker: Walker) {
        if self.walkers.len() >= WALKERS_MAX && !self.walkers.contains_key(&entity) {
            let now = walker.tick;
            self.walkers
                .retain(|_, walker| now.saturating_sub(walker.tick) < FORGET_TICKS);
            if self.walkers.len() >= WALKERS_MAX {
                return;
            }
        }
        self.walkers.insert(entity, walker);
    }
}

fn watch(
    own: Query<&Pose, With<OwnPlayer>>,
    others: Query<(&Identity, &Pose, &ConfirmHistory), (Changed<Pose>, Without<OwnPlayer>)>,
    checkpoints: Res<ReplicationCheckpointMap>,
    mut watch: ResMut<BorderWatch>,
) {
    if others.is_empty() {
        return;
    }
    let own: Option<Vec3> = own.single().ok().map(|pose| pose.position);
    for (identity, pose, history) in &others {
        if identity.player.is_none() {
            continue;
        }
        let entity = identity.entity;
        if own.is_none_or(|own| own.distance(pose.position) > SIGHT_M) {
            watch.forget(entity);
        } else if let Some(updates) = updates(history, &checkpoints, watch.last_tick(entity)) {
            watch.note(entity, pose.position.xz(), updates);
        }
    }
}

/// The updates that replication has applied after tick `since`. Several may have come in one pass, of which only the last
/// is in the world: those are no gap.
fn updates(history: &ConfirmHistory, checkpoints: &ReplicationCheckpointMap, since: Option<u32>) -> Option<Updates> {
    let last = history.last_tick();
    let newest = checkpoints.get(last)?.0;
    let since = since.filter(|since| *since < newest).unwrap_or(newest);
    let (mut later, mut gap_ticks) = (newest, 0);
    let earlier = (1..REMEMBERED_TICKS).filter(|ago| history.mask() >> ago & 1 == 1);
    for tick in earlier.filter_map(|ago| checkpoints.get(last - ago)) {
        if tick.0 <= since {
            break;
        }
        gap_ticks = gap_ticks.max(later.saturating_sub(tick.0));
        later = tick.0;
    }
    Some(Updates {
        newest,
        gap_ticks: gap_ticks.max(later - since),
    })
}

#[cfg(test)]
mod tests {
    use bevy_replicon::shared::replicon_tick::RepliconTick;
    use lightyear::prelude::Tick;
    use meridian_ids::Rectangle;

    use super::*;

    const WALKER: WorldEntityId = WorldEntityId(7);
    const STEP_M: f32 = WALK_SPEED_M_PER_S / 60.0;

    /// Two zones that meet at x = 0.
    fn watch() -> BorderWatch {
        let zone = |from: f32, to: f32| Rectangle {
            min: [from, -50.0],
            max: [to, 50.0],
        };
        let zones = ZoneMap::new(zone(-50.0, 50.0), vec![zone(-50.0, 0.0), zone(0.0, 50.0)]).unwrap();
        BorderWatch::new(zones, TickRate::default())
    }

    /// Shows a walk along x at the walking speed, in the ticks for which `seen` holds.
    fn walk(watch: &mut BorderWatch, x: impl Fn(u32) -> f32, ticks: u32, seen: impl Fn(u32) -> bool) {
        let mut last = None;
        for tick in (100..100 + ticks).filter(|tick| seen(*tick - 100)) {
            let gap_ticks = last.map_or(0, |last| tick - last);
            let updates = Updates {
                newest: tick,
                gap_ticks,
            };
            watch.note(WALKER, Vec2::new(x(tick - 100), 3.0), updates);
            last = Some(tick);
        }
    }

    fn gaps(watch: &mut BorderWatch) -> Vec<u32> {
        watch.drain().iter().map(|crossing| crossing.gap_ticks).collect()
    }

    fn eastwards(tick: u32) -> f32 {
        -3.0 + STEP_M * tick as f32
    }

    #[test]
    fn a_walk_that_is_seen_in_each_tick_has_a_gap_of_one() {
        let mut watch = watch();
        walk(&mut watch, eastwards, 60, |_| true);
        assert_eq!(gaps(&mut watch), [1]);
        assert!(watch.drain().is_empty(), "taken once");
    }

    #[test]
    fn the_longest_wait_within_the_strip_counts_and_that_before_it_does_not() {
        let mut watch = watch();
        // Waits of 6 ticks far from the border, and of 4 just behind it.
        walk(&mut watch, eastwards, 60, |tick| {
            !(5..10).contains(&tick) && !(36..39).contains(&tick)
        });
        assert_eq!(gaps(&mut watch), [4]);
    }

    #[test]
    fn who_is_not_seen_at_all_in_the_strip_has_crossed_it_nevertheless() {
        let mut watch = watch();
        walk(&mut watch, eastwards, 60, |tick| !(10..50).contains(&tick));
        assert_eq!(gaps(&mut watch), [41]);
    }

    #[test]
    fn who_turns_back_has_not_crossed() {
        let mut watch = watch();
        let there_and_back = |tick: u32| {
            if tick < 35 {
                eastwards(tick)
            } else {
                eastwards(70 - tick)
            }
        };
        walk(&mut watch, there_and_back, 70, |_| true);
        assert!(watch.drain().is_empty());
    }

    #[test]
    fn the_wait_of_who_stands_is_no_gap_and_a_respawn_is_no_crossing() {
        let mut watch = watch();
        // Stands still at the border for 20 ticks, without an update.
        let pausing = |tick: u32| eastwards(if tick < 30 { tick } else { tick.max(50) - 20 });
        walk(&mut watch, pausing, 90, |tick| !(31..50).contains(&tick));
        assert_eq!(gaps(&mut watch), [1]);
        let respawned = |tick: u32| if tick < 10 { -20.0 } else { 20.0 };
        walk(&mut watch, respawned, 20, |_| true);
        assert!(watch.drain().is_empty());
    }

    #[test]
    fn updates_that_came_together_are_no_gap_and_one_that_was_lost_is() {
        let mut checkpoints = ReplicationCheckpointMap::default();
        (0..40).for_each(|tick| checkpoints.record(RepliconTick::new(tick), Tick(1_000 + tick)));
        let mut history = ConfirmHistory::new(RepliconTick::new(10));
        for tick in [11, 12, 14] {
            history.confirm(RepliconTick::new(tick));
        }
        let since = |tick| updates(&history, &checkpoints, tick);
        let told = |gap_ticks| {
            Some(Updates {
                newest: 1_014,
                gap_ticks,
            })
        };
        assert_eq!(since(Some(1_010)), told(2));
        assert_eq!(since(Some(1_012)), told(2));
        assert_eq!(since(Some(1_005)), told(5));
        // The first sight of somebody waited for nothing.
        assert_eq!(since(None), told(0));
    }
}
