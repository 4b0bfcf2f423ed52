//! The plugin: lightyear without its clock, Meridian's clock, and what hangs on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::app::{App, Last, Plugin, PreUpdate};
use bevy::ecs::change_detection::DetectChanges;
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::query::{Changed, With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::{IntoScheduleConfigs, SystemSet};
use bevy::ecs::system::{Commands, Query, Res, ResMut, Single};
use bevy::ecs::world::Ref;
use bevy::time::{Real, Time, Virtual};
use lightyear::core::timeline::LocalTimelineShift;
use lightyear::prelude::client::NetcodeClient;
use lightyear::prelude::input::native::ActionState;
use lightyear::prelude::{Controlled, LocalTimeline, MessageReceiver};
use lightyear::transport::plugin::PacketReceived;
use lightyear_messages::plugin::MessageSystems;
use lightyear_replication::prelude::ReplicationSystems;
use meridian_game::{Identity, Move, OwnerState, OwnerZone, Pose, ProbeReport, ProtocolPlugin, ProtocolSide, Welcome};
use meridian_ids::{Tick, TickRate};
use meridian_link::LinkPlugin;

use crate::clock::{SlackController, SlackSample, TickPhase};
use crate::connection::Connector;
use crate::input::OwnInputs;
use crate::probe::Probes;
use crate::{connection, frozen_copies, input, interpolation, prediction, probe, pushed, shown};

/// Adds the game to an app; called once per zone, gateway and client.
pub type GameFn = Arc<dyn Fn(&mut App) + Send + Sync>;

/// Ticks that a new client starts ahead of the last tick it heard of; the loop corrects it from the first feedback on.
const FIRST_LEAD_TICKS: i32 = 3;
/// Ticks for which the clock's phase is remembered: feedback older than a second is of no use.
const PHASES: usize = 128;

/// The order of a client's work.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientSystems {
    /// In `PreUpdate`, after replication: what the gateway said is taken in.
    TakeIn,
    /// In `FixedUpdate`: the own player is predicted.
    Predict,
    /// In `Last`: the pace of the following ticks is set.
    Pace,
}

/// Connects an app to a gateway. Needs Bevy's `TimePlugin`, a [`Connector`] and a `LinkEndpoint`.
pub struct ClientNetPlugin {
    /// The world's rate.
    pub tick_rate: TickRate,
    /// Whether the own player is predicted; otherwise it stands where the zone last said.
    pub predict: bool,
    /// Whether the others are interpolated; otherwise they stand where the zone last said.
    pub interpolate: bool,
    /// The game that is played.
    pub game: GameFn,
}

impl Plugin for ClientNetPlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(ProtocolPlugin {
            side: ProtocolSide::Client,
            tick_rate: self.tick_rate,
        });
        app.add_plugins(LinkPlugin { accepts: false });
        (self.game)(app);
        app.insert_resource(Clock::new(self.tick_rate));
        app.init_resource::<RemoteTick>();
        app.init_resource::<ReplicatedUpdates>();
        app.configure_sets(PreUpdate, ClientSystems::TakeIn.after(ReplicationSystems::Receive));
        app.add_observer(note_remote_tick);
        app.add_observer(take_control);
        app.add_systems(PreUpdate, (count_updates, take_slack).in_set(ClientSystems::TakeIn));
        app.add_systems(
            PreUpdate,
            take_messages.after(MessageSystems::Receive).after(probe::see_echoes),
        );
        app.add_systems(Last, pace.in_set(ClientSystems::Pace));
        app.add_plugins((connection::plugin, input::plugin, probe::plugin));
        if self.predict || self.interpolate {
            app.add_plugins((shown::plugin, frozen_copies::plugin));
        }
        if self.predict {
            app.add_plugins(prediction::plugin);
        } else {
            app.add_systems(PreUpdate, follow_zone.in_set(ClientSystems::TakeIn));
        }
        if self.interpolate {
            app.add_plugins(interpolation::plugin);
        }
        if self.predict && self.interpolate {
            app.add_plugins(pushed::plugin);
        }
    }
}

/// The player that this client controls.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct OwnPlayer;

/// Updates of poses that replication brought, the own one included.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct ReplicatedUpdates(pub u64);

