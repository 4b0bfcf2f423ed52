//! What can happen in one step.
//!
//! A choice names what it is about by numbers that always mean something, or nothing: a list of choices from which some were
//! taken out is a history as well, and that is how a failing one is made shorter.

use std::fmt;

use meridian_ids::{Generation, LeaseEpoch, TickRate};

use crate::dice::Dice;

mod draw;
mod words;

pub use draw::drawn;

/// Processes a zone may have: one runs it, another waits for it on another machine, or both are confused about that.
pub const MACHINES_PER_ZONE: u8 = 2;
/// How far the clocks of two machines may be apart from the world's, in quarters of a tick: two ticks. A lease's margin covers five.
const SKEW_QUARTERS_MAX: i8 = 8;
/// How far a machine's boot-time clock may be off, in thousandths.
const DRIFT_PERMILLE_MAX: i8 = 3;

/// The world that a history is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Zones, each with [`MACHINES_PER_ZONE`] machines; processes run on the first of each.
    pub zones: u8,
    /// Gateways.
    pub gateways: u8,
    /// Players, one client each.
    pub players: u8,
    /// Things that each zone begins with.
    pub things: u8,
    /// The world's rate. A slow one makes a lease last few ticks, and so a history hold many leases.
    pub rate: TickRate,
    /// The lease epoch before that of each zone's first instance.
    pub before: LeaseEpoch,
    /// How far each machine's clock is off, in quarters of a tick.
    pub skews: Vec<i8>,
    /// How far each machine's boot-time clock is off, in thousandths.
    pub drifts: Vec<i8>,
}

impl Setup {
    /// A world whose clocks all agree.
    pub fn new(zones: u8, gateways: u8, players: u8, things: u8, rate: TickRate) -> Self {
        let machines = usize::from(zones * MACHINES_PER_ZONE);
        Self {
            zones,
            gateways,
            players,
            things,
            rate,
            before: LeaseEpoch::new(Generation(1), 40),
            skews: vec![0; machines],
            drifts: vec![0; machines],
        }
    }

    fn drawn(dice: &mut Dice) -> Self {
        let rate = TickRate::new(20).unwrap_or_default();
        let (zones, gateways) = (dice.between(2, 4), dice.between(1, 2));
        let mut setup = Self::new(zones, gateways, dice.between(1, 4), dice.between(0, 2), rate);
        if !dice.once_in(3) {
            setup.skews = setup.skews.iter().map(|_| dice.around(SKEW_QUARTERS_MAX)).collect();
            setup.drifts = setup.drifts.iter().map(|_| dice.around(DRIFT_PERMILLE_MAX)).collect();
        }
        setup
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} zones, {} gateways, {} players, {} things a zone, {} Hz, clocks off by {:?} quarters of a tick",
            self.zones,
            self.gateways,
            self.players,
            self.things,
            self.rate.hz(),
            self.skews
        )
    }
}

/// What a link does to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Loses it, if it may be lost; a reliable one comes later.
    Lost,
    /// Delivers it twice, the second time later.
    Twice,
    /// Delivers it later; what is sent after it comes first.
    Late,
}

/// What happens in a step. Machines, entities and so on are named by numbers, which are taken modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A tick's time passes, the store does what is due, and everybody runs: zones in an order that `turn` gives, then gateways and clients,
    /// or those first.
    Beat {
        /// Who begins.
        turn: u8,
    },
    /// Time passes, in quarters of a tick, and nobody runs.
    Pass {
        /// How many.
        quarters: u8,
    },
    /// One party runs: a zone's process or a gateway.
    Run {
        /// Which.
        party: u8,
    },
    /// An entity walks into a zone's place, and wants to stay there.
    Walk {
        /// Who.
        entity: u8,
        /// Where to.
        zone: u8,
    },
    /// Two entities of one zone are tied together.
    Tie {
        /// One of them.
        one: u8,
        /// The other.
        other: u8,
    },
    /// An entity is tied to none any more.
    Part {
        /// Which.
        entity: u8,
    },
    /// The game takes an entity out of the world.
    Destroy {
        /// Which.
        entity: u8,
    },
    /// A player's client ends.
    Quit {
        /// Whose.
        player: u8,
    },
    /// A player comes back, through a gateway.
    Return {
        /// Who.
        player: u8,
        /// Through which.
        gateway: u8,
    },
    /// From now on the store does a process's commands after so many ticks, and answers after so many more.
    Slow {
        /// Whose.
        machine: u8,
        /// Ticks until a command is done.
        commands: u8,
        /// Ticks until its answer comes.
        answers: u8,
    },
    /// The next command of a process is done, and its answer is lost.
    LoseAnswer {
        /// Whose.
        machine: u8,
    },
    /// The next command of a process is held up: nobody knows whether it was done, and it may be much later.
    HoldUp {
        /// Whose.
        machine: u8,
        /// The next handover, not the next command of any kind.
        transfer: bool,
    },
    /// A command that was held up is done.
    Straggle {
        /// Which.
        which: u8,
    },
    /// A command that was held up will never be done.
    Vanish {
        /// Which.
        which: u8,
    },
    /// The next handover of a process finds a full inbox.
    Refuse {
        /// Whose.
        machine: u8,
    },
    /// What was in a zone's inbox is told to its process once more, whether or not it is there still.
    TellAgain {
        /// To whom.
        machine: u8,
    },
    /// The connection of a process breaks: nobody knows what became of all that was under way.
    Break {
        /// Whose.
        machine: u8,
        /// Which of the commands are held up; the others are lost.
        held_up: u8,
        /// Ticks until there is another.
        ticks: u8,
    },
    /// The store does nothing for so many ticks.
    StoreAway {
        /// How many.
        ticks: u8,
    },
    /// What the store has is safe from now on.
    Sync,
    /// The store ends, and is started again after so many ticks.
    StoreRestart {
        /// Whether it comes back as it was at the last sync.
        loses: bool,
        /// How many.
        ticks: u8,
    },
    /// A process dies, and the zone is started again after so many ticks.
    Crash {
        /// Which.
        machine: u8,
        /// On the other machine, which has to wait for the lease; else on the same.
        elsewhere: bool,
        /// Which of its commands are held up; the others are lost.
        held_up: u8,
        /// How many.
        ticks: u8,
    },
    /// A process is started for a zone that may have one already.
    Start {
        /// Where.
        machine: u8,
    },
    /// A process does nothing for so many ticks, and then goes on as if no time had passed.
    Pause {
        /// Which.
        machine: u8,
        /// Whether it is caught within a tick, after it has looked at the clock.
        mid_tick: bool,
        /// How many.
        ticks: u8,
    },
    /// The next messages of a link meet a fate.
    Link {
        /// Which.
        link: u8,
        /// What.
        fate: Fate,
        /// How many messages.
        count: u8,
        /// How late they come, in ticks.
        ticks: u8,
    },
    /// A gateway dies and is there again, and knows nothing.
    GatewayRestart {
        /// Which.
        gateway: u8,
    },
    /// A machine's clock is corrected: it goes on from another tick, but never back.
    Skew {
        /// Whose.
        machine: u8,
        /// How far off it is from now on, in quarters of a tick.
        quarters: i8,
    },
    /// The whole world sleeps: time passes, and nobody notices.
    Sleep {
        /// How long.
        seconds: u8,
    },
}

impl Choice {
    /// Whether nothing goes wrong by it, and nobody does anything.
    pub fn is_time(&self) -> bool {
        matches!(self, Self::Beat { .. } | Self::Pass { .. } | Self::Run { .. })
    }
}
