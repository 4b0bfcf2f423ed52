//! What a process has logged stands on its standard error when it has ended, and who does not read that holds nobody up. What logs is installed once,
//! so each is a process of its own.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use meridian_telemetry::{LogFormat, install_logs};

/// How many lines the child logs.
const LINES_VARIABLE: &str = "MERIDIAN_TEST_LINES";
/// Whether it panics then.
const PANIC_VARIABLE: &str = "MERIDIAN_TEST_PANIC";
/// Lines that find room in the queue, whether or not anybody reads them.
const LINES: usize = 2_000;
/// What does not happen for so long does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Logs `lines` lines.
fn child_of(lines: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env(LINES_VARIABLE, lines.to_string()).stdout(Stdio::null());
    command
}

/// The numbers of the lines, as they came.
fn numbers(log: &str) -> Vec<usize> {
    let numbers = log
        .lines()
        .filter_map(|line| line.split_once("number=")?.1.parse().ok());
    numbers.collect()
}

#[test]
#[ignore = "a process of its own, started by the others with their environment"]
fn child() {
    let lines: usize = std::env::var(LINES_VARIABLE).unwrap().parse().unwrap();
    let _logs = install_logs(LogFormat::Pretty, "info").unwrap();
    for number in 0..lines {
        tracing::info!(number, "line");
    }
    assert!(std::env::var_os(PANIC_VARIABLE).is_none(), "it broke");
}

#[test]
fn everything_is_written_in_order_by_the_time_that_the_process_has_ended() {
    let output = child_of(LINES).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(numbers(&log), (0..LINES).collect::<Vec<_>>());
}

#[test]
fn a_panic_is_written_behind_what_was_logged_before_it() {
    let output = child_of(LINES).env(PANIC_VARIABLE, "1").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{log}");
    let (before, panic) = log.split_once("' panicked at ").unwrap();
    assert!(panic.contains("tests/logs.rs") && panic.contains("it broke"), "{panic}");
    assert_eq!(numbers(before), (0..LINES).collect::<Vec<_>>());
}

#[test]
fn a_process_ends_though_nobody_reads_what_it_logs() {
    // Many times what the pipe and the queue hold.
    let mut child = child_of(50 * LINES).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "it waits for its reader: {status}");
    drop(child.stderr.take());
}
