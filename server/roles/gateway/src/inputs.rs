//! Forwards inputs to the zone the moment they arrive, out of the messages themselves.
//!
//! lightyear's own input buffer invents held inputs across gaps and drops late ones in silence; here the messages are
//! checked, forwarded and dropped before it sees them.

use std::time::{Duration, Instant};

use bevy::app::{App, PreUpdate};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::query::With;
use bevy::ecs::relationship::RelationshipTarget;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res};
use bevy::ecs::world::World;
use lightyear::connection::client::Disconnecting;
use lightyear::input::input_message::{ActionStateSequence, InputMessage, InputTarget};
use lightyear::prelude::input::native::NativeStateSequence;
use lightyear::prelude::input::server::{InputValidationAppExt, authorize_controlled_targets};
use lightyear::prelude::{Connected, MessageReceiver};
use lightyear_messages::plugin::MessageSystems;
use lightyear_replication::control::ControlledByRemote;
use meridian_fabric::{GatewayMessage, INPUTS_PER_BATCH_MAX, InputBatch, TimedInput};
use meridian_game::{ActionMessage, Identity, Move, Pose};
use meridian_handoff::HeldInputs;
use meridian_ids::Tick;
use meridian_link::Arrival;

use crate::gateway::Zones;
use crate::metric_definitions::INPUTS_REFUSED;
use crate::mirror::OwnedBy;
use crate::sessions::SessionOf;
use crate::traces::Traced;

type Inputs = NativeStateSequence<Move>;

/// How far an input's tick may be from now, in ticks, either way: what lightyear allows as well.
const TICKS_FROM_NOW_MAX: i64 = 64;
/// Input messages a client may send per tick in the long run; one is what a well-made client sends.
const MESSAGES_PER_TICK_MAX: f64 = 2.0;
/// Messages that may come in a burst, as after a stall of the network: two seconds' worth.
const MESSAGES_BURST_MAX: f64 = 120.0;
/// Messages beyond the budget after which a client is disconnected.
const REFUSED_MAX: u32 = 1_000;
/// Actions taken from one client in a pass.
const ACTIONS_PER_PASS_MAX: usize = 16;

pub(crate) fn plugin(app: &mut App) {
    app.register_required_components::<SessionOf, InputBudget>();
    app.register_required_components::<OwnedBy, Held>();
    app.add_input_validator(authorize_controlled_targets::<Inputs>);
    app.add_input_validator(forward_inputs.after(authorize_controlled_targets::<Inputs>));
    app.add_systems(PreUpdate, forward_actions.after(MessageSystems::Receive));
}

/// A token bucket per client: a flood is dropped, and who keeps flooding is disconnected.
#[derive(Component)]
struct InputBudget {
    tokens: f64,
    filled: Option<Instant>,
    refused: u32,
}

impl Default for InputBudget {
    fn default() -> Self {
        Self {
            tokens: MESSAGES_BURST_MAX,
            filled: None,
            refused: 0,
        }
    }
}

impl InputBudget {
    fn refill(&mut self, now: Instant, rate_hz: f64) {
        let passed = self
            .filled
            .map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.filled = Some(now);
        self.tokens = (self.tokens + passed.as_secs_f64() * rate_hz * MESSAGES_PER_TICK_MAX).min(MESSAGES_BURST_MAX);
    }

    fn take(&mut self) -> bool {
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        } else {
            self.refused = self.refused.saturating_add(1);
            refuse("flood");
        }
        granted
    }
}

/// The last inputs of a player's entity, each with the times of its first batch: when it was received, and when it was forwarded.
#[derive(Component, Default)]
struct Held(HeldInputs<(TimedInput, Instant, Instant)>);

type Players<'w, 's> = Query<
    'w,
    's,
    (
        &'static Identity,
        &'static OwnedBy,
        &'static Pose,
        &'static mut Held,
        &'static mut Traced,
    ),
>;

/// The entity has a new owner, which has told its state after `after`: it is sent the inputs for the ticks to come.
pub(crate) fn send_held(world: &mut World, entity: Entity, after: Tick) {
    let (Some(identity), Some(owned), Some(held)) = (
        world.get::<Identity>(entity),
        world.get::<OwnedBy>(entity),
        world.get::<Held>(entity),
    ) else {
        return;
    };
    let zones = world.resource::<Zones>();
    let later: Vec<(TimedInput, Instant, Instant)> = held.0.since(after).map(|(_, held)| *held).collect();
    for came_together in later.chunk_by(|one, other| one.1 == other.1) {
        for inputs in came_together.chunks(INPUTS_PER_BATCH_MAX) {
            let [(_, received, forwarded), ..] = inputs else {
                continue;
            };
            let batch = InputBatch {
                entity: identity.entity,
                inputs: inputs.iter().map(|(input, ..)| *input).collect(),
                received: *received,
                forwarded: *forwarded,
            };
            zones.send_to(owned.zone, GatewayMessage::Inputs(batch));
        }
    }
}

