//! F3: the figures of the network and of the frames, with small graphs; and warnings, which show by themselves when something is poor.

mod graph;
mod lines;
mod timing;
mod warnings;

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::common_conditions::on_timer;
use meridian_client_net::{Connector, NetworkHealth, OwnPlayer};
use meridian_game::{Pose, WorldDefinition};

pub use timing::{FrameTimes, Times};
pub use warnings::Warnings;

use crate::app::AppSystems;
use crate::network_simulator::NetworkProfile;
use crate::screen::{Panels, Screen};
use crate::ui::theme::{self, Columns};
use crate::ui::widgets;
use graph::{Graph, GraphImage};
use lines::Facts;

/// Figures that change faster cannot be read.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<HudLines>();
    app.add_plugins((timing::plugin, graph::plugin, warnings::plugin));
    app.add_systems(
        Update,
        (
            tell.run_if(on_timer(REFRESH_EVERY)),
            show.run_if(resource_changed::<Panels>.or_eager(state_changed::<Screen>)),
            write,
        )
            .chain()
            .in_set(AppSystems::Overlay),
    );
}

/// The figures as they are written, for people and for the report.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct HudLines(pub Vec<String>);

#[derive(Component)]
struct Hud;

#[derive(Component)]
struct HudText;

fn tell(
    health: Res<NetworkHealth>,
    connector: Res<Connector>,
    world: Option<Res<WorldDefinition>>,
    profile: Res<NetworkProfile>,
    frames: Res<FrameTimes>,
    own: Query<&Pose, With<OwnPlayer>>,
    mut lines: ResMut<HudLines>,
) {
    let zone = connector.owner_zone.zip(world.as_deref());
    let facts = Facts {
        health: &health,
        zone: zone.map(|(owner, world)| world.zone_name(owner.zone).to_owned()),
        zone_changes: connector.owner_changes,
        position: own.single().ok().map(|pose| pose.position),
        frame: frames.frame.summary(),
        tick: frames.tick.summary(),
        network: profile.name(),
    };
    let told = facts.lines();
    if lines.0 != told {
        lines.0 = told;
    }
}

fn show(
    screen: Res<State<Screen>>,
    panels: Res<Panels>,
    columns: Res<Columns>,
    lines: Res<HudLines>,
    graphs: Res<GraphImage>,
    shown: Query<Entity, With<Hud>>,
    mut commands: Commands,
) {
    let wanted = panels.hud && *screen.get() == Screen::World;
    if wanted != shown.is_empty() {
        return;
    }
    if !wanted {
        shown.iter().for_each(|hud| commands.entity(hud).despawn());
        return;
    }
    let mut panel = commands.spawn((
        Hud,
        Name::new("hud"),
        widgets::panel(Node {
            position_type: PositionType::Absolute,
            left: px(16),
            top: px(16),
            padding: px(12).all(),
            row_gap: px(6),
            flex_direction: FlexDirection::Column,
            ..default()
        }),
        Pickable::IGNORE,
    ));
    panel.with_children(|panel| {
        panel.spawn((
            HudText,
            Text::new(lines.0.join("\n")),
            TextFont {
                font: columns.0.clone().into(),
                ..theme::font(13.0)
            },
            TextColor(theme::TEXT),
            TextLayout::no_wrap(),
            Pickable::IGNORE,
        ));
        for graph in Graph::ALL {
            panel.spawn(widgets::label(graph.title(), 11.0, theme::MUTED));
            panel.spawn((
                ImageNode::new(graphs.of(graph)),
                Node {
                    width: px(graph::WIDTH as f32),
                    height: px(graph::HEIGHT as f32),
                    ..default()
                },
                Pickable::IGNORE,
            ));
        }
    });
}

fn write(lines: Res<HudLines>, mut text: Query<&mut Text, With<HudText>>) {
    if let Ok(mut text) = text.single_mut()
        && lines.is_changed()
    {
        text.0 = lines.0.join("\n");
    }
}
