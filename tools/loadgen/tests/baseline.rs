//! The stock server and its bots, as the program starts them.

use std::process::{Command, Output};

use meridian_loadgen::report::Report;

fn loadgen(arguments: &[&str]) -> Output {
    // Asked for at run time: checkouts that share a target folder share this test's binary too.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("started by cargo");
    let world = format!("{package}/../../assets/data/world.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments);
    if arguments[0] == "baseline" {
        command.args(["--world", &world]);
    }
    command.output().expect("the program runs")
}

fn messages(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_stock_server_is_measured_as_meridian_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stock.json");
    let bots = [
        "baseline",
        "--bots",
        "3",
        "--seconds",
        "3",
        "--warmup",
        "2",
        "--probe-every",
        "0.2",
    ];
    let output = loadgen(&[&bots[..], &["--scenario", "crowd", "--report", file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", messages(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 of 3 bots connected"));

    let report = Report::read(&file).unwrap();
    assert_eq!(
        (report.bots.connected, report.bots.disconnected, report.tick_rate_hz),
        (3, 0, 60)
    );
    assert!(
        report.action_latency_ms.samples >= 20 && report.observer_latency_ms.samples >= 40,
        "{report:?}"
    );
    // Four ticks on a quiet machine; never less than the one tick that an update takes.
    let p50 = report.action_latency_ticks.p50.unwrap();
    assert!((1.0..=20.0).contains(&p50), "{p50} ticks");
    // Ten floats are 40 bytes; the rest is what lightyear and netcode wrap around them.
    let bytes = report.wire.bytes_per_entity_update.unwrap();
    assert!((40.0..=200.0).contains(&bytes), "{bytes} bytes per update");
    assert!(report.inputs.sent > 300 && report.inputs.late.is_none() && report.handoffs.count.is_none());
    assert!(report.loadgen.cpu_us_per_bot_tick.unwrap() > 1.0 && report.server.cpu_us_per_client_tick.unwrap() > 1.0);
}

#[test]
fn an_exceeded_bound_is_exit_code_two_and_named() {
    let bots = [
        "baseline",
        "--bots",
        "1",
        "--seconds",
        "1",
        "--warmup",
        "1",
        "--probe-every",
        "0.2",
    ];
    let output = loadgen(&[&bots[..], &["--max-action-p50-ticks", "0.1", "--max-disconnected", "0"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", messages(&output));
    assert!(
        messages(&output).contains("--max-action-p50-ticks 0.1: measured"),
        "{}",
        messages(&output)
    );
    assert!(
        !messages(&output).contains("--max-disconnected"),
        "{}",
        messages(&output)
    );
}

#[test]
fn a_server_that_is_not_there_and_a_world_that_is_not_there_are_named() {
    let output = loadgen(&["run", "--server", "http://127.0.0.1:1", "--bots", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        messages(&output).contains("http://127.0.0.1:1"),
        "{}",
        messages(&output)
    );
    let output = loadgen(&["run", "--baseline", "no/such/report.json"]);
    assert!(output.status.code() == Some(1) && messages(&output).contains("no/such/report.json"));
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("no/such/report.json");
    for (subject, file) in [
        ("run", &absent),
        ("run", &folder.path().to_owned()),
        ("baseline", &absent),
    ] {
        // Nobody listens there: a run that began would say so.
        let server: &[&str] = if subject == "run" {
            &["--server", "http://127.0.0.1:1"]
        } else {
            &[]
        };
        let output = loadgen(&[&[subject, "--report", file.to_str().unwrap()][..], server].concat());
        assert_eq!(output.status.code(), Some(1));
        let said = format!("cannot write the report to {}", file.display());
        assert!(messages(&output).contains(&said), "{}", messages(&output));
        assert!(
            !messages(&output).contains("http://127.0.0.1:1"),
            "{}",
            messages(&output)
        );
    }
}

#[test]
fn a_run_that_fails_leaves_reports_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.json"), folder.path().join("new.json"));
    std::fs::write(&old, "earlier figures").unwrap();
    for file in [&old, &new] {
        let report = file.to_str().unwrap();
        let output = loadgen(&["run", "--server", "http://127.0.0.1:1", "--report", report]);
        assert_eq!(output.status.code(), Some(1), "{}", messages(&output));
        assert!(
            messages(&output).contains("http://127.0.0.1:1"),
            "{}",
            messages(&output)
        );
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "earlier figures");
    assert!(!new.exists());
}

#[test]
fn a_run_in_which_no_action_is_measured_fails() {
    let bots = ["baseline", "--bots", "1", "--seconds", "0", "--warmup", "0"];
    let output = loadgen(&[&bots[..], &["--max-action-p50-ticks", "9"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", messages(&output));
    assert!(
        messages(&output).contains("nothing was measured"),
        "{}",
        messages(&output)
    );
}