/// The newest tick that any packet of the gateway carried, in lightyear's count.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub(crate) struct RemoteTick(pub(crate) Option<lightyear::prelude::Tick>);

/// The loop and what it needs to remember.
#[derive(Resource)]
pub(crate) struct Clock {
    controller: SlackController,
    rate: TickRate,
    /// How much virtual time has gained on real time by jumps, in milliseconds.
    jumped_ms: f64,
    /// The phase at which each tick ran, by its low bits.
    phases: [(u16, f64); PHASES],
    /// The low bits of the tick that ran last.
    newest: u16,
    ticking: bool,
    advanced: Option<Instant>,
}

impl Clock {
    pub(crate) fn new(rate: TickRate) -> Self {
        Self {
            controller: SlackController::new(rate.tick_duration()),
            rate,
            jumped_ms: 0.0,
            phases: [(0, f64::NAN); PHASES],
            newest: 0,
            ticking: false,
            advanced: None,
        }
    }

    /// The rate it is made for.
    pub(crate) fn rate(&self) -> TickRate {
        self.rate
    }

    /// How early the inputs come that come latest, in milliseconds.
    pub(crate) fn least_slack_ms(&self) -> Option<f32> {
        self.controller.least_slack_ms()
    }

    /// Remembers the phase at which a tick runs.
    pub(crate) fn remember(&mut self, tick: Tick, virtual_time: &Time<Virtual>, real_time: &Time<Real>) {
        let phase = self.phase_ms(virtual_time, real_time);
        let slot = &mut self.phases[tick.0 as usize % PHASES];
        // After a jump back a tick comes twice; the zone keeps, and tells of, its first input.
        if slot.0 != tick.0 as u16 || slot.1.is_nan() {
            *slot = (tick.0 as u16, phase);
        }
        self.newest = tick.0 as u16;
    }

    /// The phase at which a tick ran, by its low bits. One that the zone has simulated and this client has not comes to the same as one that
    /// runs now: the client is that late.
    fn phase_at(&self, tick: u16, now: f64) -> Option<f64> {
        if (tick.wrapping_sub(self.newest) as i16) > 0 {
            return Some(now);
        }
        let (known, phase) = self.phases[usize::from(tick) % PHASES];
        (known == tick && !phase.is_nan()).then_some(phase)
    }

    /// How much the client's clock has gained on real time, in milliseconds.
    fn phase_ms(&self, virtual_time: &Time<Virtual>, real_time: &Time<Real>) -> f64 {
        (virtual_time.elapsed_secs_f64() - real_time.elapsed_secs_f64()) * 1e3 + self.jumped_ms
    }
}

/// The world's tick that lightyear's local tick stands for.
pub(crate) fn world_tick(connector: &Connector, timeline: &LocalTimeline) -> Option<Tick> {
    connector
        .welcome
        .map(|welcome| welcome.base_tick + u64::from(timeline.tick().0))
}

fn note_remote_tick(received: On<PacketReceived>, connector: Res<Connector>, mut remote: ResMut<RemoteTick>) {
    // Another gateway counts its ticks from another start.
    if !connector.listens_to(received.entity) {
        return;
    }
    if remote.0.is_none_or(|newest| received.remote_tick > newest) {
        remote.0 = Some(received.remote_tick);
    }
}

fn take_control(controlled: On<Add, Controlled>, mut commands: Commands) {
    commands
        .entity(controlled.entity)
        .insert((OwnPlayer, OwnInputs::default(), ActionState::<Move>::default()));
}

fn count_updates(
    poses: Query<Entity, (Changed<Pose>, Without<OwnPlayer>)>,
    own: Query<(Entity, &Identity), (Changed<OwnerState>, With<OwnPlayer>)>,
    mut updates: ResMut<ReplicatedUpdates>,
    mut connector: ResMut<Connector>,
) {
    for (entity, identity) in &own {
        connector.see_own(entity, identity.entity);
    }
    updates.0 += (poses.iter().count() + own.iter().count()) as u64;
}

/// Without prediction the own player is where the zone last said.
fn follow_zone(
    mut own: Query<(Entity, &OwnerState, Option<&mut Pose>), (Changed<OwnerState>, With<OwnPlayer>)>,
    mut commands: Commands,
) {
    for (entity, state, pose) in &mut own {
        let stands = Pose {
            position: state.position,
            yaw: state.yaw,
        };
        match pose {
            Some(mut pose) => *pose = stands,
            None => drop(commands.entity(entity).insert(stands)),
        }
    }
}

