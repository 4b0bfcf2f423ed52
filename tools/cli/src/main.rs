//! The binary `cli`: a client of the gRPC API of game servers, for people at a terminal and for scripts.
//!
//! It holds no game logic: what it tells is what a server answered. It never keeps a token in a place that others can read, and never
//! tells one.

mod cli;
mod client;
mod commands;
mod error;
mod output;
mod prompt;
mod session;
mod trace;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::Output;

/// Threads that drive the connection. One is enough for a client, and it goes on while the prompt waits for a line.
const RUNTIME_THREADS: usize = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.options.json);
    match run(cli, output) {
        Ok(code) => code.into(),
        Err(error) => output.error(&error, None).into(),
    }
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
        Some(command) => Ok(runtime.block_on(commands::execute(&mut context, command))),
        None => prompt::run(&mut context, runtime.handle()),
    };
    // The last action ends before what is left of the spans is sent.
    drop(context);
    drop(telemetry);
    // Not waited for: a thread that reads standard input or the keyboard may stand in a read that nothing ends.
    runtime.shutdown_background();
    code
}
