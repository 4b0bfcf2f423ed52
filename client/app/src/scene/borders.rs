//! The borders of zones: a thin line on the ground, which can be switched off.

use bevy::light::NotShadowCaster;
use bevy::prelude::*;
use meridian_game::WorldDefinition;
use meridian_ids::Rectangle;

use crate::settings::Settings;

/// Width and height of the line, in metres.
const LINE_M: f32 = 0.06;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(
        Update,
        draw.run_if(resource_exists::<WorldDefinition>)
            .run_if(resource_exists_and_changed::<WorldDefinition>.or_eager(resource_changed::<Settings>)),
    );
}

#[derive(Component)]
struct Border;

fn draw(
    world: Res<WorldDefinition>,
    settings: Res<Settings>,
    before: Query<Entity, With<Border>>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    mut commands: Commands,
) {
    let wanted = settings.borders;
    if !world.is_changed() && before.is_empty() != wanted {
        return;
    }
    before.iter().for_each(|border| commands.entity(border).despawn());
    if !wanted {
        return;
    }
    let material = materials.add(StandardMaterial {
        base_color: Color::srgb(0.98, 0.80, 0.36),
        unlit: true,
        ..default()
    });
    let areas: Vec<Rectangle> = world
        .zones
        .iter()
        .map(|zone| Rectangle {
            min: zone.min,
            max: zone.max,
        })
        .collect();
    for (from, to) in shared_edges(&areas) {
        let size = (to - from).abs() + Vec2::splat(LINE_M);
        let middle = (from + to) * 0.5;
        commands.spawn((
            Border,
            Name::new("border"),
            Mesh3d(meshes.add(Cuboid::new(size.x, LINE_M, size.y))),
            MeshMaterial3d(material.clone()),
            Transform::from_xyz(middle.x, 0.0, middle.y),
            NotShadowCaster,
        ));
    }
}

/// The lines, in x-z, along which two areas touch, each once.
fn shared_edges(areas: &[Rectangle]) -> Vec<(Vec2, Vec2)> {
    let mut edges = Vec::new();
    for (index, one) in areas.iter().enumerate() {
        for other in &areas[index + 1..] {
            for (axis, along) in [(0, 1), (1, 0)] {
                let line = if one.max[axis] == other.min[axis] {
                    one.max[axis]
                } else if other.max[axis] == one.min[axis] {
                    other.max[axis]
                } else {
                    continue;
                };
                let from = one.min[along].max(other.min[along]);
                let to = one.max[along].min(other.max[along]);
                if from < to {
                    let point = |at: f32| {
                        if axis == 0 {
                            Vec2::new(line, at)
                        } else {
                            Vec2::new(at, line)
                        }
                    };
                    edges.push((point(from), point(to)));
                }
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(min: [f32; 2], max: [f32; 2]) -> Rectangle {
        Rectangle { min, max }
    }

    #[test]
    fn four_zones_share_four_edges_and_a_corner_is_none() {
        let areas = [
            area([-8.0, -8.0], [0.0, 0.0]),
            area([0.0, -8.0], [8.0, 0.0]),
            area([-8.0, 0.0], [0.0, 8.0]),
            area([0.0, 0.0], [8.0, 8.0]),
        ];
        let edges = shared_edges(&areas);
        assert_eq!(edges.len(), 4);
        assert!(edges.contains(&(Vec2::new(0.0, -8.0), Vec2::ZERO)));
        assert!(edges.contains(&(Vec2::ZERO, Vec2::new(8.0, 0.0))));
        assert!(shared_edges(&areas[..1]).is_empty());
    }

    #[test]
    fn unequal_neighbours_share_what_they_share() {
        let areas = [area([0.0, 0.0], [4.0, 10.0]), area([4.0, 2.0], [8.0, 20.0])];
        assert_eq!(shared_edges(&areas), [(Vec2::new(4.0, 2.0), Vec2::new(4.0, 10.0))]);
    }
}
