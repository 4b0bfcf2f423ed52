//! Crates on a link: what is tied together keeps its distance, and crosses borders together.

use avian3d::prelude::DistanceJoint;
use bevy::app::{App, FixedFirst};
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::RemovedComponents;
use bevy::ecs::query::{Added, Without};
use bevy::ecs::system::{Commands, Local, Query};
use bevy::platform::collections::HashMap;
use meridian_ids::WorldEntityId;

use crate::components::{Identity, Tied};
use crate::simulation::Ghost;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(FixedFirst, tie);
}

/// A link for each pair whose both ends the zone simulates. The ends come and go together.
fn tie(
    come: Query<(), (Added<Tied>, Without<Ghost>)>,
    mut gone: RemovedComponents<Tied>,
    tied: Query<(Entity, &Identity, &Tied), Without<Ghost>>,
    mut links: Local<HashMap<(WorldEntityId, WorldEntityId), Entity>>,
    mut commands: Commands,
) {
    if come.is_empty() && gone.read().count() == 0 {
        return;
    }
    let bodies: HashMap<WorldEntityId, Entity> = tied
        .iter()
        .map(|(entity, identity, _)| (identity.entity, entity))
        .collect();
    // Bodies that left took their old entities along: a link that holds on to one of them is made anew or not at all.
    for (_, link) in links.drain() {
        commands.entity(link).despawn();
    }
    for (one, identity, tie) in &tied {
        for id in tie.to.iter().filter(|id| identity.entity < **id) {
            if let Some(other) = bodies.get(id) {
                let joint = DistanceJoint::new(one, *other).with_limits(tie.length_m, tie.length_m);
                links.insert((identity.entity, *id), commands.spawn(joint).id());
            }
        }
    }
}
