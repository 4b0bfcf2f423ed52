//! One fault at every step of a handover there and back: what is drawn from seeds falls somewhere, this falls everywhere.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

use meridian_ids::TickRate;
use meridian_sim::{Choice, Fate, Setup, run};

/// The machines on which the zones' processes run, West's first.
const MACHINES: [u8; 2] = [0, 2];

/// A player goes to East and comes back, over a store that takes two ticks to do what it is asked, and two to say so.
fn there_and_back() -> Vec<Choice> {
    let beats = |count: usize| std::iter::repeat_n(Choice::Beat { turn: 0 }, count);
    let slow = MACHINES.map(|machine| Choice::Slow {
        machine,
        commands: 2,
        answers: 2,
    });
    let walk = |zone: u8| std::iter::once(Choice::Walk { entity: 0, zone });
    let (there, back) = (walk(1).chain(beats(14)), walk(0).chain(beats(14)));
    beats(12).chain(slow).chain(there).chain(back).collect()
}

fn faults() -> Vec<Choice> {
    let of_machine = |machine: u8| {
        let crash = |elsewhere: bool, held_up: u8| Choice::Crash {
            machine,
            elsewhere,
            held_up,
            ticks: 3,
        };
        let pause = |mid_tick: bool| Choice::Pause {
            machine,
            mid_tick,
            ticks: 60,
        };
        let broken = |held_up: u8| Choice::Break {
            machine,
            held_up,
            ticks: 3,
        };
        let held_up = |transfer: bool| Choice::HoldUp { machine, transfer };
        vec![
            crash(false, 0),
            crash(false, u8::MAX),
            crash(true, 0),
            crash(true, u8::MAX),
            pause(true),
            pause(false),
            broken(0),
            broken(u8::MAX),
            held_up(true),
            held_up(false),
            Choice::LoseAnswer { machine },
            Choice::Refuse { machine },
            Choice::TellAgain { machine },
            Choice::Start { machine: machine + 1 },
            Choice::Skew { machine, quarters: -8 },
            Choice::Skew { machine, quarters: 8 },
        ]
    };
    let link = |link: u8, fate: Fate| Choice::Link {
        link,
        fate,
        count: 6,
        ticks: 9,
    };
    let of_links = (0..8).flat_map(|nth| [Fate::Lost, Fate::Twice, Fate::Late].map(|fate| link(nth, fate)));
    let of_all = [
        Choice::StoreAway { ticks: 50 },
        Choice::StoreRestart { loses: false, ticks: 3 },
        Choice::StoreRestart { loses: true, ticks: 3 },
        Choice::GatewayRestart { gateway: 0 },
        Choice::Destroy { entity: 0 },
        Choice::Quit { player: 0 },
        Choice::Sleep { seconds: 3 },
    ];
    let of_machines = MACHINES.into_iter().flat_map(of_machine);
    of_machines.chain(of_links).chain(of_all).collect()
}

fn must_hold(choices: &[Choice]) {
    let setup = Setup::new(2, 1, 1, 0, TickRate::new(20).unwrap());
    if let Some((violation, _)) = run(&setup, choices, None).violation {
        panic!("{violation}\n{choices:?}");
    }
}

#[test]
fn a_fault_at_any_step_of_a_handover_breaks_nothing() {
    let undisturbed = there_and_back();
    for fault in faults() {
        for step in 1..=undisturbed.len() {
            let mut choices = undisturbed.clone();
            choices.insert(step, fault);
            must_hold(&choices);
        }
    }
}

/// What is held up may come at any later time, also when the entity has been elsewhere and is back.
#[test]
fn a_handover_that_was_held_up_may_be_done_at_any_later_step() {
    let undisturbed = there_and_back();
    for machine in MACHINES {
        for held_up in 1..undisturbed.len() {
            for straggles in held_up + 1..=undisturbed.len() {
                let mut choices = undisturbed.clone();
                choices.insert(straggles, Choice::Straggle { which: 0 });
                choices.insert(
                    held_up,
                    Choice::HoldUp {
                        machine,
                        transfer: true,
                    },
                );
                must_hold(&choices);
            }
        }
    }
}

/// A store that loses its tail while a process that knew of it is gone: what they knew is lost, and nothing else.
#[test]
fn a_crash_and_a_lost_tail_at_any_two_steps_double_nothing() {
    let undisturbed = there_and_back();
    for machine in MACHINES {
        for crash in 1..undisturbed.len() {
            for loss in crash..=undisturbed.len() {
                let mut choices = undisturbed.clone();
                choices.insert(loss, Choice::StoreRestart { loses: true, ticks: 2 });
                choices.insert(
                    crash,
                    Choice::Crash {
                        machine,
                        elsewhere: false,
                        held_up: 0,
                        ticks: 4,
                    },
                );
                must_hold(&choices);
            }
        }
    }
}
