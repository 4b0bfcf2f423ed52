//! Collectors that are away, slow or not willing.

use std::time::{Duration, Instant};

use crate::{
    EXPORT_FAILED, EXPORTED, FAILURES, Fixture, PATIENCE, QUEUE_FULL,
    collector::{Collector, Manners, free_address},
    span, to_collector, until,
};

/// A queue that is soon full.
const QUEUE_LENGTH: usize = 64;

fn short_queue(address: std::net::SocketAddr, protocol: &str) -> Vec<(&'static str, String)> {
    let mut variables = to_collector(address, protocol);
    variables.push(("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LENGTH.to_string()));
    variables.push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16".to_owned()));
    variables.push(("OTEL_BSP_SCHEDULE_DELAY", "5".to_owned()));
    variables
}

#[test]
fn a_collector_that_comes_late_gets_what_is_recorded_from_then_on() {
    let address = free_address();
    let fixture = Fixture::start(&short_queue(address, "grpc"));
    let mut recorded = 0;
    until("the first batch is dropped", || {
        fixture.exporter.record(span("early", true));
        recorded += 1;
        assert!(fixture.exporter.queue_length() <= QUEUE_LENGTH);
        fixture.count(EXPORT_FAILED) > 0 && fixture.count(QUEUE_FULL) > 0
    });
    assert_eq!(fixture.count(EXPORTED), 0);
    assert!(fixture.count(FAILURES) >= 5);

    let collector = Collector::grpc_at(address, Manners::default());
    until("the collector is found", || {
        fixture.exporter.record(span("later", true));
        recorded += 1;
        fixture.count(EXPORTED) > 0
    });
    until("the queue is through", || {
        fixture.exporter.flush(PATIENCE) && fixture.exporter.queue_length() == 0
    });
    until("all are accounted for", || {
        fixture.count(EXPORTED) + fixture.count(EXPORT_FAILED) + fixture.count(QUEUE_FULL) == recorded
    });
    assert_eq!(collector.span_count() as u64, fixture.count(EXPORTED));
}

#[test]
fn a_slow_collector_holds_nobody_up() {
    const RECORDED: u64 = 100_000;
    // Until the end of the test no request is answered: who waited for one would wait for ever.
    let collector = Collector::http(Manners {
        delay: PATIENCE * 10,
        ..Manners::default()
    });
    let mut variables = to_collector(collector.address, "http/protobuf");
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".to_owned()));
    let fixture = Fixture::start(&variables);
    for _ in 0..RECORDED {
        fixture.exporter.record(span("many", true));
        assert!(fixture.exporter.queue_length() <= 8192);
    }
    // All but what the queue holds and the one batch that was taken from it.
    let dropped = fixture.count(QUEUE_FULL);
    assert!(
        (RECORDED - 8192 - 512..=RECORDED - 8192).contains(&dropped),
        "{dropped}"
    );
    until("one batch is under way", || collector.received().requests == 1);
    assert_eq!(fixture.count(EXPORTED), 0);
    assert!(!fixture.exporter.flush(Duration::from_millis(10)), "nothing was taken");
}

#[test]
fn an_answer_that_comes_too_late_is_a_failure() {
    let collector = Collector::grpc(Manners {
        delay: PATIENCE * 10,
        ..Manners::default()
    });
    let mut variables = short_queue(collector.address, "grpc");
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "20".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("alone", true));
    until("it is given up", || fixture.count(EXPORT_FAILED) == 1);
    // How many of them reached the collector is the machine's.
    assert_eq!(fixture.count(FAILURES), 5);
}

#[test]
fn what_is_refused_for_good_is_not_tried_again() {
    let collector = Collector::http(Manners {
        status: Some(401),
        ..Manners::default()
    });
    let fixture = Fixture::start(&short_queue(collector.address, "http/protobuf"));
    fixture.exporter.record(span("alone", true));
    until("it is dropped", || fixture.count(EXPORT_FAILED) == 1);
    assert_eq!(collector.received().requests, 1);
}

#[test]
fn what_a_busy_collector_refuses_is_tried_again() {
    let collector = Collector::http(Manners {
        status: Some(503),
        ..Manners::default()
    });
    let fixture = Fixture::start(&short_queue(collector.address, "http/protobuf"));
    fixture.exporter.record(span("alone", true));
    until("it is dropped", || fixture.count(EXPORT_FAILED) == 1);
    assert_eq!(collector.received().requests, 5);
}

#[test]
fn spans_that_a_collector_takes_in_part_are_counted_apart() {
    let collector = Collector::grpc(Manners {
        rejected: 2,
        ..Manners::default()
    });
    let fixture = Fixture::start(&to_collector(collector.address, "grpc"));
    for _ in 0..5 {
        fixture.exporter.record(span("some", true));
    }
    assert!(fixture.exporter.flush(PATIENCE));
    assert_eq!((fixture.count(EXPORTED), fixture.count(EXPORT_FAILED)), (3, 2));
}

#[test]
fn an_end_without_a_collector_is_not_held_up() {
    let fixture = Fixture::start(&to_collector(free_address(), "grpc"));
    for _ in 0..5000 {
        fixture.exporter.record(span("lost", true));
    }
    let began = Instant::now();
    drop(fixture.exporter);
    // Two seconds are promised; the rest is the machine's.
    assert!(began.elapsed() < PATIENCE);
}
