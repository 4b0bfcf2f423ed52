//! Runs histories, and makes those that fail shorter.

use std::fmt;

use crate::checks::{Invariant, Violation};
use crate::choice::{Choice, Setup, drawn};
use crate::coverage::Coverage;
use crate::planted::Planted;
use crate::simulation::Simulation;

/// Histories that are tried to make one shorter.
const TRIES_MAX: usize = 3_000;

/// What came of a history.
#[derive(Debug)]
pub struct Run {
    /// What happened, and how often.
    pub coverage: Coverage,
    /// What did not hold, and after how many choices.
    pub violation: Option<(Violation, usize)>,
}

/// A history that fails, as short as it could be made.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What did not hold in the end.
    pub violation: Violation,
    /// The world.
    pub setup: Setup,
    /// What has to happen in it.
    pub choices: Vec<Choice>,
    /// What happens, in words.
    pub trace: Vec<String>,
    /// Choices that the seed had drawn up to its failure.
    pub drawn: usize,
}

impl Failure {
    /// The choices without those by which time passes.
    pub fn faults(&self) -> usize {
        self.choices.iter().filter(|choice| !choice.is_time()).count()
    }
}

impl Failure {
    /// What happens, with ticks in which nothing is told of taken together.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut quiet = 0;
        for (index, line) in self.trace.iter().enumerate() {
            let next = self.trace.get(index + 1);
            if is_tick(line) && next.is_some_and(|next| is_tick(next)) {
                quiet += 1;
                continue;
            }
            if std::mem::take(&mut quiet) > 0 {
                lines.push("              ...".to_owned());
            }
            lines.push(line.clone());
        }
        lines
    }
}

/// Whether a line of a trace says only that time passes.
fn is_tick(line: &str) -> bool {
    line.ends_with("a tick passes")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} fails: {}", self.seed, self.violation)?;
        writeln!(f, "in a world of {}", self.setup)?;
        let kept = self.choices.len();
        writeln!(
            f,
            "of {} choices {kept} are enough, {} of them more than time:",
            self.drawn,
            self.faults()
        )?;
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let at = self.violation.at.as_secs_f64();
        writeln!(f, "{at:9.4} s  {}: {}", self.violation.invariant, self.violation.what)
    }
}

fn follow(simulation: &mut Simulation, choices: &[Choice]) -> Option<(Violation, usize)> {
    for (index, choice) in choices.iter().enumerate() {
        if let Err(violation) = simulation.step(*choice) {
            return Some((violation, index + 1));
        }
    }
    simulation.settle().err().map(|violation| (violation, choices.len()))
}

/// Runs a history to its end.
pub fn run(setup: &Setup, choices: &[Choice], planted: Option<Planted>) -> Run {
    let mut simulation = Simulation::new(setup.clone()).planted(planted);
    let violation = follow(&mut simulation, choices);
    Run {
        coverage: simulation.coverage().clone(),
        violation,
    }
}

/// Runs the history of a seed.
///
/// # Errors
///
/// If something does not hold: the [`Failure`], made shorter.
pub fn run_seed(seed: u64, steps: usize, planted: Option<Planted>) -> Result<Coverage, Box<Failure>> {
    let (setup, choices) = drawn(seed, steps);
    let Run { coverage, violation } = run(&setup, &choices, planted);
    let Some((violation, length)) = violation else {
        return Ok(coverage);
    };
    let kept = choices.get(..length).unwrap_or(&choices).to_vec();
    let (setup, choices) = reduced(setup, kept, violation.invariant, planted);
    let mut simulation = Simulation::new(setup.clone()).planted(planted).telling();
    let (violation, _) = follow(&mut simulation, &choices).unwrap_or((violation, 0));
    let trace = simulation.trace().to_vec();
    Err(Box::new(Failure {
        seed,
        violation,
        setup,
        choices,
        trace,
        drawn: length,
    }))
}

/// Takes out what is not needed, in pieces that become smaller, as long as the same invariant is broken.
fn reduced(
    setup: Setup,
    mut choices: Vec<Choice>,
    invariant: Invariant,
    planted: Option<Planted>,
) -> (Setup, Vec<Choice>) {
    let mut tries = 0;
    let mut fails = |setup: &Setup, choices: &[Choice]| {
        tries += 1;
        let violation = (tries <= TRIES_MAX)
            .then(|| run(setup, choices, planted).violation)
            .flatten();
        violation.is_some_and(|(violation, _)| violation.invariant == invariant)
    };
    let setup = simpler(setup, &choices, &mut fails);
    let mut piece = (choices.len() / 2).max(1);
    loop {
        let mut is_shorter = false;
        let mut from = 0;
        while from < choices.len() {
            let mut without = choices.clone();
            without.drain(from..(from + piece).min(choices.len()));
            if fails(&setup, &without) {
                choices = without;
                is_shorter = true;
            } else {
                from += piece;
            }
        }
        if piece == 1 && !is_shorter {
            return (setup, choices);
        }
        piece = if is_shorter { piece } else { piece.div_ceil(2) }.min(choices.len().max(1));
    }
}

/// A world of fewer parts that fails as well.
fn simpler(setup: Setup, choices: &[Choice], fails: &mut impl FnMut(&Setup, &[Choice]) -> bool) -> Setup {
    let simplify: [fn(&mut Setup); 5] = [
        |setup| setup.drifts.iter_mut().for_each(|drift| *drift = 0),
        |setup| setup.skews.iter_mut().for_each(|skew| *skew = 0),
        |setup| setup.things = setup.things.saturating_sub(1),
        |setup| setup.players = setup.players.saturating_sub(1).max(1),
        |setup| setup.gateways = 1,
    ];
    let mut simple = setup;
    for make in simplify {
        let mut simpler = simple.clone();
        make(&mut simpler);
        if simpler != simple && fails(&simpler, choices) {
            simple = simpler;
        }
    }
    simple
}
