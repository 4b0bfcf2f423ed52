//! How long an input and the snapshot that answers it take over loopback. Run by hand:
//! `cargo nextest run -p meridian-fabric --run-ignored only --no-capture -E 'test(echo)'`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use meridian_fabric::{GatewayMessage, InputBatch, TimedInput, ZoneMessage};
use meridian_ids::{Tick, WorldEntityId};

use crate::support::*;

const ECHOES: usize = 10_000;

/// A zone that answers each input at once: it looks all the time, as zones have nothing that wakes them between ticks.
fn answer(zone: &Arc<dyn meridian_fabric::ZoneEnd>, bytes: usize, stops: &AtomicBool) {
    let mut tick = 0;
    while !stops.load(Ordering::Relaxed) {
        match zone.try_receive() {
            Some(GatewayMessage::Inputs(_)) => {
                tick += 1;
                let answer = ZoneMessage::Snapshot(Arc::new(snapshot(tick, bytes)));
                zone.send(answer).unwrap();
            }
            _ => std::thread::yield_now(),
        }
    }
}

fn measure(bytes: usize) {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let source = zones.serve(ZONE);
    let thread: Thread = std::thread::current();
    let wake = Arc::new(move || thread.unpark());
    let gateway = gateways.to_zone(ZONE, "gateway-1".to_owned(), at(zones.local_addr()), wake);
    let (_, zone) = accept_gateway(&source);
    until("the link", || gateway.is_connected());
    let stops = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stops);
    let answering = std::thread::spawn(move || answer(&zone, bytes, &stop));
    let mut took: Vec<Duration> = (0..ECHOES)
        .map(|_| {
            let sent = Instant::now();
            let input = TimedInput {
                tick: Tick(1),
                packed: 1,
            };
            let batch = InputBatch {
                entity: WorldEntityId(1),
                inputs: vec![input; 8],
                received: sent,
                forwarded: sent,
            };
            gateway.send(GatewayMessage::Inputs(batch)).unwrap();
            while gateway.try_receive().is_none() {
                std::thread::park();
            }
            sent.elapsed()
        })
        .collect();
    stops.store(true, Ordering::Relaxed);
    answering.join().unwrap();
    took.sort_unstable();
    let at = |share: usize| took[(ECHOES - 1) * share / 1_000];
    println!(
        "{bytes} bytes: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(900),
        at(990),
        at(999)
    );
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn echo_of_an_input_by_a_snapshot_over_loopback() {
    measure(500);
    measure(20_000);
}
