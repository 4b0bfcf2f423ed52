//! The binary `cli`: a client of the gRPC API of game servers, for people at a terminal and for scripts.
//!
//! It holds no game logic: what it tells is what a server answered. It never keeps a token in a place that others can read, and never
//! tells one.

mod cli;
mod client;
mod commands;
mod error;
mod metric_definitions;
mod output;
mod prompt;
mod session;
mod signals;
mod trace;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command, Misread, misread_as};
use crate::commands::Context;
use crate::error::{CliError, EXIT_OK, EXIT_USAGE};
use crate::output::Output;
use crate::signals::Signals;

/// Threads that drive the connection. One is enough for a client, and it goes on while the prompt waits for a line.
const RUNTIME_THREADS: usize = 1;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error).into(),
    };
    let output = Output::new(cli.options.json);
    match run(cli, output) {
        Ok(code) => code.into(),
        Err(error) => output.error(&error, None).into(),
    }
}

/// Tells help, or what is wrong with the command line: as JSON if that is what it asked for.
fn misread(error: &clap::Error) -> u8 {
    if !cli::wants_json() {
        // Who cannot be told still sees the exit code.
        let _ = error.print();
        return error.exit_code().try_into().unwrap_or(EXIT_USAGE);
    }
    let output = Output::new(true);
    let told = match misread_as(error) {
        Misread::Help(text) => output.notice("help", &text),
        Misread::Error(error) => Err(error),
    };
    told.map_or_else(|error| output.error(&error, None), |()| EXIT_OK)
}

fn run_command(context: &mut Context, runtime: &Runtime, command: Command) -> Result<u8, CliError> {
    let signals = Signals::listen(runtime.handle())?;
    let code = runtime.block_on(commands::execute(context, command, &signals));
    // What it asked for is done; another may end what is still to be sent.
    signals.take();
    Ok(code)
}

fn run(cli: Cli, output: Output) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let telemetry = trace::install()?;
    let mut context = Context::new(cli.options, output);
    let code = match cli.command {
        Some(command) => run_command(&mut context, &runtime, command),
        None => prompt::run(&mut context, runtime.handle()),
    };
    // The last action ends before what is left of the spans is sent.
    drop(context);
    drop(telemetry);
    // Not waited for: a thread that reads standard input or the keyboard may stand in a read that nothing ends.
    runtime.shutdown_background();
    code
}
