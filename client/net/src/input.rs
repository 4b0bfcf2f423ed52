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

/// Ticks whose inputs are kept: as many as an app that draws slowly may run in a frame, and those that are repeated.
const KEPT_TICKS: u32 = 64;

/// The last ticks' inputs of the own player: each message repeats some of them.
#[derive(Component, Default)]
pub(crate) struct OwnInputs(NativeBuffer<Move>);

/// A shift of the tick count leaves inputs of ticks that mean other moments now.
fn forget_inputs(_: On<LocalTimelineShift>, mut own: Query<&mut OwnInputs>) {
    own.iter_mut().for_each(|mut inputs| *inputs = OwnInputs::default());
}

pub(crate) fn write_input(
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
    if std::mem::take(&mut local.stamp)
        && let Some(welcome) = connector.welcome
    {
        probes.stamp(real_time.last_update(), welcome.entity);
    }
    action.0 = local.input.with_sequence(probes.sequence());
    inputs.0.set(timeline.tick(), action.clone());
    inputs.0.pop(timeline.tick() - KEPT_TICKS);
    local.sent += 1;
}

/// One message per frame with ticks, which holds the last ones; an app that draws slowly runs more ticks in a frame than fit in one,
/// and sends as many as it takes.
fn send_inputs(
    connector: Res<Connector>,
    timeline: Res<LocalTimeline>,
    own: Query<(Entity, &OwnInputs), With<OwnPlayer>>,
    mut senders: Query<&mut MessageSender<InputMessage<Inputs>>>,
    mut last: Local<Option<u32>>,
) {
    let newest = timeline.tick();
    let before = last.replace(newest.0);
    if before == Some(newest.0) {
        return;
    }
    let Ok((entity, inputs)) = own.single() else { return };
    // The own entity means something to its own gateway alone.
    let Some(mut sender) = connector.link().and_then(|link| senders.get_mut(link).ok()) else {
        return;
    };
    for tick in last_ticks(before, newest.0) {
        let tick = lightyear::prelude::Tick(tick);
        let Some(states) = Inputs::build_from_input_buffer(&inputs.0, INPUT_REDUNDANCY_TICKS, tick) else {
            continue;
        };
        let mut message = InputMessage::new(tick);
        message.inputs.push(PerTargetData {
            target: InputTarget::Entity(entity),
            states,
        });
        sender.send::<InputChannel>(message);
    }
}

/// The last tick of each message that it takes to send the inputs of all ticks after `before` up to `newest`, oldest first.
fn last_ticks(before: Option<u32>, newest: u32) -> impl Iterator<Item = u32> {
    // A jump back, or one that is longer than what is kept, begins anew.
    let unsent = before.map_or(1, |before| newest.wrapping_sub(before));
    let unsent = if (1..=KEPT_TICKS).contains(&unsent) { unsent } else { 1 };
    let messages = unsent.div_ceil(INPUT_REDUNDANCY_TICKS as u32);
    (0..messages)
        .rev()
        .map(move |message| newest.wrapping_sub(message * INPUT_REDUNDANCY_TICKS as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_many_ticks_sends_the_inputs_of_all_of_them() {
        let messages = |before, newest| last_ticks(before, newest).collect::<Vec<_>>();
        assert_eq!(messages(None, 500), [500]);
        assert_eq!(messages(Some(499), 500), [500]);
        assert_eq!(messages(Some(492), 500), [500], "as many as a message holds");
        assert_eq!(messages(Some(488), 500), [492, 500]);
        assert_eq!(messages(Some(476), 500), [484, 492, 500]);
        assert_eq!(messages(Some(520), 500), [500], "a jump back");
        assert_eq!(messages(Some(100), 500), [500], "a jump ahead");
    }
}
