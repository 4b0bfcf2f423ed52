//! What a command takes on loopback. Run by hand, on a machine that does nothing else:
//! `cargo nextest run -p meridian-bus --run-ignored only --no-capture measure`.

use std::time::{Duration, Instant};

use meridian_bus::Heard;
use meridian_handoff::script::Command;

use crate::server;
use crate::zone::{EAST, WEST, World, Zone};

const ROUNDS: u64 = 5_000;

#[expect(clippy::print_stdout, reason = "figures for who runs it by hand")]
fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{what}: p50 {:.0} us, p99 {:.0} us, worst {:.0} us",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Waits for the next answer or transfer without giving up the thread: what is measured is not the system's way of waking it.
fn heard(zone: &mut Zone) -> Heard {
    loop {
        if let Some(heard) = zone.bus.try_receive() {
            return heard;
        }
        std::hint::spin_loop();
    }
}

#[test]
#[ignore = "measures"]
fn measure_commands_and_a_handover() {
    let world = World::new(server::shared());
    let (mut west, mut east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    let mut timed = |what: &str, command: &dyn Fn(&Zone, u64) -> Command| {
        let mut taken = Vec::new();
        for number in 1..=ROUNDS {
            let command = command(&west, number);
            let began = Instant::now();
            west.submit(command);
            heard(&mut west);
            taken.push(began.elapsed());
        }
        report(what, taken);
    };
    timed("renew", &|west, _| west.renewal());
    timed("spawn", &|west, entity| Command::Spawn {
        by: west.instance,
        record: west.record(entity),
    });
    timed("checkpoint of 100", &|west, _| Command::Checkpoint {
        by: west.instance,
        records: (1..=100).map(|entity| west.record(entity)).collect(),
        died: Vec::new(),
    });
    timed("settle", &|west, entity| {
        let transfer = west.transfer(entity, EAST, west.record(entity));
        Command::Settle {
            id: transfer.id,
            entities: transfer.entities(),
        }
    });
    let (mut told, mut accepted) = (Vec::new(), Vec::new());
    for entity in 1..=ROUNDS {
        let transfer = west.transfer(ROUNDS + entity, EAST, west.record(entity));
        let began = Instant::now();
        west.submit(Command::Transfer(transfer));
        let Heard::Inbox(arrived) = heard(&mut east) else {
            panic!("an answer to no question")
        };
        told.push(began.elapsed());
        let (by, id, entities) = (east.instance, arrived.id, arrived.entities());
        east.submit(Command::Accept { by, id, entities });
        heard(&mut east);
        accepted.push(began.elapsed());
        heard(&mut west);
    }
    report("transfer to inbox", told);
    report("transfer to inbox to answered acceptance", accepted);
}
