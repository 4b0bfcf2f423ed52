//! A client without a window: an app with the network and nothing else, driven by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::app::{App, TaskPoolOptions};
use bevy::ecs::query::{QueryState, With};
use bevy::ecs::world::World;
use bevy::time::{Fixed, Time, TimePlugin, TimeUpdateStrategy, Virtual};
use meridian_game::{ActionRegistry, Move, Pose, Scenery, WorldAction};
use meridian_ids::ZoneMap;
use meridian_link::{LinkEndpoint, LinkTotals, PacketIo};

use crate::border_watch::{self, BorderCrossing, BorderWatch};
use crate::connection::{self, ConnectionState, Connector};
use crate::input::LocalInput;
use crate::passes::Passes;
use crate::plugin::{ClientNetPlugin, GameFn, OwnPlayer, ReplicatedUpdates};
use crate::prediction::{Correction, CorrectionStats};
use crate::probe::{Measured, ProbeSample, Probes, Sighting};
use crate::session::{Session, SessionProvider, SessionSource};

/// Added to the time until the next tick: a tick that is woken for a nanosecond early would be none.
const DUE_ROUNDING: Duration = Duration::from_micros(1);

/// How a headless client is made.
#[derive(Clone)]
pub struct HeadlessOptions {
    /// Whether the own player is predicted.
    pub predict: bool,
    /// Whether the others are interpolated.
    pub interpolate: bool,
    /// Where to ask for another session when the connection breaks; without it, a break is final.
    pub server_url: Option<String>,
    /// The zones at whose borders it is measured how gapless the others are seen; without them nothing is.
    pub watch_borders: Option<ZoneMap>,
    /// The game that is played.
    pub game: GameFn,
}

/// What a client counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Inputs sent, one per tick.
    pub inputs_sent: u64,
    /// Updates of poses received.
    pub entity_updates: u64,
    /// Corrections of the own player.
    pub corrections: u64,
    /// Connections that broke.
    pub disconnects: u64,
    /// How often the own player's entity was taken away and another came in its place, within a connection.
    pub respawns: u64,
    /// What went through the link.
    pub link: LinkTotals,
}

/// A client driven by hand. It may be made on one thread and driven on another: making it takes some 10 ms.
pub struct HeadlessClient {
    world: World,
    next_tick_at: Instant,
    next_wake_at: Instant,
    received_at: Option<Instant>,
    virtual_time: bool,
    passes: Passes,
    own: QueryState<&'static Pose, With<OwnPlayer>>,
}

impl HeadlessClient {
    /// A client of `session` with packets from `io`.
    pub fn new(options: HeadlessOptions, session: &Session, io: Box<dyn PacketIo>, now: Instant) -> Self {
        let mut app = App::new();
        // The pools that Bevy expects, without the plugin's system that runs their tasks each frame: there are none.
        TaskPoolOptions::default().create_default_pools();
        app.add_plugins(TimePlugin);
        app.insert_resource(Connector::new(options.server_url, session.name.clone(), now));
        app.insert_resource(LinkEndpoint::client(
            io,
            session.gateway,
            bevy::ecs::entity::Entity::PLACEHOLDER,
        ));
        if options.predict {
            app.insert_resource(Scenery::new(&session.world));
        }
        app.insert_resource(session.world.as_ref().clone());
        app.add_plugins(ClientNetPlugin {
            tick_rate: session.world.tick_rate_hz,
            predict: options.predict,
            interpolate: options.interpolate,
            game: options.game,
        });
        if let Some(zones) = options.watch_borders {
            border_watch::add(&mut app, zones, session.world.tick_rate_hz);
        }
        app.finish();
        app.cleanup();
        connection::connect(app.world_mut(), session, now);
        // Once the whole way, for what runs at start-up and to build the schedules.
        app.insert_resource(TimeUpdateStrategy::ManualInstant(now));
        app.update();
        app.insert_resource(TimeUpdateStrategy::Automatic);
        let mut world = std::mem::take(app.world_mut());
        Self {
            passes: Passes::take(&mut world),
            own: world.query_filtered(),
            world,
            next_tick_at: now,
            next_wake_at: now,
            received_at: None,
            virtual_time: false,
        }
    }

    /// Lets sessions come from somewhere else than a server over HTTP; `server_url` is what it is asked with.
    pub fn with_sessions(mut self, source: Arc<dyn SessionSource>) -> Self {
        self.world.insert_resource(SessionProvider(source));
        self
    }

    /// Lets what is measured be the time that [`Self::update`] is told, for tests.
    pub fn with_virtual_time(mut self) -> Self {
        self.virtual_time = true;
        self
    }

