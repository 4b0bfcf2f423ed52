//! One bot of the swarm: a headless client, its walk, and what is read off it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context;
use meridian_autopilot::Behaviour;
use meridian_client_net::{
    ClientStats, ConnectionState, Connector, HeadlessClient, HeadlessOptions, Measured, ProbeSample, Session,
};
use meridian_link::{ConditionedIo, LinkConditions, PacketIo, PolledUdp, bind_udp};

use super::border::{WATCHER_EVERY, is_near_border};
use super::driver::DriverOptions;
use super::outage::Acting;
use super::own_entity::OwnEntity;
use crate::probe::ProbeId;
use crate::report::Wire;

/// One bot. Made on one thread, for that takes as long as many ticks, and driven on another.
pub(super) struct Bot {
    index: usize,
    client: HeadlessClient,
    behaviour: Behaviour,
    probe_every: Duration,
    next_probe: Instant,
    in_world: bool,
    refused: bool,
    before: ClientStats,
    watches: bool,
    compared_before: u64,
    /// Ticks in the measuring window that the bot spent near a border.
    near_border_ticks: u64,
    /// Whether it was told where the bot was when the stall began.
    found_by_stall: bool,
    acting: Acting,
    own_entity: OwnEntity,
}

impl Bot {
    /// A bot that begins to connect, and the socket that becomes readable when a packet for it is there.
    pub(super) fn join(
        options: &DriverOptions,
        index: usize,
        session: &Session,
        now: Instant,
    ) -> anyhow::Result<(Self, UdpSocket)> {
        let any = match session.gateway {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let io = PolledUdp::new(bind_udp(any).context("no socket for a bot; is the limit of open files reached?")?)?;
        let socket = io.try_clone_socket().context("no second handle on a bot's socket")?;
        let watches = options.watches_borders && index.is_multiple_of(WATCHER_EVERY);
        let client_options = HeadlessOptions {
            predict: options.predict,
            interpolate: options.predict,
            server_url: Some(options.server.clone()),
            watch_borders: watches.then(|| options.zones.as_ref().clone()),
            game: options.game.clone(),
        };
        let io = conditioned(io, options.link, options.seed ^ index as u64);
        let bot = Self {
            index,
            client: HeadlessClient::new(client_options, session, io, now),
            behaviour: Behaviour::new(&options.stage, options.seed, index),
            probe_every: options.probe_every,
            // Spread over the interval, so that no tick has to answer all probes.
            next_probe: now + options.probe_every.mul_f64((index as f64 * 0.618).fract()),
            in_world: false,
            refused: false,
            before: ClientStats::default(),
            watches,
            compared_before: 0,
            near_border_ticks: 0,
            found_by_stall: false,
            acting: Acting::default(),
            own_entity: OwnEntity::default(),
        };
        Ok((bot, socket))
    }

    /// When the bot must be driven at the latest.
    pub(super) fn next_wake(&self) -> Instant {
        self.client.next_wake()
    }

    /// Does a tick when one is due, or takes in what has arrived; then tells what it measured.
    pub(super) fn drive(&mut self, options: &DriverOptions) {
        let now = Instant::now();
        if now >= self.client.next_tick() {
            let pose = self.client.own_pose();
            if let Some(pose) = pose.filter(|_| options.predict && options.timing.measures(now)) {
                self.near_border_ticks += u64::from(is_near_border(&options.zones, pose.position));
            }
            let input = self.behaviour.next(pose.map(|pose| pose.position));
            self.client.set_input(input);
            if self.in_world && now >= self.next_probe {
                // Probes missed while the bot was not in the world are not made up for.
                self.next_probe = (self.next_probe + self.probe_every).max(now);
                self.client.stamp();
            }
        }
        self.client.update(now);
        self.note_state();
        self.tell(options);
        self.tell_border(options, now);
    }

    fn note_state(&mut self) {
        let connector = self.client.world_mut().resource::<Connector>();
        if let Some(welcome) = connector.welcome {
            self.own_entity.told(welcome.entity, connector.disconnects);
        }
        match self.client.state() {
            ConnectionState::Playing => self.in_world = true,
            ConnectionState::Refused { reason } if !self.refused => {
                tracing::warn!(reason, "a bot was refused");
                self.refused = true;
            }
            _ => {}
        }
    }

    /// Moves what the client measured to where all bots' measurements meet.
    fn tell(&mut self, options: &DriverOptions) {
        let Measured {
            stamps,
            samples,
            sightings,
        } = self.client.drain_measured();
        self.tell_stall(options, &stamps, &samples);
        if stamps.is_empty() && samples.is_empty() && sightings.is_empty() {
            return;
        }
        let own = self.own_subject();
        let mut measured = options.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let own_id = |sequence| own.map(|subject| ProbeId { subject, sequence });
        for (sequence, stamped) in stamps {
            if let Some(id) = own_id(sequence) {
                measured.board.stamped(id, stamped);
            }
        }
        for sample in &samples {
            if let Some(id) = own_id(sample.sequence) {
                measured.board.echoed(id, sample.echoed);
            }
            let outage = self.acting.acted(sample.echoed, self.probe_every);
            if let Some(outage) = outage.filter(|_| options.timing.measures(sample.echoed)) {
                measured.outages.record(outage);
            }
            if let Some(terms) = sample.terms.filter(|_| options.timing.measures(sample.stamped)) {
                measured.record_terms(&terms);
            }
        }
        for sighting in &sightings {
            let id = ProbeId {
                subject: sighting.entity.0,
                sequence: sighting.sequence,
            };
            measured.board.sighted(id, sighting.seen);
        }
    }

    /// What was measured at borders counts in the measuring window only.
    fn tell_border(&mut self, options: &DriverOptions, now: Instant) {
        let crossings = if self.watches {
            self.client.drain_border_crossings()
        } else {
            Vec::new()
        };
        let corrections = if options.predict {
            self.client.drain_corrections()
        } else {
            Vec::new()
        };
        if options.timing.measures(now) && !(crossings.is_empty() && corrections.is_empty()) {
            let mut measured = options.measured.lock().unwrap_or_else(PoisonError::into_inner);
            measured.border.record(&crossings, &corrections, &options.zones);
        }
    }

    /// What the stall of a zone needs to know, from its beginning on.
    fn tell_stall(&mut self, options: &DriverOptions, stamps: &[(u32, Instant)], samples: &[ProbeSample]) {
        let Some(stall) = options.stall.as_ref().filter(|stall| stall.has_begun()) else {
            return;
        };
        if self.found_by_stall && stamps.is_empty() && samples.is_empty() {
            return;
        }
        let Some(pose) = self.client.own_pose() else { return };
        let place = stall.place(pose.position);
        let own = self.own_subject();
        let mut board = stall.board();
        if !self.found_by_stall {
            self.found_by_stall = true;
            board.found(self.index, place);
        }
        let Some(subject) = own else { return };
        for (sequence, stamped) in stamps.iter().copied() {
            board.stamped(ProbeId { subject, sequence }, stamped, place);
        }
        for sample in samples {
            let id = ProbeId {
                subject,
                sequence: sample.sequence,
            };
            board.echoed(self.index, id, sample.stamped, sample.echoed);
        }
    }

    /// The number that tells the own player apart.
    fn own_subject(&mut self) -> Option<u64> {
        let connector = self.client.world_mut().resource::<Connector>();
        connector.welcome.map(|welcome| welcome.entity.0)
    }

    /// The measuring window begins.
    pub(super) fn begin(&mut self) {
        self.before = self.client.stats();
        self.compared_before = self.client.states_compared();
    }

    /// States of the zone that were compared with the prediction in the measuring window.
    pub(super) fn states_compared(&self) -> u64 {
        self.client.states_compared().saturating_sub(self.compared_before)
    }

    /// How often the own player was another than before, within a connection or from one to the next, since the bot's start.
    pub(super) fn respawns(&self) -> u64 {
        self.client.stats().respawns + self.own_entity.made_anew()
    }

    /// Ticks in the measuring window that a predicted bot spent near a border of zones.
    pub(super) fn near_border_ticks(&self) -> u64 {
        self.near_border_ticks
    }

    /// Whether the bot ever was in the world.
    pub(super) fn was_in_world(&self) -> bool {
        self.in_world
    }

    /// Whether the bot has not seen an action of its own applied for too long.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.acting.is_out(now, self.probe_every)
    }

    /// Connections that broke, since the bot's start.
    pub(super) fn disconnects(&self) -> u64 {
        self.client.stats().disconnects
    }

    /// Inputs sent in the measuring window.
    pub(super) fn inputs(&self) -> u64 {
        self.client.stats().inputs_sent.saturating_sub(self.before.inputs_sent)
    }

    /// What went over the socket in the measuring window.
    pub(super) fn wire(&self) -> Wire {
        wire(&self.client.stats()).since(&wire(&self.before))
    }
}

/// A socket behind a link that does what is asked of it.
fn conditioned(io: PolledUdp, link: LinkConditions, seed: u64) -> Box<dyn PacketIo> {
    if link.is_perfect() {
        Box::new(io)
    } else {
        Box::new(ConditionedIo::new(io, link, seed))
    }
}

fn wire(stats: &ClientStats) -> Wire {
    Wire {
        bytes_up: stats.link.bytes_out,
        bytes_down: stats.link.bytes_in,
        packets_up: stats.link.packets_out,
        packets_down: stats.link.packets_in,
        entity_updates: stats.entity_updates,
        bytes_per_entity_update: None,
    }
}
