//! What can happen in one step, and how a seed draws it.
//!
//! A choice names what it is about by numbers that always mean something, or nothing: a list of choices from which some were
//! taken out is a history as well, and that is how a failing one is made shorter.

use std::fmt;

use meridian_ids::{Generation, LeaseEpoch, TickRate};

use crate::dice::Dice;

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

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat { .. } => write!(f, "a tick passes"),
            Self::Pass { quarters } => write!(f, "{quarters} quarters of a tick pass, and nobody runs"),
            Self::Run { party } => write!(f, "party {party} runs"),
            Self::Walk { .. } => write!(f, "somebody walks"),
            Self::Tie { .. } => write!(f, "two are to be tied"),
            Self::Part { .. } => write!(f, "somebody is tied to none any more"),
            Self::Destroy { .. } => write!(f, "something is to be destroyed"),
            Self::Quit { player } => write!(f, "player {player} quits"),
            Self::Return { player, gateway } => write!(f, "player {player} comes by gateway {gateway}"),
            Self::Slow {
                machine,
                commands,
                answers,
            } => {
                write!(
                    f,
                    "machine {machine} waits {commands} ticks for the store, and {answers} for answers"
                )
            }
            Self::LoseAnswer { machine } => write!(f, "machine {machine} loses its next answer"),
            Self::HoldUp { machine, transfer } => {
                let what = if *transfer { "handover" } else { "command" };
                write!(f, "machine {machine} has its next {what} held up")
            }
            Self::Straggle { .. } => write!(f, "a straggler comes"),
            Self::Vanish { .. } => write!(f, "a straggler vanishes"),
            Self::Refuse { machine } => write!(f, "machine {machine} finds the next inbox full"),
            Self::TellAgain { machine } => write!(f, "machine {machine} is told of its inbox again"),
            Self::Break { machine, ticks, .. } => write!(f, "machine {machine} has no connection for {ticks} ticks"),
            Self::StoreAway { ticks } => write!(f, "the store does nothing for {ticks} ticks"),
            Self::Sync => write!(f, "the store is synced"),
            Self::StoreRestart { loses, ticks } => {
                let lost = if *loses {
                    "has lost its tail"
                } else {
                    "has lost nothing"
                };
                write!(f, "the store ends; {ticks} ticks later it comes back, and {lost}")
            }
            Self::Crash {
                machine,
                elsewhere,
                ticks,
                ..
            } => {
                let place = if *elsewhere { "the other machine" } else { "the same" };
                write!(
                    f,
                    "machine {machine} crashes; {ticks} ticks later the zone is started on {place}"
                )
            }
            Self::Start { machine } => write!(f, "a process is started on machine {machine}"),
            Self::Pause {
                machine,
                mid_tick,
                ticks,
            } => {
                let place = if *mid_tick { "within its tick" } else { "between ticks" };
                write!(f, "machine {machine} is paused {place} for {ticks} ticks")
            }
            Self::Link {
                link,
                fate,
                count,
                ticks,
            } => {
                write!(
                    f,
                    "link {link} has its next {count} messages {fate:?}, by {ticks} ticks"
                )
            }
            Self::GatewayRestart { gateway } => write!(f, "gateway {gateway} starts anew"),
            Self::Skew { machine, quarters } => write!(f, "machine {machine} is {quarters} quarters of a tick off"),
            Self::Sleep { seconds } => write!(f, "everybody sleeps for {seconds} s"),
        }
    }
}

/// Kinds of choices, with how often each is drawn beside 100 beats.
const KINDS: [(Kind, u32); 22] = [
    (|_| Choice::Beat { turn: 0 }, 0),
    (
        |dice| Choice::Pass {
            quarters: dice.between(1, 6),
        },
        4,
    ),
    (|dice| Choice::Run { party: dice.byte() }, 10),
    (walk, 30),
    (
        |dice| Choice::Tie {
            one: dice.byte(),
            other: dice.byte(),
        },
        3,
    ),
    (|dice| Choice::Part { entity: dice.byte() }, 1),
    (|dice| Choice::Destroy { entity: dice.byte() }, 2),
    (|dice| Choice::Quit { player: dice.byte() }, 2),
    (
        |dice| Choice::Return {
            player: dice.byte(),
            gateway: dice.byte(),
        },
        3,
    ),
    (slow, 5),
    (|dice| Choice::LoseAnswer { machine: machine(dice) }, 6),
    (
        |dice| Choice::HoldUp {
            machine: machine(dice),
            transfer: dice.once_in(2),
        },
        6,
    ),
    (straggle, 7),
    (|dice| Choice::Refuse { machine: machine(dice) }, 2),
    (|dice| Choice::TellAgain { machine: machine(dice) }, 3),
    (broken, 3),
    (
        |dice| Choice::StoreAway {
            ticks: dice.between(1, 30),
        },
        1,
    ),
    (store, 5),
    (crash, 4),
    (pause, 4),
    (|dice| link(dice), 8),
    (rare, 3),
];

