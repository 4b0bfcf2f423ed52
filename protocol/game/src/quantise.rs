//! The wire's fixed-point grids. The movement step ends by snapping to them on both sides, so what is sent is exact.

use bevy::math::{Quat, Vec3};

/// Grid lines per metre, for positions, and per metre per second, for velocities.
pub const GRID_PER_METRE: f32 = 256.0;
/// Largest horizontal distance from the world's origin that the wire can carry, in metres (24 bits).
pub const HORIZONTAL_MAX_M: f32 = 32_767.0;
/// Largest height above or below the origin that the wire can carry, in metres (16 bits).
pub const VERTICAL_MAX_M: f32 = 127.0;
/// Largest speed along one axis that the wire can carry, in metres per second (16 bits).
pub const SPEED_MAX_M_PER_S: f32 = 127.0;

/// A position on the wire: 24 bits for x and z, 16 for y, in 1/256 m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridPosition {
    /// Eastward, in grid units.
    pub x: i32,
    /// Upward, in grid units.
    pub y: i16,
    /// Southward, in grid units.
    pub z: i32,
}

/// Rounds `value` to the grid and clamps it to `limit`. Not a number becomes 0.
fn to_grid(value: f32, limit: f32) -> i32 {
    let value = if value.is_nan() {
        0.0
    } else {
        value.clamp(-limit, limit)
    };
    (value * GRID_PER_METRE).round() as i32
}

impl GridPosition {
    /// Bytes on the wire.
    pub const BYTES: usize = 8;

    /// The nearest grid point; what lies outside of the wire's range is clamped to it.
    pub fn from_metres(position: Vec3) -> Self {
        Self {
            x: to_grid(position.x, HORIZONTAL_MAX_M),
            y: to_grid(position.y, VERTICAL_MAX_M) as i16,
            z: to_grid(position.z, HORIZONTAL_MAX_M),
        }
    }

    /// The grid point in metres; exact, for 1/256 is a power of two.
    pub fn to_metres(self) -> Vec3 {
        Vec3::new(self.x as f32, f32::from(self.y), self.z as f32) / GRID_PER_METRE
    }

    /// Little-endian bytes: x (3), y (2), z (3).
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (x, y, z) = (self.x.to_le_bytes(), self.y.to_le_bytes(), self.z.to_le_bytes());
        [x[0], x[1], x[2], y[0], y[1], z[0], z[1], z[2]]
    }

    /// The inverse of [`Self::to_bytes`]; every byte string is a valid position.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let i24 = |low: u8, mid: u8, high: u8| i32::from_le_bytes([0, low, mid, high]) >> 8;
        Self {
            x: i24(bytes[0], bytes[1], bytes[2]),
            y: i16::from_le_bytes([bytes[3], bytes[4]]),
            z: i24(bytes[5], bytes[6], bytes[7]),
        }
    }
}

/// `position` moved to the nearest grid point, in metres.
pub fn snap_position(position: Vec3) -> Vec3 {
    GridPosition::from_metres(position).to_metres()
}

/// `velocity` in grid units per axis, in 1/256 m/s.
pub fn velocity_to_grid(velocity: Vec3) -> [i16; 3] {
    velocity.to_array().map(|axis| to_grid(axis, SPEED_MAX_M_PER_S) as i16)
}

/// The inverse of [`velocity_to_grid`], in metres per second.
pub fn velocity_from_grid(grid: [i16; 3]) -> Vec3 {
    Vec3::from_array(grid.map(|axis| f32::from(axis) / GRID_PER_METRE))
}

/// `velocity` moved to the nearest grid point, in metres per second.
pub fn snap_velocity(velocity: Vec3) -> Vec3 {
    velocity_from_grid(velocity_to_grid(velocity))
}

/// A heading in 1/256 turns.
pub fn yaw_to_byte(radians: f32) -> u8 {
    let turns = if radians.is_finite() {
        radians / std::f32::consts::TAU
    } else {
        0.0
    };
    // Wraps on purpose: a heading of 256/256 turns is one of 0.
    ((turns.rem_euclid(1.0) * 256.0).round() as i32 & 0xff) as u8
}

/// The inverse of [`yaw_to_byte`], in radians, 0 to 2 pi.
pub fn yaw_from_byte(byte: u8) -> f32 {
    f32::from(byte) / 256.0 * std::f32::consts::TAU
}

const SMALLEST_THREE_MAX: f32 = 511.0;

/// A unit quaternion in 32 bits: the index of its largest component (2 bits) and the other three (10 bits each).
pub fn rotation_to_bits(rotation: Quat) -> u32 {
    let rotation = if rotation.is_finite() && rotation.length_squared() > 1e-6 {
        rotation.normalize().to_array()
    } else {
        Quat::IDENTITY.to_array()
    };
    let largest = (0..4)
        .max_by(|&a, &b| rotation[a].abs().total_cmp(&rotation[b].abs()))
        .unwrap_or(3);
    let sign = if rotation[largest] < 0.0 { -1.0 } else { 1.0 };
    let mut bits = largest as u32;
    for (_, component) in rotation.iter().enumerate().filter(|(index, _)| *index != largest) {
        let scaled = (component * sign * std::f32::consts::SQRT_2 * SMALLEST_THREE_MAX).round();
        bits = (bits << 10) | ((scaled as i32 + 511).clamp(0, 1022) as u32);
    }
    bits
}

