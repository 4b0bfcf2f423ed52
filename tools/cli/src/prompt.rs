//! The prompt: the commands of the command line, one after another over one connection.
//!
//! In a terminal its lines can be edited, are completed and are kept for the next time. From a pipe it reads them as they are, and ends with the
//! exit code of the first that failed.

mod assist;
mod words;

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;

use clap::Parser;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Sender};

use crate::cli::{Command, Misread, PromptCommand, PromptLine, misread_as};
use crate::commands::{Context, execute};
use crate::error::{CliError, EXIT_OK};
use crate::output::Output;
use crate::session::{create_private_folder, state_folder};
use crate::signals::{EndSignal, Signals};

use assist::Assistant;

/// Longest line in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Lines that are kept for the next time.
const HISTORY_LINES_MAX: usize = 1_000;

/// Lines of a pipe that are read ahead of what is done.
const LINES_AHEAD: usize = 1;

const WELCOME: &str = "`help` tells the commands, Tab completes them, Ctrl-D ends.";

/// What a line of the prompt came to.
enum Turn {
    /// It was done, with this exit code.
    Done(u8),
    /// It ends the prompt.
    Exit,
}

/// Reads and does commands until there are no more or a signal ends it, and tells the exit code.
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
    let mut history = History::load(&mut editor);
    // After the editor, whose own listening this goes on with.
    let signals = Signals::listen(runtime)?;
    context.output.line(&format!("{} {WELCOME}", context.server()))?;
    let mut is_after_interrupt = false;
    loop {
        let prompt = format!("{}> ", context.name.as_deref().unwrap_or("meridian"));
        let waking = signals.clone();
        let waking = runtime.spawn(async move { waking.interrupt_reading(is_after_interrupt).await });
        let line = editor.readline(&prompt);
        waking.abort();
        if let Some(signal) = signals.take().filter(|signal| *signal != EndSignal::Interrupt) {
            return Ok(context.failed(&CliError::Interrupted(signal)));
        }
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {
                is_after_interrupt = false;
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(EXIT_OK),
            Err(error) => return Err(terminal(error)),
        };
        // Before it is done: a terminal that is closed in the middle takes no line along.
        history.keep(&mut editor, context.output)?;
        if matches!(turn(context, runtime, &signals, &line)?, Turn::Exit) {
            return Ok(EXIT_OK);
        }
        match signals.take() {
            None => is_after_interrupt = false,
            Some(EndSignal::Interrupt) => is_after_interrupt = true,
            Some(signal) => return Ok(signal.exit_code()),
        }
    }
}

/// The file of lines for the next time; none if there is no place for it.
struct History(Option<PathBuf>);

impl History {
    fn load(editor: &mut Editor<Assistant, FileHistory>) -> Self {
        let path = state_folder().map(|folder| folder.join("history"));
        if let Some(path) = &path {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Self(path)
    }

    /// Appends what is new. If that cannot be, it is told once.
    fn keep(&mut self, editor: &mut Editor<Assistant, FileHistory>, output: Output) -> Result<(), CliError> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        let folder = path.parent().map_or(Ok(()), create_private_folder);
        let kept = folder
            .map_err(ReadlineError::Io)
            .and_then(|()| editor.append_history(path));
        if let Err(error) = kept {
            let message = format!("the lines are not kept in {}: {error}", path.display());
            self.0 = None;
            output.notice("history_not_kept", &message)?;
        }
        Ok(())
    }
}

/// From a pipe or a file. Any signal ends it: nobody is there to go on.
fn read(context: &mut Context, runtime: &Handle) -> Result<u8, CliError> {
    let signals = Signals::listen(runtime)?;
    let (sender, mut lines) = mpsc::channel(LINES_AHEAD);
    // A read cannot be taken back, and a signal is not to wait for it.
    let thread = std::thread::Builder::new().name("standard-input".to_owned());
    thread
        .spawn(move || read_lines(io::stdin().lock(), &sender))
        .map_err(CliError::Input)?;
    let mut failed = None;
    loop {
        let next = runtime.block_on(async {
            tokio::select! {
                line = lines.recv() => Ok(line),
                signal = signals.received() => Err(signal),
            }
        });
        let line = match next {
            Ok(Some(line)) => line?,
            Ok(None) => break,
            Err(signal) => return Ok(context.failed(&CliError::Interrupted(signal))),
        };
        let turn = turn(context, runtime, &signals, &line)?;
        if let Some(signal) = signals.take() {
            return Ok(signal.exit_code());
        }
        match turn {
            Turn::Done(EXIT_OK) => {}
            Turn::Done(code) => _ = failed.get_or_insert(code),
            Turn::Exit => break,
        }
    }
    Ok(failed.unwrap_or(EXIT_OK))
}

fn read_lines(mut input: impl BufRead, lines: &Sender<Result<String, CliError>>) {
    while let Some(line) = read_line(&mut input).transpose() {
        let is_last = line.is_err();
        // Nobody waits for lines any more, or nothing more can be read.
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

/// A line; none at the end of input.
fn read_line(input: &mut impl BufRead) -> Result<Option<String>, CliError> {
    let mut bytes = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
    let read = read.map_err(CliError::Input)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        return Err(CliError::Usage(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
    }
    let line = String::from_utf8(bytes).map_err(|_| CliError::Usage("a line is no text".to_owned()))?;
    Ok(Some(line))
}

/// Does one line.
fn turn(context: &mut Context, runtime: &Handle, signals: &Signals, line: &str) -> Result<Turn, CliError> {
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
    let code = runtime.block_on(execute(context, command, signals));
    if !(keeps_name && code == EXIT_OK) {
        context.name = name;
    }
    Ok(Turn::Done(code))
}

/// Tells help or an error, and goes on.
fn misread(context: &mut Context, error: &clap::Error) -> Result<Turn, CliError> {
    match misread_as(error) {
        Misread::Help(text) => {
            match context.output.is_json() {
                true => context.output.notice("help", &text)?,
                false => context.output.line(&text)?,
            }
            Ok(Turn::Done(EXIT_OK))
        }
        Misread::Error(error) => Ok(Turn::Done(context.failed(&error))),
    }
}

fn terminal(error: ReadlineError) -> CliError {
    CliError::Terminal(match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error.to_string()),
    })
}