fn forward_inputs(
    zones: Res<Zones>,
    mut players: Players,
    mut links: Query<
        (
            Entity,
            &Arrival,
            &mut InputBudget,
            &mut MessageReceiver<InputMessage<Inputs>>,
        ),
        (With<Connected>, With<SessionOf>),
    >,
    mut commands: Commands,
) {
    let now = zones.now();
    let rate_hz = f64::from(zones.clock.rate().hz());
    for (link, arrival, mut budget, mut receiver) in &mut links {
        if receiver.has_messages() {
            budget.refill(now, rate_hz);
        }
        receiver.retain_messages(|message| {
            if budget.take() {
                forward(&zones, &mut players, message, arrival.0, now);
            }
            false
        });
        if budget.refused > REFUSED_MAX {
            tracing::warn!(?link, "client floods the gateway with inputs; disconnected");
            budget.refused = 0;
            commands.entity(link).insert(Disconnecting);
        }
    }
}

fn forward(zones: &Zones, players: &mut Players, message: &mut InputMessage<Inputs>, received: Instant, now: Instant) {
    let end = zones.base + u64::from(message.end_tick.0);
    if end.since(zones.clock.tick_at(now)).abs() > TICKS_FROM_NOW_MAX {
        refuse("implausible_tick");
        return;
    }
    // Whom the client does not control was taken out before; a well-made one names its own entity in each message.
    if message.inputs.is_empty() {
        refuse("not_controlled");
    }
    // A client controls one entity; naming it over and over would let one message fill the zone's queue.
    if message.inputs.len() > 1 {
        refuse("too_many_targets");
    }
    for target in message.inputs.drain(..).take(1) {
        let InputTarget::Entity(entity) = target.target else {
            continue;
        };
        let Ok((identity, owned, pose, mut held, mut traced)) = players.get_mut(entity) else {
            continue;
        };
        let inputs = resolve(target.states, end, zones.clock.rate().tick_duration());
        if inputs.is_empty() {
            continue;
        }
        let mut batch = InputBatch {
            entity: identity.entity,
            inputs,
            received,
            forwarded: zones.now(),
        };
        traced.forwarded(&mut batch, zones.gateway);
        for input in &batch.inputs {
            held.0.hold(input.tick, (*input, batch.received, batch.forwarded));
        }
        zones.send_inputs(owned.zone, [pose.position.x, pose.position.z], batch);
    }
}

/// The inputs that a sequence says, oldest first.
fn resolve(states: Inputs, end: Tick, tick_duration: Duration) -> Vec<TimedInput> {
    let length = states.len();
    if length > INPUTS_PER_BATCH_MAX {
        refuse("too_many_ticks");
        return Vec::new();
    }
    let mut inputs = Vec::with_capacity(length);
    let mut previous: Option<Move> = None;
    for (index, state) in states.get_snapshots_from_message(tick_duration).enumerate() {
        let snapshot = state.resolve(previous.map(lightyear::prelude::input::native::ActionState));
        previous = snapshot.map(|snapshot| snapshot.0);
        if let Some(input) = previous {
            inputs.push(TimedInput {
                tick: (end + 1 + index as u64) - length as u64,
                packed: input.pack(),
            });
        }
    }
    inputs
}

fn forward_actions(
    zones: Res<Zones>,
    mut links: Query<(
        &ControlledByRemote,
        &mut InputBudget,
        &mut MessageReceiver<ActionMessage>,
    )>,
    identities: Query<(&Identity, &OwnedBy)>,
) {
    for (controlled, mut budget, mut receiver) in &mut links {
        let entity = controlled.iter().next().and_then(|entity| identities.get(entity).ok());
        if receiver.has_messages() {
            budget.refill(zones.now(), f64::from(zones.clock.rate().hz()));
        }
        for (index, ActionMessage { kind, payload }) in receiver.receive().enumerate() {
            if index >= ACTIONS_PER_PASS_MAX {
                refuse("too_many_actions");
                continue;
            }
            if let Some((identity, owned)) = entity
                && budget.take()
            {
                let action = GatewayMessage::Action {
                    entity: identity.entity,
                    kind,
                    payload,
                };
                zones.send_to(owned.zone, action);
            }
        }
    }
}

/// Why inputs are refused.
const REASONS: [&str; 6] = [
    "flood",
    "implausible_tick",
    "not_controlled",
    "too_many_targets",
    "too_many_ticks",
    "too_many_actions",
];

/// Counts what is refused from 0 on: an increase from nothing at all is none to who watches.
pub(crate) fn count_from_zero() {
    for reason in REASONS {
        metrics::counter!(INPUTS_REFUSED, "reason" => reason).increment(0);
    }
}

fn refuse(reason: &'static str) {
    metrics::counter!(INPUTS_REFUSED, "reason" => reason).increment(1);
}
