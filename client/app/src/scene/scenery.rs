//! The boxes that never move, as the session's world has them.

use bevy::asset::RenderAssetUsages;
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;
use meridian_game::WorldDefinition;

use super::textures::Textures;

/// Metres that a texture covers.
const GROUND_TILE_M: f32 = 4.0;
const WALL_TILE_M: f32 = 2.0;
/// A box that is so much wider than high is ground.
const GROUND_FLATNESS: f32 = 8.0;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, draw.run_if(resource_exists_and_changed::<WorldDefinition>));
}

#[derive(Component)]
struct DrawnScenery;

fn draw(
    world: Res<WorldDefinition>,
    textures: Res<Textures>,
    before: Query<Entity, With<DrawnScenery>>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    mut commands: Commands,
) {
    before.iter().for_each(|entity| commands.entity(entity).despawn());
    let mut material = |texture: &Option<Handle<Image>>, plain: Color, roughness: f32| {
        materials.add(StandardMaterial {
            base_color: if texture.is_some() { Color::WHITE } else { plain },
            base_color_texture: texture.clone(),
            perceptual_roughness: roughness,
            reflectance: 0.2,
            ..default()
        })
    };
    let ground = material(&textures.ground, Color::srgb(0.6, 0.62, 0.6), 0.95);
    let wall = material(&textures.wall, Color::srgb(0.7, 0.64, 0.56), 0.9);
    for scenery in &world.scenery {
        let size = Vec3::from_array(scenery.size);
        let is_ground = size.x.min(size.z) > size.y * GROUND_FLATNESS;
        let (material, tile_m) = if is_ground {
            (&ground, GROUND_TILE_M)
        } else {
            (&wall, WALL_TILE_M)
        };
        commands.spawn((
            DrawnScenery,
            Name::new(scenery.name.clone()),
            Mesh3d(meshes.add(tiled_box(size, tile_m))),
            MeshMaterial3d(material.clone()),
            Transform::from_translation(Vec3::from_array(scenery.centre)).with_rotation(scenery.rotation()),
        ));
    }
}

/// A box whose texture repeats every `tile_m` metres on each face.
fn tiled_box(size: Vec3, tile_m: f32) -> Mesh {
    let half = size * 0.5;
    let (mut positions, mut normals, mut uvs, mut indices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for normal in [Vec3::X, Vec3::NEG_X, Vec3::Y, Vec3::NEG_Y, Vec3::Z, Vec3::NEG_Z] {
        // Along the face: upright ones have their texture upright.
        let up = if normal.y == 0.0 { Vec3::Y } else { Vec3::NEG_Z };
        let right = up.cross(normal);
        let (wide, high) = ((right * half).length(), (up * half).length());
        let first = positions.len() as u32;
        for (u, v) in [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)] {
            positions.push((normal * half + right * u * wide + up * v * high).to_array());
            normals.push(normal.to_array());
            uvs.push([(u + 1.0) * wide / tile_m, (1.0 - v) * high / tile_m]);
        }
        indices.extend([first, first + 1, first + 2, first, first + 2, first + 3]);
    }
    Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::RENDER_WORLD)
        .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, positions)
        .with_inserted_attribute(Mesh::ATTRIBUTE_NORMAL, normals)
        .with_inserted_attribute(Mesh::ATTRIBUTE_UV_0, uvs)
        .with_inserted_indices(Indices::U32(indices))
}

#[cfg(test)]
mod tests {
    use bevy::mesh::VertexAttributeValues;

    use super::*;

    #[test]
    fn every_corner_is_on_the_box_and_every_face_looks_out() {
        let size = Vec3::new(2.0, 4.0, 6.0);
        let mesh = tiled_box(size, 2.0);
        let Some(VertexAttributeValues::Float32x3(positions)) = mesh.attribute(Mesh::ATTRIBUTE_POSITION) else {
            panic!("no positions");
        };
        assert_eq!(positions.len(), 24);
        assert!(
            positions
                .iter()
                .all(|corner| Vec3::from_array(*corner).abs() == size * 0.5)
        );
        let indices: Vec<usize> = mesh.indices().unwrap().iter().collect();
        for triangle in indices.chunks(3) {
            let [a, b, c] = [0, 1, 2].map(|corner| Vec3::from_array(positions[triangle[corner]]));
            let outward = (b - a).cross(c - a);
            assert!(outward.dot(a + b + c) > 0.0, "{a} {b} {c} looks inwards");
        }
        let Some(VertexAttributeValues::Float32x2(uvs)) = mesh.attribute(Mesh::ATTRIBUTE_UV_0) else {
            panic!("no texture coordinates");
        };
        let largest = uvs.iter().flatten().copied().fold(0.0, f32::max);
        assert_eq!(largest, 3.0, "six metres are three tiles");
    }
}
