//! One stock client, and the systems that measure at it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use avian3d::prelude::Position;
use bevy::app::{App, FixedPreUpdate, PostUpdate, PreUpdate};
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::query::{Changed, Has, With};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::prelude::MinimalPlugins;
use bevy::state::app::StatesPlugin;
use lightyear::netcode::NetcodeClient;
use lightyear::prelude::client::{ClientPlugins, Connect, Connected, Disconnected, NetcodeConfig};
use lightyear::prelude::input::client::InputSystems;
use lightyear::prelude::input::native::{ActionState, InputMarker};
use lightyear::prelude::{
    Authentication, ConnectionSystems, Controlled, Link, LinkSystems, LocalAddr, ReplicationReceiver,
    ReplicationSystems, UdpIo,
};
use meridian_autopilot::{Behaviour, Stage};
use meridian_game::Move;

use super::protocol::{BaselineProtocol, Echo, PRIVATE_KEY, PROTOCOL_ID, PlayerTag};
use crate::probe::{ProbeBoard, ProbeId};
use crate::report::Wire;

/// What a stock client is made from.
pub(super) struct ClientOptions {
    pub(super) index: usize,
    pub(super) server: SocketAddr,
    pub(super) tick: Duration,
    pub(super) stage: Stage,
    pub(super) seed: u64,
    pub(super) probe_every: Duration,
    pub(super) board: Arc<Mutex<ProbeBoard>>,
}

/// A stock client. Not `Send`: made on the thread that updates it.
pub(super) struct Client {
    app: App,
    tick: Duration,
}

#[derive(Resource)]
struct Player {
    id: u64,
    behaviour: Behaviour,
    sequence: u32,
    probe_every: Duration,
    next_probe: Instant,
    inputs: u64,
}

#[derive(Resource)]
struct Board(Arc<Mutex<ProbeBoard>>);

#[derive(Resource, Default)]
struct Connections {
    connected: bool,
    lost: u64,
}

/// What has gone through the client's link, as lightyear handed it over, and the updates of positions it brought.
#[derive(Resource, Default)]
struct LinkCounts(Wire);

impl Client {
    /// A client that has begun to connect.
    pub(super) fn connect(options: ClientOptions) -> anyhow::Result<Self> {
        let mut app = App::new();
        app.add_plugins((
            MinimalPlugins,
            StatesPlugin,
            ClientPlugins {
                tick_duration: options.tick,
            },
        ));
        app.add_plugins(BaselineProtocol);
        let id = options.index as u64 + 1;
        app.insert_resource(Player {
            id,
            behaviour: Behaviour::new(&options.stage, options.seed, options.index),
            sequence: 0,
            probe_every: options.probe_every,
            // Spread over the interval, so that no tick has to answer all probes.
            next_probe: Instant::now() + options.probe_every.mul_f64((options.index as f64 * 0.618).fract()),
            inputs: 0,
        });
        app.insert_resource(Board(options.board));
        app.init_resource::<Connections>();
        app.init_resource::<LinkCounts>();
        add_systems(&mut app);
        app.finish();
        app.cleanup();
        let auth = Authentication::Manual {
            server_addr: options.server,
            client_id: id,
            private_key: PRIVATE_KEY,
            protocol_id: PROTOCOL_ID,
        };
        let netcode = NetcodeClient::new(auth, NetcodeConfig::default()).context("cannot make a netcode client")?;
        let local = LocalAddr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let client = app
            .world_mut()
            .spawn((netcode, local, UdpIo::default(), ReplicationReceiver))
            .id();
        app.world_mut().trigger(Connect { entity: client });
        Ok(Self {
            app,
            tick: options.tick,
        })
    }

    pub(super) fn update(&mut self) {
        self.app.update();
    }

    pub(super) fn tick(&self) -> Duration {
        self.tick
    }

    pub(super) fn was_connected(&self) -> bool {
        self.app.world().resource::<Connections>().connected
    }

