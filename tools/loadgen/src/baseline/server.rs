//! The stock server: `ServerPlugins` with every default, and the demo game on it.

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use avian3d::prelude::{LinearVelocity, Position, Rotation};
use bevy::app::{App, FixedFirst, FixedLast, FixedUpdate, Startup};
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::query::{Added, With};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, ResMut};
use bevy::ecs::world::World;
use bevy::math::Quat;
use bevy::prelude::MinimalPlugins;
use bevy::state::app::StatesPlugin;
use bevy::transform::TransformPlugin;
use cpu_time::ProcessTime;
use lightyear::prelude::input::native::ActionState;
use lightyear::prelude::server::{ClientOf, NetcodeConfig, NetcodeServer, ServerPlugins, ServerUdpIo, Start};
use lightyear::prelude::{
    Connected, ControlledBy, Lifetime, LinkOf, LocalAddr, NetworkTarget, PeerId, RemoteId, Replicate, ReplicationSender,
};
use meridian_game::demo::{CrateBody, DemoPlugin};
use meridian_game::movement::MovementState;
use meridian_game::{
    CurrentTick, EntityHooks, EntityIds, Identity, Move, PlayerInput, ProtocolSide, Scenery, SimulationSystems,
    SpawnPlayer, WorldDefinition, ZoneScope,
};
use meridian_ids::{EntityIdMint, LeaseEpoch, PlayerId, ZoneId};
use meridian_link::{Urgency, raise_thread_priority};

use super::process::{Command, Costs, READY};
use super::protocol::{BaselineProtocol, Echo, PRIVATE_KEY, PROTOCOL_ID, PlayerTag};
use crate::histogram::DurationHistogram;

/// Runs the stock server until standard input ends: the hidden subcommand behind `loadgen baseline`.
///
/// Prints its address, then answers each command on standard input; see [`super::process`].
pub fn serve(world_file: &Path) -> anyhow::Result<()> {
    // As our own servers do: what is compared is what they do, not what memory they were given. Where huge pages cannot be forgone, neither forgoes them.
    meridian_memory::keep();
    let _ = meridian_memory::use_small_pages();
    let world = WorldDefinition::load(world_file)?;
    let tick = world.tick_rate_hz.tick_duration();
    let mut app = new_app(world, tick);
    app.finish();
    app.cleanup();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let netcode = NetcodeConfig::default()
        .with_protocol_id(PROTOCOL_ID)
        .with_key(PRIVATE_KEY);
    let server = app
        .world_mut()
        .spawn((NetcodeServer::new(netcode), LocalAddr(address), ServerUdpIo::default()))
        .id();
    app.world_mut().trigger(Start { entity: server });
    app.update();
    let bound = app.world().get::<LocalAddr>(server).map(|address| address.0);
    let bound = bound
        .filter(|address| address.port() != 0)
        .ok_or_else(|| anyhow!("the socket was not bound"))?;
    say(&format!("{READY}{bound}"))?;
    run_loop(&mut app, tick, &commands())
}

fn new_app(world: WorldDefinition, tick: Duration) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin, TransformPlugin));
    app.insert_resource(Scenery::new(&world));
    // One server has the whole world, whatever zones it is cut into.
    let whole = WorldDefinition {
        zones: Vec::new(),
        ..world
    };
    app.insert_resource(ZoneScope {
        zone: ZoneId(0),
        map: whole.zone_map(),
    });
    app.insert_resource(whole);
    app.insert_resource(EntityIds(EntityIdMint::new(ZoneId(0), LeaseEpoch(1))));
    app.insert_resource(ProtocolSide::Zone);
    // Before lightyear: the game's own wire formats are registered only where lightyear is there already.
    app.add_plugins(DemoPlugin);
    app.add_plugins((ServerPlugins { tick_duration: tick }, BaselineProtocol));
    app.init_resource::<Ticks>();
    app.add_observer(accept_link);
    app.add_observer(spawn_player);
    app.add_systems(Startup, |world: &mut World| {
        let hooks = *world.resource::<EntityHooks>();
        (hooks.populate)(world);
    });
    app.add_systems(FixedFirst, count_tick);
    app.add_systems(FixedUpdate, apply_inputs.before(SimulationSystems::Move));
    app.add_systems(
        FixedLast,
        (replicate_crates, settle_players).after(SimulationSystems::Settle),
    );
    app
}

