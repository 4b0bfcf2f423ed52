//! What bots do about zones: who walks in which lane, who circles where zones meet, who pushes, who camps.

use anyhow::{bail, ensure};
use bevy::math::{Vec2, Vec3, Vec3Swizzles};
use meridian_game::WorldDefinition;
use meridian_ids::ZoneMap;

use crate::borders::Border;
use crate::ground::Ground;
use crate::lanes::Lane;
use crate::places::{MEETING_KEEP_OFF_M, camp_route, camps, meeting_point, meeting_route};
use crate::pushes::Push;
use crate::route::Route;
use crate::swing::{Swing, Turns};
use crate::{ScenarioKind, Walk, seeded};

/// Every how many bots of the scenario `border` circles where zones meet, and every how many pushes crates.
const SPECIAL_EVERY: usize = 8;
/// Which of so many circles, and which pushes.
const CIRCLES_AT: usize = 7;
const PUSHES_AT: usize = 3;
/// How far off pushers' ways lanes are, in metres.
const PUSH_KEEP_OFF_M: f32 = 2.0;
/// How often the narrow swing turns, in hertz.
const TURNS_HZ: f32 = 15.0;

/// The places of a scenario about zones.
#[derive(Clone, Debug)]
pub(crate) struct ZoneStage {
    kind: ScenarioKind,
    lanes: Vec<Lane>,
    meeting: Option<Vec2>,
    pushes: Vec<Push>,
    /// By zone.
    camps: Vec<Vec<Vec2>>,
    turn_ticks: u32,
}

impl ZoneStage {
    /// The places that so many bots need.
    pub(crate) fn new(kind: ScenarioKind, world: &WorldDefinition, bots: usize) -> anyhow::Result<Self> {
        let zones = world.zone_map();
        ensure!(
            zones.ids().len() > 1,
            "the world {:?} is a single zone: this scenario needs two at least; take roam or crowd",
            world.name
        );
        let turn_ticks = (world.tick_rate_hz.hz() as f32 / TURNS_HZ).round().max(1.0) as u32;
        let mut stage = Self {
            kind,
            lanes: Vec::new(),
            meeting: None,
            pushes: Vec::new(),
            camps: Vec::new(),
            turn_ticks,
        };
        let ground = Ground::new(world);
        if kind == ScenarioKind::Camp {
            stage.find_camps(world, &zones, &ground, bots)?;
        } else {
            stage.find_lanes(world, &zones, &ground, bots)?;
        }
        Ok(stage)
    }

    fn find_camps(
        &mut self,
        world: &WorldDefinition,
        zones: &ZoneMap,
        ground: &Ground,
        bots: usize,
    ) -> anyhow::Result<()> {
        let wanted = bots.div_ceil(zones.ids().len()).max(1);
        for zone in zones.ids() {
            let found = camps(zones, zone, ground, wanted);
            if found.is_empty() {
                bail!(
                    "no free ground for a camp in the middle of zone {}",
                    world.zone_name(zone)
                );
            }
            self.camps.push(found);
        }
        Ok(())
    }

    fn find_lanes(
        &mut self,
        world: &WorldDefinition,
        zones: &ZoneMap,
        ground: &Ground,
        bots: usize,
    ) -> anyhow::Result<()> {
        let spawn = Vec3::from_array(world.spawn.centre).xz();
        let borders = Border::near(zones, spawn);
        if self.kind == ScenarioKind::Border {
            self.meeting = meeting_point(zones, &borders, ground, spawn);
            let meeting = self.meeting;
            let is_taken = |point: Vec2| meeting.is_some_and(|meeting| meeting.distance(point) < MEETING_KEEP_OFF_M);
            self.pushes = Push::near(world, &borders, ground, bots.div_ceil(SPECIAL_EVERY), is_taken);
        }
        let is_taken = |lane: &Lane| {
            let at_meeting = self
                .meeting
                .is_some_and(|meeting| lane.distance_m(meeting) < MEETING_KEEP_OFF_M);
            let at_push = |push: &Push| push.passes(|point| lane.distance_m(point) < PUSH_KEEP_OFF_M);
            at_meeting || self.pushes.iter().any(at_push)
        };
        self.lanes = Lane::near(spawn, &borders, ground, bots, is_taken);
        let room = self.lanes.len();
        ensure!(room > 0, "no free ground for a lane across any border of zones");
        ensure!(
            self.kind != ScenarioKind::Crossing || room >= bots,
            "there is room for {room} lanes across the borders of zones, not for one of each of {bots} bots; take fewer bots"
        );
        Ok(())
    }

    /// What bot number `index` does.
    pub(crate) fn walk(&self, seed: u64, index: usize) -> Walk {
        let random = seeded(seed, index);
        let plan = match self.kind {
            ScenarioKind::Oscillate => {
                let lane = self.lanes[index % self.lanes.len()];
                let turns = if index.is_multiple_of(2) {
                    Turns::Every(self.turn_ticks)
                } else {
                    Turns::Beyond
                };
                return Walk::Swing(Box::new(Swing::new(lane.middle, lane.across, turns, random)));
            }
            ScenarioKind::Camp => {
                let camps = &self.camps[index % self.camps.len()];
                camp_route(camps[index / self.camps.len() % camps.len()])
            }
            ScenarioKind::Border => match self.role(index) {
                Role::Circle(centre) => meeting_route(centre, index / SPECIAL_EVERY),
                Role::Push(push) => push.route(),
                Role::Lane(number) => self.lane_route(number),
            },
            ScenarioKind::Crossing | ScenarioKind::Roam | ScenarioKind::Crowd => self.lane_route(index),
        };
        Walk::Route(Box::new(Route::new(plan, random)))
    }

    fn lane_route(&self, number: usize) -> crate::route::RoutePlan {
        self.lanes[number % self.lanes.len()].route(number)
    }

    /// What bot number `index` of the scenario `border` is.
    fn role(&self, index: usize) -> Role<'_> {
        let (turn, place) = (index / SPECIAL_EVERY, index % SPECIAL_EVERY);
        if let Some(centre) = self.meeting.filter(|_| place == CIRCLES_AT) {
            return Role::Circle(centre);
        }
        if let Some(push) = self.pushes.get(turn).filter(|_| place == PUSHES_AT) {
            return Role::Push(push);
        }
        let circles = if self.meeting.is_some() { turn } else { 0 };
        let pushes = (index + SPECIAL_EVERY - PUSHES_AT - 1) / SPECIAL_EVERY;
        Role::Lane(index - circles - pushes.min(self.pushes.len()))
    }
}

enum Role<'a> {
    Circle(Vec2),
    Push(&'a Push),
    Lane(usize),
}

#[cfg(test)]
mod tests;
