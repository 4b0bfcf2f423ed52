//! Collectors that are away, slow or not willing.

use std::time::Duration;

use crate::{
    EXPORT_FAILED, EXPORTED, FAILURES, Fixture, PATIENCE, QUEUE_FULL, QUEUE_LENGTH as QUEUE_LENGTH_TOLD,
    collector::{Collector, Manners, free_address},
    proxy::Proxy,
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
    assert!(!fixture.exporter.flush(PATIENCE), "not all was taken");
    assert_eq!((fixture.count(EXPORTED), fixture.count(EXPORT_FAILED)), (3, 2));
}

fn a_dead_connection_is_left(collector: &Collector, protocol: &str) {
    let proxy = Proxy::to(collector.address);
    let mut variables = short_queue(proxy.address, protocol);
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "500".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("before", true));
    until("the first connection works", || fixture.count(EXPORTED) == 1);
    proxy.freeze();
    fixture.exporter.record(span("after", true));
    until("the batch is through", || {
        fixture.count(EXPORTED) + fixture.count(EXPORT_FAILED) == 2
    });
    assert_eq!(fixture.count(EXPORT_FAILED), 0);
    assert_eq!(collector.span("after").name, "after");
    assert!(proxy.connections() >= 2);
}

#[test]
fn a_dead_connection_is_left_for_a_new_one_over_grpc() {
    a_dead_connection_is_left(&Collector::grpc(Manners::default()), "grpc");
}

#[test]
fn a_dead_connection_is_left_for_a_new_one_over_http() {
    a_dead_connection_is_left(&Collector::http(Manners::default()), "http/protobuf");
}

#[test]
fn the_length_of_the_queue_is_told_while_a_batch_is_under_way() {
    let collector = Collector::grpc(Manners {
        delay: PATIENCE * 10,
        ..Manners::default()
    });
    let mut variables = short_queue(collector.address, "grpc");
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".to_owned()));
    variables.push(("OTEL_BSP_EXPORT_TIMEOUT", "300000".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("first", true));
    until("a batch is under way", || collector.received().requests == 1);
    for length in [5, QUEUE_LENGTH] {
        while fixture.exporter.queue_length() < length {
            fixture.exporter.record(span("next", true));
        }
        until("it is told", || fixture.count(QUEUE_LENGTH_TOLD) == length as u64);
    }
    assert_eq!((fixture.count(FAILURES), collector.received().requests), (0, 1));
}

#[test]
fn a_batch_is_given_up_when_its_time_is_over() {
    let collector = Collector::grpc(Manners {
        delay: PATIENCE * 10,
        ..Manners::default()
    });
    let mut variables = short_queue(collector.address, "grpc");
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".to_owned()));
    variables.push(("OTEL_BSP_EXPORT_TIMEOUT", "50".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("alone", true));
    until("it is given up", || fixture.count(EXPORT_FAILED) == 1);
    assert_eq!(fixture.count(FAILURES), 1, "no time was left for another attempt");
}

/// A collector that refuses the first request and asks for a pause gets the second after it.
fn the_pause_is_kept(protocol: &str, status: u16) {
    const ASKED: Duration = Duration::from_secs(2);
    let manners = Manners {
        status: Some(status),
        retry_after: Some(ASKED.as_secs()),
        refusals: 1,
        ..Manners::default()
    };
    let collector = match protocol {
        "grpc" => Collector::grpc(manners),
        _ => Collector::http(manners),
    };
    let mut variables = short_queue(collector.address, protocol);
    // The pause is the collector's time, not the batch's.
    variables.push(("OTEL_BSP_EXPORT_TIMEOUT", "1900".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("early", true));
    until("it is refused", || fixture.count(FAILURES) == 1);
    let refused = collector.times()[0];
    // Somebody in a hurry does not shorten it, and is told that nothing was taken.
    assert!(!fixture.exporter.flush(Duration::from_millis(1)));
    fixture.exporter.record(span("meanwhile", true));
    until("both are through", || {
        fixture.count(EXPORTED) + fixture.count(EXPORT_FAILED) == 2
    });
    assert_eq!(fixture.count(EXPORTED), 2, "{protocol}");
    assert!(
        collector.times()[1].duration_since(refused) >= ASKED,
        "the collector was left alone"
    );
}

#[test]
fn a_pause_that_a_collector_asks_for_is_kept_over_http() {
    the_pause_is_kept("http/protobuf", 503);
    the_pause_is_kept("http/protobuf", 429);
}

#[test]
fn a_pause_that_a_collector_asks_for_is_kept_over_grpc() {
    the_pause_is_kept("grpc", 503);
    the_pause_is_kept("grpc", 429);
}

#[test]
fn a_collector_without_resources_that_names_no_pause_is_not_asked_again() {
    let collector = Collector::grpc(Manners {
        status: Some(429),
        ..Manners::default()
    });
    let fixture = Fixture::start(&short_queue(collector.address, "grpc"));
    fixture.exporter.record(span("alone", true));
    until("it is dropped", || fixture.count(EXPORT_FAILED) == 1);
    assert_eq!(collector.received().requests, 1);
}
