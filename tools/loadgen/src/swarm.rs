//! `loadgen run`: a swarm of bots against a running Meridian server, and what it measured.
//!
//! A bot is a [`HeadlessClient`](meridian_client_net::HeadlessClient) without prediction, unless it is asked for. A
//! driver thread holds up to [`BOTS_PER_DRIVER`] bots, sleeps in one `poll` over their sockets until a packet or the
//! next tick of any, and touches only the bots concerned. It never waits for the server's HTTP side: sessions are asked
//! for on a thread of their own.

mod border;
mod bot;
mod driver;
mod joiner;
mod outage;
mod own_entity;
mod sockets;
mod stall;

pub use stall::Stall;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use meridian_autopilot::{ScenarioKind, Stage};
use meridian_client_net::metric_definitions::CLIENT_TERM_SECONDS;
use meridian_client_net::{GameFn, ProbeTerms};
use meridian_game::demo::DemoPlugin;
use meridian_ids::TickRate;
use meridian_link::LinkConditions;

use crate::audit::follow::{Followed, follow};
use crate::histogram::{DurationHistogram, Summary};
use crate::probe::ProbeBoard;
use crate::report::{Bots, Handoffs, Inputs, Loadgen, Report, TERMS, cpu_us_per};
use crate::scrape::{Scrape, Scraped};
use crate::timing::Timing;
use border::BorderFigures;
use bot::Bot;
use driver::{DriverOptions, Part};
use outage::OutageFigures;
use stall::StalledZone;

/// Bots of one driver thread at most: at 150 us a tick, half of a core at 60 Hz.
pub const BOTS_PER_DRIVER: usize = 50;

/// What a swarm is.
#[derive(Clone)]
pub struct SwarmOptions {
    /// Where sessions are asked for.
    pub server: String,
    /// Where the metrics and the audit of the server's processes are, if they are wanted.
    pub admin: Vec<String>,
    /// How many bots.
    pub bots: usize,
    /// Length of the measuring window.
    pub measure: Duration,
    /// From the last bot's joining to the window.
    pub warmup: Duration,
    /// What the bots do.
    pub scenario: ScenarioKind,
    /// Whether bots predict their own player and interpolate the others, as a player's client does.
    pub predict: bool,
    /// How often each bot stamps an action.
    pub probe_every: Duration,
    /// Seed of the bots' walks.
    pub seed: u64,
    /// The game that the server plays.
    pub game: GameFn,
    /// What goes wrong on purpose.
    pub faults: Faults,
}

/// What goes wrong in a run on purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// What each bot's link does to packets, each way.
    pub link: LinkConditions,
    /// A zone that stands still in the middle of the measuring window.
    pub stall: Option<Stall>,
}

/// The game that a server plays unless it was built for another.
pub fn demo_game() -> GameFn {
    Arc::new(|app| {
        app.add_plugins(DemoPlugin);
    })
}

/// What all drivers measure together.
struct Measured {
    board: ProbeBoard,
    terms: [DurationHistogram; TERMS.len()],
    border: BorderFigures,
    outages: OutageFigures,
}

impl Measured {
    fn new(timing: &Timing) -> Self {
        let board = ProbeBoard::new(timing.measure_from, timing.until);
        Self {
            board,
            terms: std::array::from_fn(|_| DurationHistogram::default()),
            border: BorderFigures::default(),
            outages: OutageFigures::default(),
        }
    }

    fn record_terms(&mut self, terms: &ProbeTerms) {
        for (histogram, (term, duration)) in self.terms.iter_mut().zip(terms.named()) {
            histogram.record(duration);
            metrics::histogram!(CLIENT_TERM_SECONDS, "term" => term).record(duration.as_secs_f64());
        }
    }

    fn terms_ms(&self) -> BTreeMap<String, Summary> {
        let named = TERMS
            .iter()
            .zip(&self.terms)
            .filter(|(_, histogram)| histogram.samples() > 0);
        named
            .map(|(term, histogram)| ((*term).to_owned(), histogram.summary_ms()))
            .collect()
    }
}