/// Feeds the loop with what the zone said of the own inputs.
fn take_slack(
    own: Option<Single<Ref<OwnerState>, With<OwnPlayer>>>,
    virtual_time: Res<Time<Virtual>>,
    real_time: Res<Time<Real>>,
    mut clock: ResMut<Clock>,
) {
    let Some(state) = own.filter(|state| state.is_changed()) else {
        return;
    };
    // A tick without an input of its own says nothing, unless a late one has come since.
    if !state.input_applied && state.slack == 0 {
        return;
    }
    let now = clock.phase_ms(&virtual_time, &real_time);
    let Some(then) = clock.phase_at(state.tick, now) else {
        return;
    };
    let advanced_since_ms = (now - then) as f32;
    clock.controller.sample(SlackSample {
        slack_ms: state.slack_ms(),
        advanced_since_ms,
    });
}

/// What the gateway says outside of replication: its welcome, and where the time of probed actions went.
fn take_messages(
    // A link has the receiver of a message from its first one on.
    mut receivers: Query<
        (
            Entity,
            Option<&mut MessageReceiver<Welcome>>,
            Option<&mut MessageReceiver<OwnerZone>>,
            Option<&mut MessageReceiver<ProbeReport>>,
        ),
        With<NetcodeClient>,
    >,
    real_time: Res<Time<Real>>,
    mut connector: ResMut<Connector>,
    mut probes: ResMut<Probes>,
) {
    let now = real_time.last_update().unwrap_or_else(Instant::now);
    for (link, welcomes, zones, reports) in &mut receivers {
        if !connector.listens_to(link) {
            let welcome = welcomes.and_then(|mut welcomes| welcomes.receive().last());
            let zone = zones.and_then(|mut zones| zones.receive().last());
            connector.candidate_says(link, welcome, zone);
            continue;
        }
        if let Some(mut welcomes) = welcomes {
            welcomes.receive().for_each(|welcome| connector.welcomed(welcome, now));
        }
        if let Some(mut zones) = zones {
            zones.receive().for_each(|zone| connector.owned_by(zone));
        }
        match reports {
            Some(mut reports) => probes.complete(reports.receive()),
            None => probes.complete(std::iter::empty()),
        }
    }
}

/// Starts the ticks a little ahead of the gateway's count after a welcome, and then keeps their pace.
fn pace(
    connector: Res<Connector>,
    own: Query<(), With<OwnPlayer>>,
    real_time: Res<Time<Real>>,
    mut remote: ResMut<RemoteTick>,
    mut clock: ResMut<Clock>,
    mut virtual_time: ResMut<Time<Virtual>>,
    mut timeline: ResMut<LocalTimeline>,
    mut commands: Commands,
) {
    let now = real_time.last_update().unwrap_or_else(Instant::now);
    let elapsed = clock
        .advanced
        .map_or(Duration::ZERO, |advanced| now.saturating_duration_since(advanced));
    clock.advanced = Some(now);
    let ready = connector.welcome.is_some() && !own.is_empty();
    if clock.ticking && !ready {
        // The connection broke: the next one may be another gateway, with another count.
        clock.ticking = false;
        clock.controller.reset();
        remote.0 = None;
    }
    if let Some(newest) = remote.0.filter(|_| ready && !clock.ticking) {
        let start = newest + FIRST_LEAD_TICKS;
        let shift = start - timeline.tick();
        timeline.apply_delta(shift);
        clock.ticking = true;
        tracing::debug!(tick = start.0, "ticking");
    }
    if !clock.ticking {
        return;
    }
    match clock.controller.advance(elapsed) {
        TickPhase::Pace(speed) => virtual_time.set_relative_speed(speed),
        TickPhase::Jump(delta) => {
            tracing::debug!(delta, "tick count moved");
            virtual_time.set_relative_speed(1.0);
            timeline.apply_delta(delta);
            clock.jumped_ms += f64::from(delta) * clock.rate.tick_duration().as_secs_f64() * 1e3;
            commands.trigger(LocalTimelineShift { delta });
        }
    }
}
