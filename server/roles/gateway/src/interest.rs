//! Which entities a client is told of, and how often: a grid over the mirror, with hysteresis.

use bevy::app::App;
use bevy::ecs::component::Component;
use bevy::ecs::entity::{Entity, EntityHashSet};
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::world::World;
use bevy::math::Vec3;
use bevy::platform::collections::HashMap;
use bevy_replicon::server::PriorityMap;
use lightyear::prelude::VisibilityExt;
use meridian_game::{Identity, Pose};

use crate::sessions::SessionOf;

/// Ticks between two passes over all clients.
const PASS_EVERY_TICKS: u32 = 4;

/// Distances of interest, in metres.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct InterestConfig {
    /// An entity nearer than this is shown.
    pub enter_m: f32,
    /// An entity farther than this is hidden; more than `enter_m`, so that nothing flickers on the edge.
    pub leave_m: f32,
    /// Up to this distance changes are sent each tick.
    pub near_m: f32,
    /// Share of ticks in which changes of what is farther than `near_m` are sent, 0 to 1.
    pub far_rate: f32,
}

impl Default for InterestConfig {
    fn default() -> Self {
        Self {
            enter_m: 80.0,
            leave_m: 90.0,
            near_m: 40.0,
            far_rate: 0.5,
        }
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Pass>();
    app.register_required_components::<SessionOf, Interest>();
    app.register_required_components::<SessionOf, PriorityMap>();
}

/// What a client sees.
#[derive(Component, Default)]
pub(crate) struct Interest {
    own: Option<Entity>,
    visible: EntityHashSet,
}

#[derive(Resource, Default)]
struct Pass {
    ticks: u32,
    cells: HashMap<(i32, i32), Vec<(Entity, Vec3)>>,
}

fn cell_of(position: Vec3, edge: f32) -> (i32, i32) {
    ((position.x / edge).floor() as i32, (position.z / edge).floor() as i32)
}

/// An entity that was just mirrored is hidden from all until the next pass finds who is near.
pub(crate) fn hide_new(world: &mut World, entity: Entity) {
    let mut links = world.query_filtered::<Entity, With<SessionOf>>();
    let links: Vec<Entity> = links.iter(world).collect();
    for link in links {
        world.lose_visibility(entity, link);
    }
}

/// A player always sees its own entity. For a new client everything else starts hidden.
pub(crate) fn show_own(world: &mut World, entity: Entity, link: Entity) {
    let mut mirrored = world.query_filtered::<Entity, With<Identity>>();
    let others: Vec<Entity> = mirrored.iter(world).filter(|other| *other != entity).collect();
    let first = world
        .get::<Interest>(link)
        .is_some_and(|interest| interest.own.is_none());
    if first {
        others.into_iter().for_each(|other| world.lose_visibility(other, link));
    }
    world.gain_visibility(entity, link);
    if let Some(mut interest) = world.get_mut::<Interest>(link) {
        interest.own = Some(entity);
    }
    world.resource_mut::<Pass>().ticks = 0;
}

/// The entity is about to be despawned.
pub(crate) fn forget(world: &mut World, entity: Entity) {
    let mut links = world.query::<(&mut Interest, &mut PriorityMap)>();
    for (mut interest, mut priorities) in links.iter_mut(world) {
        interest.visible.remove(&entity);
        priorities.remove(&entity);
    }
}

/// Shows and hides what crossed a client's distances; does its work every few ticks.
pub(crate) fn update(world: &mut World) {
    let due = {
        let mut pass = world.resource_mut::<Pass>();
        let due = pass.ticks == 0;
        pass.ticks = (pass.ticks + 1) % PASS_EVERY_TICKS;
        due
    };
    if !due {
        return;
    }
    let config = *world.resource::<InterestConfig>();
    world.resource_scope(|world, mut pass: bevy::ecs::change_detection::Mut<Pass>| {
        fill_cells(world, &mut pass, config.leave_m);
        let mut links = world.query_filtered::<Entity, With<Interest>>();
        let links: Vec<Entity> = links.iter(world).collect();
        for link in links {
            update_link(world, &pass, &config, link);
        }
    });
}

fn fill_cells(world: &mut World, pass: &mut Pass, edge: f32) {
    pass.cells.values_mut().for_each(Vec::clear);
    let mut entities = world.query::<(Entity, &Pose)>();
    for (entity, pose) in entities.iter(world) {
        pass.cells
            .entry(cell_of(pose.position, edge))
            .or_default()
            .push((entity, pose.position));
    }
}

fn update_link(world: &mut World, pass: &Pass, config: &InterestConfig, link: Entity) {
    let Some(interest) = world.get::<Interest>(link) else {
        return;
    };
    let Some(own) = interest.own else { return };
    let Some(here) = world.get::<Pose>(own).map(|pose| pose.position) else {
        return;
    };
    let (column, row) = cell_of(here, config.leave_m);
    let near = (column - 1..=column + 1).flat_map(|column| (row - 1..=row + 1).map(move |row| (column, row)));
    let mut visible = EntityHashSet::default();
    let mut far = Vec::new();
    for (entity, position) in near.filter_map(|cell| pass.cells.get(&cell)).flatten() {
        let distance = position.distance(here);
        let limit = if interest.visible.contains(entity) {
            config.leave_m
        } else {
            config.enter_m
        };
        if *entity != own && distance <= limit {
            visible.insert(*entity);
            if distance > config.near_m {
                far.push(*entity);
            }
        }
    }
    let gained: Vec<Entity> = visible.difference(&interest.visible).copied().collect();
    let lost: Vec<Entity> = interest.visible.difference(&visible).copied().collect();
    gained
        .into_iter()
        .for_each(|entity| world.gain_visibility(entity, link));
    lost.into_iter().for_each(|entity| world.lose_visibility(entity, link));
    if let Some(mut priorities) = world.get_mut::<PriorityMap>(link) {
        priorities.clear();
        priorities.extend(far.into_iter().map(|entity| (entity, config.far_rate)));
    }
    if let Some(mut interest) = world.get_mut::<Interest>(link) {
        interest.visible = visible;
    }
}
