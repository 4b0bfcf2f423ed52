//! The player's input, from whoever decides it to lightyear's input messages.

use bevy::app::{App, FixedPreUpdate, PostUpdate};
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Local, Query, Res, ResMut};
use bevy::time::{Real, Time};
use lightyear::prelude::LocalTimeline;
use lightyear::prelude::input::client::InputSystems;
use lightyear::prelude::input::native::{ActionState, InputMarker};
use meridian_game::Move;

use crate::connection::playing;
use crate::probe::Probes;

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<LocalInput>();
    app.add_systems(
        FixedPreUpdate,
        write_input.in_set(InputSystems::WriteClientInputs).run_if(playing),
    );
    app.configure_sets(PostUpdate, InputSystems::PrepareInputMessage.run_if(ticked));
}

/// What the player does; held for the following ticks.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct LocalInput {
    /// The input; its sequence is filled in by the client.
    pub input: Move,
    /// Whether the next tick's input is stamped, to measure how long its action takes.
    pub stamp: bool,
    /// Inputs sent since the start.
    pub sent: u64,
}

fn write_input(
    mut local: ResMut<LocalInput>,
    mut probes: ResMut<Probes>,
    real_time: Res<Time<Real>>,
    mut own: Query<&mut ActionState<Move>, With<InputMarker<Move>>>,
) {
    let Ok(mut action) = own.single_mut() else { return };
    if std::mem::take(&mut local.stamp) {
        probes.stamp(real_time.last_update());
    }
    action.0 = local.input.with_sequence(probes.sequence());
    local.sent += 1;
}

/// A window draws more often than it ticks: one message per tick is enough.
fn ticked(timeline: Res<LocalTimeline>, mut last: Local<Option<u32>>) -> bool {
    let tick = timeline.tick().0;
    let ticked = *last != Some(tick);
    *last = Some(tick);
    ticked
}
