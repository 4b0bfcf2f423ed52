//! The stock server's process, so that its CPU can be told from the bots'. It is spoken to in lines: it says its address,
//! is told when the measuring window begins and ends, and answers the end with what it cost.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use crate::histogram::Summary;

/// What the server's first line begins with; its address follows.
pub(super) const READY: &str = "ready ";
/// Lines of other output that are read over before the address is given up on.
const LINES_BEFORE_READY_MAX: usize = 64;
/// How long the server may take to end once its input has.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The measuring window begins.
    Begin,
    /// It ends: answer with the [`Costs`].
    End,
}

impl Command {
    pub(super) fn parse(line: &str) -> Option<Self> {
        match line.trim() {
            "begin" => Some(Self::Begin),
            "end" => Some(Self::End),
            _ => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Begin => "begin\n",
            Self::End => "end\n",
        }
    }
}

/// What the server cost between the two commands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Costs {
    /// CPU time of the whole process, in microseconds.
    pub(super) cpu_us: u64,
    /// Ticks simulated.
    pub(super) ticks: u64,
    /// Updates that took longer than a tick.
    pub(super) overruns: u64,
    /// How long updates took, in milliseconds.
    pub(super) update_ms: Summary,
}

/// A running stock server; it ends when this is dropped.
pub(super) struct ServerProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl ServerProcess {
    pub(super) fn start(program: &Path, world_file: &Path) -> anyhow::Result<Self> {
        let mut child = std::process::Command::new(program)
            .arg("baseline-server")
            .arg("--world")
            .arg(world_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the stock server ({})", program.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.context("the stock server has no standard output")?);
        let mut server = Self {
            child,
            input,
            output,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        server.address = server.read_address()?;
        Ok(server)
    }

    fn read_address(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in 0..LINES_BEFORE_READY_MAX {
            if let Some(address) = self.read_line()?.strip_prefix(READY) {
                return address
                    .trim()
                    .parse()
                    .context("the stock server told a strange address");
            }
        }
        Err(anyhow!("the stock server did not tell its address"))
    }

    fn read_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self
            .output
            .read_line(&mut line)
            .context("cannot read from the stock server")?;
        if read == 0 {
            Err(anyhow!("the stock server ended; see its messages above"))
        } else {
            Ok(line)
        }
    }

    fn tell(&mut self, command: Command) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the stock server's input is closed")?;
        input
            .write_all(command.text().as_bytes())
            .context("cannot write to the stock server")
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.tell(Command::Begin)
    }

    pub(super) fn end(&mut self) -> anyhow::Result<Costs> {
        self.tell(Command::End)?;
        serde_json::from_str(&self.read_line()?).context("the stock server told strange costs")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_mean_the_same_by_a_command() {
        for command in [Command::Begin, Command::End] {
            assert_eq!(Command::parse(command.text()), Some(command));
        }
        assert_eq!(Command::parse("stop"), None);
    }

    #[test]
    fn a_program_that_is_no_stock_server_is_told() {
        let error = ServerProcess::start(Path::new("/bin/true"), Path::new("world.toml"))
            .err()
            .map(|e| e.to_string());
        assert!(error.unwrap().contains("ended"));
        let error = ServerProcess::start(Path::new("/no/such/program"), Path::new("w"))
            .err()
            .map(|e| e.to_string());
        assert!(error.unwrap().contains("cannot start"));
    }
}
