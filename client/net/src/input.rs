//! The player's input, from whoever decides it to lightyear's input messages.
//!
//! The messages are lightyear's; filling them is not left to its client plugin, which runs on a clock that is not used here.

use bevy::app::{App, FixedPreUpdate, PostUpdate};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::observer::On;
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Local, Query, Res, ResMut};
use bevy::time::{Real, Time, Virtual};
use lightyear::core::timeline::LocalTimelineShift;
use lightyear::input::InputChannel;
use lightyear::input::input_message::{ActionStateSequence, InputMessage, InputTarget, PerTargetData};
use lightyear::prelude::input::native::{ActionState, NativeBuffer, NativeStateSequence};
use lightyear::prelude::{LocalTimeline, MessageSender};
use lightyear_messages::plugin::MessageSystems;
use meridian_game::Move;
use meridian_game::protocol::INPUT_REDUNDANCY_TICKS;

use crate::connection::Connector;
use crate::plugin::{Clock, OwnPlayer, world_tick};
use crate::probe::Probes;

type Inputs = NativeStateSequence<Move>;

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<LocalInput>();
    app.add_observer(forget_inputs);
    app.add_systems(FixedPreUpdate, write_input);
    app.add_systems(PostUpdate, send_inputs.before(MessageSystems::Send));
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

/// The last ticks' inputs of the own player: each message repeats them.
#[derive(Component, Default)]
pub(crate) struct OwnInputs(NativeBuffer<Move>);

/// A shift of the tick count leaves inputs of ticks that mean other moments now.
fn forget_inputs(_: On<LocalTimelineShift>, mut own: Query<&mut OwnInputs>) {
    own.iter_mut().for_each(|mut inputs| *inputs = OwnInputs::default());
}

fn write_input(
    connector: Res<Connector>,
    timeline: Res<LocalTimeline>,
    real_time: Res<Time<Real>>,
    virtual_time: Res<Time<Virtual>>,
    mut clock: ResMut<Clock>,
    mut local: ResMut<LocalInput>,
    mut probes: ResMut<Probes>,
    mut own: Query<(&mut ActionState<Move>, &mut OwnInputs), With<OwnPlayer>>,
) {
    let (Some(tick), Ok((mut action, mut inputs))) = (world_tick(&connector, &timeline), own.single_mut()) else {
        return;
    };
    clock.remember(tick, &virtual_time, &real_time);
    if std::mem::take(&mut local.stamp) {
        probes.stamp(real_time.last_update());
    }
    action.0 = local.input.with_sequence(probes.sequence());
    inputs.0.set(timeline.tick(), action.clone());
    inputs.0.pop(timeline.tick() - INPUT_REDUNDANCY_TICKS as u32);
    local.sent += 1;
}

/// One message per tick, however often the app updates.
fn send_inputs(
    timeline: Res<LocalTimeline>,
    own: Query<(Entity, &OwnInputs), With<OwnPlayer>>,
    mut senders: Query<&mut MessageSender<InputMessage<Inputs>>>,
    mut last: Local<Option<u32>>,
) {
    let tick = timeline.tick();
    if last.replace(tick.0) == Some(tick.0) {
        return;
    }
    let Ok((entity, inputs)) = own.single() else { return };
    let Some(states) = Inputs::build_from_input_buffer(&inputs.0, INPUT_REDUNDANCY_TICKS, tick) else {
        return;
    };
    for mut sender in &mut senders {
        let mut message = InputMessage::new(tick);
        message.inputs.push(PerTargetData {
            target: InputTarget::Entity(entity),
            states: states.clone(),
        });
        sender.send::<InputChannel>(message);
    }
}
