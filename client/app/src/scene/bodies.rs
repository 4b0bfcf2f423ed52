//! Players and crates: drawn where `client/net` shows them.

use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use meridian_client_net::{FrozenCopy, ShownPose};
use meridian_game::movement::{CAPSULE_HALF_SEGMENT_M, CAPSULE_RADIUS_M};
use meridian_game::{Body, BodyKind, Frozen, Identity};

use super::textures::Textures;
use crate::app::AppSystems;

/// How grey a player is who stands still because its zone or the gateway is away; 1 has no colour left.
const STILL_GREY: f32 = 0.6;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Shapes>();
    app.add_systems(Update, (dress, grey, place).chain().in_set(AppSystems::Place));
}

/// Something that moves and is drawn.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// A player.
    Player,
    /// A crate.
    Crate,
}

/// Meshes and materials that many share.
#[derive(Resource, Default)]
struct Shapes {
    capsule: Handle<Mesh>,
    visor: Handle<Mesh>,
    visor_material: Handle<StandardMaterial>,
    crate_material: Handle<StandardMaterial>,
    crates: HashMap<[u32; 3], Handle<Mesh>>,
    made: bool,
}

/// A player's colour: the same for everybody who sees it, and far from the next player's.
pub fn colour_of(identity: &Identity) -> Color {
    // Steps of the golden angle round the circle of hues never come near each other soon, and the ids of a server are random anyway.
    let number = identity.player.map_or(identity.entity.0, |player| player.0);
    let turns = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let hue = turns as f32 / (1 << 24) as f32 * 360.0;
    Color::hsl(hue, 0.62, 0.56)
}

impl Shapes {
    fn make(
        &mut self,
        meshes: &mut Assets<Mesh>,
        materials: &mut Assets<StandardMaterial>,
        texture: Option<Handle<Image>>,
    ) {
        if std::mem::replace(&mut self.made, true) {
            return;
        }
        self.capsule = meshes.add(Capsule3d::new(CAPSULE_RADIUS_M, 2.0 * CAPSULE_HALF_SEGMENT_M));
        self.visor = meshes.add(Cuboid::new(0.46, 0.16, 0.22));
        self.visor_material = materials.add(StandardMaterial {
            base_color: Color::srgb(0.06, 0.08, 0.11),
            perceptual_roughness: 0.25,
            ..default()
        });
        self.crate_material = materials.add(StandardMaterial {
            base_color: if texture.is_some() {
                Color::WHITE
            } else {
                Color::srgb(0.7, 0.5, 0.3)
            },
            base_color_texture: texture,
            perceptual_roughness: 0.85,
            reflectance: 0.2,
            ..default()
        });
    }
}

/// Whoever is new gets a body to be seen.
fn dress(
    textures: Res<Textures>,
    new: Query<(Entity, &Identity, &Body, &ShownPose), Without<Drawn>>,
    mut shapes: ResMut<Shapes>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    mut commands: Commands,
) {
    if new.is_empty() {
        return;
    }
    shapes.make(&mut meshes, &mut materials, textures.crate_.clone());
    for (entity, identity, body, pose) in &new {
        let placed = (transform(pose), Visibility::default());
        match body.kind {
            BodyKind::Player => {
                let material = materials.add(StandardMaterial {
                    base_color: colour_of(identity),
                    perceptual_roughness: 0.55,
                    ..default()
                });
                commands
                    .entity(entity)
                    .insert((
                        Drawn::Player,
                        placed,
                        Mesh3d(shapes.capsule.clone()),
                        MeshMaterial3d(material),
                    ))
                    .with_child((
                        Mesh3d(shapes.visor.clone()),
                        MeshMaterial3d(shapes.visor_material.clone()),
                        // At the eyes, where the player looks.
                        Transform::from_xyz(0.0, 0.52, -0.30),
                    ));
            }
            BodyKind::Crate { half_extents } => {
                let key = half_extents.to_array().map(f32::to_bits);
                let mesh = shapes
                    .crates
                    .entry(key)
                    .or_insert_with(|| meshes.add(Cuboid::from_size(half_extents * 2.0)))
                    .clone();
                let material = MeshMaterial3d(shapes.crate_material.clone());
                commands
                    .entity(entity)
                    .insert((Drawn::Crate, placed, Mesh3d(mesh), material));
            }
        }
    }
}

/// Players who stand still for the network's sake lose some of their colour, and get it back. Crates share theirs, and stand still anyway.
fn grey(
    stills: Query<Entity, Added<Frozen>>,
    new: Query<Entity, (Added<Drawn>, Or<(With<Frozen>, With<FrozenCopy>)>)>,
    mut thawed: RemovedComponents<Frozen>,
    players: Query<(
        &Drawn,
        &Identity,
        Has<Frozen>,
        Has<FrozenCopy>,
        &MeshMaterial3d<StandardMaterial>,
    )>,
    mut materials: ResMut<Assets<StandardMaterial>>,
) {
    for changed in stills.iter().chain(new.iter()).chain(thawed.read()) {
        let Ok((drawn, identity, is_frozen, is_copy, material)) = players.get(changed) else {
            continue;
        };
        if *drawn != Drawn::Player {
            continue;
        }
        let colour = colour_of(identity);
        if let Some(mut material) = materials.get_mut(&material.0) {
            material.base_color = if is_frozen || is_copy {
                colour.mix(&Color::srgb(0.5, 0.5, 0.5), STILL_GREY)
            } else {
                colour
            };
        }
    }
}

fn transform(pose: &ShownPose) -> Transform {
    Transform::from_translation(pose.position).with_rotation(pose.rotation)
}

fn place(mut bodies: Query<(&ShownPose, &mut Transform), (With<Drawn>, Changed<ShownPose>)>) {
    for (pose, mut placed) in &mut bodies {
        *placed = transform(pose);
    }
}

#[cfg(test)]
mod tests {
    use meridian_ids::{PlayerId, WorldEntityId};

    use super::*;

    #[test]
    fn the_random_ids_of_a_server_have_all_colours() {
        let hues: Vec<f32> = (0..64_u64)
            .map(|seed| {
                let identity = Identity {
                    entity: WorldEntityId(7),
                    player: Some(PlayerId(
                        seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0xfeed_beef_0000_0000,
                    )),
                };
                Hsla::from(colour_of(&identity)).hue
            })
            .collect();
        for from in [0.0, 90.0, 180.0, 270.0] {
            assert!(hues.iter().any(|hue| (from..from + 90.0).contains(hue)), "{hues:?}");
        }
    }

    #[test]
    fn the_players_of_a_group_are_told_apart_by_colour() {
        let hues: Vec<f32> = (1..=12)
            .map(|player| {
                let identity = Identity {
                    entity: WorldEntityId(7),
                    player: Some(PlayerId(player)),
                };
                Hsla::from(colour_of(&identity)).hue
            })
            .collect();
        for (index, one) in hues.iter().enumerate() {
            for other in &hues[index + 1..] {
                let apart = (one - other).abs();
                assert!(apart.min(360.0 - apart) > 15.0, "{hues:?}");
            }
        }
    }
}
