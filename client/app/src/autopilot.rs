//! Walks by itself, as the bots of a swarm do: for demos and tests.

use bevy::prelude::*;
use meridian_autopilot::{Behaviour, ScenarioKind, Stage};
use meridian_client_net::{LocalInput, OwnPlayer};
use meridian_game::{Pose, WorldDefinition};

use crate::notices::Notices;

/// Adds the autopilot, if a scenario is asked for.
pub(super) struct AutopilotPlugin {
    pub(super) scenario: Option<ScenarioKind>,
    pub(super) seed: u64,
}

impl Plugin for AutopilotPlugin {
    fn build(&self, app: &mut App) {
        let Some(scenario) = self.scenario else { return };
        app.insert_resource(Autopilot {
            scenario,
            seed: self.seed,
            walk: None,
        });
        app.add_systems(Update, begin.run_if(resource_exists_and_changed::<WorldDefinition>));
        app.add_systems(FixedFirst, walk);
    }
}

/// The walk, once the world is known.
#[derive(Resource)]
pub struct Autopilot {
    scenario: ScenarioKind,
    seed: u64,
    walk: Option<Behaviour>,
}

fn begin(world: Res<WorldDefinition>, mut autopilot: ResMut<Autopilot>, mut notices: ResMut<Notices>) {
    match Stage::new(autopilot.scenario, &world, 1) {
        Ok(stage) => autopilot.walk = Some(Behaviour::new(&stage, autopilot.seed, 0)),
        Err(error) => {
            autopilot.walk = None;
            notices.tell(format!("The autopilot stands still: {error:#}"));
        }
    }
}

fn walk(mut autopilot: ResMut<Autopilot>, own: Query<&Pose, With<OwnPlayer>>, mut local: ResMut<LocalInput>) {
    if let Some(walk) = &mut autopilot.walk {
        local.input = walk.next(own.single().ok().map(|pose| pose.position));
    }
}
