//! The components every Meridian world has.

use bevy::ecs::component::Component;
use bevy::math::{Quat, Vec3};
use meridian_ids::{PlayerId, WorldEntityId};

use crate::component::{WireComponent, WireError, WireReader};
use crate::quantise::{
    GridPosition, rotation_from_bits, rotation_to_bits, snap_position, snap_velocity, velocity_from_grid,
    velocity_to_grid, yaw_from_byte, yaw_to_byte,
};

/// Bytes a display name may have.
pub const DISPLAY_NAME_BYTES_MAX: usize = 96;

/// Which entity of the world this is, in every process, and whose player it is, if anyone's. 16 bytes, sent once.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The entity's id.
    pub entity: WorldEntityId,
    /// The player it belongs to.
    pub player: Option<PlayerId>,
}

/// Where an entity stands and where it looks: metres, and radians about the vertical. 9 bytes.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    /// Centre of the entity, on the wire's grid, in metres.
    pub position: Vec3,
    /// Heading in radians, 0 to 2 pi.
    pub yaw: f32,
}

/// The full orientation of an entity that tumbles. 4 bytes.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct Orientation(pub Quat);

/// What an entity is made of. Sent once.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct Body {
    /// Its kind, and what a client needs to draw it and collide with it.
    pub kind: BodyKind,
}

/// Kinds of bodies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BodyKind {
    /// A player's capsule, of the size in [`crate::movement`].
    Player,
    /// A crate that can be pushed; half of its edge lengths, in metres.
    Crate {
        /// Half of the edge lengths, in metres.
        half_extents: Vec3,
    },
}

/// What others call the entity; at most [`DISPLAY_NAME_BYTES_MAX`] bytes of UTF-8.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct DisplayName(pub String);

/// The entities that this one is tied to, by links that keep their distance. What is tied together changes its zone together.
#[derive(Component, Clone, Debug, Default, PartialEq)]
pub struct Tied {
    /// Ids of the others, at most [`TIES_MAX`]; each of them names this one.
    pub to: Vec<WorldEntityId>,
    /// Length of the links from centre to centre, in metres.
    pub length_m: f32,
}

/// Entities that one may be tied to.
pub const TIES_MAX: usize = 8;

/// The entity stands still because its zone is away: it is where it was last told to be, and goes on when the zone is back. Gateways say it
/// of what they mirror; no zone ever has it. No bytes beside that it is there.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frozen;

/// Sequence number of the last stamped action that the zone applied to the entity; who sees it change measures latency.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeEcho {
    /// The stamp; 0 before the first.
    pub sequence: u32,
}

/// The movement step's whole state after one tick, and how early the inputs came. Only its owner receives it. 20 bytes.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnerState {
    /// Low 16 bits of the zone tick that this is the state after.
    pub tick: u16,
    /// Centre of the capsule, on the wire's grid, in metres.
    pub position: Vec3,
    /// Velocity on the wire's grid, in metres per second.
    pub velocity: Vec3,
    /// Heading in radians.
    pub yaw: f32,
    /// Whether the player stood on something.
    pub grounded: bool,
    /// Whether the tick had an input of its own (otherwise the walk of the last one was repeated).
    pub input_applied: bool,
    /// How early the input came before its use, in 1/64 ms; negative for a late one. See [`OwnerState::slack_ms`].
    pub slack: i16,
}

/// Units of [`OwnerState::slack`] in a millisecond.
const SLACK_PER_MS: f32 = 64.0;
const FLAG_GROUNDED: u8 = 1;
const FLAG_INPUT_APPLIED: u8 = 2;

impl OwnerState {
    /// How early the input came before its use, in milliseconds, clamped to the wire's +-511 ms.
    pub fn slack_ms(&self) -> f32 {
        f32::from(self.slack) / SLACK_PER_MS
    }

    /// The wire's form of a slack in milliseconds.
    pub fn slack_from_ms(slack_ms: f32) -> i16 {
        (slack_ms * SLACK_PER_MS).clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16
    }
}

fn grid_position(reader: &mut WireReader<'_>) -> Result<Vec3, WireError> {
    // Snapped once more: the bytes can say a little more than the range that is ever written.
    Ok(snap_position(GridPosition::from_bytes(reader.array()?).to_metres()))
}

impl WireComponent for Identity {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.entity.0.to_le_bytes());
        out.extend(self.player.map_or(0, |player| player.0).to_le_bytes());
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let entity = WorldEntityId(reader.u64()?);
        let player = Some(PlayerId(reader.u64()?)).filter(|player| player.0 != 0);
        Ok(Self { entity, player })
    }
}

impl WireComponent for Pose {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(GridPosition::from_metres(self.position).to_bytes());
        out.push(yaw_to_byte(self.yaw));
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            position: grid_position(reader)?,
            yaw: yaw_from_byte(reader.u8()?),
        })
    }
}

impl WireComponent for Orientation {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(rotation_to_bits(self.0).to_le_bytes());
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        Ok(Self(rotation_from_bits(reader.u32()?)))
    }
}

