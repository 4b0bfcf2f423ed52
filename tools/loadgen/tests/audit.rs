//! `loadgen audit` as a program, against servers that tell what they are told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use meridian_events::{AuditLine, Began, Ended};
use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, TickRate, WorldEntityId, ZoneId};
use meridian_loadgen::audit::follow::follow;
use meridian_loadgen::timing::Timing;

/// What a server does on a connection.
#[derive(Clone)]
enum Step {
    /// Answers with this status, and no stream.
    Status(&'static str),
    /// Sends this much of the stream.
    Send(String),
    /// Does nothing for so long.
    Pause(Duration),
    /// Breaks the connection off; without it, it stays.
    Cut,
}

/// A server that does `connections[n]` on its n-th connection, and nothing on further ones.
fn serve(connections: Vec<Vec<Step>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (stream, steps) in listener.incoming().zip(connections) {
            held.extend(perform(stream.expect("a connection"), steps));
        }
    });
    url
}

fn perform(mut stream: TcpStream, steps: Vec<Step>) -> Option<TcpStream> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).ok()?;
    assert!(request[..length].starts_with(b"GET /v1/audit HTTP/1.1\r\n"));
    if !matches!(steps.first(), Some(Step::Status(_))) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
    }
    for step in steps {
        match step {
            Step::Status(status) => write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()?,
            Step::Send(text) => {
                // Chunks end anywhere, as a server's may.
                for chunk in text.as_bytes().chunks(777) {
                    write!(stream, "{:x}\r\n", chunk.len()).ok()?;
                    stream.write_all(chunk).ok()?;
                    stream.write_all(b"\r\n").ok()?;
                }
            }
            Step::Pause(pause) => std::thread::sleep(pause),
            Step::Cut => return None,
        }
    }
    Some(stream)
}

/// The lines of some zones, tick by tick.
struct Told {
    zones: Vec<u16>,
    lines: Vec<AuditLine>,
}

impl Told {
    /// Quiet lines of zones for some ticks, the first ones whole.
    fn new(zones: &[u16], ticks: std::ops::RangeInclusive<u64>) -> Self {
        let first = *ticks.start();
        let quiet = |tick: u64, zone: u16| AuditLine {
            zone: ZoneId(zone),
            lease: LeaseEpoch(1),
            tick: Tick(tick),
            whole: tick == first,
            began: vec![],
            ended: vec![],
            spawned: vec![],
            retired: vec![],
        };
        Self {
            zones: zones.to_vec(),
            lines: ticks
                .flat_map(|tick| zones.iter().map(move |zone| quiet(tick, *zone)))
                .collect(),
        }
    }

    fn line(&mut self, zone: u16, tick: u64) -> &mut AuditLine {
        assert!(self.zones.contains(&zone));
        let is_it = |line: &&mut AuditLine| line.zone == ZoneId(zone) && line.tick == Tick(tick);
        self.lines.iter_mut().find(is_it).expect("a line of the zone and tick")
    }

    fn begins(mut self, zone: u16, tick: u64, entity: u64, epoch: u64) -> Self {
        self.line(zone, tick).began.push(Began {
            entity: WorldEntityId(entity),
            epoch: EntityEpoch(epoch),
            from: Tick(tick),
        });
        self
    }

    /// Simulates it through the tick before.
    fn ends(mut self, zone: u16, tick: u64, entity: u64) -> Self {
        self.line(zone, tick).ended.push(Ended {
            entity: WorldEntityId(entity),
            through: Tick(tick - 1),
        });
        self
    }

    fn text(&self) -> String {
        self.lines
            .iter()
            .map(|line| serde_json::to_string(line).expect("a line") + "\n")
            .collect()
    }

    fn send(&self) -> Step {
        Step::Send(self.text())
    }
}

