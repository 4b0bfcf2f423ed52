//! The built binary as a test runs it: in a folder of its own, and never for longer than a limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::TestServer;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(40);

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// The lines of `--json`.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The one line of `--json` of a run that did what it should.
    #[track_caller]
    pub fn result(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        let mut lines = self.json();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }

    /// The error that ends the lines of `--json`.
    #[track_caller]
    pub fn error(&self) -> Value {
        let error = self.json().pop().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(error["exit_code"], self.code, "{self:?}");
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{self:?}"
        );
        error
    }
}

/// `cli` with a state folder of its own.
pub struct Program {
    folder: TempDir,
    server: String,
    auth: String,
}

impl Program {
    /// For the servers of a test.
    pub fn of(server: &TestServer) -> Self {
        Self::at(
            &format!("http://{}", server.address),
            &format!("http://{}", server.auth),
        )
    }

    /// For any addresses.
    pub fn at(server: &str, auth: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: server.to_owned(),
            auth: auth.to_owned(),
        }
    }

    /// A folder that ends with the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Files of sessions.
    pub fn session_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder().join("meridian"))
            .unwrap()
            .map(|file| file.unwrap().path());
        files
            .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("session-"))
            .collect()
    }

    /// The command with its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cli"));
        self.set_environment(&mut command);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Tells a command where the servers of the test are, and where to keep what stays.
    pub fn set_environment(&self, command: &mut Command) {
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("MERIDIAN_") || name.starts_with("OTEL_") || name == "RUST_LOG" {
                command.env_remove(&variable);
            }
        }
        command
            .env("MERIDIAN_CLI_SERVER", &self.server)
            .env("MERIDIAN_CLI_AUTH", &self.auth)
            .env("XDG_STATE_HOME", self.folder())
            .env("USER", "Tester");
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        end(self.command(arguments).spawn().unwrap())
    }

    /// Runs to the end with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Run {
        self.run(&[&["--json"], arguments].concat())
    }

    /// Runs to the end with a variable of the environment.
    #[track_caller]
    pub fn run_with_environment(&self, arguments: &[&str], variable: &str, value: &str) -> Run {
        end(self.command(arguments).env(variable, value).spawn().unwrap())
    }

    /// Runs to the end with this on standard input.
    #[track_caller]
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        end(child)
    }

    /// Starts it, and tells its lines as they come.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, lines }
    }
}

/// A run that goes on.
pub struct Running {
    /// The process.
    pub child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// The next line of standard output.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// What it came to, with the lines that nobody has taken.
    #[track_caller]
    pub fn end(self) -> Run {
        let mut run = end(self.child);
        run.out = self.lines.iter().map(|line| line + "\n").collect();
        run
    }
}

#[track_caller]
fn end(mut child: Child) -> Run {
    let read = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut stream) = stream {
                stream.read_to_string(&mut text).unwrap();
            }
            text
        })
    };
    let out = read(child.stdout.take().map(|stream| Box::new(stream) as _));
    let err = read(child.stderr.take().map(|stream| Box::new(stream) as _));
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!(
                "cli does not end; it said {} {}",
                out.join().unwrap(),
                err.join().unwrap()
            );
        }
        thread::sleep(Duration::from_millis(5));
    };
    Run {
        code: status.code().unwrap_or(-1),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}