/// The inverse of [`rotation_to_bits`]; every value is a valid rotation.
pub fn rotation_from_bits(bits: u32) -> Quat {
    let largest = (bits >> 30) as usize;
    let mut components = [0.0; 4];
    let mut sum = 0.0;
    for (slot, index) in (0..4).filter(|index| *index != largest).enumerate() {
        let raw = ((bits >> (20 - 10 * slot)) & 0x3ff) as i32 - 511;
        let value = raw as f32 / SMALLEST_THREE_MAX / std::f32::consts::SQRT_2;
        components[index] = value;
        sum += value * value;
    }
    components[largest] = (1.0 - sum).max(0.0).sqrt();
    Quat::from_array(components).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three components are off by at most half a step, h = 1 / (2 * 511 * sqrt 2). The fourth follows from them and is
    /// off by at most their sum, 3 h, when all four are equal; a rotation turns by twice the distance, 2 sqrt(12) h.
    /// The rest is the rounding of f32.
    const ROTATION_ERROR_MAX_DEG: f64 = 0.2747 + 0.005;

    /// The angle between two rotations from the distance of the quaternions, in f64: the arc cosine of a dot product
    /// near 1 loses half of its digits.
    fn angle_degrees(a: Quat, b: Quat) -> f64 {
        let (a, b) = (a.as_dquat().normalize(), b.as_dquat().normalize());
        let distance = (a - b).length().min((a + b).length());
        4.0 * (distance / 2.0).asin().to_degrees()
    }

    #[test]
    fn the_worst_rotation_of_the_wire_keeps_its_bound() {
        // Every component is near 0.5, between two steps of the grid.
        let step = 1.0 / (SMALLEST_THREE_MAX * std::f32::consts::SQRT_2);
        let mut worst = 0.0f64;
        for offsets in 0..1000 {
            let [a, b, c] = [offsets % 10, offsets / 10 % 10, offsets / 100].map(|n| 0.5 - step * n as f32 / 10.0);
            let rotation = Quat::from_xyzw(a, b, c, (1.0 - a * a - b * b - c * c).sqrt()).normalize();
            worst = worst.max(angle_degrees(rotation_from_bits(rotation_to_bits(rotation)), rotation));
        }
        assert!((0.2..ROTATION_ERROR_MAX_DEG).contains(&worst), "{worst} degrees");
    }

    proptest! {
        #[test]
        fn a_position_survives_the_wire_within_half_a_grid_unit(
            x in -HORIZONTAL_MAX_M..HORIZONTAL_MAX_M,
            y in -VERTICAL_MAX_M..VERTICAL_MAX_M,
            z in -HORIZONTAL_MAX_M..HORIZONTAL_MAX_M,
        ) {
            let position = Vec3::new(x, y, z);
            let received = GridPosition::from_bytes(GridPosition::from_metres(position).to_bytes()).to_metres();
            // Half a grid unit, and the rounding of an f32 at 32 km.
            prop_assert!((received - position).abs().max_element() <= 0.5 / GRID_PER_METRE + 0.002);
            prop_assert_eq!(snap_position(received), received);
        }

        #[test]
        fn any_bytes_are_a_position(bytes: [u8; 8]) {
            let position = GridPosition::from_bytes(bytes);
            prop_assert_eq!(position.to_bytes(), bytes);
            prop_assert!(position.to_metres().is_finite());
        }

        #[test]
        fn a_rotation_survives_the_wire_within_its_bound(
            // One component apart from the rest, so that each is the largest in a quarter of the cases.
            parts in prop::array::uniform4(-1.0f32..1.0),
            one_in: prop::sample::Index,
            one in prop::sample::select(vec![-1.0f32, 1.0]),
        ) {
            let mut parts = parts;
            parts[one_in.index(4)] = one;
            let rotation = Quat::from_array(parts).normalize();
            let received = rotation_from_bits(rotation_to_bits(rotation));
            prop_assert!(angle_degrees(received, rotation) < ROTATION_ERROR_MAX_DEG);
        }

        #[test]
        fn any_bits_are_a_rotation(bits: u32) {
            prop_assert!(rotation_from_bits(bits).is_normalized());
        }

        #[test]
        fn a_heading_survives_the_wire_within_half_a_unit(radians in 0.0f32..std::f32::consts::TAU) {
            let error = (yaw_from_byte(yaw_to_byte(radians)) - radians).abs();
            prop_assert!(error.min(std::f32::consts::TAU - error) <= std::f32::consts::PI / 256.0 + 1e-4);
        }
    }

    #[test]
    fn what_is_not_a_number_is_carried_as_zero() {
        assert_eq!(snap_position(Vec3::NAN), Vec3::ZERO);
        assert_eq!(
            snap_velocity(Vec3::splat(f32::INFINITY)).max_element(),
            SPEED_MAX_M_PER_S
        );
        assert_eq!(yaw_to_byte(f32::NAN), 0);
        assert_eq!(
            rotation_from_bits(rotation_to_bits(Quat::from_xyzw(f32::NAN, 0.0, 0.0, 0.0))),
            Quat::IDENTITY
        );
    }
}
