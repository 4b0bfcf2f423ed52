//! The simulator for a command line: many seeds with a report, or one of them told in words.

use std::io::{self, Write};
use std::time::Instant;

use crate::coverage::Coverage;
use crate::planted::Planted;
use crate::reduce::run_seed;

/// Steps of a history that nobody says the length of.
pub const STEPS_DEFAULT: usize = 200;
/// Failing seeds after which no more are tried.
pub const FAILURES_MAX: usize = 3;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimArgs {
    /// How many seeds.
    pub seeds: u64,
    /// The first of them.
    pub first: u64,
    /// Steps of each history, before everything has to come right.
    pub steps: usize,
    /// A fault to be put in.
    pub planted: Option<Planted>,
}

impl Default for SimArgs {
    fn default() -> Self {
        Self {
            seeds: 1_000,
            first: 0,
            steps: STEPS_DEFAULT,
            planted: None,
        }
    }
}

/// What came of it: for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitOutcome {
    /// Everything held.
    Held,
    /// Something did not, and was told.
    Failed,
}

/// Runs seeds, and tells of those that fail, and of what happened in all of them.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn run(args: &SimArgs, out: &mut dyn Write) -> io::Result<ExitOutcome> {
    let seeds = args.first..args.first.saturating_add(args.seeds);
    let (began, mut coverage, mut failures, mut done) = (Instant::now(), Coverage::default(), 0, 0_u64);
    for seed in seeds {
        done += 1;
        match run_seed(seed, args.steps, args.planted) {
            Ok(of_seed) => coverage.add(&of_seed),
            Err(failure) => {
                failures += 1;
                writeln!(out, "{failure}")?;
                writeln!(out, "again: server sim --seed {seed} --steps {}", args.steps)?;
            }
        }
        if failures >= FAILURES_MAX {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    write!(out, "{coverage}")?;
    writeln!(
        out,
        "{done} seeds of {} steps in {seconds:.1} s ({:.0} a minute), {failures} failed",
        args.steps,
        done as f64 / seconds.max(1e-9) * 60.0
    )?;
    Ok(if failures == 0 {
        ExitOutcome::Held
    } else {
        ExitOutcome::Failed
    })
}
