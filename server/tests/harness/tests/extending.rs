//! The example of `docs/extending.md`, played by a zone, a gateway and two clients.

#[path = "../../../../docs/examples/health.rs"]
mod health;

use std::sync::Arc;
use std::time::Duration;

use health::{Heal, Health, HealthPlugin};
use meridian_game::Identity;
use meridian_game::demo::DemoPlugin;
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::PlayerId;

fn health_of(world: &mut TestWorld, seen_by: usize, player: PlayerId) -> Option<u8> {
    let world = world.clients[seen_by].world_mut();
    let mut players = world.query::<(&Identity, &Health)>();
    players
        .iter(world)
        .find(|(identity, _)| identity.player == Some(player))
        .map(|(_, health)| health.points)
}

#[test]
fn a_component_and_an_action_of_a_game_reach_everyone_without_touching_a_server_crate() {
    let game = Arc::new(|app: &mut meridian_game::App| {
        app.add_plugins((DemoPlugin, HealthPlugin));
    });
    let mut world = TestWorld::new(TestOptions {
        game,
        ..TestOptions::default()
    });
    world.join_all(2);
    let healer = PlayerId(100);
    world.run_until(Duration::from_secs(5), "both see the health", |world| {
        health_of(world, 0, healer) == Some(50) && health_of(world, 1, healer) == Some(50)
    });
    assert!(world.clients[0].act(&Heal { points: 25 }));
    world.run_until(Duration::from_secs(5), "both see it restored", |world| {
        health_of(world, 0, healer) == Some(75) && health_of(world, 1, healer) == Some(75)
    });
    // More than there is room for is capped; what is not an action changes nothing.
    assert!(world.clients[0].act(&Heal { points: 100 }));
    assert!(world.clients[0].act(&Heal { points: 255 }));
    world.run_until(Duration::from_secs(5), "capped", |world| {
        health_of(world, 1, healer) == Some(100)
    });
}