type Kind = fn(&mut Dice) -> Choice;

/// Any machine, more often one of those that begin with a process.
fn machine(dice: &mut Dice) -> u8 {
    let zone = dice.between(0, 11);
    zone * MACHINES_PER_ZONE + u8::from(dice.once_in(4))
}

fn walk(dice: &mut Dice) -> Choice {
    let (entity, zone) = (dice.byte(), dice.byte());
    Choice::Walk { entity, zone }
}

fn slow(dice: &mut Dice) -> Choice {
    let most = if dice.once_in(3) { 8 } else { 2 };
    Choice::Slow {
        machine: machine(dice),
        commands: dice.between(0, most),
        answers: dice.between(0, most),
    }
}

fn straggle(dice: &mut Dice) -> Choice {
    let which = dice.byte();
    if dice.once_in(4) {
        Choice::Vanish { which }
    } else {
        Choice::Straggle { which }
    }
}

fn broken(dice: &mut Dice) -> Choice {
    Choice::Break {
        machine: machine(dice),
        held_up: dice.byte(),
        ticks: if dice.once_in(6) {
            dice.between(20, 60)
        } else {
            dice.between(0, 6)
        },
    }
}

fn store(dice: &mut Dice) -> Choice {
    if dice.once_in(3) {
        Choice::StoreRestart {
            loses: !dice.once_in(4),
            ticks: if dice.once_in(5) {
                dice.between(10, 60)
            } else {
                dice.between(0, 4)
            },
        }
    } else {
        Choice::Sync
    }
}

fn crash(dice: &mut Dice) -> Choice {
    if dice.once_in(4) {
        return Choice::Start { machine: dice.byte() };
    }
    Choice::Crash {
        machine: machine(dice),
        elsewhere: dice.once_in(2),
        held_up: dice.byte(),
        ticks: dice.between(1, 20),
    }
}

fn pause(dice: &mut Dice) -> Choice {
    Choice::Pause {
        machine: machine(dice),
        mid_tick: dice.once_in(2),
        ticks: if dice.once_in(2) {
            dice.between(30, 70)
        } else {
            dice.between(1, 12)
        },
    }
}

fn link(dice: &mut Dice) -> Choice {
    let fate = [Fate::Lost, Fate::Twice, Fate::Late];
    Choice::Link {
        link: dice.byte(),
        fate: fate[dice.below(3) as usize % 3],
        count: dice.between(1, 10),
        ticks: dice.between(1, 20),
    }
}

fn rare(dice: &mut Dice) -> Choice {
    match dice.below(8) {
        0 => Choice::Sleep {
            seconds: if dice.once_in(3) { 70 } else { dice.between(1, 12) },
        },
        1..3 => Choice::GatewayRestart { gateway: dice.byte() },
        _ => Choice::Skew {
            machine: dice.byte(),
            quarters: dice.around(SKEW_QUARTERS_MAX),
        },
    }
}

/// The world of a seed, and what happens in it.
pub fn drawn(seed: u64, steps: usize) -> (Setup, Vec<Choice>) {
    let mut dice = Dice::new(seed);
    let setup = Setup::drawn(&mut dice);
    // A world in which everything goes wrong at once gets nowhere: each seed has its own few faults, and some of them often.
    let mut weights: Vec<u32> = Vec::with_capacity(KINDS.len());
    for (_, weight) in KINDS {
        weights.push(match dice.below(6) {
            0 | 1 => 0,
            2 => weight * 3,
            _ => weight,
        });
    }
    if let Some(beats) = weights.first_mut() {
        *beats = 100;
    }
    // Without anybody who walks there are no handovers, and nothing to see.
    if let Some(walks) = weights.get_mut(3) {
        *walks = (*walks).max(20);
    }
    let mut choices = Vec::with_capacity(steps);
    // Zones have to be claimed before anything can go wrong with them.
    choices.resize(steps.min(4), Choice::Beat { turn: 0 });
    while choices.len() < steps {
        let choice = match KINDS.get(dice.weighed(&weights)) {
            Some((kind, weight)) if *weight > 0 => kind(&mut dice),
            _ => Choice::Beat { turn: dice.byte() },
        };
        choices.push(choice);
    }
    (setup, choices)
}
