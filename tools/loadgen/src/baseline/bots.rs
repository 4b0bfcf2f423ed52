//! Stock clients: `ClientPlugins` with every default, one app each, updated once per tick.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use cpu_time::ThreadTime;
use meridian_autopilot::Stage;
use meridian_game::WorldDefinition;
use meridian_link::{Urgency, raise_thread_priority};

use super::BaselineOptions;
use super::client::{Client, ClientOptions};
use crate::probe::ProbeBoard;
use crate::report::Wire;
use crate::timing::{Phase, Timing};

/// Bots of one thread at most: at up to 0.4 ms a tick, as stock clients were measured to take, half a core.
const BOTS_PER_THREAD: usize = 20;

/// What the bots of a run measured together.
pub(super) struct SwarmResult {
    pub(super) board: ProbeBoard,
    pub(super) connected: u64,
    pub(super) disconnected: u64,
    pub(super) inputs: u64,
    pub(super) updates: u64,
    pub(super) cpu: Duration,
    pub(super) wire: Wire,
}

/// The bots' threads.
pub(super) struct Swarm {
    threads: Vec<JoinHandle<anyhow::Result<Part>>>,
    board: Arc<Mutex<ProbeBoard>>,
}

/// What one thread's bots measured.
#[derive(Default)]
struct Part {
    connected: u64,
    disconnected: u64,
    inputs: u64,
    updates: u64,
    cpu: Duration,
    wire: Wire,
}

impl Swarm {
    pub(super) fn start(
        options: &BaselineOptions,
        world: &WorldDefinition,
        server: SocketAddr,
        timing: &Timing,
    ) -> anyhow::Result<Self> {
        let board = Arc::new(Mutex::new(ProbeBoard::new(timing.measure_from, timing.until)));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = options.bots.div_ceil(BOTS_PER_THREAD).clamp(1, cores);
        let stage = Stage::new(options.scenario, world, options.bots)?;
        let mut threads = Vec::with_capacity(count);
        for thread in 0..count {
            let client_options: Vec<ClientOptions> = (thread..options.bots)
                .step_by(count)
                .map(|index| ClientOptions {
                    index,
                    server,
                    tick: world.tick_rate_hz.tick_duration(),
                    stage: stage.clone(),
                    seed: options.seed,
                    probe_every: options.probe_every,
                    board: board.clone(),
                })
                .collect();
            let timing = *timing;
            let builder = std::thread::Builder::new().name(format!("stock-bots-{thread}"));
            let handle = builder
                .spawn(move || drive(client_options, &timing))
                .context("cannot start a thread")?;
            threads.push(handle);
        }
        Ok(Self { threads, board })
    }

    pub(super) fn finish(self) -> anyhow::Result<SwarmResult> {
        let mut sum = Part::default();
        for thread in self.threads {
            let part = thread
                .join()
                .map_err(|_| anyhow!("a thread of stock bots panicked"))??;
            sum.connected += part.connected;
            sum.disconnected += part.disconnected;
            sum.inputs += part.inputs;
            sum.updates += part.updates;
            sum.cpu += part.cpu;
            sum.wire = sum.wire.plus(&part.wire);
        }
        let board = Arc::into_inner(self.board).context("a bot still holds the probes")?;
        let mut board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
        board.give_up(Instant::now());
        Ok(SwarmResult {
            board,
            connected: sum.connected,
            disconnected: sum.disconnected,
            inputs: sum.inputs,
            updates: sum.updates,
            cpu: sum.cpu,
            wire: sum.wire,
        })
    }
}

struct Bot {
    client: Client,
    due: Instant,
    inputs_before: u64,
    wire_before: Wire,
}

/// Updates each bot once per tick until the run ends.
fn drive(mut waiting: Vec<ClientOptions>, timing: &Timing) -> anyhow::Result<Part> {
    raise_thread_priority(Urgency::Plays);
    waiting.reverse();
    let mut bots: Vec<Bot> = Vec::with_capacity(waiting.len());
    let mut part = Part::default();
    let mut phase = Phase::Joining;
    while phase != Phase::Over {
        let now = Instant::now();
        let entered = timing.phase(now);
        if phase == Phase::Joining && entered > phase {
            bots.iter_mut().for_each(Bot::begin);
        }
        if phase <= Phase::Measuring && entered > Phase::Measuring {
            bots.iter().for_each(|bot| part.count(bot));
        }
        phase = entered;
        if let Some(options) = waiting.pop_if(|options| timing.joins(options.index) <= now) {
            bots.push(Bot::join(options)?);
        }
        let next_join = waiting.last().map(|options| timing.joins(options.index));
        let pause = next_join.unwrap_or(timing.stop).min(timing.next_phase(now));
        let next = bots.iter_mut().min_by_key(|bot| bot.due).filter(|bot| bot.due <= pause);
        let Some(bot) = next else {
            timing.sleep_until(pause);
            continue;
        };
        timing.sleep_until(bot.due);
        let cpu = ThreadTime::now();
        bot.client.update();
        if phase == Phase::Measuring {
            part.cpu += cpu.elapsed();
            part.updates += 1;
        }
        // A bot that is late is updated at once, but the updates it missed are not made up for.
        bot.due = (bot.due + bot.client.tick()).max(now);
    }
    Ok(part)
}

impl Bot {
    fn join(options: ClientOptions) -> anyhow::Result<Self> {
        let due = Instant::now();
        let client = Client::connect(options)?;
        Ok(Self {
            client,
            due,
            inputs_before: 0,
            wire_before: Wire::default(),
        })
    }

    fn begin(&mut self) {
        (self.inputs_before, self.wire_before) = (self.client.inputs(), self.client.wire());
    }
}

impl Part {
    fn count(&mut self, bot: &Bot) {
        self.connected += u64::from(bot.client.was_connected());
        self.disconnected += bot.client.disconnects();
        self.inputs += bot.client.inputs() - bot.inputs_before;
        self.wire = self.wire.plus(&bot.client.wire().since(&bot.wire_before));
    }
}