/// Sends the bots and reports. `progress` is called once and returns when the run is over.
///
/// # Errors
/// The server gives no session to the first bot, or a driver cannot run. What befalls later bots is in the report.
pub fn run(options: &SwarmOptions, progress: &dyn Fn(&Timing)) -> anyhow::Result<Report> {
    // The first session tells whether there is a server at all, and which world it plays.
    let first = joiner::first_session(&options.server)?;
    let world = first.world.clone();
    let tick = world.tick_rate_hz.tick_duration();
    let timing = Timing::start(options.bots, options.warmup, options.measure);
    let measured = Arc::new(Mutex::new(Measured::new(&timing)));
    let zones = Arc::new(world.zone_map());
    let stall = StalledZone::new(options, &world, &zones, &timing)?.map(Arc::new);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = options.bots.div_ceil(BOTS_PER_DRIVER).clamp(1, cores);
    let driver_options = DriverOptions {
        timing,
        stage: Stage::new(options.scenario, &world, options.bots)?,
        seed: options.seed,
        predict: options.predict,
        probe_every: options.probe_every,
        server: options.server.clone(),
        game: options.game.clone(),
        measured: measured.clone(),
        zones,
        watches_borders: options.scenario.needs_zones(),
        link: options.faults.link,
        stall: stall.clone(),
    };
    let (inboxes, handles): (Vec<_>, Vec<_>) = (0..count).map(|driver| start_driver(driver, &driver_options)).unzip();
    let joiner = joiner::start(driver_options, first, options.bots, inboxes)?;
    let stalling = stall.clone().map(|stall| start_stall(stall, timing)).transpose()?;
    let (scrapes, followed) = watch(options, world.tick_rate_hz, &timing, progress)?;
    joiner
        .join()
        .map_err(|_| anyhow!("the thread that makes the bots panicked"))?;
    let mut parts = Vec::with_capacity(count);
    for handle in handles {
        parts.push(handle?.join().map_err(|_| anyhow!("a thread of bots panicked"))??);
    }
    if let Some(stalling) = stalling {
        let stalled = stalling
            .join()
            .map_err(|_| anyhow!("the thread that stalls a zone panicked"))?;
        stalled.context("no zone was stalled")?;
    }
    let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    measured.board.give_up(timing.stop);
    if measured.board.unanswered() > 0 {
        tracing::warn!(
            actions = measured.board.unanswered(),
            "actions without an echo; they count with the time they had"
        );
    }
    let part = Part::sum(&parts);
    let mut report = summarise(options, &part, scrapes.as_ref(), tick);
    report.tick_rate_hz = u64::from(world.tick_rate_hz.hz());
    report.set_latencies(
        measured.board.action().summary_ms(),
        measured.board.observer().summary_ms(),
        tick,
    );
    report.terms_ms = measured.terms_ms();
    if let Some(followed) = followed {
        followed.fill(&mut report);
    }
    measured.border.fill(&mut report, &part, options.predict);
    report.outages = Some(measured.outages.outages(part.still_out));
    if let Some(stall) = &stall {
        stall.fill(&mut report, timing.stop, tick);
    }
    Ok(report)
}

/// Starts a driver; its bots come through the sender.
fn start_driver(
    number: usize,
    options: &DriverOptions,
) -> (
    Sender<(Bot, UdpSocket)>,
    anyhow::Result<JoinHandle<anyhow::Result<Part>>>,
) {
    let (sender, inbox) = channel();
    let options = options.clone();
    let builder = std::thread::Builder::new().name(format!("bots-{number}"));
    let handle = builder
        .spawn(move || driver::drive(&options, &inbox))
        .context("cannot start a thread");
    (sender, handle)
}

fn start_stall(stall: Arc<StalledZone>, timing: Timing) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let work = move || {
        let result = stall.run(&timing);
        if let Err(error) = &result {
            // Told at once, for the run goes on to its end.
            tracing::error!("no zone was stalled: {error:#}");
        }
        result
    };
    let builder = std::thread::Builder::new().name("stall".to_owned());
    builder.spawn(work).context("cannot start a thread")
}

/// Shows the progress, scrapes the server's metrics when the measuring window begins and ends, and audits its zones throughout.
fn watch(
    options: &SwarmOptions,
    rate: TickRate,
    timing: &Timing,
    progress: &dyn Fn(&Timing),
) -> anyhow::Result<(Option<(Scrape, Scrape)>, Option<Followed>)> {
    let scrape = |at| {
        timing.sleep_until(at);
        let fetched = (!options.admin.is_empty()).then(|| Scrape::fetch(&options.admin))?;
        fetched
            .inspect_err(|error| tracing::warn!("the server's figures will be absent: {error:#}"))
            .ok()
    };
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| scrape(timing.measure_from).zip(scrape(timing.until)));
        let follower = scope.spawn(|| follow(&options.admin, rate, timing));
        progress(timing);
        let scrapes = scraper
            .join()
            .map_err(|_| anyhow!("the thread that fetches the server's metrics panicked"))?;
        let followed = follower
            .join()
            .map_err(|_| anyhow!("the thread of the audit panicked"))?;
        Ok((scrapes, followed))
    })
}

fn summarise(options: &SwarmOptions, part: &Part, scrapes: Option<&(Scrape, Scrape)>, tick: Duration) -> Report {
    let scraped = scrapes.map(|(before, after)| Scraped::new(before, after));
    let inputs = Inputs {
        sent: part.inputs,
        ..Inputs::default()
    };
    Report {
        bots: Bots {
            requested: options.bots as u64,
            connected: part.connected,
            disconnected: part.disconnected,
        },
        seconds: options.measure.as_secs_f64(),
        inputs: scraped.map_or(inputs, |scraped| scraped.inputs(part.inputs, part.connected)),
        wire: part.wire,
        handoffs: Handoffs {
            duration_ms: scraped.map(|scraped| scraped.handoff_ms()).unwrap_or_default(),
            ..Handoffs::default()
        },
        server: scraped
            .map(|scraped| scraped.server(part.connected, tick))
            .unwrap_or_default(),
        loadgen: Loadgen {
            cpu_us_per_bot_tick: cpu_us_per(part.cpu, part.inputs),
        },
        ..Report::default()
    }
}
