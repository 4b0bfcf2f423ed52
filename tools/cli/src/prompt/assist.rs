//! What helps at the prompt: completion of commands, directions and flags, and hints of what comes next.

use std::borrow::Cow;

use clap::{CommandFactory, ValueEnum};
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper, Result};

use crate::cli::{Direction, PromptLine};

/// What comes after a command.
const HINTS: [(&str, &str); 5] = [
    ("move", " DIRECTION METRES, or --dx PART --dz PART --ticks N"),
    ("watch", " --area X0,Z0,X1,Z1, or --entity ID"),
    ("join", " --name NAME"),
    ("help", " COMMAND"),
    ("play", " (outside of the prompt)"),
];

/// Completes and hints by the same definition that lines are read by.
pub(super) struct Assistant {
    commands: clap::Command,
}

impl Default for Assistant {
    fn default() -> Self {
        let mut commands = PromptLine::command();
        // Adds `help` and what is global to each command.
        commands.build();
        Self { commands }
    }
}

/// A hint that is read and not taken over.
pub(super) struct Usage(&'static str);

impl Hint for Usage {
    fn display(&self) -> &str {
        self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Assistant {
    /// What the last word of a line may become, and where that word begins.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |before| before + 1);
        let (before, word) = line.split_at(start);
        let mut words = before.split_whitespace();
        let all = match words.next() {
            None => self
                .commands
                .get_subcommands()
                .map(|command| command.get_name().to_owned())
                .collect(),
            Some("help") => self
                .commands
                .get_subcommands()
                .map(|command| command.get_name().to_owned())
                .collect(),
            Some(command) if word.starts_with('-') => self.flags(command),
            Some("move") if words.next().is_none() => Direction::value_variants()
                .iter()
                .map(|direction| direction.name().to_owned())
                .collect(),
            Some(_) => Vec::new(),
        };
        (
            start,
            all.into_iter()
                .filter(|candidate| candidate.starts_with(word))
                .collect(),
        )
    }

    fn flags(&self, command: &str) -> Vec<String> {
        let command = self.commands.find_subcommand(command);
        let flags = command.into_iter().flat_map(|command| command.get_arguments());
        flags
            .filter_map(|flag| flag.get_long().map(|long| format!("--{long}")))
            .collect()
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..position).unwrap_or(line)))
    }
}

impl Hinter for Assistant {
    type Hint = Usage;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<Usage> {
        let is_at_end = position == line.len();
        let (_, hint) = HINTS.iter().find(|(command, _)| is_at_end && line == *command)?;
        Some(Usage(hint))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\u{1b}[2m{hint}\u{1b}[0m"))
    }
}

impl Validator for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use rustyline::history::MemHistory;

    use super::*;

    fn complete(line: &str) -> (usize, Vec<String>) {
        Assistant::default().candidates(line)
    }

    #[test]
    fn commands_directions_and_flags_are_completed() {
        assert_eq!(complete("mo"), (0, vec!["move".to_owned()]));
        assert_eq!(complete("move nor").1, ["north", "north-east", "north-west"]);
        assert_eq!(complete("move north 5 --j"), (13, vec!["--jump".to_owned()]));
        assert!(complete("watch --").1.contains(&"--entity".to_owned()));
        assert_eq!(complete("help zo"), (5, vec!["zones".to_owned()]));
        assert!(complete("move north nor").1.is_empty());
        assert!(complete("").1.len() >= 8);
    }

    #[test]
    fn every_hint_is_of_a_command_that_there_is() {
        let assistant = Assistant::default();
        let history = MemHistory::new();
        for (command, expected) in HINTS {
            assert!(assistant.commands.find_subcommand(command).is_some(), "{command}");
            let hint = assistant.hint(command, command.len(), &Context::new(&history));
            assert_eq!(hint.map(|hint| hint.0), Some(expected));
        }
        assert!(assistant.hint("move north", 10, &Context::new(&history)).is_none());
    }
}
