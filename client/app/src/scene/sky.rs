//! Sky, sun and the light that comes from everywhere.

use bevy::asset::RenderAssetUsages;
use bevy::light::{CascadeShadowConfigBuilder, GlobalAmbientLight, NotShadowCaster, NotShadowReceiver};
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;

use crate::app::AppSystems;
use crate::camera::OrbitCamera;

/// The colour of the sky where it meets the ground, and of what is far away.
pub const HORIZON: Color = Color::srgb(0.74, 0.83, 0.90);
const ZENITH: Color = Color::srgb(0.22, 0.44, 0.74);
const BELOW: Color = Color::srgb(0.47, 0.52, 0.56);
/// Radius of the dome, in metres: inside of what the camera sees.
const DOME_M: f32 = 400.0;
/// From the sun, in the world's axes.
const SUNLIGHT: Vec3 = Vec3::new(-0.45, -0.8, -0.4);

pub(super) fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(HORIZON));
    app.insert_resource(GlobalAmbientLight {
        color: Color::srgb(0.78, 0.87, 1.0),
        brightness: 420.0,
        ..default()
    });
    app.add_systems(Startup, spawn);
    app.add_systems(Update, follow_camera.after(AppSystems::Camera));
}

/// The light of the sun.
#[derive(Component)]
pub struct Sun;

#[derive(Component)]
struct Dome;

fn spawn(mut meshes: ResMut<Assets<Mesh>>, mut materials: ResMut<Assets<StandardMaterial>>, mut commands: Commands) {
    commands.spawn((
        Sun,
        Name::new("sun"),
        DirectionalLight {
            color: Color::srgb(1.0, 0.96, 0.88),
            illuminance: 9_000.0,
            shadow_maps_enabled: false,
            ..default()
        },
        CascadeShadowConfigBuilder::default().build(),
        Transform::default().looking_to(SUNLIGHT, Vec3::Y),
    ));
    commands.spawn((
        Dome,
        Name::new("sky"),
        Mesh3d(meshes.add(dome())),
        MeshMaterial3d(materials.add(StandardMaterial {
            unlit: true,
            fog_enabled: false,
            cull_mode: None,
            ..default()
        })),
        NotShadowCaster,
        NotShadowReceiver,
    ));
}

/// A ball whose colour goes from the horizon to the zenith.
fn dome() -> Mesh {
    const RINGS: u32 = 24;
    const SECTORS: u32 = 24;
    let (mut positions, mut colours, mut indices) = (Vec::new(), Vec::new(), Vec::new());
    for ring in 0..=RINGS {
        // Finer where the colour changes fast: near the horizon.
        let share = ring as f32 / RINGS as f32 * 2.0 - 1.0;
        let height = share.signum() * share.abs().powf(1.7);
        let around = (1.0 - height * height).max(0.0).sqrt();
        let colour = if height >= 0.0 {
            HORIZON.mix(&ZENITH, height.powf(0.55))
        } else {
            HORIZON.mix(&BELOW, (-height * 6.0).min(1.0))
        };
        for sector in 0..=SECTORS {
            let angle = sector as f32 / SECTORS as f32 * std::f32::consts::TAU;
            positions.push([
                angle.cos() * around * DOME_M,
                height * DOME_M,
                angle.sin() * around * DOME_M,
            ]);
            colours.push(colour.to_linear().to_f32_array());
        }
    }
    for ring in 0..RINGS {
        for sector in 0..SECTORS {
            let first = ring * (SECTORS + 1) + sector;
            let above = first + SECTORS + 1;
            indices.extend([first, above, first + 1, first + 1, above, above + 1]);
        }
    }
    Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::RENDER_WORLD)
        .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, positions)
        .with_inserted_attribute(Mesh::ATTRIBUTE_COLOR, colours)
        .with_inserted_indices(Indices::U32(indices))
}

/// Nobody comes nearer to the sky.
fn follow_camera(
    camera: Query<&Transform, (With<OrbitCamera>, Without<Dome>)>,
    mut dome: Query<&mut Transform, With<Dome>>,
) {
    if let (Ok(camera), Ok(mut dome)) = (camera.single(), dome.single_mut()) {
        dome.translation = camera.translation;
    }
}