/// Ticks simulated so far.
#[derive(Resource, Default)]
struct Ticks(u64);

fn count_tick(mut ticks: ResMut<Ticks>, mut current: ResMut<CurrentTick>) {
    ticks.0 += 1;
    current.0 = current.0.next();
}

fn accept_link(link: On<Add, LinkOf>, mut commands: Commands) {
    commands.entity(link.entity).insert(ReplicationSender);
}

fn spawn_player(connected: On<Add, Connected>, clients: Query<&RemoteId, With<ClientOf>>, mut commands: Commands) {
    let Ok(RemoteId(PeerId::Netcode(client))) = clients.get(connected.entity) else {
        return;
    };
    let (link, client) = (connected.entity, *client);
    commands.queue(move |world: &mut World| {
        let SpawnPlayer(spawn) = *world.resource::<SpawnPlayer>();
        let Some(id) = world.resource_mut::<EntityIds>().0.mint() else {
            return;
        };
        let player = spawn(world, id, PlayerId(client), "bot");
        world.entity_mut(player).insert((
            PlayerTag(client),
            Echo::default(),
            (Position::default(), Rotation::default(), LinearVelocity::default()),
            ActionState::<Move>::default(),
            Replicate::to_clients(NetworkTarget::All),
            ControlledBy {
                owner: link,
                lifetime: Lifetime::default(),
            },
        ));
    });
}

fn apply_inputs(mut players: Query<(&ActionState<Move>, &mut PlayerInput, &mut Echo)>) {
    for (action, mut player, mut echo) in &mut players {
        player.input = action.0.sanitise().0;
        if action.0.sequence != 0 && echo.0 != action.0.sequence {
            echo.0 = action.0.sequence;
        }
    }
}

fn settle_players(mut players: Query<(&MovementState, &mut Position, &mut Rotation, &mut LinearVelocity)>) {
    for (movement, mut position, mut rotation, mut velocity) in &mut players {
        position.0 = movement.position;
        rotation.0 = Quat::from_rotation_y(movement.yaw);
        velocity.0 = movement.velocity;
    }
}

fn replicate_crates(crates: Query<Entity, (Added<CrateBody>, With<Identity>)>, mut commands: Commands) {
    for entity in &crates {
        commands
            .entity(entity)
            .insert(Replicate::to_clients(NetworkTarget::All));
    }
}

/// Updates once per tick, as bevy's own schedule runner does with an interval, and measures between the commands.
fn run_loop(app: &mut App, tick: Duration, commands: &Receiver<Command>) -> anyhow::Result<()> {
    raise_thread_priority(Urgency::Ticks);
    let mut window = Window::open(app);
    loop {
        let begun = Instant::now();
        app.update();
        let took = begun.elapsed();
        window.updates.record(took);
        window.overruns += u64::from(took > tick);
        match commands.try_recv() {
            Ok(Command::Begin) => window = Window::open(app),
            Ok(Command::End) => say(&serde_json::to_string(&window.costs(app)).context("cannot encode the costs")?)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        std::thread::sleep(tick.saturating_sub(begun.elapsed()));
    }
}

struct Window {
    cpu: ProcessTime,
    first_tick: u64,
    updates: DurationHistogram,
    overruns: u64,
}

impl Window {
    fn open(app: &App) -> Self {
        let first_tick = app.world().resource::<Ticks>().0;
        Self {
            cpu: ProcessTime::now(),
            first_tick,
            updates: DurationHistogram::default(),
            overruns: 0,
        }
    }

    fn costs(&self, app: &App) -> Costs {
        Costs {
            cpu_us: u64::try_from(self.cpu.elapsed().as_micros()).unwrap_or(u64::MAX),
            ticks: app.world().resource::<Ticks>().0 - self.first_tick,
            overruns: self.overruns,
            update_ms: self.updates.summary_ms(),
        }
    }
}

/// Commands from standard input; disconnected when it ends, so the server never outlives who started it.
fn commands() -> Receiver<Command> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let Some(command) = Command::parse(&line) else { continue };
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
