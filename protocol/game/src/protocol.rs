//! The protocol between gateway and client: which parts of lightyear are used, and the messages beside replication.
//!
//! lightyear's clock synchronisation, prediction and interpolation are left out on purpose; `client/net` does what they
//! do with the zone's own feedback. Gateway and client must add the same plugin, for ids go by registration order.

use bevy::app::{App, Plugin};
use bevy::ecs::entity::{EntityMapper, MapEntities};
use bevy::ecs::resource::Resource;
use bevy::state::app::StatesPlugin;
use lightyear::connection::ConnectionPlugin;
use lightyear::core::plugin::CorePlugins;
use lightyear::input::plugin::InputPlugin;
use lightyear::netcode::client_plugin::NetcodeClientPlugin;
use lightyear::netcode::server_plugin::NetcodeServerPlugin;
use lightyear::prelude::input::native::NativeStateSequence;
use lightyear::prelude::input::server::ServerInputPlugin;
use lightyear::prelude::{
    AppChannelExt, AppMessageExt, ChannelMode, ChannelSettings, NetworkDirection, ReliableSettings, ReplicationMetadata,
};
use lightyear::transport::plugin::TransportPlugin;
use lightyear_messages::plugin::MessagePlugin;
use lightyear_replication::metadata::MetadataChannel;
use lightyear_replication::{LightyearRepliconBackend, LightyearRepliconClientBackend, LightyearRepliconServerBackend};
use meridian_ids::{EntityEpoch, PlayerId, Tick, TickRate, WorldEntityId, ZoneId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::action::ActionMessage;
use crate::input::Move;

/// Ticks of input that each packet repeats: seven packets in a row may be lost without losing an input.
pub const INPUT_REDUNDANCY_TICKS: usize = 8;

/// Which end of the protocol an app is. Inserted as a resource before the game's plugin is added.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolSide {
    /// Simulates; knows nothing of lightyear.
    Zone,
    /// Terminates clients and replicates to them.
    Gateway,
    /// Plays.
    Client,
}

/// Ordered and reliable, gateway to client: what a client must know before its first tick, and who owns its player.
pub struct WelcomeChannel;
/// Ordered and reliable, client to gateway.
pub struct ActionChannel;
/// Unreliable, gateway to client: where the time of a probed action went.
pub struct TimingChannel;

/// The gateway's first words to a client that is in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The world's tick at lightyear's tick 0: lightyear counts 32 bits from the gateway's start.
    pub base_tick: Tick,
    /// Ticks per second.
    pub tick_rate: TickRate,
    /// Who the client is.
    pub player: PlayerId,
    /// Which entity it controls.
    pub entity: WorldEntityId,
    /// The gateway, told apart from all others and from what it was before its last start: for traces.
    pub gateway: u64,
}

/// Which zone simulates the client's own player: told after each [`Welcome`], and again whenever the player changes hands. For people to
/// see; nothing that a client predicts depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerZone {
    /// The owner.
    pub zone: ZoneId,
    /// How many owners the player's entity has had, this one included.
    pub epoch: EntityEpoch,
}

/// Where the time of one probed action went, told by the servers it passed. Durations in microseconds.
///
/// `received_us` and `sent_us` are instants of the gateway's own clock; a client relates them to its own only by an
/// estimated offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The stamp that was applied.
    pub sequence: u32,
    /// When the input's packet came in, on the gateway's clock.
    pub received_us: u64,
    /// From there until the zone had it.
    pub forward_us: u32,
    /// From there until its tick began: the slack.
    pub tick_wait_us: u32,
    /// From there until the zone had simulated the tick and sent its snapshot.
    pub simulate_us: u32,
    /// From there until the gateway had built its packets.
    pub gateway_us: u32,
    /// When the gateway sent this report, on its clock.
    pub sent_us: u64,
}

impl MapEntities for Welcome {
    fn map_entities<E: EntityMapper>(&mut self, _mapper: &mut E) {}
}

impl MapEntities for OwnerZone {
    fn map_entities<E: EntityMapper>(&mut self, _mapper: &mut E) {}
}

impl MapEntities for ProbeReport {
    fn map_entities<E: EntityMapper>(&mut self, _mapper: &mut E) {}
}

/// Adds lightyear for one side, and Meridian's channels, messages and inputs. Does nothing in a zone.
pub struct ProtocolPlugin {
    /// Which end this app is.
    pub side: ProtocolSide,
    /// The world's rate.
    pub tick_rate: TickRate,
}

impl Plugin for ProtocolPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.side);
        if self.side == ProtocolSide::Zone {
            return;
        }
        if !app.is_plugin_added::<StatesPlugin>() {
            app.add_plugins(StatesPlugin);
        }
        if self.side == ProtocolSide::Gateway {
            app.add_plugins(lightyear::link::server::ServerLinkPlugin);
        }
        app.add_plugins((
            CorePlugins {
                tick_duration: self.tick_rate.tick_duration(),
            },
            TransportPlugin,
            MessagePlugin,
            ConnectionPlugin,
            LightyearRepliconBackend,
        ));
        if self.side == ProtocolSide::Gateway {
            app.insert_resource(ReplicationMetadata::new(Duration::ZERO));
            app.add_plugins((LightyearRepliconServerBackend, NetcodeServerPlugin));
        } else {
            app.add_plugins((LightyearRepliconClientBackend, NetcodeClientPlugin));
        }
        add_messages(app);
        if self.side == ProtocolSide::Gateway {
            app.add_plugins(ServerInputPlugin::<NativeStateSequence<Move>>::default());
        } else {
            // Only the message and its channel: `client/net` fills it, on its own clock.
            app.add_plugins(InputPlugin::<NativeStateSequence<Move>>::default());
        }
    }
}

fn add_messages(app: &mut App) {
    let reliable = || ChannelSettings {
        mode: ChannelMode::OrderedReliable(ReliableSettings::default()),
        ..ChannelSettings::default()
    };
    app.add_channel::<WelcomeChannel>(reliable())
        .add_direction(NetworkDirection::ServerToClient);
    app.add_channel::<ActionChannel>(reliable())
        .add_direction(NetworkDirection::ClientToServer);
    app.add_channel::<TimingChannel>(ChannelSettings {
        mode: ChannelMode::UnorderedUnreliable,
        ..ChannelSettings::default()
    })
    .add_direction(NetworkDirection::ServerToClient);
    // Replication registers this channel but gives it no direction, and complains at each connection without one.
    app.add_channel::<MetadataChannel>(ChannelSettings {
        mode: ChannelMode::UnorderedReliable(ReliableSettings::default()),
        priority: 10.0,
        ..ChannelSettings::default()
    })
    .add_direction(NetworkDirection::Bidirectional);
    app.register_message::<Welcome>()
        .add_direction(NetworkDirection::ServerToClient);
    // After the welcome: what is sent in one tick goes out in the order of registration.
    app.register_message::<OwnerZone>()
        .add_direction(NetworkDirection::ServerToClient);
    app.register_message::<ActionMessage>()
        .add_direction(NetworkDirection::ClientToServer);
    app.register_message::<ProbeReport>()
        .add_direction(NetworkDirection::ServerToClient);
}
