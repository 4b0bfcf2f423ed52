//! A walk that turns back over a border as fast as can be, to find out whether that makes trouble.

use bevy::math::Vec2;
use rand::rngs::SmallRng;

use crate::route::{Route, RoutePlan};

/// How far beyond the line the wide swing turns back, in metres: more than the 0.5 m beyond which a player is handed over.
const WIDE_M: f32 = 0.6;
/// How far off the line the narrow swing may come before it turns sooner, in metres.
const NARROW_M: f32 = 0.05;
/// How near to its place on the line a bot begins, in metres.
const BEGINS_M: f32 = 0.5;
/// Who was pushed farther off than this, in metres, walks back first.
const LEFT_M: f32 = 4.0;

/// When a swing turns back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// Each time so many ticks have passed.
    Every(u32),
    /// As soon as the border is left behind by more than the hysteresis.
    Beyond,
}

/// Somebody who walks to a place on a border and swings across it.
#[derive(Clone, Debug)]
pub(crate) struct Swing {
    place: Vec2,
    across: Vec2,
    turns: Turns,
    way_there: Route,
    is_there: bool,
    towards: f32,
    ticks: u32,
    /// How far beside the line it turned last in this direction, and in the other one, in metres.
    turned_at: [f32; 2],
}

impl Swing {
    /// A swing at `place`; `across` is the unit vector over the border.
    pub(crate) fn new(place: Vec2, across: Vec2, turns: Turns, random: SmallRng) -> Self {
        let plan = RoutePlan {
            points: vec![place],
            first: 0,
            arrived_m: BEGINS_M,
            patience_ticks: u32::MAX,
        };
        Self {
            place,
            across,
            turns,
            way_there: Route::new(plan, random),
            is_there: false,
            towards: 1.0,
            ticks: 0,
            turned_at: [0.0; 2],
        }
    }

    /// The direction of the next tick, a unit vector.
    pub(crate) fn next(&mut self, here: Option<Vec2>) -> Vec2 {
        let off = here.map_or(Vec2::ZERO, |here| here - self.place);
        self.is_there = match off.length() {
            far if far > LEFT_M => false,
            near if near < BEGINS_M => here.is_some() || self.is_there,
            _ => self.is_there,
        };
        if !self.is_there {
            return self.way_there.next(here);
        }
        let beside = off.dot(self.across);
        match self.turns {
            Turns::Every(ticks) => self.turn_in_time(ticks, beside),
            Turns::Beyond => {
                if beside * self.towards > WIDE_M {
                    self.towards = -self.towards;
                }
            }
        }
        // Back to its own place along the border, gently.
        let along = self.across.perp();
        let back = along * -off.dot(along).clamp(-0.5, 0.5);
        (self.across * self.towards + back).normalize_or(self.across)
    }

    /// Turns after so many ticks; sooner, where the swing as a whole would leave the line: it keeps its average speed.
    fn turn_in_time(&mut self, ticks: u32, beside: f32) {
        self.ticks += 1;
        let drift = beside - self.turned_at[0];
        let leaves = (beside + drift) * self.towards > NARROW_M;
        let due = if leaves { ticks.div_ceil(2) } else { ticks };
        if self.ticks >= due {
            self.ticks = 0;
            self.towards = -self.towards;
            self.turned_at = [self.turned_at[1], beside];
        }
    }
}