impl WireComponent for Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match self.kind {
            BodyKind::Player => out.push(0),
            BodyKind::Crate { half_extents } => {
                out.push(1);
                out.extend(GridPosition::from_metres(half_extents).to_bytes());
            }
        }
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let kind = match reader.u8()? {
            0 => BodyKind::Player,
            1 => BodyKind::Crate {
                half_extents: grid_position(reader)?,
            },
            _ => return Err(WireError::Invalid("body kind")),
        };
        Ok(Self { kind })
    }
}

impl WireComponent for DisplayName {
    fn encode(&self, out: &mut Vec<u8>) {
        let end = self.0.floor_char_boundary(DISPLAY_NAME_BYTES_MAX);
        out.push(end as u8);
        out.extend(&self.0.as_bytes()[..end]);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let length = usize::from(reader.u8()?);
        if length > DISPLAY_NAME_BYTES_MAX {
            return Err(WireError::Invalid("display name length"));
        }
        let bytes = reader.slice(length)?;
        let name = std::str::from_utf8(bytes).map_err(|_| WireError::Invalid("display name encoding"))?;
        Ok(Self(name.to_owned()))
    }
}

impl WireComponent for Tied {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.length_m.to_le_bytes());
        out.push(self.to.len().min(TIES_MAX) as u8);
        let ids = self.to.iter().take(TIES_MAX);
        ids.for_each(|id| out.extend(id.0.to_le_bytes()));
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let length_m = reader.f32()?;
        let count = usize::from(reader.u8()?);
        if count > TIES_MAX {
            return Err(WireError::Invalid("number of ties"));
        }
        let to = (0..count).map(|_| reader.u64().map(WorldEntityId));
        Ok(Self {
            to: to.collect::<Result<_, _>>()?,
            length_m,
        })
    }
}

impl WireComponent for Frozen {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        Ok(Self)
    }
}

impl WireComponent for ProbeEcho {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.sequence.to_le_bytes());
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            sequence: reader.u32()?,
        })
    }
}

impl WireComponent for OwnerState {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.tick.to_le_bytes());
        out.extend(GridPosition::from_metres(self.position).to_bytes());
        velocity_to_grid(self.velocity)
            .iter()
            .for_each(|axis| out.extend(axis.to_le_bytes()));
        out.push(yaw_to_byte(self.yaw));
        let grounded = if self.grounded { FLAG_GROUNDED } else { 0 };
        out.push(grounded | if self.input_applied { FLAG_INPUT_APPLIED } else { 0 });
        out.extend(self.slack.to_le_bytes());
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let tick = reader.u16()?;
        let position = grid_position(reader)?;
        let velocity = [reader.u16()? as i16, reader.u16()? as i16, reader.u16()? as i16];
        let yaw = yaw_from_byte(reader.u8()?);
        let flags = reader.u8()?;
        Ok(Self {
            tick,
            position,
            velocity: snap_velocity(velocity_from_grid(velocity)),
            yaw,
            grounded: flags & FLAG_GROUNDED != 0,
            input_applied: flags & FLAG_INPUT_APPLIED != 0,
            slack: reader.u16()? as i16,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(component: &impl WireComponent) -> Vec<u8> {
        let mut out = Vec::new();
        component.encode(&mut out);
        out
    }

    /// Decoding any bytes ends in a value that survives its own round trip, or in an error; it never panics.
    fn any_bytes_are_met<C: WireComponent + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(value) = C::decode(&mut WireReader::new(bytes)) {
            let encoded = bytes_of(&value);
            prop_assert_eq!(C::decode(&mut WireReader::new(&encoded)), Ok(value));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_bytes_break_a_component(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            any_bytes_are_met::<Identity>(&bytes)?;
            any_bytes_are_met::<Pose>(&bytes)?;
            any_bytes_are_met::<Body>(&bytes)?;
            any_bytes_are_met::<DisplayName>(&bytes)?;
            any_bytes_are_met::<ProbeEcho>(&bytes)?;
            any_bytes_are_met::<OwnerState>(&bytes)?;
        }
    }

    #[test]
    fn the_components_of_each_tick_are_as_small_as_documented() {
        assert_eq!(bytes_of(&Pose::default()).len(), 9);
        assert_eq!(bytes_of(&OwnerState::default()).len(), 20);
        assert_eq!(bytes_of(&Orientation::default()).len(), 4);
        assert_eq!(bytes_of(&Frozen).len(), 0);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = DisplayName("ä".repeat(100));
        let received = DisplayName::decode(&mut WireReader::new(&bytes_of(&name))).unwrap();
        assert_eq!(received.0, "ä".repeat(48));
    }

    #[test]
    fn slack_survives_the_wire() {
        for slack_ms in [-300.0, -1.0, 0.0, 1.0, 16.0, 500.0] {
            let state = OwnerState {
                slack: OwnerState::slack_from_ms(slack_ms),
                ..OwnerState::default()
            };
            assert!((state.slack_ms() - slack_ms).abs() < 0.02);
        }
    }
}
