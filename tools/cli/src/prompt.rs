//! The prompt: the commands of the command line, one after another over one connection.
//!
//! In a terminal its lines can be edited, are completed and are kept for the next time. From a pipe it reads them as they are, and ends with the
//! exit code of the first that failed.

mod assist;
mod words;

use std::io::{self, BufRead, IsTerminal, Read};

use clap::Parser;
use clap::error::ErrorKind;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use tokio::runtime::Handle;

use crate::cli::{Command, PromptCommand, PromptLine};
use crate::commands::{Context, execute};
use crate::error::{CliError, EXIT_OK};
use crate::session::state_folder;

use assist::Assistant;

/// Longest line in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Lines that are kept for the next time.
const HISTORY_LINES_MAX: usize = 1_000;

const WELCOME: &str = "`help` tells the commands, Tab completes them, Ctrl-D ends.";

/// What a line of the prompt came to.
enum Turn {
    /// It was done, with this exit code.
    Done(u8),
    /// It ends the prompt.
    Exit,
}

/// Reads and does commands until there are no more, and tells the exit code.
///
/// # Errors
/// The terminal or standard input cannot be read.
pub fn run(context: &mut Context, runtime: &Handle) -> Result<u8, CliError> {
    context.is_prompt = true;
    match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => converse(context, runtime),
        false => read(context, runtime),
    }
}

/// At a terminal. What failed was told there; the prompt itself ends well.
fn converse(context: &mut Context, runtime: &Handle) -> Result<u8, CliError> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)
        .map_err(terminal)?;
    let mut editor: Editor<Assistant, FileHistory> =
        Editor::with_config(config.auto_add_history(true).build()).map_err(terminal)?;
    editor.set_helper(Some(Assistant::default()));
    let history = state_folder().map(|folder| folder.join("history"));
    if let Some(history) = &history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    context.output.line(&format!("{} {WELCOME}", context.server()))?;
    loop {
        let prompt = format!("{}> ", context.name.as_deref().unwrap_or("meridian"));
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal(error)),
        };
        if matches!(turn(context, runtime, &line)?, Turn::Exit) {
            break;
        }
    }
    if let Some(history) = &history {
        let folder = history.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder
            .map_err(ReadlineError::Io)
            .and_then(|()| editor.save_history(history))
        {
            let message = format!("the lines are not kept in {}: {error}", history.display());
            context.output.notice("history_not_kept", &message)?;
        }
    }
    Ok(EXIT_OK)
}

/// From a pipe or a file.
fn read(context: &mut Context, runtime: &Handle) -> Result<u8, CliError> {
    let mut input = io::stdin().lock();
    let mut failed = None;
    loop {
        let mut bytes = Vec::new();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(CliError::Input)?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(CliError::Usage(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        let line = String::from_utf8(bytes).map_err(|_| CliError::Usage("a line is no text".to_owned()))?;
        match turn(context, runtime, &line)? {
            Turn::Done(EXIT_OK) => {}
            Turn::Done(code) => _ = failed.get_or_insert(code),
            Turn::Exit => break,
        }
    }
    Ok(failed.unwrap_or(EXIT_OK))
}

/// Does one line.
fn turn(context: &mut Context, runtime: &Handle, line: &str) -> Result<Turn, CliError> {
    let words = match words::split(line) {
        Ok(words) if words.is_empty() => return Ok(Turn::Done(EXIT_OK)),
        Ok(words) => words,
        Err(message) => return Ok(Turn::Done(context.failed(&CliError::Usage(message)))),
    };
    if words.first().is_some_and(|word| word.starts_with('#')) {
        return Ok(Turn::Done(EXIT_OK));
    }
    let parsed = match PromptLine::try_parse_from(words) {
        Ok(parsed) => parsed,
        Err(error) => return misread(context, &error),
    };
    let PromptCommand::Command(command) = parsed.command else {
        return Ok(Turn::Exit);
    };
    let name = context.name.clone();
    let keeps_name = matches!(command, Command::Join);
    if parsed.name.is_some() {
        context.name = parsed.name;
    }
    let code = runtime.block_on(interruptible(context, command));
    if !(keeps_name && code == EXIT_OK) {
        context.name = name;
    }
    Ok(Turn::Done(code))
}

/// Ctrl-C ends the command and not the prompt. A watch ends itself, and well.
async fn interruptible(context: &mut Context, command: Command) -> u8 {
    if matches!(command, Command::Watch(_)) {
        return execute(context, command).await;
    }
    let interrupted = tokio::select! {
        code = execute(context, command) => Err(code),
        _ = tokio::signal::ctrl_c() => Ok(CliError::Interrupted),
    };
    match interrupted {
        Ok(error) => context.failed(&error),
        Err(code) => code,
    }
}

/// Help is a result, everything else an error.
fn misread(context: &mut Context, error: &clap::Error) -> Result<Turn, CliError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        match context.output.is_json() {
            true => context.output.notice("help", &error.to_string())?,
            false => context.output.line(error.to_string().trim_end())?,
        }
        return Ok(Turn::Done(EXIT_OK));
    }
    let text = error.to_string();
    let message = text.trim_end().trim_start_matches("error: ").to_owned();
    Ok(Turn::Done(context.failed(&CliError::Usage(message))))
}

fn terminal(error: ReadlineError) -> CliError {
    CliError::Terminal(match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error.to_string()),
    })
}
