//! The simulator's histories once more, command by command, against the scripts in a real Valkey.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

#[path = "../../libs/bus/tests/common/server.rs"]
#[expect(dead_code, reason = "other tests stop and start their servers")]
mod server;

use meridian_bus::Model;
use meridian_bus::valkey::{Dump, Scripts, ValkeyOptions};
use meridian_handoff::script::Record;
use meridian_sim::{Entry, History, Simulation, drawn};

/// Histories that are played again, and the steps of each.
const SEEDS: u64 = 150;
const STEPS: usize = 300;

fn history(seed: u64) -> History {
    let (setup, choices) = drawn(seed, STEPS);
    let mut simulation = Simulation::new(setup).recording();
    for choice in choices {
        simulation.step(choice).unwrap();
    }
    simulation.into_history()
}

/// Asks the store what the model was asked, and lets it lose what the model lost.
fn replay(seed: u64, history: &History, scripts: &mut Scripts) -> (usize, usize) {
    scripts.forget_everything(history.before()).unwrap();
    let mut synced = scripts.remember().unwrap();
    let (mut executed, mut lost) = (0, 0);
    for (index, entry) in history.entries().enumerate() {
        match entry {
            Entry::Synced => synced = scripts.remember().unwrap(),
            Entry::Restarted { now, generation, loses } => {
                if *loses {
                    lost += 1;
                    scripts.lose_what_came_after(&synced).unwrap();
                }
                let begun = scripts.restart(*now, *generation).unwrap();
                assert_eq!(begun, *generation, "seed {seed}, entry {index}");
                synced = scripts.remember().unwrap();
            }
            Entry::Executed { now, command, answer } => {
                executed += 1;
                let said = scripts.execute(*now, command).unwrap();
                assert_eq!(said, **answer, "seed {seed}, entry {index}: {command:?}");
            }
        }
    }
    (executed, lost)
}

/// What a store holds, as the model tells it.
fn dump_of(model: &Model) -> Dump {
    let mut dump = Dump {
        generation: model.generation(),
        owners: model.owners(),
        events: model.clone().take_events(),
        ..Dump::default()
    };
    for zone in (0..8).map(meridian_ids::ZoneId) {
        let records: Vec<Record> = model.records(zone).cloned().collect();
        if !records.is_empty() {
            dump.records.insert(zone, records);
        }
        if !model.inbox(zone).is_empty() {
            dump.inboxes.insert(zone, model.inbox(zone).to_vec());
        }
    }
    dump
}

#[test]
fn the_scripts_answer_every_command_of_the_simulators_histories_as_the_model_does() {
    let options = ValkeyOptions::new(server::shared().url(), server::world_name());
    let before = history(0).before();
    let mut scripts = Scripts::begin(&options, before).unwrap();
    let (mut executed, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let history = history(seed);
        let (commands, tails) = replay(seed, &history, &mut scripts);
        let mut held = scripts.dump().unwrap();
        held.records.retain(|_, records| !records.is_empty());
        assert_eq!(held, dump_of(history.outcome()), "seed {seed}");
        (executed, lost) = (executed + commands, lost + tails);
    }
    assert!(executed > 5_000 && lost > 20, "{executed} commands, {lost} lost tails");
}