/// Two entities of zone 0; one is handed to zone 1 in tick 1100.
fn clean() -> Told {
    Told::new(&[0, 1], 1_000..=1_500)
        .begins(0, 1_000, 5, 3)
        .begins(0, 1_000, 6, 1)
        .ends(0, 1_100, 5)
        .begins(1, 1_100, 5, 4)
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("audit").args(arguments).env_remove("RUST_LOG");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn audit(arguments: &[&str]) -> Output {
    start(arguments).wait_with_output().expect("the program ends")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn messages(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_planted_duplicate_and_a_planted_loss_are_named_and_exit_code_two() {
    let told = clean()
        // Zone 1 takes it while zone 0 still has it, for 21 ticks.
        .begins(1, 1_200, 6, 2)
        .ends(0, 1_221, 6)
        // And nobody has the other one any more.
        .ends(1, 1_300, 5);
    let url = serve(vec![vec![told.send()]]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.json");
    let output = audit(&["--admin", &url, "--seconds", "2", "--report", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", messages(&output));
    let out = out(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "duplicated: e6 by z0 (epoch 1) and z1 (epoch 2) in ticks t1200 to t1200",
            "duplicated no longer: e6 by z0 (epoch 1) and z1 (epoch 2), in ticks t1200 to t1220",
            "lost: e5, last by z1 (epoch 4) in tick t1299, nobody's since",
            "2 zones, 2 entities, 501 ticks watched",
        ],
        "{out}"
    );
    let last = lines.last().copied().unwrap_or_default();
    assert!(last.starts_with("duplicated=1 lost=1 epochs_went_back=0 "), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&report["summary"]["lost"], &report["findings"][2]["kind"]),
        (&1.into(), &"lost".into())
    );
    assert_eq!(report["findings"][0]["owners"][1]["zone"], 1);
}

#[test]
fn clean_streams_of_several_servers_are_no_fault() {
    let of_zone = |zone| {
        let mut told = clean();
        told.lines.retain(|line| line.zone == ZoneId(zone));
        vec![vec![told.send()]]
    };
    let (one, other) = (serve(of_zone(0)), serve(of_zone(1)));
    let output = audit(&["--admin", &one, "--admin", &other, "--seconds", "2"]);
    assert_eq!(output.status.code(), Some(0), "{} {}", out(&output), messages(&output));
    assert_eq!(
        out(&output),
        "2 zones, 2 entities, 501 ticks watched\n\
         duplicated=0 lost=0 epochs_went_back=0 handoffs=1 (at most 1 of an entity within a second; 1 without a missing tick, \
         at most 0 missing)\n"
    );
}

#[test]
fn a_stream_that_breaks_within_a_line_and_comes_back_is_survived() {
    let text = clean().text();
    let cut = text.len() / 3;
    let again = Told::new(&[0, 1], 1_400..=1_900)
        .begins(0, 1_400, 6, 1)
        .begins(1, 1_400, 5, 4);
    let url = serve(vec![
        vec![Step::Send(text[..cut].to_owned()), Step::Cut],
        vec![Step::Status("503 Service Unavailable"), Step::Cut],
        vec![again.send()],
    ]);
    let output = audit(&["--admin", &url, "--seconds", "3"]);
    assert_eq!(output.status.code(), Some(0), "{} {}", out(&output), messages(&output));
    assert!(
        out(&output).contains("2 zones, 2 entities, 901 ticks"),
        "{}",
        out(&output)
    );
    assert!(messages(&output).contains("audited again"), "{}", messages(&output));
}

#[test]
fn what_is_no_line_is_named_and_no_end_of_the_watch() {
    let garbage = || Step::Send("<html>it works</html>\n".to_owned());
    let output = audit(&["--admin", &serve(vec![vec![garbage()]]), "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", messages(&output));
    for said in ["nothing could be watched", "tells no tick of a zone", "<html>it works"] {
        assert!(messages(&output).contains(said), "{}", messages(&output));
    }
    let again = Told::new(&[0, 1], 1_600..=1_700)
        .begins(0, 1_600, 6, 1)
        .begins(1, 1_600, 5, 4);
    let endless = Step::Send("x".repeat(1_100_000));
    let url = serve(vec![vec![clean().send(), garbage()], vec![endless], vec![again.send()]]);
    let output = audit(&["--admin", &url, "--seconds", "3"]);
    assert_eq!(output.status.code(), Some(0), "{} {}", out(&output), messages(&output));
    for said in [
        "tells no tick of a zone",
        "a line of more than 1048576 bytes",
        "audited again",
    ] {
        assert!(messages(&output).contains(said), "{}", messages(&output));
    }
    assert!(out(&output).contains("2 entities, 701 ticks"), "{}", out(&output));
}

#[test]
fn a_server_without_an_audit_and_one_that_is_not_there_are_named() {
    let missing = || serve(vec![vec![Step::Status("404 Not Found")]]);
    // It does not wait for what will never come.
    let output = audit(&["--admin", &missing()]);
    assert_eq!(output.status.code(), Some(1));
    let said = messages(&output);
    assert!(
        said.contains("/v1/audit does not exist") && said.contains("runs no zone"),
        "{said}"
    );
    // What was not watched is not known to be without fault.
    let url = serve(vec![vec![clean().send()]]);
    let output = audit(&["--admin", &url, "--admin", "http://127.0.0.1:1", "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(messages(&output).contains("could not be watched: cannot fetch http://127.0.0.1:1"));
    let output = audit(&["--report", "/no/such/folder/audit.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        messages(&output).contains("cannot write the report"),
        "{}",
        messages(&output)
    );
}

#[test]
fn a_fault_is_told_at_once_and_the_watch_ends_when_it_is_told_to() {
    use rustix::process::{Pid, Signal, kill_process};

    let told = clean().begins(1, 1_200, 6, 2);
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = start(&["--admin", &serve(vec![vec![told.send()]])]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        assert!(
            first.starts_with("duplicated: e6 by z0 (epoch 1) and z1 (epoch 2)"),
            "{first}"
        );
        let begun = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(rest.contains("\nduplicated=1 lost=0 "), "{rest}");
    }
}

#[test]
fn a_run_counts_faults_throughout_and_handoffs_of_its_window() {
    // Two handoffs before the window, one of them a duplicate; two within.
    let before = Told::new(&[0, 1], 1_000..=1_250)
        .begins(0, 1_000, 5, 3)
        .begins(0, 1_000, 6, 1)
        .ends(0, 1_100, 5)
        .begins(1, 1_100, 5, 4)
        .begins(1, 1_200, 6, 2)
        .ends(0, 1_221, 6);
    let mut within = Told::new(&[0, 1], 1_251..=1_500)
        .ends(1, 1_300, 5)
        .begins(0, 1_303, 5, 5)
        .ends(0, 1_320, 5)
        .begins(1, 1_320, 5, 6);
    within.lines.iter_mut().for_each(|line| line.whole = false);
    let pause = Step::Pause(Duration::from_millis(900));
    let url = serve(vec![vec![before.send(), pause, within.send()]]);
    let timing = Timing::start(0, Duration::from_millis(600), Duration::from_secs(1));
    let followed = follow(std::slice::from_ref(&url), TickRate::default(), &timing).expect("an audit");
    let (audit, handoffs) = (followed.audit, followed.handoffs);
    assert_eq!((audit.entities, audit.duplicated, audit.lost), (2, 1, 0));
    assert_eq!((audit.undecided, audit.unknown, audit.interruptions), (0, 0, 0));
    assert_eq!((handoffs.count, handoffs.per_second), (Some(2), Some(2.0)));
    assert_eq!(
        (handoffs.per_entity_per_second_max, handoffs.missing_ticks_max),
        (Some(2), Some(3))
    );
    assert!(Instant::now() >= timing.stop);

    let url = serve(vec![vec![Step::Status("404 Not Found")]]);
    let timing = Timing::start(0, Duration::from_millis(100), Duration::from_millis(100));
    assert_eq!(follow(std::slice::from_ref(&url), TickRate::default(), &timing), None);
}

#[test]
fn who_is_on_the_way_when_a_run_ends_is_watched_until_it_is_known_or_lost() {
    // One goes to zone 1 and one to nobody, and both are under way when the run ends.
    let mut before = Told::new(&[0, 1], 1_000..=1_500)
        .begins(0, 1_000, 5, 3)
        .begins(0, 1_000, 6, 1)
        .ends(0, 1_240, 5)
        .ends(0, 1_245, 6)
        .begins(1, 1_260, 5, 4);
    let mut after = Told::new(&[0, 1], 1_250..=1_250);
    after.lines = before.lines.split_off(2 * 250);
    let pause = Step::Pause(Duration::from_millis(1_500));
    let url = serve(vec![vec![before.send(), pause, after.send()]]);
    let timing = Timing::start(0, Duration::from_millis(100), Duration::from_millis(100));
    let followed = follow(std::slice::from_ref(&url), TickRate::default(), &timing).expect("an audit");
    let audit = followed.audit;
    assert_eq!((audit.entities, audit.duplicated, audit.lost), (2, 0, 1));
    assert_eq!((audit.undecided, audit.unknown), (0, 0));
}
