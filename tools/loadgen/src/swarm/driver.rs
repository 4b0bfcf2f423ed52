//! A driver thread: many bots, one `poll`.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use cpu_time::ThreadTime;
use meridian_client_net::GameFn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Measured;
use super::bot::Bot;
use super::joiner::Joining;
use crate::report::Wire;
use crate::scenario::Stage;
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
}

/// What a driver's bots did in the measuring window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) connected: u64,
    pub(super) disconnected: u64,
    pub(super) inputs: u64,
    pub(super) cpu: Duration,
    pub(super) wire: Wire,
}

impl Part {
    fn count(bots: &[Bot], cpu: Option<ThreadTime>) -> Self {
        Self {
            connected: bots.iter().filter(|bot| bot.was_in_world()).count() as u64,
            disconnected: bots.iter().map(Bot::disconnects).sum(),
            inputs: bots.iter().map(Bot::inputs).sum(),
            cpu: cpu.map(|cpu| cpu.elapsed()).unwrap_or_default(),
            wire: bots.iter().fold(Wire::default(), |sum, bot| sum.plus(&bot.wire())),
        }
    }

    pub(super) fn sum(parts: &[Self]) -> Self {
        parts.iter().fold(Self::default(), |sum, part| Self {
            connected: sum.connected + part.connected,
            disconnected: sum.disconnected + part.disconnected,
            inputs: sum.inputs + part.inputs,
            cpu: sum.cpu + part.cpu,
            wire: sum.wire.plus(&part.wire),
        })
    }
}

/// Drives bots as they come out of `inbox` until the run ends.
pub(super) fn drive(options: &DriverOptions, inbox: &Receiver<Joining>) -> anyhow::Result<Part> {
    let timing = &options.timing;
    let mut bots: Vec<Bot> = Vec::new();
    let mut readable: Vec<bool> = Vec::new();
    let mut part = Part::default();
    let mut cpu: Option<ThreadTime> = None;
    let (mut phase, mut joining) = (Phase::Joining, true);
    while phase != Phase::Over {
        let now = Instant::now();
        let entered = timing.phase(now);
        if phase == Phase::Joining && entered > phase {
            bots.iter_mut().for_each(Bot::begin);
            cpu = Some(ThreadTime::now());
        }
        if phase <= Phase::Measuring && entered > Phase::Measuring {
            part = Part::count(&bots, cpu);
        }
        phase = entered;
        // One at a time: making a client takes milliseconds, and the others' ticks do not wait.
        match inbox.try_recv() {
            Ok(message) => bots.push(Bot::join(options, &message, Instant::now())?),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => joining = false,
        }
        let deadline = deadline(&bots, timing, joining, now);
        wait(&bots, deadline, &mut readable)?;
        // Ticks first: a late one is a late input, while a packet taken in late is only seen late.
        for (bot, readable) in bots.iter_mut().zip(&readable) {
            if !*readable && bot.next_wake() <= Instant::now() {
                bot.drive(options);
            }
        }
        for index in 0..readable.len() {
            if readable[index] {
                bots[index].drive(options);
                drive_due(&mut bots, options);
            }
        }
    }
    Ok(part)
}

/// Drives the bots whose tick is due.
fn drive_due(bots: &mut [Bot], options: &DriverOptions) {
    let now = Instant::now();
    bots.iter_mut()
        .filter(|bot| bot.next_wake() <= now)
        .for_each(|bot| bot.drive(options));
}

/// When the next pass must be, whether or not a packet comes.
fn deadline(bots: &[Bot], timing: &Timing, joining: bool, now: Instant) -> Instant {
    let next_phase = timing.next_phase(now);
    let next_join = if joining { now + JOIN_INTERVAL / 4 } else { next_phase };
    let next_wake = bots.iter().map(Bot::next_wake).min().unwrap_or(next_phase);
    next_wake.min(next_join).min(next_phase)
}

/// Sleeps until `deadline` or until a bot's socket is readable, and says which are.
fn wait(bots: &[Bot], deadline: Instant, readable: &mut Vec<bool>) -> anyhow::Result<()> {
    let mut sockets: Vec<PollFd<'_>> = bots
        .iter()
        .map(|bot| PollFd::new(bot.socket(), PollFlags::IN))
        .collect();
    let timeout = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    readable.clear();
    match poll(&mut sockets, Some(&timeout)) {
        Ok(_) => readable.extend(sockets.iter().map(|socket| !socket.revents().is_empty())),
        // A signal: as if nothing had come.
        Err(Errno::INTR) => readable.resize(bots.len(), false),
        Err(error) => return Err(error).context("cannot wait for the bots' sockets"),
    }
    Ok(())
}
