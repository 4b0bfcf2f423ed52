//! The others' names over their heads.

use bevy::prelude::*;
use meridian_client_net::OwnPlayer;
use meridian_game::{DisplayName, Identity};

use crate::app::AppSystems;
use crate::camera::OrbitCamera;
use crate::scene::{Drawn, colour_of};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::ui::theme;

/// Farther names are not drawn, in metres.
const FAR_M: f32 = 45.0;
/// Height over the centre of a player, in metres.
const ABOVE_M: f32 = 1.25;
/// Width that a name has room in, in logical pixels.
const WIDTH: f32 = 240.0;
const LETTERS: f32 = 14.0;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, (add, remove, place).chain().in_set(AppSystems::Overlay));
}

/// The name of a player.
#[derive(Component)]
struct NameTag {
    of: Entity,
}

/// A player whose name is drawn.
#[derive(Component)]
struct Named;

fn add(
    new: Query<(Entity, &Drawn, &DisplayName, &Identity), (Without<Named>, Without<OwnPlayer>)>,
    mut commands: Commands,
) {
    for (player, drawn, name, identity) in &new {
        if *drawn != Drawn::Player {
            continue;
        }
        commands.entity(player).insert(Named);
        commands.spawn((
            NameTag { of: player },
            Name::new("name tag"),
            Node {
                position_type: PositionType::Absolute,
                width: px(WIDTH),
                justify_content: JustifyContent::Center,
                ..default()
            },
            Visibility::Hidden,
            GlobalZIndex(-1),
            Pickable::IGNORE,
            children![(
                Text::new(name.0.clone()),
                theme::font(LETTERS),
                TextColor(Color::WHITE.mix(&colour_of(identity), 0.35)),
                theme::SHADOW,
                TextLayout::no_wrap(),
                Pickable::IGNORE,
            )],
        ));
    }
}

fn remove(tags: Query<(Entity, &NameTag)>, named: Query<(), With<Named>>, mut commands: Commands) {
    for (entity, tag) in &tags {
        if !named.contains(tag.of) {
            commands.entity(entity).despawn();
        }
    }
}

fn place(
    screen: Res<State<Screen>>,
    settings: Res<Settings>,
    scale: Res<UiScale>,
    camera: Query<(&Camera, &Transform), With<OrbitCamera>>,
    players: Query<&Transform, With<Named>>,
    mut tags: Query<(&NameTag, &mut Node, &mut Visibility)>,
) {
    let Ok((camera, eye)) = camera.single() else { return };
    // Neither has a parent; what is propagated is of the frame before.
    let eye_global = GlobalTransform::from(*eye);
    let shown = settings.name_tags && *screen.get() == Screen::World;
    for (tag, mut node, mut visibility) in &mut tags {
        let above = players
            .get(tag.of)
            .ok()
            .map(|player| player.translation + Vec3::Y * ABOVE_M);
        let place = above
            .filter(|above| shown && above.distance_squared(eye.translation) < FAR_M * FAR_M)
            .and_then(|above| camera.world_to_viewport(&eye_global, above).ok());
        let Some(place) = place else {
            visibility.set_if_neq(Visibility::Hidden);
            continue;
        };
        visibility.set_if_neq(Visibility::Inherited);
        let place = place / scale.0;
        let (left, top) = (px(place.x - WIDTH / 2.0), px(place.y - LETTERS));
        if node.left != left || node.top != top {
            (node.left, node.top) = (left, top);
        }
    }
}
