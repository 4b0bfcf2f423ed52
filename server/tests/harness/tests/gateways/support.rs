//! What clients show of whom, and whom zones have.

use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::{Has, With, Without};
use bevy::math::Vec3;
use meridian_client_net::{Connector, FrozenCopy, OwnPlayer, ShownPose};
use meridian_game::{Frozen, Ghost, Identity, Pose};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{PlayerId, WorldEntityId};

/// A wide floor, cut at x = 0; players start in the west, 6 m from the border.
pub const TWO: &str = r#"
name = "two"
kill_below_m = -20.0
[bounds]
min = [-100.0, -100.0]
max = [100.0, 100.0]
[spawn]
centre = [-6.0, 0.0, 0.0]
radius_m = 3.0
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [400.0, 2.0, 400.0]
[[zones]]
name = "west"
min = [-100.0, -100.0]
max = [0.0, 100.0]
[[zones]]
name = "east"
min = [0.0, -100.0]
max = [100.0, 100.0]
"#;

/// Two gateways, whose clients come back.
pub fn two_gateways() -> TestOptions {
    TestOptions {
        world: TWO.to_owned(),
        gateways: 2,
        reconnects: true,
        ..TestOptions::default()
    }
}

/// Lets a client join at each of these gateways, and waits until all of them are in the world and stand.
pub fn join_at(world: &mut TestWorld, gateways: &[usize]) {
    for gateway in gateways {
        world.join_at(*gateway, "walker");
    }
    world.run_until(Duration::from_secs(10), "everybody is in", |world| {
        world.clients.iter_mut().all(|client| client.own_pose().is_some())
    });
    world.run(Duration::from_secs(3));
}

/// The players that zones own: whose, the entity, where.
pub fn players(world: &mut TestWorld) -> Vec<(PlayerId, WorldEntityId, Vec3)> {
    let mut found = Vec::new();
    for zone in &mut world.zones {
        let world = zone.app_mut().world_mut();
        let mut players = world.query_filtered::<(&Identity, &Pose), Without<Ghost>>();
        found.extend(
            players
                .iter(world)
                .filter_map(|(identity, pose)| Some((identity.player?, identity.entity, pose.position))),
        );
    }
    found.sort_by_key(|(player, ..)| *player);
    found
}

/// Everybody whom a client shows: the entity, where, and whether it is a copy.
pub fn shown(world: &mut TestWorld, client: usize) -> Vec<(WorldEntityId, Vec3, bool)> {
    let world = world.clients[client].world_mut();
    let mut shown = world.query::<(&Identity, &ShownPose, Has<FrozenCopy>)>();
    let mut shown: Vec<_> = shown
        .iter(world)
        .map(|(identity, pose, is_copy)| (identity.entity, pose.position, is_copy))
        .collect();
    shown.sort_by_key(|(entity, ..)| *entity);
    shown
}

/// Copies that a client shows.
pub fn copies(world: &mut TestWorld, client: usize) -> usize {
    shown(world, client).iter().filter(|(.., is_copy)| *is_copy).count()
}

/// Where a client has the entity of a player, and whether its zone is away.
pub fn seen(world: &mut TestWorld, client: usize, player: u64) -> Option<(Vec3, bool)> {
    let world = world.clients[client].world_mut();
    let mut players = world.query::<(&Identity, &Pose, Has<Frozen>)>();
    let mut players = players.iter(world);
    players
        .find(|(identity, ..)| identity.player == Some(PlayerId(player)))
        .map(|(_, pose, is_frozen)| (pose.position, is_frozen))
}

pub fn own_entity(world: &mut TestWorld, client: usize) -> Entity {
    let world = world.clients[client].world_mut();
    let mut own = world.query_filtered::<Entity, With<OwnPlayer>>();
    own.single(world).expect("in the world")
}

pub fn own_place(world: &mut TestWorld, client: usize) -> Vec3 {
    world.clients[client].own_pose().expect("in the world").position
}

pub fn connector(world: &mut TestWorld, client: usize) -> &Connector {
    world.clients[client].world_mut().resource::<Connector>()
}

/// Walks a client in x until it has come to a place.
pub fn walk_to_x(world: &mut TestWorld, client: usize, x: f32) {
    let towards = (x - own_place(world, client).x).signum();
    world.walk(client, towards, 0.0, false);
    world.run_until(Duration::from_secs(20), "it is there", |world| {
        (own_place(world, client).x - x) * towards >= 0.0
    });
    world.walk(client, 0.0, 0.0, false);
    world.run(Duration::from_millis(500));
}
