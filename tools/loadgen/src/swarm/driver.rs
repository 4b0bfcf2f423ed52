//! A driver thread: many bots, one wait.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use meridian_autopilot::Stage;
use meridian_client_net::GameFn;
use meridian_ids::ZoneMap;
use meridian_link::{LinkConditions, Urgency, raise_thread_priority};

use super::Measured;
use super::bot::Bot;
use super::sockets::Sockets;
use super::stall::StalledZone;
use crate::report::Wire;
use crate::timing::{JOIN_INTERVAL, Phase, Timing};

/// What a driver needs to know.
#[derive(Clone)]
pub(super) struct DriverOptions {
    pub(super) timing: Timing,
    pub(super) stage: Stage,
    pub(super) seed: u64,
    pub(super) predict: bool,
    pub(super) probe_every: Duration,
    pub(super) server: String,
    pub(super) game: GameFn,
    pub(super) measured: Arc<Mutex<Measured>>,
    pub(super) zones: Arc<ZoneMap>,
    /// Whether some of the bots watch how others cross borders.
    pub(super) watches_borders: bool,
    pub(super) link: LinkConditions,
    pub(super) stall: Option<Arc<StalledZone>>,
}

/// What a driver's bots did in the measuring window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) connected: u64,
    pub(super) disconnected: u64,
    pub(super) inputs: u64,
    pub(super) cpu: Duration,
    pub(super) wire: Wire,
    pub(super) compared: u64,
    pub(super) respawns: u64,
    pub(super) near_border_ticks: u64,
    pub(super) still_out: u64,
}

impl Part {
    fn count(bots: &[Bot], cpu: Option<ThreadTime>) -> Self {
        let now = Instant::now();
        Self {
            connected: bots.iter().filter(|bot| bot.was_in_world()).count() as u64,
            disconnected: bots.iter().map(Bot::disconnects).sum(),
            inputs: bots.iter().map(Bot::inputs).sum(),
            cpu: cpu.map(|cpu| cpu.elapsed()).unwrap_or_default(),
            wire: bots.iter().fold(Wire::default(), |sum, bot| sum.plus(&bot.wire())),
            compared: bots.iter().map(Bot::states_compared).sum(),
            respawns: bots.iter().map(Bot::respawns).sum(),
            near_border_ticks: bots.iter().map(Bot::near_border_ticks).sum(),
            still_out: bots.iter().filter(|bot| bot.is_out(now)).count() as u64,
        }
    }

    pub(super) fn sum(parts: &[Self]) -> Self {
        parts.iter().fold(Self::default(), |sum, part| Self {
            connected: sum.connected + part.connected,
            disconnected: sum.disconnected + part.disconnected,
            inputs: sum.inputs + part.inputs,
            cpu: sum.cpu + part.cpu,
            wire: sum.wire.plus(&part.wire),
            compared: sum.compared + part.compared,
            respawns: sum.respawns + part.respawns,
            near_border_ticks: sum.near_border_ticks + part.near_border_ticks,
            still_out: sum.still_out + part.still_out,
        })
    }
}

/// The bots of one driver. What is looked at again and again lies together: a look at a bot itself misses the cache.
struct Bots {
    bots: Vec<Bot>,
    sockets: Sockets,
    wakes: Vec<Instant>,
}

impl Bots {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            bots: Vec::new(),
            sockets: Sockets::new()?,
            wakes: Vec::new(),
        })
    }

    fn push(&mut self, bot: Bot, socket: UdpSocket) -> anyhow::Result<()> {
        self.sockets.push(socket)?;
        self.wakes.push(bot.next_wake());
        self.bots.push(bot);
        Ok(())
    }

    fn drive(&mut self, index: usize, options: &DriverOptions) {
        self.bots[index].drive(options);
        self.wakes[index] = self.bots[index].next_wake();
    }

    /// Drives the bots whose tick is due.
    fn drive_due(&mut self, options: &DriverOptions) {
        let now = Instant::now();
        for index in 0..self.wakes.len() {
            if self.wakes[index] <= now {
                self.drive(index, options);
            }
        }
    }

    /// When the next pass must be, whether or not a packet comes.
    fn deadline(&self, timing: &Timing, joining: bool, now: Instant) -> Instant {
        let next_phase = timing.next_phase(now);
        let next_join = if joining { now + JOIN_INTERVAL / 4 } else { next_phase };
        let next_wake = self.wakes.iter().min().copied().unwrap_or(next_phase);
        next_wake.min(next_join).min(next_phase)
    }
}

/// Drives bots as they come out of `inbox` until the run ends.
pub(super) fn drive(options: &DriverOptions, inbox: &Receiver<(Bot, UdpSocket)>) -> anyhow::Result<Part> {
    // The clients that the bots stand for have machines of their own.
    raise_thread_priority(Urgency::Plays);
    let timing = &options.timing;
    let mut bots = Bots::new()?;
    let mut readable = Vec::new();
    let mut part = Part::default();
    let mut cpu: Option<ThreadTime> = None;
    let (mut phase, mut joining) = (Phase::Joining, true);
    while phase != Phase::Over {
        let now = Instant::now();
        let entered = timing.phase(now);
        if phase == Phase::Joining && entered > phase {
            bots.bots.iter_mut().for_each(Bot::begin);
            cpu = Some(ThreadTime::now());
        }
        if phase <= Phase::Measuring && entered > Phase::Measuring {
            part = Part::count(&bots.bots, cpu);
        }
        phase = entered;
        match inbox.try_recv() {
            Ok((bot, socket)) => bots.push(bot, socket)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => joining = false,
        }
        let deadline = bots.deadline(timing, joining, now);
        bots.sockets.wait(deadline, &mut readable)?;
        // Ticks first: a late one is a late input, while a packet taken in late is only seen late.
        bots.drive_due(options);
        for &index in &readable {
            bots.drive(index, options);
            bots.drive_due(options);
        }
    }
    Ok(part)
}
