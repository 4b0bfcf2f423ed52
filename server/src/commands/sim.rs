//! `server sim`: seeded histories of a world in which everything goes wrong.

use std::io::{self, Write};

use anyhow::{Context, bail};
use meridian_sim::command::{self, ExitOutcome};

use crate::cli::SimArgs;

/// Runs the histories that `args` name, and tells what came of them.
///
/// # Errors
/// Something that must hold did not, or nobody reads what is told.
pub fn run(args: &SimArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let defaults = command::SimArgs::default();
    let args = command::SimArgs {
        seeds: args
            .seeds
            .unwrap_or(if args.seed.is_some() { 1 } else { defaults.seeds }),
        first: args.seed.unwrap_or(defaults.first),
        steps: args.steps,
        ..defaults
    };
    match command::run(&args, out) {
        Ok(ExitOutcome::Held) => Ok(()),
        Ok(ExitOutcome::Failed) => bail!("not all that must hold did"),
        // Who reads the other end of a pipe may leave early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}
