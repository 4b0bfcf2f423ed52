//! The player's input for one tick, and its sanitising at the edge of the system.

use bevy::ecs::entity::{EntityMapper, MapEntities};
use bevy::math::Vec2;
use bevy::reflect::Reflect;
use serde::{Deserialize, Serialize};

use crate::metric_definitions::INPUTS_SANITISED;
use crate::quantise::{yaw_from_byte, yaw_to_byte};

/// Length of a full-speed walk direction in wire units.
const DIRECTION_UNIT: f32 = 127.0;

/// What a player does in one tick: where to walk, whether to jump, where to look.
///
/// Held in wire units, so every value of the type is finite and the zone applies exactly what the client predicted.
/// `sequence` stamps an action whose latency is measured: it keeps its value until the next stamp, so that repeating
/// an unchanged input costs nothing on the wire. 0 means that nothing was stamped yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Reflect, Serialize, Deserialize)]
pub struct Move {
    direction: [i8; 2],
    facing: u8,
    buttons: u8,
    /// Number of the last stamped action, in the form of [`meridian_ids::probe_sequence`]; 0 for none.
    pub sequence: u32,
}

/// Whether a value had to be corrected on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sanitised {
    /// The value was already fit to use.
    Clean,
    /// The value was not finite, or longer than a unit vector, and was corrected.
    Corrected,
}

const BUTTON_JUMP: u8 = 1;
const BUTTONS_KNOWN: u8 = BUTTON_JUMP;

impl Move {
    /// An input from game units: a walk direction in x-z (longest length 1), a heading in radians and the jump button.
    ///
    /// What is not finite becomes 0 and what is too long is shortened; either is counted and told.
    pub fn new(direction: Vec2, facing_radians: f32, jump: bool) -> (Self, Sanitised) {
        let finite = direction.is_finite() && facing_radians.is_finite();
        let bounded = if direction.is_finite() {
            direction.clamp_length_max(1.0)
        } else {
            Vec2::ZERO
        };
        let corrected = !finite || direction.length_squared() > 1.0 + 1e-4;
        let wire = Self {
            // Truncated, so that a unit vector never becomes longer than one.
            direction: (bounded * DIRECTION_UNIT).to_array().map(|axis| axis as i8),
            facing: yaw_to_byte(facing_radians),
            buttons: if jump { BUTTON_JUMP } else { 0 },
            sequence: 0,
        };
        (wire, count(corrected))
    }

    /// The same input with an action stamp.
    pub fn with_sequence(self, sequence: u32) -> Self {
        Self { sequence, ..self }
    }

    /// The same input without its jump: what a zone repeats for a tick whose input did not arrive.
    pub fn repeated(self) -> Self {
        Self {
            buttons: self.buttons & !BUTTON_JUMP,
            ..self
        }
    }

    /// Corrects what a modified client may have put on the wire: a direction longer than one and unknown buttons.
    pub fn sanitise(self) -> (Self, Sanitised) {
        let [x, z] = self.direction.map(|axis| i32::from(axis.max(-127)));
        let too_long = x * x + z * z > (DIRECTION_UNIT * DIRECTION_UNIT) as i32;
        let corrected = too_long || self.direction.contains(&i8::MIN) || self.buttons & !BUTTONS_KNOWN != 0;
        let direction = if too_long {
            let bounded = Vec2::new(x as f32, z as f32).normalize_or_zero() * DIRECTION_UNIT;
            bounded.to_array().map(|axis| axis as i8)
        } else {
            [x as i8, z as i8]
        };
        (
            Self {
                direction,
                buttons: self.buttons & BUTTONS_KNOWN,
                ..self
            },
            count(corrected),
        )
    }

    /// Walk direction in x-z; its length is the fraction of full speed, at most 1 once sanitised.
    pub fn direction(&self) -> Vec2 {
        Vec2::from_array(self.direction.map(f32::from)) / DIRECTION_UNIT
    }

    /// Heading in radians, 0 to 2 pi.
    pub fn facing(&self) -> f32 {
        yaw_from_byte(self.facing)
    }

    /// Whether the jump button is held.
    pub fn jump(&self) -> bool {
        self.buttons & BUTTON_JUMP != 0
    }

    /// The input as the fabric carries it.
    pub fn pack(self) -> u64 {
        let [s0, s1, s2, s3] = self.sequence.to_le_bytes();
        let [x, z] = self.direction.map(|axis| axis as u8);
        u64::from_le_bytes([x, z, self.facing, self.buttons, s0, s1, s2, s3])
    }

    /// The inverse of [`Self::pack`]. The result is not sanitised.
    pub fn unpack(packed: u64) -> Self {
        let [x, z, facing, buttons, s0, s1, s2, s3] = packed.to_le_bytes();
        Self {
            direction: [x as i8, z as i8],
            facing,
            buttons,
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }
}

impl MapEntities for Move {
    fn map_entities<E: EntityMapper>(&mut self, _mapper: &mut E) {}
}

fn count(corrected: bool) -> Sanitised {
    if corrected {
        metrics::counter!(INPUTS_SANITISED).increment(1);
        Sanitised::Corrected
    } else {
        Sanitised::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_game_says_the_input_is_bounded(x: f32, z: f32, facing: f32, jump: bool) {
            let (input, told) = Move::new(Vec2::new(x, z), facing, jump);
            prop_assert!(input.direction().length() <= 1.0);
            prop_assert_eq!(input.jump(), jump);
            prop_assert_eq!(input.sanitise(), (input, Sanitised::Clean));
            if !(x.is_finite() && z.is_finite() && facing.is_finite()) {
                prop_assert_eq!(told, Sanitised::Corrected);
            }
        }

        #[test]
        fn whatever_the_wire_says_the_input_is_bounded(packed: u64) {
            let (input, _) = Move::unpack(packed).sanitise();
            prop_assert!(input.direction().length() <= 1.0 + 1e-6);
            prop_assert_eq!(input.sanitise(), (input, Sanitised::Clean));
            prop_assert_eq!(Move::unpack(input.pack()), input);
        }
    }

    #[test]
    fn an_over_long_vector_keeps_its_direction_and_is_told() {
        let (input, told) = Move::new(Vec2::new(30.0, 40.0), 0.0, false);
        assert_eq!(told, Sanitised::Corrected);
        assert!((input.direction() - Vec2::new(0.6, 0.8)).length() < 0.01);
    }

    #[test]
    fn a_repeated_input_walks_but_does_not_jump() {
        let (input, _) = Move::new(Vec2::X, 1.0, true);
        assert!(!input.repeated().jump());
        assert_eq!(input.repeated().direction(), input.direction());
    }
}
