//! Walks without anybody at the keys: what the bots of a swarm do, and a window that is left to itself.
//!
//! A [`ScenarioKind`] names the walk, a [`Stage`] is the part of a world that it uses, and a [`Behaviour`] is one player's
//! walk there: told where its player stands, it says the input of the next tick, and never stands still. A pure function of the
//! world file, the seed, the player's number and its own positions: it never opens a socket, reads a clock or keys, draws, or
//! knows who owns the player and who else is there.

mod borders;
mod ground;
mod lanes;
mod places;
mod progress;
mod pushes;
mod route;
mod swing;
mod wander;
mod zones;

#[cfg(test)]
mod testing;

use std::sync::Arc;

use bevy::math::{Vec3, Vec3Swizzles};
use clap::ValueEnum;
use meridian_game::{Move, WorldDefinition};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use route::Route;
use swing::Swing;
use wander::{Wander, WanderStage};
use zones::ZoneStage;

/// Which walk the bots take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ScenarioKind {
    /// Everybody walks from one random place to the next, and jumps at times.
    #[default]
    Roam,
    /// Everybody stays within ten metres of the centre, always moving; every fourth bot pushes crates.
    Crowd,
    /// Everybody goes to and fro over a border of zones; every eighth circles where most zones meet, every eighth pushes
    /// crates over a border.
    Border,
    /// Everybody goes to and fro over a border of zones in a lane of his own, undisturbed.
    Crossing,
    /// Everybody turns back over a border of zones as fast as can be: half of them 15 times a second on the very line, the
    /// others as soon as they are beyond the hysteresis.
    Oscillate,
    /// Everybody walks small circles in the middle of a zone, far from its borders; the zones take turns.
    Camp,
}

impl ScenarioKind {
    /// Whether the scenario is about zones and makes no sense in a world of one.
    pub fn needs_zones(self) -> bool {
        matches!(self, Self::Border | Self::Crossing | Self::Oscillate | Self::Camp)
    }
}

/// Where a scenario takes place.
#[derive(Clone, Debug)]
pub struct Stage {
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Wander(WanderStage),
    Zones(Arc<ZoneStage>),
}

impl Stage {
    /// The part of `world` that a scenario of so many bots uses.
    ///
    /// # Errors
    ///
    /// The world has no room for the scenario: it is a single zone, or no free ground lies where the bots would walk.
    pub fn new(kind: ScenarioKind, world: &WorldDefinition, bots: usize) -> anyhow::Result<Self> {
        let plan = if kind.needs_zones() {
            Plan::Zones(Arc::new(ZoneStage::new(kind, world, bots)?))
        } else {
            Plan::Wander(WanderStage::new(kind, world))
        };
        Ok(Self { plan })
    }
}

/// One bot's walk.
#[derive(Clone, Debug)]
pub struct Behaviour {
    walk: Walk,
}

#[derive(Clone, Debug)]
enum Walk {
    Wander(Box<Wander>),
    Route(Box<Route>),
    Swing(Box<Swing>),
}

impl Behaviour {
    /// The walk of bot number `index`; the same seed, stage and positions give the same inputs.
    pub fn new(stage: &Stage, seed: u64, index: usize) -> Self {
        let walk = match &stage.plan {
            Plan::Wander(stage) => Walk::Wander(Box::new(Wander::new(stage.clone(), seed, index))),
            Plan::Zones(stage) => stage.walk(seed, index),
        };
        Self { walk }
    }

    /// The input of the next tick, given where the bot stands; without a position it walks on.
    pub fn next(&mut self, position: Option<Vec3>) -> Move {
        let here = position.map(Vec3::xz);
        let direction = match &mut self.walk {
            Walk::Wander(wander) => return wander.next(position),
            Walk::Route(route) => route.next(here),
            Walk::Swing(swing) => swing.next(here),
        };
        // A unit vector and a finite heading: nothing is corrected.
        let (input, _) = Move::new(direction, direction.to_angle().rem_euclid(std::f32::consts::TAU), false);
        input
    }
}

/// The random numbers of bot number `index`.
fn seeded(seed: u64, index: usize) -> SmallRng {
    // The golden ratio's bits spread neighbouring indices over the seeds.
    SmallRng::seed_from_u64(seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
