//! A player on the command line.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    meridian::{World, export_to},
    support::{Running, built, command, run, run_well},
};

/// How the client ends when the server refused what it asked for.
const EXIT_REFUSED: i32 = 5;

/// A player at one server.
pub struct Player<'a> {
    pub world: &'a World,
    pub server: String,
    /// Names its session too: a player of the same name and folder goes on where this one is.
    pub name: &'static str,
    pub folder: &'a Path,
    /// Where its spans go, over gRPC.
    pub collector: Option<&'a str>,
}

impl Player<'_> {
    /// What a command answered, line by line.
    pub fn does(&self, arguments: &[&str]) -> Vec<Value> {
        let said = run_well(&mut self.cli(arguments));
        lines(&said)
    }

    /// A command that the server refuses.
    pub fn is_refused(&self, arguments: &[&str]) {
        let output = run(&mut self.cli(arguments));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_REFUSED), "{said}");
    }

    /// Its view of positions, for as long as it is kept.
    pub fn watches(&self) -> Running {
        let name = format!("watch of {}", self.name);
        Running::start(&name, self.folder, &mut self.cli(&["watch"]))
    }

    fn cli(&self, arguments: &[&str]) -> Command {
        let mut cli = command(&built("cli"));
        cli.args(["--json", "--server", &self.server, "--auth", &self.world.auth()]);
        cli.args(["--name", self.name]).arg("--session");
        cli.arg(self.folder.join(format!("{}.session", self.name)));
        export_to(&mut cli, self.collector);
        cli.args(arguments);
        cli
    }
}

/// What of a text is JSON.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