    pub(super) fn disconnects(&self) -> u64 {
        self.app.world().resource::<Connections>().lost
    }

    pub(super) fn inputs(&self) -> u64 {
        self.app.world().resource::<Player>().inputs
    }

    pub(super) fn wire(&self) -> Wire {
        self.app.world().resource::<LinkCounts>().0
    }
}

fn add_systems(app: &mut App) {
    app.add_observer(take_control);
    app.add_observer(note_connected);
    app.add_observer(note_disconnected);
    app.add_systems(
        PreUpdate,
        count_received
            .after(LinkSystems::Receive)
            .before(ConnectionSystems::Receive),
    );
    app.add_systems(
        PostUpdate,
        count_sent.after(ConnectionSystems::Send).before(LinkSystems::Send),
    );
    app.add_systems(
        PreUpdate,
        (see_echoes, count_updates).after(ReplicationSystems::Receive),
    );
    app.add_systems(FixedPreUpdate, write_input.in_set(InputSystems::WriteClientInputs));
}

fn take_control(player: On<Add, Controlled>, mut commands: Commands) {
    commands.entity(player.entity).insert(InputMarker::<Move>::default());
}

fn note_connected(_: On<Add, Connected>, mut connections: ResMut<Connections>) {
    connections.connected = true;
}

fn note_disconnected(_: On<Add, Disconnected>, mut connections: ResMut<Connections>) {
    // A client starts disconnected; only what was connected can be lost.
    connections.lost += u64::from(connections.connected);
}

fn write_input(
    mut player: ResMut<Player>,
    board: Res<Board>,
    mut own: Query<(&mut ActionState<Move>, Option<&Position>), With<InputMarker<Move>>>,
) {
    for (mut action, position) in &mut own {
        let now = Instant::now();
        if now >= player.next_probe {
            let interval = player.probe_every;
            player.next_probe += interval;
            player.sequence = player.sequence.checked_add(1).unwrap_or(1);
            let id = ProbeId {
                subject: player.id,
                sequence: player.sequence,
            };
            board.0.lock().unwrap_or_else(PoisonError::into_inner).stamped(id, now);
        }
        let input = player.behaviour.next(position.map(|position| position.0));
        action.0 = input.with_sequence(player.sequence);
        player.inputs += 1;
    }
}

fn see_echoes(board: Res<Board>, echoes: Query<(&PlayerTag, &Echo, Has<Controlled>), Changed<Echo>>) {
    if echoes.is_empty() {
        return;
    }
    let now = Instant::now();
    let mut board = board.0.lock().unwrap_or_else(PoisonError::into_inner);
    for (player, echo, own) in &echoes {
        let id = ProbeId {
            subject: player.0,
            sequence: echo.0,
        };
        match own {
            _ if echo.0 == 0 => {}
            true => board.echoed(id, now),
            false => board.sighted(id, now),
        }
    }
}

fn count_received(mut links: Query<&mut Link>, mut counts: ResMut<LinkCounts>) {
    for mut link in &mut links {
        // Each packet is taken out, counted and put back at the end: the order stays.
        for _ in 0..link.recv.len() {
            let Some(payload) = link.recv.pop() else { break };
            counts.0.bytes_down += payload.len() as u64;
            counts.0.packets_down += 1;
            link.recv.push_raw(payload);
        }
    }
}

fn count_sent(mut links: Query<&mut Link>, mut counts: ResMut<LinkCounts>) {
    for mut link in &mut links {
        for _ in 0..link.send.len() {
            let Some(payload) = link.send.pop() else { break };
            counts.0.bytes_up += payload.len() as u64;
            counts.0.packets_up += 1;
            link.send.push(payload);
        }
    }
}

/// Two updates of one entity that arrive within one update of the app count as one, as they do for Meridian's bots.
fn count_updates(positions: Query<(), Changed<Position>>, mut counts: ResMut<LinkCounts>) {
    counts.0.entity_updates += positions.iter().count() as u64;
}