    /// Does a tick when one is due at `now`; otherwise takes in the packets that wait.
    pub fn update(&mut self, now: Instant) {
        if self.virtual_time {
            self.world.insert_resource(TimeUpdateStrategy::ManualInstant(now));
        }
        if now >= self.next_tick_at {
            self.tick(now);
        } else {
            self.received_at = Some(now);
            self.passes.receive(&mut self.world, now);
        }
        let held_back = self.world.resource::<LinkEndpoint>().next_due();
        self.next_wake_at = held_back.map_or(self.next_tick_at, |due| due.min(self.next_tick_at));
    }

    fn tick(&mut self, now: Instant) {
        let timestep = self.world.resource::<Time<Fixed>>().timestep();
        // Where packets come each tick, passes between frames have taken them in; timeouts and keep-alives run there too.
        let silent = self
            .received_at
            .is_none_or(|received| now.saturating_duration_since(received) > timestep.mul_f32(1.5));
        if silent {
            self.received_at = Some(now);
        }
        self.passes.frame(&mut self.world, now, silent);
        let (fixed, pace) = (
            self.world.resource::<Time<Fixed>>(),
            self.world.resource::<Time<Virtual>>(),
        );
        let left = fixed.timestep().saturating_sub(fixed.overstep());
        self.next_tick_at = now + left.div_f32(pace.relative_speed().max(0.1)) + DUE_ROUNDING;
    }

    /// When [`Self::update`] must be called at the latest.
    pub fn next_wake(&self) -> Instant {
        self.next_wake_at
    }

    /// When the next tick is due: what the player does in it must be set by then.
    pub fn next_tick(&self) -> Instant {
        self.next_tick_at
    }

    /// What the player does in the following ticks.
    pub fn set_input(&mut self, input: Move) {
        self.world.resource_mut::<LocalInput>().input = input;
    }

    /// Stamps the next tick's input, to measure how long its action takes.
    pub fn stamp(&mut self) {
        self.world.resource_mut::<LocalInput>().stamp = true;
    }

    /// Sends an action, if it is registered and the client is in the world.
    pub fn act<A: WorldAction>(&mut self, action: &A) -> bool {
        let world = &mut self.world;
        let Some(message) = world
            .get_resource::<ActionRegistry>()
            .and_then(|registry| registry.message(action).ok())
        else {
            return false;
        };
        let Some(link) = world.resource::<Connector>().link() else {
            return false;
        };
        let sender = world.get_mut::<lightyear::prelude::MessageSender<meridian_game::ActionMessage>>(link);
        let Some(mut sender) = sender else { return false };
        sender.send::<meridian_game::ActionChannel>(message);
        true
    }

    /// Where the own player stands, as far as the client knows.
    pub fn own_pose(&mut self) -> Option<Pose> {
        self.own.single(&self.world).ok().copied()
    }

    /// What the connection is doing.
    pub fn state(&self) -> &ConnectionState {
        &self.world.resource::<Connector>().state
    }

    /// What was counted since the start.
    pub fn stats(&self) -> ClientStats {
        let world = &self.world;
        ClientStats {
            inputs_sent: world.resource::<LocalInput>().sent,
            entity_updates: world.resource::<ReplicatedUpdates>().0,
            corrections: world
                .get_resource::<CorrectionStats>()
                .map_or(0, |stats| stats.corrections),
            disconnects: world.resource::<Connector>().disconnects,
            respawns: world.resource::<Connector>().respawns,
            link: world.resource::<LinkEndpoint>().counters().totals(),
        }
    }

    /// Takes what was measured of the own actions.
    pub fn drain_probes(&mut self) -> Vec<ProbeSample> {
        self.world.resource_mut::<Probes>().drain_samples()
    }

    /// Takes all that was measured of own and others' actions.
    pub fn drain_measured(&mut self) -> Measured {
        self.world.resource_mut::<Probes>().drain()
    }

    /// Takes what was seen of others' actions.
    pub fn drain_sightings(&mut self) -> Vec<Sighting> {
        self.world.resource_mut::<Probes>().drain_sightings()
    }

    /// Takes how the own player was corrected since the last call; nothing where it is not predicted.
    pub fn drain_corrections(&mut self) -> Vec<Correction> {
        self.world
            .get_resource_mut::<CorrectionStats>()
            .map_or_else(Vec::new, |mut stats| stats.drain())
    }

    /// States of the zone that were compared with the prediction since the start.
    pub fn states_compared(&self) -> u64 {
        self.world
            .get_resource::<CorrectionStats>()
            .map_or(0, |stats| stats.compared)
    }

    /// Takes how the others were seen to cross borders since the last call; nothing where they are not watched.
    pub fn drain_border_crossings(&mut self) -> Vec<BorderCrossing> {
        self.world
            .get_resource_mut::<BorderWatch>()
            .map_or_else(Vec::new, |mut watch| watch.drain())
    }

    /// The client's world, for tests and tools.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }
}
