//! The prompt and the view in a terminal, which `script` of util-linux makes.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::Program;
use crate::world::{Fault, TestServer};

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// Tells how the terminal is before and after, and who runs in it. Ctrl-C is for who runs in it.
const SESSION: &str = r#"
trap : INT
stty rows 30 cols 100
stty -a >"$TEST_FOLDER/before"
sh -c 'echo $$ >"$TEST_FOLDER/pid.new"; mv "$TEST_FOLDER/pid.new" "$TEST_FOLDER/pid"; exec $TEST_COMMAND'
code=$?
stty -a >"$TEST_FOLDER/after"
exit $code
"#;
/// What a terminal is told to show another screen, and to show the first again.
const OTHER_SCREEN: &str = "\u{1b}[?1049h";
const FIRST_SCREEN: &str = "\u{1b}[?1049l";

/// What the prompt tells the terminal when it begins to read a line.
const PROMPT: &str = "\u{1b}[?2004h";

/// A terminal in which `cli` runs.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<String>>,
    folder: PathBuf,
}

impl Terminal {
    fn start(cli: &Program, arguments: &str) -> Self {
        let mut command = Command::new("script");
        cli.set_environment(&mut command);
        let mut child = command
            .args(["--quiet", "--flush", "--return", "--command", SESSION])
            .arg(cli.folder().join("typescript"))
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("TEST_FOLDER", cli.folder())
            .env("TEST_COMMAND", format!("{} {arguments}", env!("CARGO_BIN_EXE_cli")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the terminal is made by `script` of util-linux");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut out, text) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(read @ 1..) = out.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self {
            keyboard: child.stdin.take().unwrap(),
            child,
            shown,
            folder: cli.folder().to_owned(),
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Until so many of this text were shown.
    #[track_caller]
    fn wait_for(&self, text: &str, times: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.count(text) < times {
            assert!(
                Instant::now() < deadline,
                "{text:?} in {:?}",
                self.shown.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often this was shown.
    fn count(&self, text: &str) -> usize {
        self.shown.lock().unwrap().matches(text).count()
    }

    /// Types until so many of this text were shown: what is typed while an interrupt is taken is lost, as it is to people.
    #[track_caller]
    fn type_until(&mut self, keys: &str, text: &str, times: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.count(text) < times {
            assert!(
                Instant::now() < deadline,
                "{text:?} in {:?}",
                self.shown.lock().unwrap()
            );
            self.type_keys(keys);
            let next = Instant::now() + Duration::from_secs(1);
            while self.count(text) < times && Instant::now() < next {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Sends a signal to `cli` alone.
    fn signal(&self, signal: Signal) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The exit code and what was shown. The terminal has to be as it was before.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("it goes on: {:?}", self.shown.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap();
        assert_eq!(read("before"), read("after"), "the terminal is not as it was");
        let shown = self.shown.lock().unwrap().clone();
        (status.code().unwrap_or(-1), shown)
    }
}

impl Drop for Terminal {
    /// The terminal ends with the test that failed in the middle of it, and who runs in it is told so.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn history(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("meridian/history")).unwrap_or_default()
}

#[test]
fn the_prompt_takes_a_line_and_ctrl_d_ends_it() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let mut terminal = Terminal::start(&cli, "");
    terminal.wait_for("meridian> ", 1);
    // What is typed can be edited: the x goes, and Tab completes.
    terminal.type_keys("stax\u{7f}t\t\r");
    terminal.wait_for("is serving", 1);
    let deadline = Instant::now() + LIMIT;
    while !history(cli.folder()).contains("status") {
        assert!(Instant::now() < deadline, "a line is kept when it is done");
        std::thread::sleep(Duration::from_millis(5));
    }
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn a_signal_ends_the_prompt_and_gives_the_terminal_back() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        for (line, shown) in [
            ("", "meridian> "),
            ("watch --plain --count 1\r", "ms old"),
            ("status\r", "is serving"),
        ] {
            let mut terminal = Terminal::start(&cli, "");
            terminal.wait_for("meridian> ", 1);
            terminal.type_keys(line);
            terminal.wait_for(shown, 1);
            terminal.signal(signal);
            assert_eq!(terminal.end().0, code, "{signal:?} after {line:?}");
        }
    }
}

#[test]
fn an_interrupt_ends_the_command_and_not_the_prompt() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let mut terminal = Terminal::start(&cli, "--timeout 10s");
    terminal.wait_for("meridian> ", 1);
    server.world().fault = Fault::Silent;
    terminal.type_keys("move north --ticks 1\r");
    let deadline = Instant::now() + LIMIT;
    while !server.world().traces.iter().any(|(method, _)| *method == "Move") {
        assert!(Instant::now() < deadline, "nobody moves");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Ctrl-C, as a terminal in its usual mode takes it.
    terminal.type_keys("\u{3}");
    terminal.wait_for("interrupted", 1);
    terminal.type_until("status\r", "is serving", 1);
    // And at the prompt itself, as a key or as a signal.
    let interrupts: [fn(&mut Terminal); 2] = [
        |terminal| terminal.type_keys("\u{3}"),
        |terminal| terminal.signal(Signal::INT),
    ];
    for interrupt in interrupts {
        let prompts = terminal.count(PROMPT);
        interrupt(&mut terminal);
        terminal.wait_for(PROMPT, prompts + 1);
    }
    let served = terminal.count("is serving");
    terminal.type_until("status\r", "is serving", served + 1);
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn the_view_shows_who_is_there_and_q_ends_it() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let mut terminal = Terminal::start(&cli, "watch");
    terminal.wait_for(OTHER_SCREEN, 1);
    terminal.wait_for("e1000100000001", 1);
    terminal.wait_for("is you", 1);
    terminal.type_keys("q");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown:?}");
    let (_, after) = shown.split_once(FIRST_SCREEN).unwrap();
    assert!(after.contains("\u{1b}[?25h"), "the cursor is shown again: {after:?}");
    assert!(after.contains("trace "), "the trace stays to be read: {after:?}");
}

#[test]
fn a_signal_ends_the_view_and_gives_the_terminal_back() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let terminal = Terminal::start(&cli, "watch");
        terminal.wait_for("is you", 1);
        terminal.signal(signal);
        let (code, shown) = terminal.end();
        assert_eq!(code, 0, "{shown:?}");
        assert!(shown.contains(FIRST_SCREEN), "{shown:?}");
    }
}
