//! What a modified client sends in place of inputs of its own player, in virtual time: it steers nobody else, is counted, and may play on.

use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::Without;
use bevy::math::{Vec2, Vec3};
use lightyear::input::InputChannel;
use lightyear::input::input_buffer::INPUT_BUFFER_CAPACITY;
use lightyear::input::input_message::{ActionStateSequence, InputMessage, InputTarget, PerTargetData};
use lightyear::prelude::input::native::{ActionState, NativeBuffer, NativeStateSequence};
use lightyear::prelude::{LocalTimeline, MessageSender, Tick};
use meridian_client_net::Connector;
use meridian_game::protocol::INPUT_REDUNDANCY_TICKS;
use meridian_game::{Ghost, Identity, Move, Pose};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::PlayerId;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

type Inputs = NativeStateSequence<Move>;

/// The client that is modified, and the one whose player it is after.
const FORGER: usize = 0;
const VICTIM: usize = 1;
/// Forged messages of each kind: with the forger's own they are no flood.
const MESSAGES: u32 = 30;
/// How far ahead of the forger's tick a forgery ends: the victim's own inputs for these ticks come later, and would be ignored.
const AHEAD_TICKS: u32 = 20;
/// How far a player may be from where it stood and still count as standing.
const STANDS_WITHIN_M: f32 = 0.01;

/// A wide floor without anything on it.
const PLAIN: &str = r#"
name = "plain"
kill_below_m = -20.0
[bounds]
min = [-1000.0, -1000.0]
max = [1000.0, 1000.0]
[spawn]
centre = [0.0, 0.0, 0.0]
radius_m = 20.0
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [2000.0, 2.0, 2000.0]
"#;

/// An input message, by what may be wrong with it.
struct Forgery {
    /// The entities that it names, as the forger knows them.
    targets: Vec<Entity>,
    input: Move,
    ticks: usize,
    ahead_ticks: u32,
}

impl Forgery {
    /// Nothing is wrong but for the targets.
    fn of(targets: Vec<Entity>) -> Self {
        Self {
            targets,
            input: Move::default(),
            ticks: INPUT_REDUNDANCY_TICKS,
            ahead_ticks: AHEAD_TICKS,
        }
    }

    fn message(&self, now: Tick) -> InputMessage<Inputs> {
        let end = Tick(now.0 + self.ahead_ticks);
        let first = end.0 + 1 - self.ticks as u32;
        let mut buffer = NativeBuffer::<Move>::default();
        for tick in (first..=end.0).take(INPUT_BUFFER_CAPACITY) {
            buffer.set(Tick(tick), ActionState(self.input));
        }
        let states = Inputs::build_from_input_buffer(&buffer, self.ticks, end).expect("a first tick");
        let mut message = InputMessage::new(end);
        message.inputs.extend(self.targets.iter().map(|target| PerTargetData {
            target: InputTarget::Entity(*target),
            states: states.clone(),
        }));
        message
    }
}

#[test]
fn a_modified_client_steers_nobody_else_and_each_of_its_forgeries_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let mut world = TestWorld::new(TestOptions {
            world: PLAIN.to_owned(),
            ..TestOptions::default()
        });
        world.join_all(2);
        world.run(Duration::from_secs(3));
        for (reason, forgery) in forgeries(&mut world) {
            let (stood, before) = (position(&mut world, VICTIM), refused(&counted, reason));
            send_often(&mut world, &forgery);
            assert_eq!(refused(&counted, reason) - before, u64::from(MESSAGES), "{reason}");
            let moved = position(&mut world, VICTIM).distance(stood);
            assert!(moved < STANDS_WITHIN_M, "{reason}: the other player moved by {moved} m");
        }
        assert_plays_on(&mut world);
    });
}

/// The kinds of forgery, each with the reason for which it is refused.
fn forgeries(world: &mut TestWorld) -> [(&'static str, Forgery); 4] {
    let (own, other) = (entity_of(world, FORGER), entity_of(world, VICTIM));
    let steers_another = Forgery {
        input: Move::new(Vec2::X, 0.0, false).0,
        ..Forgery::of(vec![other])
    };
    let far_ahead = Forgery {
        ahead_ticks: 1_000,
        ..Forgery::of(vec![own])
    };
    let long = Forgery {
        ticks: INPUT_BUFFER_CAPACITY + 1,
        ..Forgery::of(vec![own])
    };
    [
        ("not_controlled", steers_another),
        ("implausible_tick", far_ahead),
        ("too_many_targets", Forgery::of(vec![own; 8])),
        ("too_many_ticks", long),
    ]
}

/// Sends a forgery in each of so many ticks, and lets those pass for which it is meant.
fn send_often(world: &mut TestWorld, forgery: &Forgery) {
    for _ in 0..MESSAGES {
        let forger = world.clients[FORGER].world_mut();
        let message = forgery.message(forger.resource::<LocalTimeline>().tick());
        let link = forger.resource::<Connector>().link().expect("a link");
        let sender = forger.get_mut::<MessageSender<InputMessage<Inputs>>>(link);
        sender.expect("in the world").send::<InputChannel>(message);
        world.run_ticks(1);
    }
    world.run_ticks(2 * AHEAD_TICKS);
}

/// The forger's player still goes where it wants to, which is away from the other one.
fn assert_plays_on(world: &mut TestWorld) {
    let (before, other) = (position(world, FORGER), position(world, VICTIM));
    let away = if before.x < other.x { -1.0 } else { 1.0 };
    world.walk(FORGER, away, 0.0, false);
    world.run(Duration::from_secs(1));
    let walked = position(world, FORGER).distance(before);
    assert!(walked > 4.0, "the forger's player walked {walked} m");
    assert!(world.all_playing(), "{:?}", world.states());
    assert_eq!(world.clients[FORGER].stats().disconnects, 0);
}

/// The messages that the gateway has refused for a reason.
fn refused(counted: &PrometheusHandle, reason: &str) -> u64 {
    let start = format!("meridian_gateway_inputs_refused_total{{reason=\"{reason}\"}} ");
    let page = counted.render();
    let count = page.lines().find_map(|line| line.strip_prefix(&start));
    count.map_or(0, |count| count.parse().expect("a whole number"))
}

fn player_of(client: usize) -> Option<PlayerId> {
    Some(PlayerId(100 + client as u64))
}

/// A client's player, as the forger knows it.
fn entity_of(world: &mut TestWorld, client: usize) -> Entity {
    let forger = world.clients[FORGER].world_mut();
    let mut players = forger.query::<(Entity, &Identity)>();
    let mut players = players.iter(forger);
    let found = players.find(|(_, identity)| identity.player == player_of(client));
    found.map(|(entity, _)| entity).expect("in sight")
}

/// Where its zone has a client's player.
fn position(world: &mut TestWorld, client: usize) -> Vec3 {
    let found = world.zones.iter_mut().find_map(|zone| {
        let world = zone.app_mut().world_mut();
        let mut players = world.query_filtered::<(&Identity, &Pose), Without<Ghost>>();
        let mut players = players.iter(world);
        players
            .find(|(identity, _)| identity.player == player_of(client))
            .map(|(_, pose)| pose.position)
    });
    found.expect("in the world")
}
