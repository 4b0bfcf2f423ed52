//! What a seed draws: a world, and what happens in it.

use super::{Choice, Fate, MACHINES_PER_ZONE, SKEW_QUARTERS_MAX, Setup};
use crate::dice::Dice;

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
